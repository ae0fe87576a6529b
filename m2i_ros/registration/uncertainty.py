"""How far a pose is known. Covariances are those of `geometry.perturb`: translation, then rotation, about a pivot."""

import numpy as np

from m2i_ros.geometry import apply


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


def projected_error(covariance, T_image_model, points, camera):
    """Return the root mean square error in pixels of projected model points (N, 3) that a covariance predicts.

    covariance: (6, 6), pivot at the model origin's position.
    """
    x, y, z = apply(T_image_model, points).T
    dx, dy, dz = x - T_image_model[0, 3], y - T_image_model[1, 3], z - T_image_model[2, 3]
    zero = np.zeros_like(z)
    total = 0.0
    for a, b, c in (
        (camera.fx / z, zero, -camera.fx * x / z**2),
        (zero, camera.fy / z, -camera.fy * y / z**2),
    ):
        J = np.stack([a, b, c, dy * c - dz * b, dz * a - dx * c, dx * b - dy * a], axis=1)
        total += ((J @ covariance) * J).sum()
    return float(np.sqrt(total / len(z)))
