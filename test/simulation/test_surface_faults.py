"""A patient's surface with a fault has that fault, so much of it, and is else the patient's."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from m2i_ros.model.skin import free_ends
from m2i_ros.model.surface import components, openings, volume, weld, without_debris
from m2i_ros.simulation import make_anatomy
from m2i_ros.simulation.surface_faults import FAULTS, faulty_surface

PATIENT = make_anatomy('iliofemoral', 500210)


def faulty(fault, amount, seed=0):
    return faulty_surface(PATIENT, fault, amount, np.random.default_rng(seed))


@pytest.mark.parametrize('fault', FAULTS)
def test_a_seed_gives_one_surface_and_another_seed_another(fault):
    one, same, other = (faulty(fault, FAULTS[fault][0], seed)[0:2] for seed in (0, 0, 1))
    assert np.array_equal(one[0], same[0]) and np.array_equal(one[1], same[1])
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(one, other))


def test_a_staircase_lies_about_the_wall_and_keeps_the_volume():
    vertices, faces = faulty('staircase', 0.8)
    true = volume(PATIENT.vertices, PATIENT.faces)
    assert abs(volume(vertices, faces)) == pytest.approx(true, rel=0.03)  # turned in or out, as in a file
    middles = PATIENT.vertices[PATIENT.faces].mean(axis=1)
    distance, _ = cKDTree(np.vstack([PATIENT.vertices, middles])).query(vertices)
    assert np.median(distance) > 0.1e-3 and np.quantile(distance, 0.95) < 1.5e-3  # a face is 2 mm wide


def test_noise_is_a_share_of_the_radius():
    vertices, faces = faulty('noise', 0.1)
    radii = PATIENT.centreline.radii[cKDTree(PATIENT.centreline.points).query(PATIENT.vertices)[1]]
    moved = (vertices - PATIENT.vertices) / radii[:, None]
    assert moved.std() == pytest.approx(0.1, rel=0.02) and np.array_equal(faces, PATIENT.faces)


def test_ragged_ends_are_open_and_nothing_else_is_missing():
    vertices, faces = faulty('ragged', 1.0)
    line = PATIENT.centreline
    ends, _ = free_ends(line)
    lost = set(map(tuple, PATIENT.faces)) - set(map(tuple, faces))
    middles = PATIENT.vertices[np.array(list(lost))].mean(axis=1)
    distance, nearest = cKDTree(line.points[ends]).query(middles)
    assert set(nearest) == set(range(len(ends)))
    assert (distance < 2.6 * line.radii[ends][nearest]).all()


def test_holes_open_the_wall_and_gaps_take_vessels_apart():
    whole, _ = components(PATIENT.faces)
    _, holed = faulty('holes', 0.5)
    assert components(holed)[0] == whole and len(openings(PATIENT.vertices, holed)[0]) > 5
    vertices, faces, _ = without_debris(*weld(*faulty('gaps', 0.5)))
    assert components(faces)[0] > whole
