"""Simulated patients' vessel models: the tubes of an anatomy's centreline, with what is not round about it."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from m2i_ros.model.skin import free_ends, skin
from m2i_ros.model.vessel_model import VesselModel
from m2i_ros.simulation.anatomy import make_centreline

# Grid spacing in metres: thin vessels need a finer one.
_GRID = {'iliofemoral': 1.0e-3, 'aortic_root': 0.8e-3, 'aortic_arch': 1.0e-3, 'coronary': 0.3e-3}


@lru_cache(maxsize=8)
def make_anatomy(name, seed=0, pathology='drawn'):
    """Return the `VesselModel` of the anatomy `name`: LPS, metres; another patient for each seed.

    The surface is closed, has about 20,000 faces (up to 60,000 for thin trees), and agrees with the centreline's
    radii to a fraction of a millimetre, save for the three sinuses of an aortic root, where the radius is the mean of
    the section.
    pathology: as `make_centreline` takes it. Raises ValueError for what `make_centreline` does not know.
    """
    tree = make_centreline(name, seed, pathology)
    # Nothing thinner than the grid can be shown on it.
    tree = replace(tree, radii=np.maximum(tree.radii, 1.4 * _GRID[name]))
    vertices, faces = skin(tree, _GRID[name], _sinuses(tree) if name == 'aortic_root' else None)
    return VesselModel(vertices, faces, _caps(vertices, faces, tree, _GRID[name]), tree, 'lps', f'{name} {seed}')


def _sinuses(tree):
    """Return how far, as a share of the radius, three sinuses bulge at each point of the root, branch 1."""
    on = np.flatnonzero(tree.branch == 1)
    bulge = np.zeros(len(tree.points))
    bulge[on] = 0.13 * np.sin(np.linspace(0, np.pi, len(on))) ** 2
    return bulge


def _caps(vertices, faces, tree, spacing):
    """Return (F,) bool: the faces that lie on a cut."""
    corners = vertices[faces]
    centre = corners.mean(axis=1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-18)
    caps = np.zeros(len(faces), bool)
    for end, way in zip(*free_ends(tree), strict=True):
        off = centre - tree.points[end]
        near = np.linalg.norm(off, axis=1) < 1.3 * tree.radii[end] + spacing
        caps |= near & (np.abs(off @ way) < spacing) & (normal @ way > 0.5)
    return caps
