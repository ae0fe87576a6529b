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
    dx, dy, dz = (x, y, z) - T_image_model[:3, 3, None]
    fx, fy = camera.fx / z, camera.fy / z
    cx, cy = -fx * x / z, -fy * y / z
    zero = np.zeros_like(z)
    J = np.array(
        [[fx, zero, cx, dy * cx, dz * fx - dx * cx, -dy * fx], [zero, fy, cy, dy * cy - dz * fy, -dx * cy, dx * fy]]
    )
    squares = np.tensordot(J, J, ((0, 2), (0, 2)))
    return float(np.sqrt((squares * covariance).sum() / len(z)))
