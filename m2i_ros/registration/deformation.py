"""The centreline bent, after the rigid pose, to where the picture shows the vessels.

A stiff wire straightens iliac arteries, and breathing bends vessels: then no rigid pose fits everywhere. The bend moves
the centreline in the directions that one view can see, parallel to the picture. It is a cubic spline on the graph of
the vessels, the smoothest that takes given values at points some way apart, continuous where branches meet.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix, diags, identity
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from m2i_ros.geometry import apply
from m2i_ros.model.projection import fill_silhouette, project_vertices

# Compiled functions are called from Python only: see `refine`.
from m2i_ros.registration.contour import occluding_contour
from m2i_ros.registration.refine import CLOSE, CORRELATION, _match

CONTROL = 0.02  # metres along a branch between the points whose displacement is sought
SIZE = 0.006  # metres: the standard deviation of a displacement
CURVATURE = 6.0  # 1/metres: of its second derivative along the vessel: 6 mm over half a wave of 100 mm
INDEPENDENT = 0.05  # metres of vessel that bend as one
SCALES = (12.0, 6.0, 3.0)  # pixels: distances well above one count little (Geman-McClure)
STEPS = 2  # at each scale
WITHIN = 1.5  # pixels within which a contour counts as explained: a bend is sought where the pose is nearly right
GAIN = 0.03  # share of the contours by which a bend must explain more than the rigid pose does, to be believed


@dataclass(frozen=True)
class Bend:
    """What a bend changes. displacement: (N, 3), metres, model axes, of the centreline's points.

    before, after: shares of the model's and the mask's contours, their mean, within `WITHIN` of the other: of the rigid
    pose, and bent. Where the gain is below `GAIN` nothing is bent.
    """

    displacement: np.ndarray
    before: float
    after: float

    def apply(self, centreline):
        """Return the `Centreline`, bent, its arc lengths kept: they name the places along the vessel."""
        return replace(centreline, points=centreline.points + self.displacement)


class DeformableModel:
    """What does not change from frame to frame.

    centreline: `Centreline`. surface: `ContourSurface`; its vertices go where the centreline's nearest points go.
    """

    def __init__(self, centreline, surface):
        self.centreline, self.surface = centreline, surface
        controls = _controls(centreline)
        self.basis, self._prior = _spline(centreline, controls)
        self._nearest = cKDTree(centreline.points).query(surface.vertices)[1]

    def bend(self, contour, camera, T_image_model, offset):
        """Return the `Bend` under which the occluding contour, at a rigid pose (4, 4), meets the mask's contour.

        contour: `MaskContour` of a picture of the camera's size. offset: pixels by which the mask is fatter than the
        model, as the pose's `Fit` says. The pose stays as it is.
        """
        T = np.ascontiguousarray(T_image_model, dtype=np.float64)
        controls = np.zeros((self.basis.shape[1], 2))  # metres, along x and y of the image frame
        before = self._matches(contour, camera, T, offset, controls, WITHIN).explained
        for scale in SCALES:
            for _ in range(STEPS):
                matches = self._matches(contour, camera, T, offset, controls, scale)
                controls = controls + self._step(matches, camera, controls, scale)
        after = self._matches(contour, camera, T, offset, controls, WITHIN).explained
        if after < before + GAIN:  # the rigid pose says it as well
            controls, after = np.zeros_like(controls), before
        return Bend(self.basis @ controls @ T[:2, :3], before, after)

    def _matches(self, contour, camera, T, offset, controls, scale):
        """Return the `_Matches` of the bent model's contour with the mask's, both directions, as `refine` has them."""
        surface = self.surface
        K = camera.fx, camera.fy, camera.cx, camera.cy
        displacement = self.basis @ controls @ T[:2, :3]
        # The normals stay: a bend of some millimetres over a decimetre turns them by a few degrees.
        uvz = project_vertices(surface.vertices + displacement[self._nearest], T, *K)
        picture = np.zeros((camera.height, camera.width), np.uint8)
        fill_silhouette(uvz, surface.faces, *surface.edges, picture)
        samples = occluding_contour(surface.faces, surface.normals, surface.radii, T, *K, uvz, picture, contour.inside)
        if not len(samples) or not len(contour.points):
            return _Matches(np.empty((0, 9)), np.empty(0, int), np.empty(0), np.empty(0), 0.0, 0.0)
        nearest_point, nearest_sample = np.empty(len(samples), int), np.empty(len(contour.points), int)
        places = contour.points, contour.normals, contour.cells, contour.columns
        _match(samples, *places, max(3 * scale, CLOSE), nearest_point, nearest_sample)
        one, two = np.flatnonzero(nearest_point >= 0), np.flatnonzero(nearest_sample >= 0)
        samples_of = samples[np.concatenate([one, nearest_sample[two]])]
        points = contour.points[np.concatenate([nearest_point[one], two])]
        model_length, mask_length = samples[:, 7].sum(), contour.lengths.sum()
        share = 0.5 * np.concatenate([samples[one, 7] / model_length, contour.lengths[two] / mask_length])
        residual = (samples_of[:, 5:7] * (samples_of[:, 3:5] - points)).sum(axis=1) + offset
        along = cKDTree(apply(T, self.centreline.points + displacement)).query(samples_of[:, :3])[1]
        explained = float(share[np.abs(residual) < WITHIN].sum())
        return _Matches(samples_of, along, residual, share, min(model_length, mask_length), explained)

    def _step(self, matches, camera, controls, scale):
        """Return the change (M, 2) of the controls by Gauss-Newton: distances well above `scale` count little."""
        m, n = matches, len(self.basis)
        robust = (scale**2 / (scale**2 + m.residual**2)) ** 2
        weight = m.share * robust * m.length / (CORRELATION * (scale / 2) ** 2)
        slope = m.samples[:, 5:7] * (camera.fx, camera.fy) / m.samples[:, 2:3]
        # What is matched at the same point of the centreline moves alike: its equations are summed first.
        used = np.unique(m.along)
        basis = self.basis[used]

        def block(values):
            return np.bincount(m.along, weight * values, n)[used]

        xx, xy, yy = (
            basis.T @ (block(slope[:, i] * slope[:, j])[:, None] * basis) for i, j in ((0, 0), (0, 1), (1, 1))
        )
        H = np.block([[xx + self._prior, xy], [xy, yy + self._prior]])
        pull = self._prior @ controls
        g = np.concatenate([basis.T @ block(slope[:, k] * m.residual) + pull[:, k] for k in range(2)])
        return -np.linalg.solve(H, g).reshape(2, -1).T


@dataclass(frozen=True)
class _Matches:
    """Pairs of the model's and the mask's contour.

    samples: (K, 9), of `occluding_contour`. along: (K,), the numbers of the centreline points they go with. residual:
    (K,), pixels. share: (K,), of the contours. length: pixels, of the shorter contour. explained: share within
    `WITHIN`.
    """

    samples: np.ndarray
    along: np.ndarray
    residual: np.ndarray
    share: np.ndarray
    length: float
    explained: float


def _controls(line):
    """Return the numbers (M,) of the points whose displacement is sought: ends, joints, and between them."""
    degree = np.bincount(line.edges.ravel(), minlength=len(line.points))
    chosen = degree != 2
    for branch in np.unique(line.branch):
        at = np.flatnonzero(line.branch == branch)
        number = max(2, round(line.arc_length[at].max() / CONTROL) + 1)
        chosen[at[np.rint(np.linspace(0, len(at) - 1, number)).astype(int)]] = True
    return np.flatnonzero(chosen)


def _spline(line, controls):
    """Return the basis (N, M), displacements of points from those of controls, and their prior's information (M, M).

    The bending energy is the squared second difference along the graph; what is free takes the place that bends least.
    """
    n = len(line.points)
    one, two = line.edges.T
    length = np.maximum(np.linalg.norm(line.points[two] - line.points[one], axis=1), 1e-5)
    difference = coo_matrix(
        (np.tile(1 / length, 4) * np.repeat([1, 1, -1, -1], len(one)),
         (np.concatenate([one, two, one, two]), np.concatenate([one, two, two, one]))), (n, n),
    ).tocsr()  # fmt: skip
    own = np.maximum(np.bincount(line.edges.ravel(), np.repeat(length, 2), n) / 2, 1e-5)  # metres of vessel
    inner = np.bincount(line.edges.ravel(), minlength=n) > 1  # an end has no second derivative
    energy = difference.T @ diags(inner / own) @ difference
    stiff = energy + 1e-9 * energy.diagonal().max() * identity(n)
    free = np.setdiff1d(np.arange(n), controls)
    basis = np.zeros((n, len(controls)))
    basis[controls, np.arange(len(controls))] = 1
    if len(free):
        basis[free] = -splu(stiff[free][:, free].tocsc()).solve(stiff[free][:, controls].toarray())
    prior = basis.T @ (energy @ basis) / (CURVATURE**2 * INDEPENDENT)
    prior += basis.T @ (own[:, None] * basis) / (SIZE**2 * INDEPENDENT)
    return basis, prior
