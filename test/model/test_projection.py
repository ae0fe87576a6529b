"""What the X-ray system sees of a surface."""

from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.geometry import Camera, rigid
from m2i_ros.model.projected_centreline import project_centreline
from m2i_ros.model.projection import mesh_edges, silhouette

CAMERA = Camera.from_detector(300, 240, source_to_detector=1.1, pixel_spacing=1e-3)


def surface(mesh):
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    return SimpleNamespace(
        vertices=np.ascontiguousarray(mesh.vertices, dtype=float),
        faces=faces,
        edges=mesh_edges(faces),
    )


def rays(camera):
    return camera.ray(np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1))


def iou(a, b):
    return np.count_nonzero((a > 0) & (b > 0)) / np.count_nonzero((a > 0) | (b > 0))


SPHERE = surface(trimesh.creation.icosphere(subdivisions=5, radius=0.03))
CYLINDER = surface(trimesh.creation.cylinder(radius=0.008, height=1.0, sections=96))


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(-0.05, 0.05),
    y=st.floats(-0.04, 0.04),
    z=st.floats(0.5, 1.0),
    factor=st.sampled_from([1.0, 2.0]),
    mirrored=st.booleans(),
)
def test_a_sphere_covers_the_pixels_whose_rays_hit_it(x, y, z, factor, mirrored):
    camera = CAMERA.scaled(factor)
    camera = camera.flipped() if mirrored else camera
    centre = np.array([x, y, z])
    d = rays(camera)
    truth = (d @ centre) ** 2 >= (d**2).sum(-1) * (centre @ centre - 0.03**2)
    assert iou(silhouette(SPHERE, rigid(None, centre), camera), truth) > 0.99


@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('rotation', [(1.5, 0.0, 0.0), (0.9, 1.0, 0.0), (1.3, 0.5, 0.7)])
def test_a_cylinder_covers_the_pixels_whose_rays_hit_it(rotation, mirrored):
    camera = CAMERA.flipped() if mirrored else CAMERA
    T = rigid(np.array(rotation), (0.01, -0.02, 0.75))
    axis, point = T[:3, 2], T[:3, 3]
    d = rays(camera)
    across = np.cross(d, axis)
    distance = np.abs(across @ point) / np.linalg.norm(across, axis=-1)
    # 96 sides: the prism is up to 0.05% thinner than the cylinder. The cylinder is longer than the picture.
    assert iou(silhouette(CYLINDER, T, camera), distance < 0.008) > 0.99


def test_faces_that_share_an_edge_neither_gap_nor_fatten():
    camera = Camera(20, 20, 1.0, 1.0, 0.0, 0.0)
    corners = np.array([[3.5, 4.5, 1], [13.5, 4.5, 1], [13.5, 16.5, 1], [3.5, 16.5, 1]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    square = SimpleNamespace(vertices=corners, faces=faces, edges=mesh_edges(faces))
    expected = np.zeros((20, 20), np.uint8)
    expected[5:17, 4:14] = 255
    assert np.array_equal(silhouette(square, np.eye(4), camera), expected)


@pytest.mark.parametrize('size', [(40, 50), (31, 17)])
def test_what_is_covered_is_what_any_face_covers(size):
    """Of faces that lie over each other, whichever way they are turned, that share edges in threes, or cross."""
    rng = np.random.default_rng(5)
    camera = Camera(*size, 30.0, 30.0, 20.0, 15.0)
    for count in (1, 2, 5, 40):
        vertices = np.column_stack([rng.uniform(-1, 1, (12, 2)), rng.uniform(0.5, 2.0, 12)])
        faces = np.array([rng.permutation(12)[:3] for _ in range(count)], np.int32)
        expected = np.zeros((size[1], size[0]), bool)
        for corners in camera.project(vertices)[faces]:
            u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
            sides = [
                (b[0] - a[0]) * (v - a[1]) - (b[1] - a[1]) * (u - a[0])
                for a, b in zip(corners, np.roll(corners, -1, axis=0))
            ]
            expected |= (np.min(sides, axis=0) > 0) | (np.max(sides, axis=0) < 0)
        soup = SimpleNamespace(vertices=vertices, faces=faces, edges=mesh_edges(faces))
        assert np.array_equal(silhouette(soup, np.eye(4), camera) > 0, expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_a_picture_as_displayed_is_the_mirror_image(values):
    mesh = surface(trimesh.creation.box((0.05, 0.03, 0.08)))
    T = rigid(np.array(values[:3]), (0.03 * values[3], 0.02 * values[4], 0.8 + 0.03 * values[5]))
    a, b = silhouette(mesh, T, CAMERA), silhouette(mesh, T, CAMERA.flipped())[:, ::-1]
    # A pixel whose centre lies on an edge may fall on either side of it.
    assert np.count_nonzero(a != b) <= 2


def test_what_lies_behind_the_source_or_beside_the_picture_is_not_drawn():
    for position in ((0, 0, -0.5), (2.0, 0, 0.8), (0, -2.0, 0.8)):
        assert not silhouette(SPHERE, rigid(None, position), CAMERA).any()


def test_the_centreline_projects_with_its_surface():
    centreline = SimpleNamespace(points=np.array([[0, 0, -0.1], [0, 0, 0.0], [0, 0, 0.1], [0, 0, 5.0]]))
    T = rigid(np.array([np.pi / 2, 0, 0]), (0.02, 0.01, 0.8))
    points, pixels = project_centreline(SimpleNamespace(centreline=centreline), T, CAMERA)
    assert np.allclose(points[:3, 2], 0.8) and np.allclose(points[1], (0.02, 0.01, 0.8))
    assert np.allclose(pixels[:3, 0], CAMERA.cx + 1100 * 0.02 / 0.8)
    assert np.allclose(pixels[1, 1], CAMERA.cy + 1100 * 0.01 / 0.8)
    behind, pixels = project_centreline(SimpleNamespace(centreline=centreline), rigid(None, (0, 0, -1.0)), CAMERA)
    assert np.isnan(pixels[:3]).all()
