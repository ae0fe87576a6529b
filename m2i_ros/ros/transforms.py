"""Rigid motions to Transform and Pose messages and back."""

import numpy as np
from tf_transformations import quaternion_from_matrix, quaternion_matrix

from m2i_ros.geometry import rigid


def fill_transform(message, T):
    """Fill a geometry_msgs/Transform with the (4, 4) motion T (metres), and return it."""
    _fill(message.translation, message.rotation, T)
    return message


def fill_pose(message, T):
    """Fill a geometry_msgs/Pose with the (4, 4) motion T (metres), and return it."""
    _fill(message.position, message.orientation, T)
    return message


def motion_from_pose(message):
    """Return the (4, 4) motion of a geometry_msgs/Pose. Raises ValueError where it is none."""
    return _motion(message.position, message.orientation)


def motion_from_transform(message):
    """Return the (4, 4) motion of a geometry_msgs/Transform. Raises ValueError where it is none."""
    return _motion(message.translation, message.rotation)


def _fill(position, orientation, T):
    position.x, position.y, position.z = (float(v) for v in T[:3, 3])
    orientation.x, orientation.y, orientation.z, orientation.w = (float(v) for v in quaternion_from_matrix(T))


def _motion(position, orientation):
    p = np.array([position.x, position.y, position.z])
    q = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if not (np.isfinite(p).all() and np.isfinite(q).all()) or abs(np.linalg.norm(q) - 1) > 0.01:
        raise ValueError(f'position {p.tolist()} with quaternion {q.tolist()} is no pose: finite numbers, length 1')
    return rigid(quaternion_matrix(q)[:3, :3], p)
