"""How far a pose is known. Covariances are those of `geometry.perturb`: translation, then rotation, about a pivot."""

import numpy as np
from numba import njit

from m2i_ros.geometry import apply

CORRELATED = 20.0  # pixels along a contour within which residuals are taken for parts of one error
REACH = 6.0  # pixels from a sample within which its wall's point is looked for
NEAR = 3.0  # pixels: residuals beyond are no errors of a wall but other contours
MIN_VARIANCE = 0.03**2  # square pixels: the mean of a contour is never believed to be known better
_PIECES = 600  # of a contour, at most, that are looked at


def skew(v):
    """Return the (3, 3) matrix S with S @ w = cross(v, w)."""
    return np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])


def change_pivot(old, new):
    """Return the (6, 6) matrix that turns small xi about the pivot `old` into the same motion about the pivot `new`."""
    A = np.eye(6)
    A[:3, 3:] = skew(np.subtract(old, new))
    return A


def ray_basis(point):
    """Return (3, 3) whose columns are x, y and the unit ray from the source through `point`, in the image frame."""
    return np.column_stack([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), point / np.linalg.norm(point)])


def isotropic(T_image_model, centre, rotation, in_plane, depth):
    """Return the covariance (6, 6), pivot at the model origin, of independent errors about the model point `centre`.

    rotation: radians about each axis. in_plane: metres along x and y. depth: metres along the ray through the centre.
    """
    centre_image = apply(T_image_model, centre)
    E = ray_basis(centre_image)
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = E @ np.diag([in_plane**2, in_plane**2, depth**2]) @ E.T
    covariance[3:, 3:] = np.eye(3) * rotation**2
    A = change_pivot(centre_image, T_image_model[:3, 3])
    return A @ covariance @ A.T


def turned(covariance, T_new_old):
    """Return a covariance (6, 6), or None, in the axes of a new image frame, the pivot carried along."""
    if covariance is None:
        return None
    R = np.kron(np.eye(2), T_new_old[:3, :3])
    return R @ covariance @ R.T


def projected_error(covariance, T_image_model, points, camera):
    """Return the root mean square error in pixels of projected model points (N, 3) that a covariance predicts.

    covariance: (6, 6), pivot at the model origin's position.
    """
    x, y, z = apply(T_image_model, points).T
    dx, dy, dz = (x, y, z) - T_image_model[:3, 3, None]
    fx, fy = camera.fx / z, camera.fy / z
    cx, cy = -fx * x / z, -fy * y / z
    zero = np.zeros_like(z)
    J = np.array(
        [[fx, zero, cx, dy * cx, dz * fx - dx * cx, -dy * fx], [zero, fy, cy, dy * cy - dz * fy, -dx * cy, dx * fy]]
    )
    squares = np.tensordot(J, J, ((0, 2), (0, 2)))
    return float(np.sqrt((squares * covariance).sum() / len(z)))


def contour_variance(samples, points, normals, offset):
    """Return the variance in square pixels of the mean distance between two contours, by their residuals.

    A mask's wall errs in waves, longer in some pictures than in others, and points of one wave say the same thing. The
    residuals' autocovariance along the contour counts them as what they are worth (Newey and West 1987, with Bartlett's
    kernel over distances in the picture), each wall for itself. Infinite where no contours are near each other.

    samples: (K, 9), the model's, of `contour.occluding_contour`. points, normals: (N, 2), the mask's, of its
    `MaskContour`. offset: pixels by which the mask is fatter.
    """
    every = len(samples) // _PIECES + 1
    return max(_contour_variance(samples[::every], points, normals, offset), MIN_VARIANCE)


@njit(cache=True, nogil=True)
def _contour_variance(samples, points, normals, offset):
    order = np.argsort(points[:, 1])
    heights = points[order, 1]
    count = 0
    kept = np.empty(samples.shape[0], np.int64)
    residuals = np.empty(samples.shape[0])
    for i in range(samples.shape[0]):
        u, v, nu, nv = samples[i, 3], samples[i, 4], samples[i, 5], samples[i, 6]
        nearest, best = -1, REACH * REACH
        for j in order[np.searchsorted(heights, v - REACH) : np.searchsorted(heights, v + REACH)]:
            du, dv = points[j, 0] - u, points[j, 1] - v
            d = du * du + dv * dv
            if d < best and nu * normals[j, 0] + nv * normals[j, 1] > 0.5:
                nearest, best = j, d
        if nearest < 0:
            continue
        r = nu * (u - points[nearest, 0]) + nv * (v - points[nearest, 1]) + offset
        if abs(r) < NEAR:
            kept[count], residuals[count] = i, r * samples[i, 7]
            count += 1
    length, total = 0.0, 0.0
    for a in range(count):
        i = kept[a]
        length += samples[i, 7]
        total += residuals[a] * residuals[a]
        for b in range(a):
            j = kept[b]
            du, dv = samples[i, 3] - samples[j, 3], samples[i, 4] - samples[j, 4]
            d = du * du + dv * dv
            if d < CORRELATED * CORRELATED and samples[i, 5] * samples[j, 5] + samples[i, 6] * samples[j, 6] > 0.5:
                total += 2 * (1 - np.sqrt(d) / CORRELATED) * residuals[a] * residuals[b]
    return total / (length * length) if length > 0 else np.inf
