"""Refinement: the model's occluding contour onto the contours of one or more masks, on SE(3)."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from m2i_ros.geometry import apply, perturb

# Compiled functions are called from Python only, file by file: Numba's cache does not see changes in other files.
from m2i_ros.model.projection import fill_silhouette, project_vertices
from m2i_ros.registration.contour import CELL, occluding_contour
from m2i_ros.registration.uncertainty import change_pivot, contour_variance

OFFSET_SIGMA = 2.0  # pixels by which a mask may be too fat or too thin as a whole
SLOPE_SIGMA = 0.2  # pixels by which it may be fatter in a vessel twice as wide as another
CORRELATION = 22.0  # pixels of contour whose errors are one error
MIN_SWAY = 1e-4  # metres, and radians: how two image frames lie to each other is never believed to be known better
STALE = 0.5  # pixels: a silhouette drawn for vertices nearer than this still tells outer edges from inner ones
WIDER = 1.7  # than residuals say, which the fit made small: so that 90 to 99% of errors lie in the 95% ellipsoid
CLOSE = 3.0  # pixels within which a contour counts as explained
ENOUGH = 0.1  # a step that gains less, in log likelihood, ends a scale: under half of a standard deviation
ALIGNED = 0.5  # cosine between normals above which two pieces of contour may match


@dataclass(frozen=True)
class Prior:
    """Where the pose is expected: T (4, 4) and its covariance (6, 6), pivot at the model origin's position."""

    T_image_model: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A refined pose with its evidence.

    T_image_model: (4, 4). covariance: (6, 6), pivot at the model origin's position: contours and prior together.
    offsets: (V,) pixels by which each view's mask is fatter than the model. cost: share of contour unexplained, robust,
    in [0, 1]; the mean over views. Of the first view: residual: root mean square distance of matched contours, pixels.
    model_share, mask_share: of the model's contour in view, and of the mask's, within `CLOSE` of the other.
    agreement: the least model_share of the other views; 1 where there are none. strain: how many standard deviations
    the anatomy is elsewhere in a kept view than was expected; 0 where there is none.
    """

    T_image_model: np.ndarray
    covariance: np.ndarray
    offsets: np.ndarray
    cost: float
    residual: float
    model_share: float
    mask_share: float
    agreement: float
    strain: float


@njit(cache=True, nogil=True)
def _match(samples, points, normals, cells, columns, gate, nearest_point, nearest_sample):
    """For each contour sample the nearest mask point, and the other way round, or -1: within `gate`, normals aligned.

    cells: of the `MaskContour`, in so many columns, so that only those around a sample are looked at.
    """
    nearest_sample[:] = -1
    last_row, last_column = (len(cells) - 1) // columns - 1, columns - 1
    far = gate * gate
    best_sample = np.full(points.shape[0], far)
    for i in range(samples.shape[0]):
        u, v, nu, nv = samples[i, 3], samples[i, 4], samples[i, 5], samples[i, 6]
        begin, end = max(int((u - gate) / CELL), 0), min(int((u + gate) / CELL), last_column) + 1
        best, nearest = far, -1
        for row in range(max(int((v - gate) / CELL), 0), min(int((v + gate) / CELL), last_row) + 1):
            for j in range(cells[row * columns + begin], cells[row * columns + end]):
                # Choices instead of branches, which could not be foretold.
                du, dv = points[j, 0] - u, points[j, 1] - v
                d = du * du + dv * dv if nu * normals[j, 0] + nv * normals[j, 1] > ALIGNED else far
                nearest = j if d < best else nearest
                best = min(d, best)
                nearest_sample[j] = i if d < best_sample[j] else nearest_sample[j]
                best_sample[j] = min(d, best_sample[j])
        nearest_point[i] = nearest


@njit(cache=True, nogil=True)
def _pull(sample, point, offset, scale):
    """Return a match's residual in pixels, its weight, and its robust cost in [0, 1] (Geman-McClure)."""
    r = sample[5] * (sample[3] - point[0]) + sample[6] * (sample[4] - point[1]) + offset
    k = scale * scale / (scale * scale + r * r)
    return r, k * k, 1 - k


@njit(cache=True, nogil=True)
def _add(sample, weight, pull, pivot, fx, fy, J, H):
    """Add to H (8, 8) what a contour sample's matches say: the sums of their weights, and of weight times residual.

    Its first seven rows and columns are the normal equations' matrix, its last row their right side, its last column
    what a residual of one pixel for each doubling of the vessel's radius would add to that. J: (8,), for use.
    """
    x, y, z, nu, nv = sample[0], sample[1], sample[2], sample[5], sample[6]
    a0 = nu * fx / z
    a1 = nv * fy / z
    a2 = -(a0 * x + a1 * y) / z
    dx, dy, dz = x - pivot[0], y - pivot[1], z - pivot[2]
    J[0], J[1], J[2] = a0, a1, a2
    J[3], J[4], J[5], J[6], J[7] = dy * a2 - dz * a1, dz * a0 - dx * a2, dx * a1 - dy * a0, 1.0, sample[8]
    for i in range(7):
        weighted = weight * J[i]
        for j in range(8):  # eight, as many as a processor takes at once
            H[i, j] += weighted * J[j]
        H[7, i] += pull * J[i]


@njit(cache=True, nogil=True)
def _normal_equations(samples, points, normals, lengths, cells, columns, pivot, fx, fy, offset, scale, H):
    """Fill the normal equations H (8, 8) of the squared residuals, see `_add`; return cost and statistics.

    Both directions count alike: from each contour the mean over its length. Returned: robust cost in [0, 1], effective
    length in pixels of contour, root mean square of close residuals in pixels, shares of model and mask explained.
    """
    H[:] = 0
    model_length, mask_length = samples[:, 7].sum(), lengths.sum()
    if model_length < 1 or mask_length < 1:
        return 1.0, 0.0, np.inf, 0.0, 0.0
    nearest_point = np.empty(samples.shape[0], np.int64)
    nearest_sample = np.empty(points.shape[0], np.int64)
    _match(samples, points, normals, cells, columns, max(3 * scale, CLOSE), nearest_point, nearest_sample)
    cost, squares, model_close, mask_close = 0.0, 0.0, 0.0, 0.0
    weights, pulls = np.zeros(samples.shape[0]), np.zeros(samples.shape[0])
    for i in range(samples.shape[0]):
        share = samples[i, 7] / model_length
        j = nearest_point[i]
        if j < 0:
            cost += 0.5 * share
            continue
        r, weight, c = _pull(samples[i], points[j], offset, scale)
        weights[i] += 0.5 * share * weight
        pulls[i] += 0.5 * share * weight * r
        cost += 0.5 * share * c
        if abs(r) < CLOSE:
            model_close += share
            squares += share * r * r
    for j in range(points.shape[0]):
        share = lengths[j] / mask_length
        i = nearest_sample[j]
        if i < 0:
            cost += 0.5 * share
            continue
        r, weight, c = _pull(samples[i], points[j], offset, scale)
        weights[i] += 0.5 * share * weight
        pulls[i] += 0.5 * share * weight * r
        cost += 0.5 * share * c
        if abs(r) < CLOSE:
            mask_close += share
            squares += share * r * r
    J = np.empty(8)
    for i in range(samples.shape[0]):
        if weights[i] > 0:
            _add(samples[i], weights[i], pulls[i], pivot, fx, fy, J, H)
    close = model_close + mask_close
    residual = np.sqrt(squares / close) if close > 0 else np.inf
    return cost, min(model_length, mask_length), residual, model_close, mask_close


@njit(cache=True, nogil=True)
def _farthest(uvz, before):
    """Return the largest distance along u or v between projected vertices (V, 3)."""
    out = 0.0
    for i in range(uvz.shape[0]):
        out = max(out, abs(uvz[i, 0] - before[i, 0]), abs(uvz[i, 1] - before[i, 1]))
    return out


@njit(cache=True, nogil=True)
def _rotation_vector(R):
    """Return the rotation vector (3,) of R (3, 3), for angles well below pi."""
    w = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2
    sine = np.sqrt((w * w).sum())
    if sine < 1e-9:
        return w
    return w * (np.arctan2(sine, (R[0, 0] + R[1, 1] + R[2, 2] - 1) / 2) / sine)


@njit(cache=True, nogil=True)
def _place(T, point):
    """Return a model point (3,) in the image frame."""
    return np.ascontiguousarray(T[:3, :3]) @ point + T[:3, 3]


@njit(cache=True, nogil=True)
def _posterior(T, own, precision, weights, scale, costs, H, g, A, centre, prior_R, prior_centre, W):
    """Return the negative log likelihood, its information (n, n) and gradient (n,): contours, prior, own unknowns.

    H (V, 7, 7), g (V, 7): each view's normal equations in its own frame, which A (V, 7, n) brings to all unknowns.
    precision (n - 6, n - 6): of the own unknowns, whose mean is 0.
    """
    n = A.shape[2]
    total, information, gradient = 0.0, np.zeros((n, n)), np.zeros(n)
    for v in range(A.shape[0]):
        information += weights[v] * (A[v].T @ H[v] @ A[v])
        gradient += weights[v] * (A[v].T @ g[v])
        total += weights[v] * scale * scale * costs[v]
    xi = np.empty(6)
    xi[:3] = _place(T, centre) - prior_centre
    xi[3:] = _rotation_vector(np.ascontiguousarray(T[:3, :3]) @ prior_R.T)
    pull = W @ xi
    information[:6, :6] += W
    gradient[:6] += pull
    total += (xi * pull).sum()
    pull = precision @ own
    information[6:, 6:] += precision
    gradient[6:] += pull
    total += (own * pull).sum()
    return 0.5 * total, information, gradient


@njit(cache=True, nogil=True)
def _step(T, own, information, gradient, damping, centre):
    """Return the next pose (4, 4) and own unknowns of Levenberg-Marquardt, and the gain to expect.

    As `geometry.perturb` does it, about the model point `centre`, with depth damped along its ray.
    """
    c = _place(T, centre)
    B = np.eye(gradient.size)
    B[:3, 2] = c / np.sqrt((c * c).sum())
    M = B.T @ information @ B
    for i in range(gradient.size):
        M[i, i] *= 1 + damping
    step = -(B @ np.linalg.solve(M, B.T @ gradient))
    w = step[3:6]
    angle = np.sqrt((w * w).sum())
    K = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    a = np.sin(angle) / angle if angle > 1e-8 else 1.0
    b = (1 - np.cos(angle)) / (angle * angle) if angle > 1e-8 else 0.5
    R = np.eye(3) + a * K + b * (K @ K)
    out = np.eye(4)
    out[:3, :3] = R @ np.ascontiguousarray(T[:3, :3])
    out[:3, 3] = R @ (T[:3, 3] - c) + c + step[:3]
    return out, own + step[6:], -(gradient * step).sum()


def refine(surface, views, T_image_model, prior, scales, steps=8):
    """Return the `Fit` that starts from T_image_model (4, 4) and moves through `scales`.

    surface: ContourSurface. views: `View`s, the first one in the image frame. prior: Prior.
    scales: pixels, falling: distances well above one count little (Geman-McClure). steps: at most, at each scale; or a
    number for each.

    Levenberg-Marquardt over translation along x, y and the ray through the model's centre, rotation about that centre,
    and for each view a common offset between the contours, without which a mask that is too fat pulls the model towards
    its source. Views after the first have five unknowns more: where the anatomy, seen at another moment, or the X-ray
    system is elsewhere in their plane by some `View.sway`, and turned by some `View.twist`. The views' normal equations
    add up, each weighted by its own noise: their masks' errors are independent. The occluding contours are taken anew
    at each step.
    """
    problem = _Problem(surface, views, T_image_model, prior)
    T, own = np.ascontiguousarray(T_image_model, dtype=np.float64), np.zeros(len(problem.precision))
    for scale, most in zip(scales, np.broadcast_to(steps, len(scales))):
        damping = 1e-3
        evidence = problem.evidence(T, own, scale)
        weights = evidence.weights(np.full(len(views), scale / 2))
        total, information, gradient = problem.posterior(T, own, evidence, weights)
        for _ in range(most):
            T_next, own_next, gain = _step(T, own, information, gradient, damping, problem.centre)
            if gain < ENOUGH:  # not worth another look
                T, own = T_next, own_next
                break
            evidence_next = problem.evidence(T_next, own_next, scale)
            posterior = problem.posterior(T_next, own_next, evidence_next, weights)
            if posterior[0] < total:
                T, own, evidence, damping = T_next, own_next, evidence_next, damping / 5
                total, information, gradient = posterior
            else:
                damping = max(10 * damping, 1e-2)

    weights = 1 / (WIDER * problem.variances(evidence, own))
    covariance = problem.covariance(T, own, evidence, weights)[:6, :6]
    A = change_pivot(apply(T, problem.centre), T[:3, 3])
    return Fit(
        T,
        A @ covariance @ A.T,
        own[: len(views)],
        float(evidence.costs.mean()),
        float(evidence.residuals[0]),
        float(evidence.model_shares[0]),
        float(evidence.mask_shares[0]),
        float(evidence.model_shares[1:].min(initial=1.0)),
        problem.strain(own),
    )


@dataclass(frozen=True)
class _Evidence:
    """What the contours of V views say of one pose at one scale, each (V, ...); see `_normal_equations`.

    samples: V arrays (K, 9), of `occluding_contour`. H (V, 7, 7), g (V, 7): the normal equations, slope (V, 7): what a
    mask that is fatter by one pixel for each doubling of a vessel's radius adds to g.
    """

    samples: list
    H: np.ndarray
    g: np.ndarray
    slope: np.ndarray
    scale: float
    costs: np.ndarray
    lengths: np.ndarray
    residuals: np.ndarray
    model_shares: np.ndarray
    mask_shares: np.ndarray

    def weights(self, noise):
        """Return how many independent pieces of contour there are, over the variance of each: noise (V,) in pixels."""
        return self.lengths / (CORRELATION * noise**2)


class _Problem:
    """One refinement: the contours, and the prior about the model's centre in the first view.

    Unknowns: six of the pose, an offset for each view, two of sway and three of twist for each but the first.
    """

    def __init__(self, surface, views, T_image_model, prior):
        self.surface, self.views = surface, views
        self.pictures = [np.zeros((view.camera.height, view.camera.width), np.uint8) for view in views]
        self.drawn = [None] * len(views)  # the projected vertices in each picture
        self.seen = (None, None), None  # a pose with its own unknowns, and the occluding contours
        T_image_model = np.ascontiguousarray(T_image_model, dtype=np.float64)
        camera = views[0].camera
        uvz = project_vertices(surface.vertices, T_image_model, camera.fx, camera.fy, camera.cx, camera.cy)
        self.centre = _visible_centre(surface.vertices, uvz, camera.width, camera.height)
        self.prior_R = np.ascontiguousarray(prior.T_image_model[:3, :3], dtype=np.float64)
        self.prior_centre = apply(prior.T_image_model, self.centre)
        A = change_pivot(self.prior_centre, prior.T_image_model[:3, 3])
        self.W = A.T @ np.linalg.solve(prior.covariance, A)
        self.precision = OFFSET_SIGMA**-2 * np.eye(6 * len(views) - 5)
        for v, view in enumerate(views[1:], 1):
            doubt = MIN_SWAY**2 * np.eye(5)
            doubt[:2, :2] += view.sway
            doubt[2:, 2:] += view.twist**2 * np.eye(3)
            self.precision[self._sway(v), self._sway(v)] = np.linalg.inv(doubt)
        self.A = np.zeros((len(views), 7, 6 + len(self.precision)))
        for v, view in enumerate(views):
            self.A[v, :3, :3] = self.A[v, 3:6, 3:6] = view.T_view_image[:3, :3]
            self.A[v, 6, 6 + v] = 1
            if v:
                self.A[v, (0, 1, 3, 4, 5), 6 + self._sway(v).start : 6 + self._sway(v).stop] = np.eye(5)

    def evidence(self, T, own, scale):
        count = len(self.views)
        # From one scale to the next the pose stays, and so do its contours.
        if self.seen[0][0] is not T or self.seen[0][1] is not own:
            self.seen = (T, own), [self._occluding_contour(v, T, own) for v in range(count)]
        H, statistics = np.empty((count, 8, 8)), np.empty((5, count))
        for v, view in enumerate(self.views):
            camera, contour, (T_view, samples) = view.camera, view.contour, self.seen[1][v]
            statistics[:, v] = _normal_equations(
                samples, contour.points, contour.normals, contour.lengths, contour.cells, contour.columns,
                apply(T_view, self.centre), camera.fx, camera.fy, own[v], scale, H[v],
            )  # fmt: skip
        samples = [samples for _, samples in self.seen[1]]
        return _Evidence(samples, H[:, :7, :7].copy(), H[:, 7, :7].copy(), H[:, :7, 7], scale, *statistics)

    def _occluding_contour(self, v, T, own):
        """Return the pose (4, 4) in a view's own frame and its occluding contour there."""
        surface, view = self.surface, self.views[v]
        camera, T_view = view.camera, view.T_view_image @ T
        if v:
            x, y, *turn = own[self._sway(v)]
            T_view = perturb(T_view, (x, y, 0.0, *turn), apply(T_view, self.centre))
        K = (camera.fx, camera.fy, camera.cx, camera.cy)
        uvz = project_vertices(surface.vertices, T_view, *K)
        if self.drawn[v] is None or _farthest(uvz, self.drawn[v]) > STALE:
            self.pictures[v][:] = 0
            fill_silhouette(uvz, surface.faces, *surface.edges, self.pictures[v])
            self.drawn[v] = uvz
        inside = view.contour.inside
        mesh = surface.faces, surface.normals, surface.radii
        return T_view, occluding_contour(*mesh, T_view, *K, uvz, self.pictures[v], inside)

    def variances(self, evidence, own):
        """Return the `contour_variance` (V,) of each view's residuals, square pixels."""
        seen = zip(evidence.samples, (view.contour for view in self.views), own)
        return np.array([contour_variance(samples, c.points, c.normals, offset) for samples, c, offset in seen])

    def posterior(self, T, own, evidence, weights):
        """Return the negative log likelihood, its information (n, n) and gradient (n,); see `_posterior`."""
        e = evidence
        return _posterior(
            T, own, self.precision, weights, e.scale, e.costs, e.H, e.g, self.A, self.centre, self.prior_R,
            self.prior_centre, self.W,
        )  # fmt: skip

    def covariance(self, T, own, evidence, weights):
        """Return the covariance (n, n) of all unknowns.

        What the walls' waves leave open, and what follows from masks whose wide vessels are fatter, or thinner, than
        their narrow ones: as an error of its own beside the unknowns (a consider parameter, Schmidt 1966), for fitted
        it would take from one view what that says of depth.
        """
        _, information, _ = self.posterior(T, own, evidence, weights)
        inverse = np.linalg.inv(information)
        errors = SLOPE_SIGMA * np.einsum('mn,vkn,vk,v->vm', inverse, self.A, evidence.slope, weights)
        return inverse + errors.T @ errors

    def strain(self, own):
        """Return how many standard deviations the own unknowns of a kept view are from what was expected."""
        kept = [self._sway(v) for v, view in enumerate(self.views) if view.age]
        return max((float(np.sqrt(own[at] @ self.precision[at, at] @ own[at])) for at in kept), default=0.0)

    def _sway(self, v):
        """Return where a view after the first has its sway and twist among the own unknowns."""
        first = len(self.views) + 5 * (v - 1)
        return slice(first, first + 5)


@njit(cache=True, nogil=True)
def _visible_centre(vertices, uvz, width, height):
    """Return the mean (3,) of the vertices (V, 3) in view, model coordinates; of all where none is in view."""
    total, count = np.zeros(3), 0
    for i in range(vertices.shape[0]):
        if uvz[i, 2] > 0 and 0 <= uvz[i, 0] <= width - 1 and 0 <= uvz[i, 1] <= height - 1:
            total += vertices[i]
            count += 1
    return total / count if count else vertices.sum(axis=0) / vertices.shape[0]
