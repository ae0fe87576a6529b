"""How uncertainty moves with the pivot and shows in the picture."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.geometry import apply, perturb, rigid
from m2i_ros.registration.uncertainty import change_pivot, isotropic, projected_error

vector = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array)


@settings(max_examples=50, deadline=None)
@given(a=vector, b=vector, translation=vector, rotation=vector)
def test_a_motion_about_one_pivot_is_another_about_another(a, b, translation, rotation):
    xi = 1e-4 * np.concatenate([translation, rotation])
    T = rigid(np.array([0.3, -0.2, 0.1]), (0.1, 0.2, 0.8))
    assert np.allclose(perturb(T, xi, a), perturb(T, change_pivot(a, b) @ xi, b), atol=1e-7)


def test_the_prior_is_what_it_says_about_the_centre():
    T, centre = rigid(np.array([0.5, 0.2, -0.4]), (0.3, -0.2, 0.5)), np.array([0.1, 0.5, 0.2])
    covariance = isotropic(T, centre, rotation=0.1, in_plane=0.002, depth=0.03)
    A = change_pivot(T[:3, 3], apply(T, centre))
    about = A @ covariance @ A.T
    ray = apply(T, centre) / np.linalg.norm(apply(T, centre))
    assert np.allclose(about[3:, 3:], 0.01 * np.eye(3)) and np.allclose(about[:3, 3:], 0, atol=1e-9)
    assert np.isclose(np.linalg.eigvalsh(about[:3, :3])[-1], ray @ about[:3, :3] @ ray, rtol=0.02)


def test_the_predicted_error_is_that_of_random_poses(camera, model, T_truth):
    covariance = isotropic(T_truth, model.centroid, np.radians(0.5), 0.001, 0.004)
    points = model.centreline.points[::20]
    rng = np.random.default_rng(0)
    squares = [
        (
            (
                camera.project(apply(perturb(T_truth, xi, T_truth[:3, 3]), points))
                - camera.project(apply(T_truth, points))
            )
            ** 2
        )
        .sum(axis=1)
        .mean()
        for xi in rng.multivariate_normal(np.zeros(6), covariance, size=2000, method='eigh')
    ]
    assert np.isclose(np.sqrt(np.mean(squares)), projected_error(covariance, T_truth, points, camera), rtol=0.05)
