"""The matching network's window, its cells, and the motion on which they agree: against poses moved by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import ray_cast

from m2i_ros.evaluation.metrics import pose_errors
from m2i_ros.geometry import Camera, apply, perturb
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.matching import SIDE, Matcher, Window, look, project, solve
from m2i_ros.registration.view import View


@pytest.fixture(scope='module')
def surface(model):
    return ContourSurface.from_model(model)


def seen(surface, T, camera):
    mask = silhouette(surface, T, camera)
    return View(mask, np.ones(mask.shape, bool), camera)


motions = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array)


@settings(max_examples=40, deadline=None)
@given(unit=motions, mirrored=st.booleans())
def test_a_motion_in_the_window_is_the_motion_between_the_poses(T_truth, surface, camera, unit, mirrored):
    c = camera if mirrored else camera.flipped()
    start = perturb(T_truth, unit * (0.04, 0.04, 0.1, 0.3, 0.3, 0.3), apply(T_truth, surface.vertices.mean(axis=0)))
    window = Window.about(surface, start, c)
    theta = window.motion(start, T_truth)
    assert np.allclose(window.moved(start, theta), T_truth, atol=1e-9)


@pytest.mark.parametrize('mirrored', [False, True])
def test_each_part_of_a_motion_is_what_its_name_says(T_truth, surface, camera, mirrored):
    c = camera if mirrored else camera.flipped()
    window = Window.about(surface, T_truth, c)
    half_px = window.half * c.fy
    middle = window.middle * (-1 if mirrored else 1, 1, 1)

    def where(theta):  # of the model's middle
        T = window.moved(T_truth, np.array(theta, float))
        at = apply(T @ np.linalg.inv(T_truth), middle)
        return c.project(at) - c.project(middle), at[2] / middle[2]

    # Always right and down in the picture, mirrored or not.
    assert np.allclose(where((0.1, 0, 0, 0, 0, 0))[0], (0.1 * half_px, 0))
    assert np.allclose(where((0, 0.1, 0, 0, 0, 0))[0], (0, 0.1 * half_px))
    off, ratio = where((0, 0, 0.1, 0, 0, 0))
    assert np.allclose(off, 0, atol=1e-9) and ratio == pytest.approx(np.exp(0.1))
    assert np.allclose(where((0, 0, 0, 0.1, -0.2, 0.3))[0], 0, atol=1e-9)


@pytest.mark.parametrize('mirrored', [False, True])
def test_the_window_shows_the_picture_where_the_model_is_drawn(T_truth, surface, camera, mirrored):
    c = camera if mirrored else camera.flipped()
    image, _, cells = look(seen(surface, T_truth, c), surface, T_truth)
    fixed, valid, model = image[0] > 0.5, image[2] > 0, image[3] > 0
    assert cells.share.sum() * 16 == pytest.approx(model.sum())
    model = model & valid  # it goes on beyond the picture
    # Vessels are a few pixels wide here: their edges differ, but not their place.
    assert 2 * (fixed & model).sum() / (fixed.sum() + model.sum()) > 0.85
    middles = [np.mean(np.nonzero(picture), axis=1) for picture in (fixed, model)]
    assert np.abs(middles[0] - middles[1]).max() < 0.25
    assert 0.3 < np.ptp(np.nonzero(model)[0]) / SIDE < 0.95


@pytest.mark.parametrize('mirrored', [False, True])
def test_cells_that_know_where_they_belong_give_the_true_pose(T_truth, surface, camera, mirrored):
    c = camera if mirrored else camera.flipped()
    xi = (0.012, -0.008, 0.03, 0.1, -0.15, 0.1)
    start = perturb(T_truth, xi, apply(T_truth, surface.vertices.mean(axis=0)))
    _, window, cells = look(seen(surface, T_truth, c), surface, start)
    theta = window.motion(start, T_truth)
    points = cells.points.reshape(-1, 3).astype(float)
    # Independent of `project`: the poses themselves, through the picture's camera.
    scale = np.array([window.half * window.middle[2]] * 3)
    flip = np.array((-1 if mirrored else 1, 1, 1))
    here = (window.middle + scale * points) * flip
    there = apply(T_truth @ np.linalg.inv(start), here)
    flow = (c.project(there) - c.project(here)) / (window.half * c.fy)
    assert np.allclose(project(points, theta, window)[0] - project(points, np.zeros(6), window)[0], flow, atol=1e-6)
    out = np.zeros((5, *cells.share.shape))
    out[:2] = flow.T.reshape(2, *cells.share.shape)
    out[2] = out[4] = 300.0
    found, covariance = solve(out, cells, window)
    assert np.allclose(found, theta, atol=2e-3)
    # Shifts are seen best, and depth as badly as one view does: ten times worse, in lengths.
    sigma = np.sqrt(np.diag(covariance))
    assert sigma[2] / window.half > 3 * sigma[:2].max()


def test_cells_that_know_nothing_leave_the_pose_where_it_is(T_truth, surface, camera):
    _, window, cells = look(seen(surface, T_truth, camera), surface, T_truth)
    theta, _ = solve(np.full((5, *cells.share.shape), 1e-9), cells, window)
    assert np.abs(theta).max() < 1e-6


def test_the_derivatives_are_those_of_the_projection(T_truth, surface, camera):
    window = Window.about(surface, T_truth, camera)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    theta = np.array((0.1, -0.2, 0.05, 0.0, 0.0, 0.0))
    step = 1e-6 * np.eye(6)
    numeric = [(project(points, theta + d, window)[0] - project(points, theta - d, window)[0]) / 2e-6 for d in step]
    assert np.allclose(project(points, theta, window)[1], np.stack(numeric, axis=-1), atol=1e-6)


@pytest.mark.parametrize('mirrored', [False, True])
def test_the_shipped_network_brings_the_model_nearer(T_truth, model, surface, camera, mirrored):
    c = camera if mirrored else camera.flipped()
    mask = ray_cast(model.centreline, T_truth, c)
    view = View(mask, np.ones(mask.shape, bool), c)
    rng = np.random.default_rng(0)
    pivot = apply(T_truth, model.centroid)
    starts = [perturb(T_truth, rng.normal(size=6) * (0.01, 0.01, 0.02, 0.1, 0.1, 0.1), pivot) for _ in range(8)]
    moved, covariances = Matcher()(view, surface, starts)
    before, after = ([pose_errors(T, T_truth, model, c)['mpd_mm'] for T in poses] for poses in (starts, moved))
    assert np.median(after) < 0.7 * np.median(before)
    assert (np.linalg.eigvalsh(covariances) > 0).all()


def test_weights_that_are_not_there_are_told(tmp_path):
    with pytest.raises(ValueError, match='nothing.onnx'):
        Matcher(tmp_path / 'nothing.onnx')


def test_a_model_behind_the_source_is_told(T_truth, surface):
    with pytest.raises(ValueError, match='behind'):
        Window.about(surface, perturb(T_truth, (0, 0, -3, 0, 0, 0)), Camera(64, 64, 100.0, 100.0, 32.0, 32.0))
