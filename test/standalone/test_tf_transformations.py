"""tf_transformations, genuine or stand-in: checked against SciPy, which orders quaternions x y z w as well."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

tft = pytest.importorskip('tf_transformations')

angle = st.floats(-3.1, 3.1)
pitch = st.floats(-1.5, 1.5)  # beyond it Euler angles are not unique
length = st.floats(-10, 10)


def same_rotation(q, rotation):
    return np.isclose(abs(np.dot(q, rotation.as_quat())), 1, atol=1e-9)


@given(angle, pitch, angle)
def test_euler_angles_turn_about_fixed_axes_and_come_back(a, b, c):
    truth = Rotation.from_euler('xyz', [a, b, c])
    q = tft.quaternion_from_euler(a, b, c)
    assert same_rotation(q, truth)
    assert np.allclose(tft.quaternion_matrix(q)[:3, :3], truth.as_matrix())
    assert np.allclose(tft.euler_from_quaternion(q), [a, b, c], atol=1e-7)
    assert np.allclose(tft.euler_from_matrix(tft.euler_matrix(a, b, c)), [a, b, c], atol=1e-7)


@given(angle, pitch, angle, length, length, length)
def test_a_motion_is_taken_apart_and_put_together(a, b, c, x, y, z):
    matrix = tft.concatenate_matrices(tft.translation_matrix([x, y, z]), tft.euler_matrix(a, b, c))
    assert np.allclose(tft.translation_from_matrix(matrix), [x, y, z])
    assert same_rotation(tft.quaternion_from_matrix(matrix), Rotation.from_euler('xyz', [a, b, c]))
    assert np.allclose(tft.inverse_matrix(matrix) @ matrix, np.eye(4), atol=1e-9)
    _, _, angles, translation, _ = tft.decompose_matrix(matrix)
    assert tft.is_same_transform(tft.compose_matrix(angles=angles, translate=translation), matrix)


@given(angle, angle)
def test_quaternions_multiply_with_the_second_turning_first(a, b):
    qa, qb = tft.quaternion_about_axis(a, [1, 0, 0]), tft.quaternion_about_axis(b, [0, 0, 1])
    truth = Rotation.from_rotvec([a, 0, 0]) * Rotation.from_rotvec([0, 0, b])
    assert same_rotation(tft.quaternion_multiply(qa, qb), truth)
    assert same_rotation(tft.quaternion_multiply(qa, tft.quaternion_inverse(qa)), Rotation.identity())


def test_slerp_goes_the_way_evenly():
    q0, q1 = tft.quaternion_about_axis(0.2, [0, 1, 0]), tft.quaternion_about_axis(1.2, [0, 1, 0])
    assert same_rotation(tft.quaternion_slerp(q0, q1, 0.25), Rotation.from_rotvec([0, 0.45, 0]))


def test_a_turn_about_a_point_keeps_the_point():
    point = np.array([1.0, 2.0, 3.0])
    matrix = tft.rotation_matrix(0.7, [0, 0, 1], point)
    assert np.allclose(matrix @ [*point, 1], [*point, 1])
