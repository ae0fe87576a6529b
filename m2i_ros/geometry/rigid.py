"""Rigid motions as 4x4 matrices."""

import numpy as np


def rotation_matrix(vector):
    """Return the (3, 3) rotation by a rotation vector (3,), radians."""
    return _rotations().from_rotvec(vector).as_matrix()


def rotation_vector(matrix):
    """Return the rotation vector (3,), radians, of a (3, 3) rotation."""
    return _rotations().from_matrix(matrix).as_rotvec()


def _rotations():
    from scipy.spatial.transform import Rotation  # 0.4 s: where there is nothing to rotate it is not waited for

    return Rotation


def rigid(rotation=None, translation=(0.0, 0.0, 0.0)):
    """Return the (4, 4) float64 motion `x -> R x + t`.

    rotation: (3, 3) matrix, (3,) rotation vector in radians, or None for the identity.
    translation: (3,) metres.
    """
    T = np.eye(4)
    if rotation is not None:
        rotation = np.asarray(rotation, dtype=float)
        T[:3, :3] = rotation_matrix(rotation) if rotation.ndim == 1 else rotation
    T[:3, 3] = translation
    return T


def inverse(T):
    """Return the inverse of the (4, 4) rigid motion T."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


def apply(T_a_b, points_b):
    """Return points (..., 3), given in b, in coordinates of a."""
    return points_b @ T_a_b[:3, :3].T + T_a_b[:3, 3]


def perturb(T_a_b, xi, pivot_a=(0.0, 0.0, 0.0)):
    """Return T_a_b moved by xi = (translation in metres, rotation vector in radians), both (3,) along the axes of a.

    The rotation turns about `pivot_a`, a point given in a. With the pivot at the position of b's origin in a, xi is the
    tangent that a ROS PoseWithCovariance describes: x, y, z, then rotation about the fixed axes x, y, z.
    """
    xi = np.asarray(xi, dtype=float)
    pivot_a = np.asarray(pivot_a, dtype=float)
    R = rotation_matrix(xi[3:])
    return rigid(R, pivot_a - R @ pivot_a + xi[:3]) @ T_a_b


def pose_difference(T_estimate, T_truth):
    """Return xi (6,) with `perturb(T_truth, xi, pivot_a=T_truth[:3, 3]) == T_estimate`, metres and radians."""
    rotation = rotation_vector(T_estimate[:3, :3] @ T_truth[:3, :3].T)
    return np.concatenate([T_estimate[:3, 3] - T_truth[:3, 3], rotation])


def rotation_angle(T):
    """Return the angle of T's rotation in radians, in [0, pi]."""
    return float(np.linalg.norm(rotation_vector(T[:3, :3])))


def is_rigid(T, tolerance=1e-5):
    """Return whether T is a finite (4, 4) right-handed rigid motion to within `tolerance`."""
    T = np.asarray(T, dtype=float)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return False
    R = T[:3, :3]
    return bool(
        np.abs(R @ R.T - np.eye(3)).max() < tolerance
        and np.linalg.det(R) > 0
        and np.abs(T[3] - (0, 0, 0, 1)).max() < tolerance
    )
