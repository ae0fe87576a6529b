"""The faults that vessels' surfaces come with, put into a simulated patient's: what a centreline must survive."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from m2i_ros.model.lumen import filled
from m2i_ros.model.skin import free_ends
from m2i_ros.model.surface import areas_and_normals
from m2i_ros.model.volumes import Volume, label_surface

_HOLES_APART = 0.05  # metres of vessel for each hole
_GAPS_APART = 0.1  # metres of vessel for each gap
_CLEAR = 3.0  # radii of vessel left at either side of a gap, before another or where it ends or joins one

# Each fault by its name: how much of it where nobody says, and in what.
FAULTS = {
    'staircase': (0.7, 'mm, side of the voxels of a label map'),
    'noise': (0.1, 'radii, standard deviation of each coordinate of a vertex'),
    'ragged': (1.0, 'radii from each open end, over which ever more faces are there'),
    'holes': (0.5, 'radii, how wide about its middle a patch is missing, one for 50 mm of vessel'),
    'gaps': (0.5, 'radii, length of vessel missing all round, one for 100 mm of vessel'),
}


def faulty_surface(patient, fault, amount, rng):
    """Return vertices (V, 3), metres, and faces (F, 3) of a patient's `VesselModel` with a fault out of `FAULTS`.

    amount: in the fault's own unit. rng: numpy Generator; the same state gives the same fault. Vertices without a face
    and loose faces may be left, as in a file.
    """
    return _MAKERS[fault](patient, amount, rng)


def _staircase(patient, amount, rng):
    """The surface of a label map whose grid lies askew."""
    turn = Rotation.random(random_state=rng).as_matrix()
    grid, origin, step = filled(patient.vertices @ turn.T, patient.faces, 1e-3 * amount)
    affine = np.eye(4)
    affine[:3, :3] = 1e3 * step * turn.T
    affine[:3, 3] = 1e3 * turn.T @ (origin + step / 2)
    vertices, faces = label_surface(Volume('', grid.astype(np.uint8), affine, 'lps'))
    return 1e-3 * vertices, faces


def _noise(patient, amount, rng):
    """Vertices moved at random."""
    radii = _radii(patient.centreline, patient.vertices)
    return patient.vertices + amount * radii[:, None] * rng.normal(size=patient.vertices.shape), patient.faces


def _ragged(patient, amount, rng):
    """Ends open, and frayed."""
    line, middles = patient.centreline, _middles(patient)
    gone = patient.cap_faces.copy()
    depth = amount * rng.uniform(size=len(gone))
    for end, out in zip(*free_ends(line), strict=True):
        off = (middles - line.points[end]) / line.radii[end]
        gone |= (np.linalg.norm(off, axis=1) < amount + 1.5) & (-off @ out < depth)
    return patient.vertices, patient.faces[~gone]


def _holes(patient, amount, rng):
    """Patches missing in the walls."""
    middles = _middles(patient)
    area, _ = areas_and_normals(patient.vertices, patient.faces)
    # As many on thin vessels as on wide ones, which have more area.
    chance = np.where(patient.cap_faces, 0, area / _radii(patient.centreline, middles))
    count = max(1, round(_length(patient.centreline) / _HOLES_APART))
    at = middles[rng.choice(len(middles), count, p=chance / chance.sum())]
    distance, nearest = cKDTree(at).query(middles)
    return patient.vertices, patient.faces[distance > amount * _radii(patient.centreline, at)[nearest]]


def _gaps(patient, amount, rng):
    """Vessels missing all round for a stretch, so that the surface comes apart."""
    line = patient.centreline
    whole = np.zeros(line.branch.max() + 1)
    np.maximum.at(whole, line.branch, line.arc_length)
    clear = np.minimum(line.arc_length, whole[line.branch] - line.arc_length) > _CLEAR * line.radii
    at = []
    while clear.any() and len(at) < _length(line) / _GAPS_APART:
        at.append(rng.choice(np.flatnonzero(clear)))
        clear &= np.linalg.norm(line.points - line.points[at[-1]], axis=1) > 2 * _CLEAR * line.radii[at[-1]]
    middles = _middles(patient)
    _, nearest = cKDTree(line.points).query(middles)
    gone = np.zeros(len(middles), bool)
    for point in at:
        along = (middles - line.points[point]) @ _direction(line, point)
        gone |= (line.branch[nearest] == line.branch[point]) & (
            (np.abs(along) < amount / 2 * line.radii[point])
            & (np.linalg.norm(middles - line.points[point], axis=1) < 2 * line.radii[point])
        )
    return patient.vertices, patient.faces[~gone]


_MAKERS = {'staircase': _staircase, 'noise': _noise, 'ragged': _ragged, 'holes': _holes, 'gaps': _gaps}


def _middles(patient):
    return patient.vertices[patient.faces].mean(axis=1)


def _radii(line, points):
    """Return the vessel's radii (N,) nearest to points (N, 3)."""
    return line.radii[cKDTree(line.points).query(points)[1]]


def _length(line):
    return np.linalg.norm(np.diff(line.points[line.edges], axis=1), axis=2).sum()


def _direction(line, point):
    way = line.points[point + 1] - line.points[point - 1]
    return way / np.linalg.norm(way)
