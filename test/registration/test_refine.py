"""How the refinement moves, and what it then claims to know."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from trees import ray_cast

from m2i_ros.evaluation.metrics import ellipsoids
from m2i_ros.geometry import CArm, apply, perturb, pose_difference, rigid, rotation_angle
from m2i_ros.registration.confidence import points_in_view, predicted_mm
from m2i_ros.registration.contour import ContourSurface, mask_contour
from m2i_ros.registration.refine import ALIGNED, Prior, _add, _match, _pull, refine
from m2i_ros.registration.uncertainty import isotropic
from m2i_ros.registration.view import View
from m2i_ros.simulation.mask_faults import damaged


@pytest.fixture(scope='module')
def surface(model):
    return ContourSurface.from_model(model)


@pytest.fixture(scope='module')
def view(model, T_truth, camera):
    mask = ray_cast(model.centreline, T_truth, camera)
    return View(mask, np.ones(mask.shape, bool), camera)


def prior(T, model):
    return Prior(T, isotropic(T, model.centroid, np.radians(10), 0.04, 0.06))


@pytest.mark.parametrize('mirrored', [False, True])
def test_the_gradient_is_that_of_the_robust_distance(camera, T_truth, model, mirrored):
    camera = camera.flipped() if mirrored else camera
    rng = np.random.default_rng(1)
    point, pivot, scale, offset = model.vertices[100], apply(T_truth, model.centroid), 3.0, 0.4
    normal = np.array([0.6, -0.8])
    q = camera.project(apply(T_truth, point)) + (1.0, 0.5)

    def cost(xi):
        u = camera.project(apply(perturb(T_truth, xi[:6], pivot), point))
        r2 = (normal @ (u - q) + offset + xi[6]) ** 2
        return 0.5 * scale**2 * r2 / (scale**2 + r2)

    x = apply(T_truth, point)
    H, sample = np.zeros((8, 8)), np.r_[x, camera.project(x), normal, 1.0, 3.0]
    r, weight, _ = _pull(sample, q, offset, scale)
    _add(sample, weight, weight * r, pivot, camera.fx, camera.fy, np.empty(8), H)
    g = H[7, :7]
    for _ in range(5):
        direction = rng.normal(size=7) * np.r_[np.full(3, 1e-3), np.full(3, 1e-2), 1.0]
        numeric = (cost(1e-4 * direction) - cost(-1e-4 * direction)) / 2e-4
        assert numeric == pytest.approx(g @ direction, rel=1e-5)


@pytest.mark.parametrize('fat', [-2, 0, 2])
def test_a_mask_that_is_too_fat_or_thin_does_not_move_the_depth(surface, model, camera, T_truth, view, fat):
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(fat) + 1,) * 2)
    mask = {-2: cv2.erode, 0: lambda m, _: m, 2: cv2.dilate}[fat](view.mask, kernel)
    start = perturb(T_truth, (0.004, -0.003, 0.02, 0.05, -0.04, 0.06), apply(T_truth, model.centroid))
    views = (View(mask, view.valid, camera),)
    fit = refine(surface, views, start, prior(start, model), (12.0, 5.0, 2.0))
    error = apply(fit.T_image_model, model.centroid) - apply(T_truth, model.centroid)
    assert np.abs(error[:2]).max() < 3e-4
    assert abs(error[2]) < 5e-3
    assert rotation_angle(np.linalg.inv(T_truth) @ fit.T_image_model) < np.radians(0.5)
    assert fit.offsets == pytest.approx([fat], abs=0.5)
    assert fit.model_share > 0.95 and fit.mask_share > 0.95 and fit.residual < 1


def test_without_a_contour_the_prior_is_all_that_is_known(surface, model, camera, T_truth, view):
    empty = View(np.zeros_like(view.mask), view.valid, camera)
    start = perturb(T_truth, (0.01, 0, 0, 0, 0, 0))
    expected = prior(T_truth, model)
    fit = refine(surface, (empty,), start, expected, (12.0, 5.0))
    assert np.allclose(fit.T_image_model, T_truth, atol=1e-3)
    assert np.allclose(fit.covariance, expected.covariance, rtol=0.05, atol=1e-4)
    assert fit.cost == 1.0 and fit.model_share == 0.0


def test_depth_is_known_worse_than_the_picture(surface, model, camera, T_truth, view):
    fit = refine(surface, (view,), T_truth, prior(T_truth, model), (5.0, 2.0))
    sigma = np.sqrt(np.diag(isotropic_about_centre(fit, model)))
    assert sigma[2] > 5 * max(sigma[:2])


def isotropic_about_centre(fit, model):
    from m2i_ros.registration.uncertainty import change_pivot

    A = change_pivot(fit.T_image_model[:3, 3], apply(fit.T_image_model, model.centroid))
    return A @ fit.covariance @ A.T


def test_a_straight_vessel_may_slide_and_says_so(camera):
    from trees import tree

    straight = tree([([(0, 0, -0.3), (0, 0, 0), (0, 0, 0.3)], [0.006, 0.006, 0.006])], spacing=0.002)
    T = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0.0], [0, -1.0, 0, 0.75], [0, 0, 0, 1]])
    mask = ray_cast(straight.centreline, T, camera)
    view = View(mask, np.ones(mask.shape, bool), camera)
    slid = perturb(T, (0, 0.02, 0, 0, 0, 0), T[:3, 3])
    fit = refine(ContourSurface.from_model(straight), (view,), slid, prior(slid, straight), (5.0, 2.0))
    points = points_in_view(straight, fit.T_image_model, view)
    assert predicted_mm(fit.covariance, fit.T_image_model, points, camera) > 10


def test_vessels_without_contrast_neither_pull_nor_count_as_error(surface, model, camera, T_truth, view):
    """A model whose lower half is empty is known as one that has no lower half; false vessels are another matter."""
    last = int(np.flatnonzero(view.mask.any(axis=1)).mean())
    upper = view.mask.copy()
    upper[last:] = 0
    false = upper.copy()
    for at in [(60, 60), (450, 80), (70, 400), (440, 440), (250, 480)]:
        cv2.circle(false, at, 14, 255, -1)
    rows = camera.project(apply(T_truth, surface.vertices))[:, 1]
    half = replace(surface, faces=surface.faces[(rows[surface.faces] < last).all(axis=1)])
    points = points_in_view(surface, T_truth, view)
    start = perturb(T_truth, (0.002, -0.001, 0.005, 0.02, -0.02, 0.03), apply(T_truth, model.centroid))

    def error_to_expect(part, mask):
        fit = refine(part, (View(mask, view.valid, camera),), start, prior(start, model), (5.0, 2.0))
        moved = camera.project(apply(fit.T_image_model, points)) - camera.project(apply(T_truth, points))
        assert np.linalg.norm(moved, axis=1).mean() < 2  # pixels
        return predicted_mm(fit.covariance, T_truth, points, camera)

    assert 1 / 1.6 < error_to_expect(surface, upper) / error_to_expect(half, upper) < 1.6
    assert error_to_expect(surface, false) > 1.1 * error_to_expect(surface, upper)
    assert error_to_expect(surface, upper) > 1.4 * error_to_expect(surface, view.mask)


def test_walls_that_wave_lie_in_the_ellipsoid_as_often_as_it_says(surface, model, camera, T_truth, view):
    """24 masks, their walls in waves some 24 px long and a little too fat or thin."""
    distances = []
    for seed in range(24):
        wavy = damaged(view.mask, np.random.default_rng(seed), ['walls'])
        start = perturb(T_truth, (0.001, -0.001, 0.003, 0.01, -0.01, 0.01), apply(T_truth, model.centroid))
        fit = refine(surface, (View(wavy.mask, wavy.valid, camera),), start, prior(start, model), (5.0, 2.0))
        error = pose_difference(T_truth, fit.T_image_model)
        distances.append(error @ np.linalg.solve(fit.covariance, error))
    assert np.mean(np.array(distances) < 12.59) >= 0.9  # chi squared, six unknowns, 95%
    assert np.median(distances) > 1.0  # nor is it idly wide


@pytest.mark.parametrize('slope', [-0.3, -0.15, 0.15, 0.3])
def test_wide_vessels_may_be_fatter_than_narrow_ones(camera, slope):
    """Smooth walls, but off by `slope` pixels more in a vessel twice as wide: one standard deviation and a half."""
    from trees import tree

    root = tree([
        ([(0, 0, -0.03), (0, 0.002, 0), (0.004, 0, 0.03), (0.01, -0.01, 0.06)], [0.011, 0.017, 0.014, 0.014]),
        ([(0, 0, 0.01), (0.025, 0.004, 0.015), (0.05, 0.02, -0.01)], [0.003, 0.0022, 0.0018]),
        ([(0, 0, 0.01), (-0.025, 0.01, 0.012), (-0.045, -0.012, -0.015)], [0.003, 0.0022, 0.0018]),
    ])  # fmt: skip
    T = CArm(np.radians(20), np.radians(10)).T_image_isocentre @ rigid(None, -root.centroid)
    pixel = apply(T, root.centreline.points)[:, 2] / abs(camera.fx)
    radii = root.centreline.radii + slope * np.log2(root.centreline.radii / pixel) * pixel
    mask = ray_cast(replace(root.centreline, radii=radii), T, camera)
    view = View(mask, np.ones(mask.shape, bool), camera)
    fit = refine(ContourSurface.from_model(root), (view,), T, prior(T, root), (5.0, 2.0))
    assert all(ellipsoids(fit.covariance, fit.T_image_model, T, root.centroid).values())


@pytest.mark.parametrize('width', [12, 16, 17, 40])
def test_contours_match_as_in_a_search_through_all_points(width):
    """Pictures as narrow as one cell included."""
    rng = np.random.default_rng(width)
    mask = np.zeros((50, width), np.uint8)
    mask[10:40, 4 : width - 4] = 255
    contour = mask_contour(mask, np.ones(mask.shape, bool), 1000)
    samples = np.zeros((60, 9))
    samples[:, 3:5] = rng.uniform(0, (width - 1, 49), (60, 2))
    angles = rng.uniform(0, 2 * np.pi, 60)
    samples[:, 5], samples[:, 6] = np.cos(angles), np.sin(angles)
    gate = 9.0
    nearest_point, nearest_sample = np.empty(60, np.int64), np.empty(len(contour.points), np.int64)
    _match(
        samples, contour.points, contour.normals, contour.cells, contour.columns, gate, nearest_point, nearest_sample
    )
    distances = np.linalg.norm(samples[:, None, 3:5] - contour.points[None], axis=2)
    distances[samples[:, 5:7] @ contour.normals.T <= ALIGNED] = np.inf
    distances[distances >= gate] = np.inf
    for found, expected in ((nearest_point, distances), (nearest_sample, distances.T)):
        none = np.isinf(expected.min(axis=1))
        np.testing.assert_array_equal(found < 0, none)
        rows = np.flatnonzero(~none)
        np.testing.assert_allclose(expected[rows, found[rows]], expected[rows].min(axis=1))
