"""Rotations and rigid motions: a stand-in for tf_transformations, over transforms3d as the genuine one.

Quaternions are (x, y, z, w); matrices are 4x4; angles are radians; `axes` names the order of turning as in transforms3d
('sxyz': about the fixed x, then y, then z).
"""

import numpy as np
from transforms3d import affines, axangles, euler, quaternions

__all__ = [
    'compose_matrix',
    'concatenate_matrices',
    'decompose_matrix',
    'euler_from_matrix',
    'euler_from_quaternion',
    'euler_matrix',
    'identity_matrix',
    'inverse_matrix',
    'is_same_transform',
    'quaternion_about_axis',
    'quaternion_conjugate',
    'quaternion_from_euler',
    'quaternion_from_matrix',
    'quaternion_inverse',
    'quaternion_matrix',
    'quaternion_multiply',
    'quaternion_slerp',
    'rotation_matrix',
    'translation_from_matrix',
    'translation_matrix',
    'unit_vector',
    'vector_norm',
]


def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(name)
    raise ImportError(f'tf_transformations.{name} is not in this stand-in: install ROS 2 for it')


def _xyzw(wxyz):
    return np.roll(np.asarray(wxyz, dtype=float), -1)


def _wxyz(xyzw):
    return np.roll(np.asarray(xyzw, dtype=float), 1)


def _affine(rotation):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    return matrix


# --- matrices ---


def identity_matrix():
    """Returns the motion that moves nothing."""
    return np.eye(4)


def translation_matrix(direction):
    """Returns the motion by `direction` (3,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.asarray(direction)[:3]
    return matrix


def translation_from_matrix(matrix):
    """Returns the translation (3,) of a motion."""
    return np.array(matrix)[:3, 3].copy()


def rotation_matrix(angle, direction, point=None):
    """Returns the turn by `angle` about the axis `direction`, through `point` if given."""
    return axangles.axangle2aff(
        np.asarray(direction)[:3], angle, point=None if point is None else np.asarray(point)[:3]
    )


def euler_matrix(ai, aj, ak, axes='sxyz'):
    """Returns the turn by three angles."""
    return _affine(euler.euler2mat(ai, aj, ak, axes))


def compose_matrix(scale=None, shear=None, angles=None, translate=None, perspective=None):
    """Returns the motion made of scale, shear, Euler angles ('sxyz') and translation."""
    if perspective is not None:
        raise NotImplementedError('compose_matrix(perspective=...) is not in this stand-in: install ROS 2 for it')
    return affines.compose(
        np.zeros(3) if translate is None else np.asarray(translate),
        np.eye(3) if angles is None else euler.euler2mat(*angles, 'sxyz'),
        np.ones(3) if scale is None else np.asarray(scale),
        np.zeros(3) if shear is None else np.asarray(shear),
    )


def decompose_matrix(matrix):
    """Returns scale, shear, Euler angles ('sxyz'), translation and perspective (always that of a motion)."""
    translate, rotation, scale, shear = affines.decompose44(np.asarray(matrix))
    return scale, shear, np.array(euler.mat2euler(rotation, 'sxyz')), translate, np.array([0.0, 0.0, 0.0, 1.0])


def concatenate_matrices(*matrices):
    """Returns the product of `matrices`, the last one acting first."""
    product = np.eye(4)
    for matrix in matrices:
        product = product @ matrix
    return product


def inverse_matrix(matrix):
    """Returns the inverse."""
    return np.linalg.inv(matrix)


def is_same_transform(matrix0, matrix1):
    """Returns whether two matrices are the same motion, whatever their scale of homogeneous coordinates."""
    matrix0, matrix1 = np.array(matrix0, dtype=float), np.array(matrix1, dtype=float)
    return bool(np.allclose(matrix0 / matrix0[3, 3], matrix1 / matrix1[3, 3]))


# --- Euler angles ---


def euler_from_matrix(matrix, axes='sxyz'):
    """Returns the three angles of a motion's rotation."""
    return euler.mat2euler(np.asarray(matrix)[:3, :3], axes)


def euler_from_quaternion(quaternion, axes='sxyz'):
    """Returns the three angles of a quaternion."""
    return euler.quat2euler(_wxyz(quaternion), axes)


# --- quaternions ---


def quaternion_from_euler(ai, aj, ak, axes='sxyz'):
    """Returns the quaternion of three angles."""
    return _xyzw(euler.euler2quat(ai, aj, ak, axes))


def quaternion_about_axis(angle, axis):
    """Returns the quaternion of the turn by `angle` about `axis`."""
    return _xyzw(quaternions.axangle2quat(axis, angle))


def quaternion_matrix(quaternion):
    """Returns the 4x4 matrix of a quaternion."""
    return _affine(quaternions.quat2mat(_wxyz(quaternion)))


def quaternion_from_matrix(matrix):
    """Returns the quaternion of a motion's rotation."""
    return _xyzw(quaternions.mat2quat(np.asarray(matrix)[:3, :3]))


def quaternion_multiply(quaternion1, quaternion0):
    """Returns the product: `quaternion0` turns first."""
    return _xyzw(quaternions.qmult(_wxyz(quaternion1), _wxyz(quaternion0)))


def quaternion_conjugate(quaternion):
    """Returns the conjugate."""
    return _xyzw(quaternions.qconjugate(_wxyz(quaternion)))


def quaternion_inverse(quaternion):
    """Returns the inverse."""
    return _xyzw(quaternions.qinverse(_wxyz(quaternion)))


def quaternion_slerp(quat0, quat1, fraction, spin=0, shortestpath=True):
    """Returns the quaternion at `fraction` of the way along the great arc from `quat0` to `quat1`."""
    q0, q1 = unit_vector(np.asarray(quat0)[:4]), unit_vector(np.asarray(quat1)[:4])
    cosine = float(q0 @ q1)
    if shortestpath and cosine < 0:
        q1, cosine = -q1, -cosine
    angle = np.arccos(np.clip(cosine, -1, 1)) + spin * np.pi
    if abs(np.sin(angle)) < 1e-12:
        return q0
    return (np.sin((1 - fraction) * angle) * q0 + np.sin(fraction * angle) * q1) / np.sin(angle)


# --- vectors ---


def vector_norm(data, axis=None):
    """Returns the Euclidean length, along `axis` if given."""
    return np.linalg.norm(data, axis=axis)


def unit_vector(data, axis=None):
    """Returns `data` at length one, along `axis` if given."""
    data = np.asarray(data, dtype=float)
    return data / np.linalg.norm(data, axis=axis, keepdims=axis is not None)
