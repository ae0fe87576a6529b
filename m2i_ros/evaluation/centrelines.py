"""How well the centreline that is found in a simulated patient's surface agrees with the one it was made from."""

import time

import numpy as np
from scipy.spatial import cKDTree

from m2i_ros.model.files import model_from_mesh
from m2i_ros.model.surface import simplify
from m2i_ros.simulation import make_anatomy
from m2i_ros.simulation.surface_faults import faulty_surface

_STEP = 0.05e-3  # metres: a third of the thinnest vessel's radius is 0.14 mm
_WIDER = 1.5  # a vessel this much wider is one that the other comes from, and not what it goes on as


def score_patient(anatomy, seed, faces=None, fault=None, amount=None):
    """Return the agreement in one simulated patient, with name, faces and processor seconds, as a dict.

    fault: out of `FAULTS`, so much of which is put into the surface, drawn by the seed; None: none.
    faces: how many the surface is reduced to then, about; None leaves it as it is.
    """
    patient = make_anatomy(anatomy, seed)
    surface = patient.vertices, patient.faces
    if fault is not None:
        surface = faulty_surface(patient, fault, amount, np.random.default_rng(seed))
    if faces is not None and faces < len(surface[1]):
        surface = simplify(*surface, faces)
    start = time.process_time()
    found = model_from_mesh(*surface).centreline  # as of a file
    seconds = time.process_time() - start
    row = {'anatomy': anatomy, 'seed': seed, 'faces': len(surface[1]), 'seconds': round(seconds, 2)}
    return {**row, **agreement(found, patient.centreline)}


def agreement(found, true):
    """Return how two `Centreline`s agree, as a dict.

    true_within, found_within: shares of the true and of the found length that lie within a third of the true vessel's
    radius of the other. A daughter's line inside its parent's lumen counts by the daughter's radius.
    lumen_within: true_within by the local radius of the lumen, whichever vessel's: of the largest ball in it about the
    true point, as is usual for centrelines of surfaces (VMTK's maximum inscribed sphere).
    ostium_within: true_within of what lies beyond the ostia: not inside the true lumen of a much wider vessel, where
    the surface does not tell where a daughter runs.
    true_ends, missed_ends: free ends of the true one, and how many of them no free end of the found one is near.
    spurious, spurious_share: branches found that lie for more than half their length farther off, their length's share.
    """
    true_points, true_radii, true_length, true_branch = _dense(true)
    widest, inside = _lumens(true_points, true_radii, true_branch)
    beyond = ~inside
    points, _, length, branch = _dense(found)
    to_found, _ = cKDTree(points).query(true_points)
    to_true, nearest = cKDTree(true_points).query(points)
    off = to_true >= true_radii[nearest] / 3
    of_branch = np.bincount(branch, length)
    spurious = np.bincount(branch, length * off) > 0.5 * of_branch
    ends, end_radii = _free_ends(true)
    to_end, _ = cKDTree(_free_ends(found)[0]).query(ends)
    near = to_found < true_radii / 3
    return {
        'true_within': float(true_length[near].sum() / true_length.sum()),
        'lumen_within': float(true_length[to_found < widest / 3].sum() / true_length.sum()),
        'ostium_within': float(true_length[near & beyond].sum() / true_length[beyond].sum()),
        'found_within': float(length[~off].sum() / length.sum()),
        'true_ends': len(ends),
        'missed_ends': int((to_end > 2 * end_radii + 1e-3).sum()),
        'spurious': int(spurious.sum()),
        'spurious_share': float(of_branch[spurious].sum() / length.sum()),
    }


def _dense(line):
    """Return points (n, 3), radii (n,), lengths (n,) and branches (n,) at steps of at most 0.05 mm along a
    `Centreline`'s edges, which may be of any length."""
    one, two = line.edges.T
    length = np.linalg.norm(line.points[two] - line.points[one], axis=1)
    steps = np.ceil(length / _STEP).astype(int)
    edge = np.repeat(np.arange(len(steps)), steps)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5) / steps[edge]
    one, two = one[edge], two[edge]
    points = (1 - share[:, None]) * line.points[one] + share[:, None] * line.points[two]
    radii = (1 - share) * line.radii[one] + share * line.radii[two]
    return points, radii, length[edge] / steps[edge], line.branch[two]


def _lumens(points, radii, branch):
    """Return the radii (n,) of the balls about points (n, 3) that fit into the lumen of some branch, and (n,) bool:
    which points lie in the lumen of another branch, much wider than theirs."""
    widest, inside = radii.copy(), np.zeros(len(points), bool)
    balls = slice(None, None, 10)
    within = cKDTree(points).query_ball_point(points[balls], radii[balls])
    for near, centre, radius, own in zip(within, points[balls], radii[balls], branch[balls]):
        near = np.array(near)
        near = near[branch[near] != own]
        inside[near[_WIDER * radii[near] < radius]] = True
        widest[near] = np.maximum(widest[near], radius - np.linalg.norm(points[near] - centre, axis=1))
    return widest, inside


def _free_ends(line):
    degree = np.bincount(line.edges.ravel(), minlength=len(line.points))
    return line.points[degree == 1], line.radii[degree == 1]
