"""Refinement: the model's occluding contour onto the mask's contour, on SE(3)."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from m2i_ros.geometry import apply

# Compiled functions are called from Python only, file by file: Numba's cache does not see changes in other files.
from m2i_ros.model.projection import fill_faces, project_vertices
from m2i_ros.registration.contour import occluding_contour
from m2i_ros.registration.uncertainty import change_pivot

OFFSET_SIGMA = 2.0  # pixels by which a mask may be too fat or too thin as a whole
CORRELATION = 22.0  # pixels of contour whose errors are one error: so that 90 to 99% lie in the 95% ellipsoid
STALE = 0.5  # pixels: a silhouette drawn for vertices nearer than this still tells outer edges from inner ones
MIN_NOISE = 0.5  # pixels: contour errors are never believed to be smaller
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

    T_image_model: (4, 4). covariance: (6, 6), pivot at the model origin's position: contour and prior together.
    offset: pixels by which the mask is fatter than the model. cost: share of contour unexplained, robust, in [0, 1].
    residual: root mean square distance of matched contours, pixels. model_share, mask_share: of the model's contour in
    view, and of the mask's, within `CLOSE` of the other.
    """

    T_image_model: np.ndarray
    covariance: np.ndarray
    offset: float
    cost: float
    residual: float
    model_share: float
    mask_share: float


@njit(cache=True, nogil=True)
def _match(samples, points, normals, gate, nearest_point, nearest_sample):
    """For each contour sample the nearest mask point, and the other way round, or -1: within `gate`, normals aligned.

    points are sorted from top to bottom, so that only a band of them is looked at.
    """
    count = points.shape[0]
    best_sample = np.full(count, gate * gate)
    for i in range(samples.shape[0]):
        u, v, nu, nv = samples[i, 3], samples[i, 4], samples[i, 5], samples[i, 6]
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if points[middle, 1] < v - gate:
                low = middle + 1
            else:
                high = middle
        best = gate * gate
        for j in range(low, count):
            dv = points[j, 1] - v
            if dv > gate:
                break
            du = points[j, 0] - u
            d = du * du + dv * dv
            if (d < best or d < best_sample[j]) and nu * normals[j, 0] + nv * normals[j, 1] > ALIGNED:
                if d < best:
                    best = d
                    nearest_point[i] = j
                if d < best_sample[j]:
                    best_sample[j] = d
                    nearest_sample[j] = i


@njit(cache=True, nogil=True)
def _add(sample, qu, qv, pivot, fx, fy, offset, scale, weight, H, g):
    """Add one match to the normal equations; return its robust cost in [0, 1] and its squared distance."""
    x, y, z, u, v, nu, nv = sample[0], sample[1], sample[2], sample[3], sample[4], sample[5], sample[6]
    r = nu * (u - qu) + nv * (v - qv) + offset
    a0 = nu * fx / z
    a1 = nv * fy / z
    a2 = -(a0 * x + a1 * y) / z
    dx, dy, dz = x - pivot[0], y - pivot[1], z - pivot[2]
    J = (a0, a1, a2, dy * a2 - dz * a1, dz * a0 - dx * a2, dx * a1 - dy * a0, 1.0)
    k = scale * scale / (scale * scale + r * r)
    w = weight * k * k
    for i in range(7):
        g[i] += w * r * J[i]
        for j in range(i + 1):
            H[i, j] += w * J[i] * J[j]
    return r * r / (scale * scale + r * r), r * r


@njit(cache=True, nogil=True)
def _normal_equations(samples, points, normals, lengths, pivot, fx, fy, offset, scale, H, g):
    """Fill the normal equations H (7, 7) and g (7,) of the squared residuals; return cost and statistics.

    Both directions count alike: from each contour the mean over its length. Returned: robust cost in [0, 1], effective
    length in pixels of contour, root mean square of close residuals in pixels, shares of model and mask explained.
    """
    H[:] = 0
    g[:] = 0
    model_length, mask_length = samples[:, 7].sum(), lengths.sum()
    if model_length < 1 or mask_length < 1:
        return 1.0, 0.0, np.inf, 0.0, 0.0
    nearest_point = np.full(samples.shape[0], -1)
    nearest_sample = np.full(points.shape[0], -1)
    _match(samples, points, normals, max(3 * scale, CLOSE), nearest_point, nearest_sample)
    cost, squares, model_close, mask_close = 0.0, 0.0, 0.0, 0.0
    for i in range(samples.shape[0]):
        share = samples[i, 7] / model_length
        j = nearest_point[i]
        if j < 0:
            cost += 0.5 * share
            continue
        c, r2 = _add(samples[i], points[j, 0], points[j, 1], pivot, fx, fy, offset, scale, 0.5 * share, H, g)
        cost += 0.5 * share * c
        if r2 < CLOSE * CLOSE:
            model_close += share
            squares += share * r2
    for j in range(points.shape[0]):
        share = lengths[j] / mask_length
        i = nearest_sample[j]
        if i < 0:
            cost += 0.5 * share
            continue
        c, r2 = _add(samples[i], points[j, 0], points[j, 1], pivot, fx, fy, offset, scale, 0.5 * share, H, g)
        cost += 0.5 * share * c
        if r2 < CLOSE * CLOSE:
            mask_close += share
            squares += share * r2
    for i in range(7):
        for j in range(i):
            H[j, i] = H[i, j]
    close = model_close + mask_close
    residual = np.sqrt(squares / close) if close > 0 else np.inf
    return cost, min(model_length, mask_length), residual, model_close, mask_close


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
def _posterior(T, offset, weight, scale, cost, H, g, centre, prior_R, prior_centre, W):
    """Return the negative log likelihood, its information (7, 7) and gradient (7,): contour, prior and offset."""
    xi = np.empty(6)
    xi[:3] = _place(T, centre) - prior_centre
    xi[3:] = _rotation_vector(np.ascontiguousarray(T[:3, :3]) @ prior_R.T)
    pull = W @ xi
    information, gradient = weight * H, weight * g
    information[:6, :6] += W
    gradient[:6] += pull
    information[6, 6] += OFFSET_SIGMA**-2
    gradient[6] += offset * OFFSET_SIGMA**-2
    total = weight * scale * scale * cost + (xi * pull).sum() + (offset / OFFSET_SIGMA) ** 2
    return 0.5 * total, information, gradient


@njit(cache=True, nogil=True)
def _step(T, offset, information, gradient, damping, centre):
    """Return the next pose (4, 4) and offset of Levenberg-Marquardt, and the gain to expect.

    As `geometry.perturb` does it, about the model point `centre`, with depth damped along its ray.
    """
    c = _place(T, centre)
    B = np.eye(7)
    B[:3, 2] = c / np.sqrt((c * c).sum())
    M = B.T @ information @ B
    for i in range(7):
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
    return out, offset + step[6], -(gradient * step).sum()


def refine(surface, contour, camera, T_image_model, prior, scales, steps=8):
    """Return the `Fit` that starts from T_image_model (4, 4) and moves through `scales`.

    surface: ContourSurface. contour: MaskContour of a picture of `camera`'s size. prior: Prior.
    scales: pixels, falling: distances well above one count little (Geman-McClure). steps: at most, at each scale.

    Levenberg-Marquardt over seven unknowns: translation along x, y and the ray through the model's centre, rotation
    about that centre, and a common offset between the contours, without which a mask that is too fat pulls the model
    towards the source. The occluding contour is taken anew at each step.
    """
    problem = _Problem(surface, contour, camera, T_image_model, prior)
    T, offset = np.ascontiguousarray(T_image_model, dtype=np.float64), 0.0
    for scale in scales:
        damping = 1e-3
        evidence = problem.evidence(T, offset, scale)
        weight = evidence.weight(scale / 2)
        total, information, gradient = problem.posterior(T, offset, evidence, weight)
        for _ in range(steps):
            T_next, offset_next, gain = _step(T, offset, information, gradient, damping, problem.centre)
            evidence_next = problem.evidence(T_next, offset_next, scale)
            posterior = problem.posterior(T_next, offset_next, evidence_next, weight)
            if posterior[0] < total:
                T, offset, evidence, damping = T_next, offset_next, evidence_next, damping / 5
                total, information, gradient = posterior
            else:
                damping = max(10 * damping, 1e-2)
            if gain < ENOUGH:
                break

    weight = evidence.weight(max(evidence.noise(), MIN_NOISE))
    _, information, _ = problem.posterior(T, offset, evidence, weight)
    A = change_pivot(apply(T, problem.centre), T[:3, 3])
    return Fit(
        T,
        A @ np.linalg.inv(information)[:6, :6] @ A.T,
        offset,
        evidence.cost,
        evidence.residual,
        evidence.model_share,
        evidence.mask_share,
    )


@dataclass(frozen=True)
class _Evidence:
    """What the contours say of one pose at one scale; see `_normal_equations`."""

    H: np.ndarray
    g: np.ndarray
    scale: float
    cost: float
    length: float
    residual: float
    model_share: float
    mask_share: float

    def noise(self):
        """Return the pixels of error that would explain the robust cost: matched and unmatched contour alike."""
        return self.scale * np.sqrt(self.cost / max(1 - self.cost, 1e-9))

    def weight(self, noise):
        """Return how many independent pieces of contour there are, over the variance of each: noise in pixels."""
        return self.length / (CORRELATION * noise**2)


class _Problem:
    """One refinement: the contours, and the prior about the model's centre in view."""

    def __init__(self, surface, contour, camera, T_image_model, prior):
        self.surface, self.contour = surface, contour
        self.K = (camera.fx, camera.fy, camera.cx, camera.cy)
        self.picture = np.zeros((camera.height, camera.width), np.uint8)
        self.drawn = None  # the projected vertices in the picture
        self.centre = _visible_centre(surface, T_image_model, camera)
        self.prior_R = np.ascontiguousarray(prior.T_image_model[:3, :3], dtype=np.float64)
        self.prior_centre = apply(prior.T_image_model, self.centre)
        A = change_pivot(self.prior_centre, prior.T_image_model[:3, 3])
        self.W = A.T @ np.linalg.solve(prior.covariance, A)

    def evidence(self, T, offset, scale):
        surface, contour = self.surface, self.contour
        uvz = project_vertices(surface.vertices, T, *self.K)
        if self.drawn is None or np.abs(uvz[:, :2] - self.drawn[:, :2]).max() > STALE:
            self.picture[:] = 0
            fill_faces(uvz, surface.faces, self.picture)
            self.drawn = uvz
        samples = occluding_contour(surface.faces, surface.normals, T, *self.K, uvz, self.picture, contour.inside)
        H, g = np.empty((7, 7)), np.empty(7)
        statistics = _normal_equations(
            samples, contour.points, contour.normals, contour.lengths, apply(T, self.centre), *self.K[:2], offset,
            scale, H, g,
        )  # fmt: skip
        return _Evidence(H, g, scale, *statistics)

    def posterior(self, T, offset, evidence, weight):
        """Return the negative log likelihood, its information (7, 7) and gradient (7,): contour, prior and offset."""
        e = evidence
        return _posterior(
            T, offset, weight, e.scale, e.cost, e.H, e.g, self.centre, self.prior_R, self.prior_centre, self.W
        )


def _visible_centre(surface, T, camera):
    """Return the mean (3,) of the vertices in view, model coordinates; of all where none is in view."""
    pixels = camera.project(apply(T, surface.vertices))
    with np.errstate(invalid='ignore'):
        seen = ((pixels >= 0) & (pixels <= (camera.width - 1, camera.height - 1))).all(axis=1)
    return (surface.vertices[seen] if seen.any() else surface.vertices).mean(axis=0)
