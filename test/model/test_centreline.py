"""A centreline lies in the middle of its vessel, from end to end, with the right branches and radii."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tubes import bent, bifurcation, dense_line, implicit_tree, straight, swept_tube

from m2i_ros.model.centreline import extract_centreline, find_caps
from m2i_ros.model.surface import orient, simplify, without_debris
from m2i_ros.model.volumes import Volume, label_surface
from m2i_ros.simulation import make_anatomy


def agreement(centreline, lines, radii):
    """Return the shares of the true and of the found length that lie within a third of the true radius of the other."""
    dense = [dense_line(line, radius, 2e-4) for line, radius in zip(lines, radii)]
    truth, radius = np.vstack([d[0] for d in dense]), np.concatenate([d[1] for d in dense])
    ends = centreline.points[centreline.edges]
    found = np.concatenate([(1 - s) * ends[:, 0] + s * ends[:, 1] for s in np.linspace(0, 1, 6)])
    to_found, _ = cKDTree(found).query(truth)
    to_truth, nearest = cKDTree(truth).query(found)
    return np.mean(to_found < radius / 3), np.mean(to_truth < radius[nearest] / 3)


def check_graph(centreline):
    """Branches in order, arc length from 0, edges within bounds, neighbours about 1 mm apart, all connected once."""
    assert (np.diff(centreline.branch) >= 0).all()
    for b in range(centreline.branch.max() + 1):
        at = np.flatnonzero(centreline.branch == b)
        step = np.linalg.norm(np.diff(centreline.points[at], axis=0), axis=1)
        np.testing.assert_allclose(centreline.arc_length[at], np.concatenate([[0], np.cumsum(step)]), atol=1e-12)
    length = np.linalg.norm(np.diff(centreline.points[centreline.edges], axis=1)[:, 0], axis=1)
    assert 0.3e-3 < length.min() and length.max() < 1.6e-3
    assert (centreline.radii > 0).all() and np.isfinite(centreline.points).all()


VESSELS = {
    'straight and closed': (*straight(), True),
    'tapered and closed': (*straight(0.1, 8e-3, 2e-3), True),
    'tapered and open': (*straight(0.1, 8e-3, 2e-3), False),
    'bent and open': (*bent(), False),
    'sharply bent and closed': (*bent(0.01, np.pi, 4e-3), True),
    'thin and open': (*straight(0.1, 1e-3), False),
    'wide and closed': (*straight(0.06, 0.015), True),
}


@pytest.mark.parametrize('vessel', VESSELS)
def test_a_single_vessel_is_one_line_through_its_middle_from_end_to_end(vessel):
    line, radii, closed = VESSELS[vessel]
    surface = swept_tube(line, radii, closed)
    centreline = extract_centreline(*surface)
    check_graph(centreline)
    assert centreline.branch.max() == 0 and len(centreline.edges) == len(centreline.points) - 1
    of_truth, of_found = agreement(centreline, [line], [radii])
    assert of_truth > 0.95 and of_found > 0.95
    ends = cKDTree(centreline.points[[0, -1]]).query(line[[0, -1]])[0]
    assert ends.max() < 0.1 * radii.max()
    true_radius = radii[cKDTree(line).query(centreline.points)[1]]
    # 2 %: a polygon's inscribed circle; 0.2 mm: the last points of a tapered or bent vessel
    assert (np.abs(centreline.radii - true_radius) < 0.02 * true_radius + 0.2e-3).mean() > 0.95
    caps = find_caps(*surface, centreline)
    expected = 2 * (3 * 2 + 1) * 32 if closed else 0
    assert caps.sum() == expected


@pytest.mark.parametrize('half_angle, end', [(45, 'closed'), (20, 'open'), (30, 'rounded')])
def test_a_bifurcation_has_three_branches_that_meet(half_angle, end):
    lines, radii = bifurcation(np.radians(half_angle))
    ends = np.array([lines[0][0], lines[1][1], lines[2][1]])
    cuts = [(e, e / np.linalg.norm(e)) for e in ends]
    vertices, faces = implicit_tree(lines, radii, 8e-4, None if end == 'rounded' else cuts)
    if end == 'open':
        height = np.stack([(vertices[faces].mean(axis=1) - p) @ n for p, n in cuts], axis=1)
        beside = np.stack([np.linalg.norm(vertices[faces].mean(axis=1) - p, axis=1) for p, _ in cuts], axis=1)
        faces = faces[~((np.abs(height) < 1e-4) & (beside < 0.01)).any(axis=1)]
    centreline = extract_centreline(vertices, faces)
    check_graph(centreline)
    assert centreline.branch.max() == 2
    degree = np.bincount(centreline.edges.ravel(), minlength=len(centreline.points))
    assert sorted(degree[degree != 2]) == [1, 1, 1, 3]
    of_truth, of_found = agreement(centreline, lines, radii)
    assert of_truth > 0.95
    if end != 'rounded':  # where the ends are round the line goes on to the surface, a radius beyond the truth
        assert of_found > 0.95
        assert cKDTree(centreline.points).query(ends)[0].max() < 1e-3
    joint = centreline.points[degree == 3][0]
    divider = (radii[1][0] + radii[2][0]) / (2 * np.sin(np.radians(half_angle)))
    assert np.linalg.norm(joint) < max(6e-3, divider), 'in the lumen that the vessels share'
    caps = find_caps(vertices, orient(vertices, faces), centreline)
    if end == 'closed':
        middle = vertices[orient(vertices, faces)[caps]].mean(axis=1)
        distance, nearest = cKDTree(ends).query(middle)
        assert set(nearest) == {0, 1, 2} and distance.max() < 7e-3
    else:
        assert not caps.any()


def test_two_vessels_side_by_side_stay_two():
    line, radii = straight()
    one = swept_tube(line, radii, closed=True)
    shift = np.array([0.0085, 0, 0])  # 0.5 mm between their walls
    vertices = np.vstack([one[0], one[0] + shift])
    centreline = extract_centreline(vertices, np.vstack([one[1], one[1] + len(one[0])]))
    assert centreline.branch.max() == 1
    of_truth, of_found = agreement(centreline, [line, line + shift], [radii, radii])
    assert of_truth > 0.95 and of_found > 0.95


def wide_before_its_end():
    """A vessel with an aneurysm that ends a radius before its own, bent, end."""
    line, _ = bent(0.04, np.radians(110), 6e-3)
    along = np.linspace(0, 1, len(line))
    return line, 6e-3 + 7e-3 * np.exp(-(((along - 0.82) / 0.1) ** 2))


@pytest.mark.parametrize('closed', [True, False])
def test_a_line_follows_its_vessel_to_the_middle_of_the_end(closed):
    line, radii = wide_before_its_end()
    centreline = extract_centreline(*swept_tube(line, radii, closed))
    of_truth, of_found = agreement(centreline, [line], [radii])
    assert of_truth > 0.98 and of_found > 0.98
    assert cKDTree(centreline.points).query(line[[0, -1]])[0].max() < 0.1 * radii[-1]


def outflow_tract():
    """A wide vessel that turns by 70 degrees, over a radius and a half, shortly before its end."""
    along, turn = np.linspace(0.06, 0, 31), np.linspace(0, np.radians(70), 21)
    out = np.array([0, -np.sin(turn[-1]), -np.cos(turn[-1])])
    line = np.stack([0 * along, 0 * along, along], 1)
    arc = 0.016 * np.stack([0 * turn, np.cos(turn) - 1, -np.sin(turn)], 1)
    line = np.vstack([line, arc[1:], arc[-1] + np.outer(np.linspace(0.002, 0.01, 5), out)])
    return line, np.full(len(line), 0.012), out


def test_a_line_finds_the_middle_of_an_end_before_which_its_vessel_turns():
    line, radii, out = outflow_tract()
    cuts = [(line[0], np.array([0, 0, 1.0])), (line[-1], out)]
    centreline = extract_centreline(*implicit_tree([line], [radii], 1e-3, cuts))
    of_truth, of_found = agreement(centreline, [line], [radii])
    assert of_truth > 0.98 and of_found > 0.98
    assert cKDTree(centreline.points).query(line[[0, -1]])[0].max() < 0.25 * radii[0]


def test_thin_vessels_leave_a_wide_one_where_they_point_to_each_at_its_own_place():
    trunk = np.array([[0, 0, -0.05], [0, 0, 0.05]])
    rise = np.array([np.sin(np.radians(55)), 0, np.cos(np.radians(55))])
    joints = np.array([[0, 0, -5e-3], [0, 0, 3e-3]])
    stems = [joints[0] + np.outer([0, 0.075], rise), joints[1] + np.outer([0, 0.045], rise * (-1, 1, 1))]
    lines, radii = [trunk, *stems], [np.full(2, 0.013), np.full(2, 2e-3), np.full(2, 2e-3)]
    cuts = [(p, d) for p, d in zip(trunk, np.array([[0, 0, -1.0], [0, 0, 1.0]]))]
    centreline = extract_centreline(*implicit_tree(lines, radii, 7e-4, cuts))
    degree = np.bincount(centreline.edges.ravel())
    found = centreline.points[degree == 3]
    assert len(found) == 2
    # 3 mm: the noise of a stem, prolonged by 16 mm
    assert cKDTree(found).query(joints)[0].max() < 3e-3


def test_a_thin_vessel_that_leaves_a_bulge_points_to_its_joint_too():
    trunk = np.array([[0, 0, -0.05], [0, 0, 0.05]])
    bulge = np.array([[0.012, 0, 0], [0.013, 0, 0]])
    joint = np.array([0, 0, -0.012])
    stem = joint + np.outer([0.015, 0.06], np.array([1, 0, 0.5]) / np.sqrt(1.25))
    lines, radii = [trunk, bulge, stem], [np.full(2, 0.01), np.full(2, 9e-3), np.full(2, 2e-3)]
    cuts = [(p, d) for p, d in zip(trunk, np.array([[0, 0, -1.0], [0, 0, 1.0]]))]
    centreline = extract_centreline(*implicit_tree(lines, radii, 7e-4, cuts))
    found = centreline.points[np.bincount(centreline.edges.ravel()) == 3]
    assert len(found) == 1
    # 3 mm: the noise of the stem, prolonged by more than 20 mm
    assert np.linalg.norm(found[0] - joint) < 3e-3


def test_a_bulge_of_the_wall_is_no_branch():
    line, radii = straight(0.08, 4e-3)
    bulge = np.array([line[40] + (2.5e-3, 0, 0), line[40] + (3.5e-3, 0, 0)])
    vertices, faces = implicit_tree([line, bulge], [radii, np.full(2, 4e-3)], 6e-4)
    centreline = extract_centreline(vertices, faces)
    assert centreline.branch.max() == 0


def test_a_line_begins_at_the_widest_end():
    lines, radii = bifurcation(np.radians(30))
    lines[0] = np.array([[0, 0, 0.02], [0, 0, 0.0]])  # from one daughter's tip to the other's is farthest
    centreline = extract_centreline(*implicit_tree(lines, radii, 8e-4))
    assert np.linalg.norm(centreline.points[0] - (0, 0, 0.02)) < 8e-3


def test_a_way_round_a_hole_is_found_where_it_is_short():
    trunk = np.array([[0, 0, -0.03], [0, 0, 0.03]])
    turn = np.linspace(0, np.pi, 41)
    handle = 5e-3 * np.stack([np.sin(turn), 0 * turn, np.cos(turn)], 1)
    lines, radii = [trunk, handle], [np.full(2, 1.5e-3), np.full(41, 0.8e-3)]
    centreline = extract_centreline(*implicit_tree(lines, radii, 2.5e-4))
    of_truth, _ = agreement(centreline, lines, radii)
    assert of_truth > 0.95
    assert len(centreline.edges) == len(centreline.points)  # one loop


def test_vessels_that_touch_keep_their_whole_length():
    turn = np.linspace(0, 2 * np.pi, 91)
    ring = 0.02 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    stalk = np.array([[0.02, 0, 0], [0.06, 0, 0.01]])
    lines, radii = [ring, stalk], [np.full(91, 2e-3), np.full(2, 2.5e-3)]
    centreline = extract_centreline(*implicit_tree(lines, radii, 6e-4))
    of_truth, of_found = agreement(centreline, lines, radii)
    assert of_truth > 0.95 and of_found > 0.95
    degree = np.bincount(centreline.edges.ravel())
    assert (degree == 1).sum() == 1  # the loop is closed


def test_a_vessel_that_touches_another_at_its_end_keeps_its_whole_length():
    along = np.linspace(0, 1, 60)
    trunk = np.array([[0, -0.02, 0], [0, 0.03, 0]])
    twig = np.stack([0.06 * along, 0 * along, 0 * along], 1)
    # It leaves the twig, and comes back to where that ends.
    other = np.stack([0.025 + 0.036 * along, 0.012 * np.sin(np.pi * along) + 0.9e-3 * along, 0 * along], 1)
    lines, radii = [trunk, twig, other], [np.full(2, 2e-3), np.full(60, 0.7e-3), np.full(60, 0.7e-3)]
    of_truth, of_found = agreement(extract_centreline(*implicit_tree(lines, radii, 4e-4)), lines, radii)
    assert of_truth > 0.95 and of_found > 0.95


def test_holes_in_the_wall_do_no_harm():
    line, radii = bent()
    vertices, faces = swept_tube(line, radii, closed=True)
    faces = np.delete(faces, [900, 901, 2000, 2001, 3333], axis=0)
    centreline = extract_centreline(vertices, faces)
    of_truth, of_found = agreement(centreline, [line], [radii])
    assert centreline.branch.max() == 0 and of_truth > 0.95 and of_found > 0.95


def middles_along(line, middles):
    """Return how far along a polyline (N, 3) the nearest point of it to each face's middle lies, metres."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return along[cKDTree(line).query(middles)[1]]


def test_a_staircase_of_voxels_keeps_its_line():
    line, radii = bent(0.02, np.pi, 3e-3)
    low = line.min(axis=0) - 6e-3
    shape = np.ceil((line.max(axis=0) + 6e-3 - low) / 1e-3).astype(int)
    cells = low + 1e-3 * np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), axis=-1)
    inside = (cKDTree(dense_line(line, radii, 1e-4)[0]).query(cells)[0] < 3e-3).astype(np.uint8)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = 1e3 * low
    vertices, faces = label_surface(Volume('', inside, affine, 'lps'))
    centreline = extract_centreline(1e-3 * vertices, faces)
    of_truth, of_found = agreement(centreline, [line], [radii])
    # the ends are round, so that the line goes on a radius beyond the truth: 6 of 70 mm
    assert centreline.branch.max() == 0 and of_truth > 0.98 and of_found > 0.9


@pytest.mark.parametrize('noise', [0.05, 0.15, 0.3])
def test_noise_as_large_as_the_faces_is_no_branch(noise):
    line, radii = bent()
    vertices, faces = swept_tube(line, radii, closed=False)
    vertices = vertices + np.random.default_rng(0).normal(scale=noise * 4e-3, size=vertices.shape)  # faces: 0.8 mm
    centreline = extract_centreline(vertices, faces)
    of_truth, of_found = agreement(centreline, [line], [radii])
    assert centreline.branch.max() == 0 and of_truth > 0.95 and of_found > 0.95


def test_noise_far_larger_than_the_faces_hides_no_end():
    line, radii = bent(0.04, np.radians(120), 0.012)
    cuts = [(line[i], (line[i] - line[k]) / np.linalg.norm(line[i] - line[k])) for i, k in ((0, 1), (-1, -2))]
    vertices, faces = implicit_tree([line], [radii], 8e-4, cuts)
    vertices = vertices + np.random.default_rng(0).normal(scale=1.2e-3, size=vertices.shape)
    centreline = extract_centreline(vertices, faces)
    of_truth, of_found = agreement(centreline, [line], [radii])
    assert centreline.branch.max() == 0 and of_truth > 0.98 and of_found > 0.96
    assert cKDTree(centreline.points).query(line[[0, -1]])[0].max() < 0.15 * 0.012


@pytest.mark.parametrize('seed', range(6))
def test_a_frayed_end_is_one_end(seed):
    line, radii = bent(0.04, np.pi / 2, 6e-3)
    vertices, faces = swept_tube(line, radii, closed=False)
    along = middles_along(line, vertices[faces].mean(axis=1))
    depth = np.minimum(along, along.max() - along) / 6e-3  # fewer and fewer faces over the last radius
    faces = faces[np.random.default_rng(seed).uniform(size=len(faces)) < depth]
    centreline = extract_centreline(*without_debris(vertices, faces)[:2])
    of_truth, of_found = agreement(centreline, [line], [radii])
    # what is left of the ends goes as far as the vessel, nearly: of 10 radii a third is missing at each end
    assert centreline.branch.max() == 0 and of_truth > 0.96 and of_found > 0.97


@pytest.mark.parametrize('degrees', [40, 70])
def test_the_line_moves_with_the_vessel(degrees):
    line, radii = bent()
    vertices, faces = swept_tube(line, radii, closed=True)
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    shift = (0.2, -0.1, 0.5)
    moved = extract_centreline(vertices @ turn.T + shift, faces)
    of_truth, of_found = agreement(moved, [line @ turn.T + shift], [radii])
    assert of_truth > 0.99 and of_found > 0.99
    # Turned by 40 degrees, a path on the grid ends in a flat end's rim: the line must not follow it there.
    assert cKDTree(moved.points[[0, -1]]).query(line[[0, -1]] @ turn.T + shift)[0].max() < 0.1e-3


def test_a_surface_of_few_faces_keeps_its_vessels():
    patient = make_anatomy('iliofemoral', 500200)
    centreline = extract_centreline(*simplify(patient.vertices, patient.faces, 2000))
    assert np.isfinite(centreline.points).all()
    true = patient.centreline
    missed = cKDTree(centreline.points).query(true.points)[0] > true.radii / 3 + 0.5e-3  # points are 1 mm apart
    assert missed.mean() < 0.05


def test_a_flat_sheet_is_no_vessel():
    vertices = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]])
    with pytest.raises(ValueError, match='no volume|no vessel'):
        extract_centreline(vertices, np.array([[0, 1, 2], [0, 2, 3]]))
