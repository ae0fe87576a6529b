"""Rigid motions survive the messages; what is no pose is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('tf_transformations', reason='quaternions come from tf_transformations, a ROS package')

from m2i_ros.geometry import perturb, rigid  # noqa: E402
from m2i_ros.ros.covariance import covariance_from_list  # noqa: E402
from m2i_ros.ros.transforms import (  # noqa: E402
    fill_pose,
    fill_transform,
    motion_from_pose,
    motion_from_transform,
)

angles = st.lists(st.floats(-np.pi, np.pi), min_size=3, max_size=3)
places = st.lists(st.floats(-2, 2), min_size=3, max_size=3)


def pose():
    return SimpleNamespace(position=SimpleNamespace(), orientation=SimpleNamespace())


def transform():
    return SimpleNamespace(translation=SimpleNamespace(), rotation=SimpleNamespace())


@given(rotation=angles, translation=places)
def test_a_motion_survives_pose_and_transform(rotation, translation):
    T = rigid(np.array(rotation), translation)
    np.testing.assert_allclose(motion_from_pose(fill_pose(pose(), T)), T, atol=1e-7)
    np.testing.assert_allclose(motion_from_transform(fill_transform(transform(), T)), T, atol=1e-7)


def test_the_quaternion_is_x_y_z_w_as_ros_has_it():
    message = fill_pose(pose(), rigid((np.pi / 2, 0.0, 0.0)))
    q = message.orientation
    np.testing.assert_allclose(np.abs([q.x, q.y, q.z, q.w]), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12)
    assert q.x * q.w > 0


@pytest.mark.parametrize('quaternion', [(0, 0, 0, 0), (0, 0, 0, 2), (float('nan'), 0, 0, 1)])
def test_a_quaternion_that_is_no_rotation_is_refused(quaternion):
    message = fill_pose(pose(), rigid())
    q = message.orientation
    q.x, q.y, q.z, q.w = quaternion
    with pytest.raises(ValueError, match='is no pose'):
        motion_from_pose(message)


def test_a_position_that_is_not_finite_is_refused():
    message = fill_pose(pose(), rigid())
    message.position.y = float('inf')
    with pytest.raises(ValueError, match='is no pose'):
        motion_from_pose(message)


def test_a_covariance_is_read_where_one_is_stated():
    A = np.random.default_rng(3).normal(size=(6, 6))
    covariance = A @ A.T + np.eye(6)
    np.testing.assert_allclose(covariance_from_list(covariance.ravel()), covariance)
    assert covariance_from_list(np.zeros(36)) is None
    in_a_plane = np.zeros((6, 6))
    in_a_plane[0, 0] = in_a_plane[1, 1] = 0.25
    in_a_plane[5, 5] = 0.07
    assert covariance_from_list(in_a_plane.ravel()) is None
    with pytest.raises(ValueError, match='not finite'):
        covariance_from_list(np.full(36, np.nan))


def test_the_covariance_of_a_pose_is_that_of_perturb():
    # ROS: x, y, z, then rotation about the fixed axes x, y, z of the parent frame.
    T = rigid((0.3, -0.2, 0.5), (0.1, 0.2, 0.9))
    moved = perturb(T, (0.01, 0, 0, 0, 0, 0), T[:3, 3])
    np.testing.assert_allclose(moved[:3, 3] - T[:3, 3], (0.01, 0, 0))
    turned = perturb(T, (0, 0, 0, 0, 0, 0.1), T[:3, 3])
    np.testing.assert_allclose(turned[:3, 3], T[:3, 3])
    np.testing.assert_allclose(turned[:3, :3], rigid((0, 0, 0.1))[:3, :3] @ T[:3, :3])
