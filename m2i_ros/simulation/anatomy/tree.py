"""What vessel trees are put together from: branches, smooth curves, random bends. Millimetres."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.distance import cdist

from m2i_ros.model.vessel_model import Centreline

MM = 1e-3


class Tree:
    """Collects branches, in millimetres, into a `Centreline`."""

    def __init__(self):
        self._points, self._radii, self._branch, self._arc, self._edges = [], [], [], [], []
        self._count = 0

    def add(self, points, radii, parent=None):
        """Add a branch (n, 3) with radii (n,), joined to the point `parent` of the tree; return its indices."""
        n = len(points)
        index = np.arange(self._count, self._count + n)
        step = np.linalg.norm(np.diff(points, axis=0), axis=1)
        self._points.append(points)
        self._radii.append(np.broadcast_to(radii, n))
        self._branch.append(np.full(n, len(self._branch)))
        self._arc.append(np.concatenate([[0.0], np.cumsum(step)]))
        self._edges.append(np.stack([index[:-1], index[1:]], axis=1))
        if parent is not None:
            self._edges.append(np.array([[parent, index[0]]]))
        self._count += n
        return index

    def apart(self, points, radii, parent, near, gap):
        """Whether a branch, not added yet, keeps its lumen a `gap` from all others', but `near` its joint."""
        beyond = np.linalg.norm(points - self.point(parent), axis=1) > near
        others, widths = np.concatenate(self._points), np.concatenate(self._radii)
        between = cdist(points[beyond], others) - np.asarray(radii)[beyond, None] - widths
        return between.min(initial=np.inf) > gap

    def point(self, index):
        return np.concatenate(self._points)[index]

    def radius(self, index):
        return np.concatenate(self._radii)[index]

    def arc(self, index):
        return np.concatenate(self._arc)[index]

    def centreline(self, offset):
        """Return the tree as a `Centreline` in metres, moved by `offset` (3,) mm."""
        return Centreline(
            (np.concatenate(self._points) + offset) * MM,
            np.concatenate(self._radii) * MM,
            np.concatenate(self._branch).astype(np.int32),
            np.concatenate(self._arc) * MM,
            np.concatenate(self._edges).astype(np.int32),
        )


def curve(knots, spacing):
    """Return points (n, 3) at about `spacing` on the smooth curve through knots (k, 3), and each knot's index."""
    knots = np.asarray(knots, dtype=float)
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    spline = CubicSpline(at, knots) if len(knots) > 2 else None
    count = max(4, int(np.ceil(at[-1] / spacing)) + 1)
    s = np.linspace(0, at[-1], count)
    points = spline(s) if spline else knots[0] + np.outer(s / at[-1], knots[1] - knots[0])
    return points, np.rint(at / at[-1] * (count - 1)).astype(int)


def wander(rng, points, amplitude, wavelength):
    """Return the points (n, 3) displaced by a smooth random path of about `amplitude`, none at both ends."""
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    waves = max(1.0, length / wavelength)
    s = np.linspace(0, 1, len(points))[:, None]
    out = np.zeros_like(points)
    for k in range(3):
        out += rng.normal(size=3) / (k + 1) * np.sin(2 * np.pi * (waves * (k + 1) / 2 * s + rng.uniform(size=3)))
    return points + amplitude * out * np.minimum(1, 6 * np.minimum(s, 1 - s))


def taper(start, end, n):
    return np.linspace(start, end, n)
