"""Path lengths through surfaces agree with geometry done by hand."""

import numpy as np
import pytest
import trimesh

from m2i_ros.geometry import Camera
from m2i_ros.simulation.path_length import path_length


@pytest.fixture(params=[False, True], ids=['fx>0', 'fx<0'])
def camera(request):
    return Camera.from_detector(160, 128, 1.1, 1e-3, mirrored=request.param)


def _ball_chords(camera, centre, radius, samples=8):
    """Chords by solving the quadratic of each ray, averaged over a pixel."""
    offset = (np.arange(samples) + 0.5) / samples - 0.5
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    total = np.zeros(u.shape)
    for du in offset:
        for dv in offset:
            ray = camera.ray(np.stack([u + du, v + dv], axis=-1))
            ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
            along = ray @ centre
            total += 2 * np.sqrt(np.maximum(0, radius**2 - centre @ centre + along**2))
    return total / samples**2


def test_a_ball_has_the_chords_of_its_equation(camera):
    centre, radius = np.array([0.01, -0.006, 0.7]), 0.02
    ball = trimesh.creation.icosphere(5, radius)
    chords = path_length(ball.vertices + centre, ball.faces, camera)
    truth = _ball_chords(camera, centre, radius)
    # 20480 flat faces lie up to 0.02 mm inside the sphere; grazing rays and 4 instead of 64 rays a pixel differ more.
    inside = truth > 0.015
    assert np.abs(chords - truth)[inside].max() < 1.5e-4
    assert np.abs(chords - truth).mean() < 2e-5
    assert chords.sum() == pytest.approx(truth.sum(), rel=3e-3)


def test_rays_far_from_the_axis_are_longer_than_deep():
    camera = Camera(160, 128, 160.0, 160.0, 79.5, 63.5)
    centre, radius = np.array([0.28, -0.15, 0.7]), 0.05
    ball = trimesh.creation.icosphere(5, radius)
    chords = path_length(ball.vertices + centre, ball.faces, camera)
    assert chords.max() == pytest.approx(2 * radius, rel=0.01)
    assert chords.sum() == pytest.approx(_ball_chords(camera, centre, radius).sum(), rel=0.01)


def test_an_oblique_cylinder_is_longer_by_its_slant(camera):
    radius, slant = 0.008, np.deg2rad(35)
    cylinder = trimesh.creation.cylinder(radius, 0.12, sections=256)
    cylinder.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2 - slant, (1, 0, 0)))
    cylinder.apply_translation((0, 0, 0.75))
    chords = path_length(cylinder.vertices, cylinder.faces, camera)
    middle = chords[camera.height // 2 - 1 : camera.height // 2 + 1].mean(axis=0)
    # Averaged over the centre rows, the central ray's chord: 2 r / cos(slant).
    assert middle.max() == pytest.approx(2 * radius / np.cos(slant), rel=5e-3)


def test_a_hole_is_not_counted():
    camera = Camera.from_detector(96, 96, 1.0, 1e-3)
    shell = trimesh.util.concatenate([trimesh.creation.icosphere(4, 0.03), trimesh.creation.icosphere(4, 0.015)])
    faces = shell.faces.copy()
    half = len(faces) // 2
    faces[half:] = faces[half:, ::-1]
    chords = path_length(shell.vertices + (0, 0, 0.8), faces, camera)
    assert chords[47:49, 47:49].mean() == pytest.approx(0.03, rel=0.01)


def test_there_are_no_cracks_between_faces(camera):
    """Each ray goes into a closed surface as often as out of it: nothing negative, nothing as long as the depth."""
    knot = trimesh.creation.torus(0.03, 0.008, major_sections=190, minor_sections=70)
    rng = np.random.default_rng(0)
    for _ in range(5):
        R = trimesh.transformations.random_rotation_matrix(rng.uniform(size=3))[:3, :3]
        chords = path_length(knot.vertices @ R.T + (0, 0, 0.7), knot.faces, camera)
        assert chords.min() > -1e-4
        assert chords.max() < 0.08


def test_a_surface_outside_the_picture_or_behind_the_source_leaves_no_trace(camera):
    ball = trimesh.creation.icosphere(2, 0.02)
    for place in ((0.5, 0, 0.7), (0, 0, -0.7), (0, -0.5, 0.7)):
        assert not path_length(ball.vertices + place, ball.faces, camera).any()
