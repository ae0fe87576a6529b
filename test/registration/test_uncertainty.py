"""How uncertainty moves with the pivot and shows in the picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.geometry import apply, perturb, rigid
from m2i_ros.registration.uncertainty import change_pivot, contour_variance, isotropic, projected_error

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


def walls(residuals, apart=40.0, step=3.0):
    """Return the samples (K, 9) of a model's contour, and points and normals (K, 2) of one off it by residuals (W, N).

    Pixels. W straight walls lie `apart` pixels beside each other, the walls of vessels: their normals look left and
    right in turn.
    """
    samples, points, normals = [], [], []
    for wall, off in enumerate(residuals):
        side = 1.0 if wall % 2 else -1.0
        v, u = step * np.arange(len(off)), np.full(len(off), apart * wall)
        n = np.column_stack([np.full(len(off), side), np.zeros(len(off))])
        samples.append(
            np.column_stack([np.zeros((len(off), 3)), u, v, n, np.full(len(off), step), np.full(len(off), 3.0)])
        )
        points.append(np.column_stack([u + side * off, v]))
        normals.append(n)
    return [np.concatenate(rows) for rows in (samples, points, normals)]


@pytest.mark.parametrize('reach', [1, 3], ids=['each point by itself', 'waves of 9 px'])
def test_the_residuals_say_how_well_their_mean_is_known(reach):
    """Against many contours whose walls are drawn with the same waves: how much the mean distance varies."""
    rng = np.random.default_rng(0)
    smooth = np.ones(reach) / np.sqrt(reach)
    means, variances = [], []
    for _ in range(300):
        off = 0.5 * np.array([np.convolve(row, smooth, 'valid') for row in rng.normal(size=(4, 79 + reach))])
        means.append(off.mean())
        variances.append(contour_variance(*walls(off), 0.0))
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.3)


def test_what_is_no_wall_of_the_model_and_a_common_offset_are_no_error():
    off = 0.5 * np.random.default_rng(0).normal(size=(4, 80))
    alone = contour_variance(*walls(off), 0.0)
    # The mask lies outside of the model by its offset.
    assert contour_variance(*walls(off + 1.5), 1.5) == pytest.approx(alone, rel=1e-6)
    samples, points, normals = walls(off)
    others = np.concatenate([points, points + (20.0, 7.0)])
    assert contour_variance(samples, others, np.concatenate([normals, normals]), 0.0) == pytest.approx(alone)
    assert contour_variance(samples, points + 500, normals, 0.0) == np.inf
