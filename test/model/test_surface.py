"""A surface is cleaned, oriented and closed without harm to its shape."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from tubes import straight, swept_tube

from m2i_ros.model.surface import (
    areas_and_normals,
    components,
    find_cap,
    first_hit,
    openings,
    orient,
    surface_samples,
    volume,
    weld,
    without_debris,
)


def tube(closed=True):
    return swept_tube(*straight(), closed)


def test_welding_undoes_what_stl_does_to_a_mesh():
    vertices, faces = tube()
    soup = vertices[faces].reshape(-1, 3)
    welded, faces_again = weld(soup, np.arange(len(soup)).reshape(-1, 3))
    assert len(welded) == len(vertices) and len(faces_again) == len(faces)
    assert volume(welded, faces_again) == pytest.approx(volume(vertices, faces), rel=1e-9)


def test_welding_drops_degenerate_repeated_and_infinite_faces_and_loose_vertices():
    vertices, faces = tube()
    dirty = np.vstack([vertices, [[np.nan] * 3, [0, 0, 1e9]]])
    n = len(vertices)
    extra = [[0, 0, 5], faces[3], np.roll(faces[7], 1), [0, 1, n]]
    welded, clean = weld(dirty, np.vstack([faces, extra]))
    assert len(clean) == len(faces) and len(welded) == n and np.isfinite(welded).all()


def test_nothing_usable_gives_an_empty_mesh():
    vertices, faces = weld(np.full((3, 3), np.nan), [[0, 1, 2]])
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_faces_turned_at_random_are_turned_outward_again(seed, closed):
    vertices, faces = tube(closed)
    flip = np.random.default_rng(seed).random(len(faces)) < 0.5
    mixed = np.where(flip[:, None], faces[:, ::-1], faces)
    outward = orient(vertices, mixed)
    assert volume(*openings(vertices, outward)[2:]) > 0
    axis = np.array([0.01, -0.02])
    _, normal = areas_and_normals(vertices, outward)
    middle = vertices[outward].mean(axis=1)
    side = np.abs(normal[:, 2]) < 0.5
    assert (np.einsum('ij,ij->i', normal[side, :2], middle[side, :2] - axis) > 0).all()


def test_a_closed_surface_has_no_openings_and_an_open_tube_has_its_two_ends():
    assert len(openings(*tube(closed=True))[0]) == 0
    line, radii = straight()
    centres, opening_radii, vertices, faces = openings(*swept_tube(line, radii, closed=False))
    order = np.argsort(centres[:, 2])
    np.testing.assert_allclose(centres[order], line[[0, -1]], atol=1e-9)
    np.testing.assert_allclose(opening_radii, 4e-3, rtol=0.01)
    assert len(openings(vertices, faces)[0]) == 0
    assert trimesh.Trimesh(vertices, orient(vertices, faces), process=False).is_watertight


def test_debris_is_dropped_and_a_second_vessel_is_kept():
    vertices, faces = tube()
    speck = trimesh.creation.icosphere(subdivisions=1, radius=5e-4)
    other = vertices * 0.4 + (0.05, 0, 0)
    n = len(vertices)
    all_vertices = np.vstack([vertices, other, speck.vertices + 0.02])
    all_faces = np.vstack([faces, faces + n, speck.faces + 2 * n])
    kept_vertices, kept_faces, dropped = without_debris(all_vertices, all_faces)
    assert dropped == 1 and components(kept_faces)[0] == 2 and len(kept_vertices) == 2 * n


def test_a_loose_piece_is_kept_where_it_is_long_closed_and_near():
    whole = swept_tube(*straight(), True)
    line, radii = straight(length=7e-3, radius=4e-4)  # 3 to 10 mm beyond the end, in line with the vessel
    piece = swept_tube(line + (0, 0, 0.083), radii, True)
    far = (piece[0] + (0, 0, 0.05), piece[1])
    pieces = {'near': piece, 'far': far, 'open': swept_tube(line + (0, 0, 0.083), radii, False)}
    pieces['round'] = (piece[0] * (1, 1, 0.2) + (0, 0, 0.1437), piece[1])
    kept = {}
    for name, (vertices, faces) in pieces.items():
        both = np.vstack([whole[0], vertices]), np.vstack([whole[1], faces + len(whole[0])])
        kept[name] = without_debris(*both)[2] == 0
    assert kept == {'near': True, 'far': False, 'open': False, 'round': False}
    # One that only another piece is near to.
    row = [whole, piece, (piece[0] + (0, 0, 9e-3), piece[1])]
    first = np.cumsum([0, *(len(vertices) for vertices, _ in row)])
    joined = np.vstack([vertices for vertices, _ in row]), np.vstack([f + n for (_, f), n in zip(row, first)])
    assert without_debris(*joined)[2] == 0


def test_samples_lie_on_the_surface_and_leave_no_gap():
    vertices = np.array([[0.0, 0, 0], [0.03, 0, 0], [0, 0.001, 0]])
    points, _ = surface_samples(vertices, np.array([[0, 1, 2]]), 1e-3)
    assert np.abs(points[:, 2]).max() == 0 and points[:, 0].max() == 0.03
    assert np.diff(np.unique(points[:, 0])).max() <= 1e-3


@settings(deadline=None, max_examples=30)
@given(st.floats(-2e-3, 2e-3), st.floats(-2e-3, 2e-3), st.floats(0.0, 2 * np.pi))
def test_a_ray_meets_the_tube_where_a_cylinder_stands(x, y, angle):
    origin = np.array([0.01 + x, -0.02 + y, 0.1334])
    across = np.array([np.cos(angle), np.sin(angle)])
    direction = np.append(across, 0.31) / np.hypot(1, 0.31)
    distance, face = first_hit(*tube(), origin, direction)
    along = (x, y) @ across
    expected = (-along + np.sqrt(along**2 + 4e-3**2 - x**2 - y**2)) * np.hypot(1, 0.31)
    # a polygon of 32 sides is up to 0.5 % of the radius inside its circle; more along a slanting ray
    assert expected - 6e-5 < distance <= expected + 1e-9 and face >= 0


def test_a_ray_into_the_void_meets_nothing():
    assert first_hit(*tube(), np.array([1.0, 1, 1]), np.array([0.0, 0, 1])) == (np.inf, -1)


def test_a_flat_end_is_a_cap_and_a_side_wall_or_a_round_end_is_none():
    line, radii = straight()
    vertices, faces = swept_tube(line, radii, closed=True)
    cap = find_cap(vertices, faces, line[-1], np.array([0.0, 0, 1]), 4e-3)
    flat_end = np.isclose(vertices[faces][:, :, 2], line[-1, 2]).all(axis=1)
    np.testing.assert_array_equal(cap, flat_end)
    assert not find_cap(vertices, faces, line[40], np.array([1.0, 0, 0]), 4e-3).any()
    capsule = trimesh.creation.capsule(height=0.05, radius=4e-3, count=[32, 32])
    top = np.array([0, 0, capsule.vertices[:, 2].max()])
    assert not find_cap(capsule.vertices, capsule.faces, top, np.array([0.0, 0, 1]), 4e-3).any()


def test_an_oblique_cut_is_a_cap_too():
    line, radii = straight()
    vertices, faces = swept_tube(line, radii, closed=True)
    end = line[-1]
    slope = np.tan(np.radians(35))
    stretched = np.clip((vertices[:, 2] - end[2] + 0.02) / 0.02, 0, 1)
    vertices = vertices.copy()
    vertices[:, 2] += slope * (vertices[:, 0] - end[0]) * stretched
    cap = find_cap(vertices, faces, end, np.array([0.0, 0, 1]), 4e-3)
    at_end = faces[cap].ravel()
    assert cap.sum() > 100 and (stretched[at_end] == 1).all()


def test_a_face_shrunk_to_a_point_opens_nothing_and_harms_nothing():
    line, radii = straight()
    vertices, faces = swept_tube(line, radii, closed=False)
    n, point = len(vertices), np.array([[0.01, -0.02, 0.12]])
    centres, around, closed, _ = openings(
        np.vstack([vertices, np.repeat(point, 3, axis=0)]), np.vstack([faces, [[n, n + 1, n + 2]]])
    )
    order = np.argsort(around)
    np.testing.assert_allclose(around[order], [0, 4e-3, 4e-3], rtol=0.01, atol=1e-12)
    np.testing.assert_allclose(centres[order[0]], point[0])
    assert np.isfinite(closed).all()
