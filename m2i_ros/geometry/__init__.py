"""X-ray projection and rigid motions. Metres and radians; `T_a_b` maps coordinates in b into a."""

from m2i_ros.geometry.c_arm import CArm
from m2i_ros.geometry.camera import Camera
from m2i_ros.geometry.rigid import (
    apply,
    inverse,
    is_rigid,
    perturb,
    pose_difference,
    rigid,
    rotation_angle,
    rotation_matrix,
    rotation_vector,
)

__all__ = [
    'CArm',
    'Camera',
    'apply',
    'inverse',
    'is_rigid',
    'perturb',
    'pose_difference',
    'rigid',
    'rotation_angle',
    'rotation_matrix',
    'rotation_vector',
]
