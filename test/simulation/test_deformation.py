"""A deformed patient is bent as far as was asked, surface and centreline together."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from m2i_ros.simulation import make_anatomy
from m2i_ros.simulation.deformation import breathed, moved, straightened


@pytest.fixture(scope='module')
def model():
    return make_anatomy('iliofemoral', 3)


def length(line, edges):
    return np.linalg.norm(line.points[edges[:, 0]] - line.points[edges[:, 1]], axis=1).sum()


def test_a_wire_straightens_by_so_many_millimetres(model):
    wired = straightened(model, 3e-3)
    shift = np.linalg.norm(wired.centreline.points - model.centreline.points, axis=1)
    assert shift.max() == pytest.approx(3e-3)
    pulled = model.centreline.edges[(shift[model.centreline.edges] > 1e-3).all(axis=1)]
    assert length(wired.centreline, pulled) < length(model.centreline, pulled)


@pytest.mark.parametrize('deform', [lambda m: straightened(m, 8e-3), lambda m: breathed(m, 5e-3)])
def test_the_surface_goes_with_its_centreline(model, deform):
    changed = deform(model)
    before = cKDTree(model.centreline.points).query(model.vertices)[0]
    after = cKDTree(changed.centreline.points).query(changed.vertices)[0]
    assert np.percentile(np.abs(after - before), 95) < 0.5e-3
    assert changed.hash != model.hash
    np.testing.assert_array_equal(changed.centreline.radii, model.centreline.radii)


def test_breathing_moves_the_middle_and_not_the_ends(model):
    shift = np.linalg.norm(breathed(model, 5e-3).centreline.points - model.centreline.points, axis=1)
    z = model.centreline.points[:, 2]
    middle = np.abs(z - (z.min() + z.max()) / 2) < 0.01
    assert shift[middle].min() > 4.9e-3 and shift[[z.argmin(), z.argmax()]].max() < 1e-6


def test_a_shift_of_all_points_is_a_shift_of_the_model(model):
    shift = np.array([0.001, 0.002, -0.003])
    shifted = moved(model, np.tile(shift, (len(model.centreline.points), 1)))
    np.testing.assert_allclose(shifted.vertices, model.vertices + shift)
