"""The lumen surface of a centreline."""

import numpy as np
from scipy.spatial import cKDTree

from m2i_ros.model.skin import skin
from m2i_ros.model.surface import surface_samples, volume
from m2i_ros.model.vessel_model import Centreline


def one_branch(points, radius):
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    n = np.arange(len(points))
    return Centreline(
        points, np.full(len(points), radius), np.zeros(len(points), np.int32), along, np.stack([n[:-1], n[1:]], 1)
    )


def test_a_straight_vessel_is_a_cylinder_cut_flat_at_its_ends():
    x = np.arange(0, 0.06, 1e-3)
    vertices, faces = skin(one_branch(np.stack([x, 0 * x, 0 * x], 1), 5e-3), 0.7e-3)
    assert np.abs(vertices[:, 0].min()) < 0.3e-3 and np.abs(vertices[:, 0].max() - x[-1]) < 0.3e-3
    np.testing.assert_allclose(abs(volume(vertices, faces)), np.pi * 5e-3**2 * x[-1], rtol=0.03)


def test_a_vessel_that_comes_back_past_its_own_end_is_not_cut_there():
    turn = np.linspace(0, 1.5 * np.pi, 200)
    points = 0.03 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    # On from there it passes straight by the begin, three radii beyond its cut.
    straight = points[-1] + np.linspace(0, 0.06, 60)[1:, None] * [1.0, 0, 0]
    tree = one_branch(np.vstack([points, straight]), 8e-3)
    vertices, faces = skin(tree, 1e-3)
    samples, _ = surface_samples(vertices, faces, 0.5e-3)
    distance, _ = cKDTree(samples).query(tree.points[20:-20])
    assert distance.min() > 0.9 * 8e-3
