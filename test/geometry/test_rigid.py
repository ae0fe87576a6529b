import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from m2i_ros.geometry import apply, inverse, is_rigid, perturb, pose_difference, rigid, rotation_angle

vector = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(np.array)
motion = st.builds(rigid, vector, vector)


def skew(w):
    return np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])


@given(vector, vector, vector)
def test_a_motion_is_the_matrix_exponential_of_its_rotation_vector_then_a_shift(w, t, p):
    np.testing.assert_allclose(apply(rigid(w, t), p), expm(skew(w)) @ p + t, atol=1e-12)


@given(motion, vector)
def test_the_inverse_undoes(T, p):
    np.testing.assert_allclose(apply(inverse(T), apply(T, p)), p, atol=1e-12)


@given(motion, vector, vector, vector)
def test_perturbing_turns_about_the_pivot_and_shifts_along_fixed_axes(T, shift, w, pivot):
    moved = perturb(T, np.concatenate([shift, w]), pivot)
    p_model = np.array([0.1, -0.2, 0.3])
    expected = expm(skew(w)) @ (apply(T, p_model) - pivot) + pivot + shift
    np.testing.assert_allclose(apply(moved, p_model), expected, atol=1e-12)


@given(motion, vector, vector)
def test_the_difference_of_poses_is_the_perturbation_between_them(T, shift, w):
    xi = np.concatenate([shift, w])
    np.testing.assert_allclose(pose_difference(perturb(T, xi, T[:3, 3]), T), xi, atol=1e-9)


def test_rotation_angle():
    assert np.isclose(rotation_angle(rigid([0.0, 0.3, 0.4])), 0.5)


def test_what_is_not_rigid_is_told():
    assert is_rigid(np.eye(4))
    assert not is_rigid(np.diag([-1.0, 1.0, 1.0, 1.0])), 'a mirror is not a rigid motion'
    assert not is_rigid(2 * np.eye(4))
    assert not is_rigid(np.full((4, 4), np.nan))
    assert not is_rigid(np.eye(3))
