"""Two views of one moment: depth comes out, in the frame of the first, and a second one of no use does no harm."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import ray_cast

from m2i_ros.evaluation.metrics import ellipsoids, pose_errors
from m2i_ros.geometry import Camera, CArm, apply, inverse, perturb, rigid
from m2i_ros.registration import Registrar, State
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.refine import Prior, _add, _Problem, _pull, refine
from m2i_ros.registration.starts import best_depths, best_shifts
from m2i_ros.registration.uncertainty import isotropic
from m2i_ros.registration.view import SecondView, View
from m2i_ros.segmentation.vessel_mask import VesselMask


@pytest.fixture(scope='module')
def surface(model):
    return ContourSurface.from_model(model)


@pytest.fixture(scope='module')
def T_second(T_truth):  # noqa: N802
    """A plane at 80 degrees to the first (`conftest.T_truth` is seen from LAO 20, CRAN 10)."""
    first, second = CArm(np.radians(20), np.radians(10)), CArm(np.radians(-60), np.radians(5))
    return second.T_image_isocentre @ inverse(first.T_image_isocentre)


@pytest.fixture(scope='module')
def second_camera():
    return Camera.from_detector(400, 480, source_to_detector=1.2, pixel_spacing=0.7e-3)


@pytest.fixture(scope='module')
def masks(model, T_truth, T_second, camera, second_camera):
    return ray_cast(model.centreline, T_truth, camera), ray_cast(model.centreline, T_second @ T_truth, second_camera)


@pytest.fixture(scope='module')
def views(masks, camera, second_camera, T_second):
    first, second = (np.ones(mask.shape, bool) for mask in masks)
    return View(masks[0], first, camera), View(masks[1], second, second_camera, T_second)


@pytest.fixture(scope='module')
def start(model, T_truth):
    return perturb(T_truth, (0.004, -0.003, 0.02, 0.05, -0.04, 0.06), apply(T_truth, model.centroid))


def prior(T, model):
    return Prior(T, isotropic(T, model.centroid, np.radians(10), 0.04, 0.06))


def whole(mask):
    return VesselMask(mask, np.ones(mask.shape, bool))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_unknowns_move_the_second_picture_as_the_normal_equations_say(
    seed, surface, model, views, T_truth, T_second, second_camera
):
    rng = np.random.default_rng(seed)
    T_view = rigid(rng.normal(size=3), rng.normal(size=3) * 0.02) @ T_second
    problem = _Problem(surface, (views[0], replace(views[1], T_view_image=T_view)), T_truth, prior(T_truth, model))
    point, pivot, scale = model.vertices[rng.integers(len(model.vertices))], apply(T_truth, problem.centre), 3.0
    normal, camera, own = np.array([0.6, -0.8]), second_camera, np.array([0.1, 0.4, 2e-3, -1e-3, 0, 0, 0])
    sway = np.array([own[2], own[3], 0])
    x = apply(T_view, apply(T_truth, point)) + sway
    if x[2] < 0.2:
        return
    q = camera.project(x) + (1.0, 0.5)

    def cost(step):
        T = perturb(T_truth, step[:6], pivot)
        T_own = T_view @ T
        T_own = perturb(T_own, [step[8], step[9], 0, *step[10:]], apply(T_own, problem.centre))
        u = camera.project(apply(T_own, point) + sway)
        r2 = (normal @ (u - q) + own[1] + step[7]) ** 2
        return 0.5 * scale**2 * r2 / (scale**2 + r2)

    H, sample, at = np.zeros((8, 8)), np.r_[x, camera.project(x), normal, 1.0, 3.0], apply(T_view, pivot) + sway
    r, weight, _ = _pull(sample, q, own[1], scale)
    _add(sample, weight, weight * r, at, camera.fx, camera.fy, np.empty(8), H)
    g = H[7, :7]
    sizes = np.r_[np.full(3, 1e-3), np.full(3, 1e-2), 1.0, 1.0, 1e-3, 1e-3, np.full(3, 1e-2)]
    direction = rng.normal(size=13) * sizes
    numeric = (cost(1e-4 * direction) - cost(-1e-4 * direction)) / 2e-4
    assert numeric == pytest.approx((problem.A[1].T @ g) @ direction, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('fat', [(0, 0), (2, -2)])
def test_with_two_views_depth_comes_out_whatever_the_masks_widths(
    surface, model, camera, T_truth, views, start, fat, mirrored
):
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    make = {-2: cv2.erode, 0: lambda mask, _: mask, 2: cv2.dilate}
    views = [replace(view, mask=make[width](view.mask, kernel)) for view, width in zip(views, fat)]
    if mirrored:
        views[1] = replace(
            views[1], mask=np.ascontiguousarray(views[1].mask[:, ::-1]), camera=views[1].camera.flipped()
        )
    one, two = (
        refine(surface, seen, start, prior(start, model), (12.0, 5.0, 2.0)) for seen in (tuple(views[:1]), tuple(views))
    )
    errors = pose_errors(two.T_image_model, T_truth, model, camera)
    assert errors['mtre_mm'] < 0.2
    assert two.offsets == pytest.approx(fat, abs=0.5)
    sigma = [np.sqrt(fit.covariance[2, 2]) for fit in (one, two)]
    assert sigma[1] < sigma[0]
    assert ellipsoids(two.covariance, two.T_image_model, T_truth, model.centroid)['pose']
    assert two.model_share > 0.95 and two.mask_share > 0.95


def test_what_moved_between_the_exposures_is_told_apart_and_doubted(
    surface, model, camera, second_camera, T_truth, T_second, views, start
):
    moved = rigid(translation=(0.0015, -0.001, 0.0)) @ T_second @ T_truth
    second = replace(views[1], mask=ray_cast(model.centreline, moved, second_camera))
    still, swaying = (
        refine(surface, (views[0], replace(second, sway=sway)), start, prior(start, model), (12.0, 5.0, 2.0), steps=20)
        for sway in (np.zeros((2, 2)), 0.002**2 * np.eye(2))
    )
    inside = [ellipsoids(fit.covariance, fit.T_image_model, T_truth, model.centroid) for fit in (still, swaying)]
    assert not inside[0]['pose'] and all(inside[1].values())
    mpd = [pose_errors(fit.T_image_model, T_truth, model, camera)['mpd_mm'] for fit in (still, swaying)]
    assert mpd[1] < 0.3 < mpd[0]


def test_a_start_is_moved_along_its_ray_to_where_the_second_view_sees_it(surface, T_truth, T_second, views):
    at = apply(T_truth, surface.vertices.mean(axis=0))
    ray = at / np.linalg.norm(at)
    depths = np.array([-0.08, 0.0, 0.05])
    poses = np.stack([perturb(T_truth, np.r_[d * ray, 0, 0, 0]) for d in depths])
    small = views[1].reduced(0.125)
    moved, overlaps = best_depths(surface, poses, small, 0.15)
    assert np.allclose((moved - poses)[:, :3, 3], -depths[:, None] * ray, atol=0.004)
    assert np.array_equal(moved[:, :3, :3], poses[:, :3, :3])
    assert overlaps[1] == pytest.approx(best_shifts(surface, (T_second @ T_truth)[None], small, 0)[1][0], abs=0.02)
    assert all(small.overlap(surface, T)[0] > 0.85 for T in moved)


@pytest.fixture
def registrar(model, T_truth):
    out = Registrar(model)
    out.set_initial_pose(perturb(T_truth, (0.012, -0.016, 0.05, 0.1, 0.1, 0.1), apply(T_truth, model.centroid)))
    return out


def test_a_registrar_searches_and_tracks_in_both_and_speaks_of_the_first(
    registrar, model, camera, second_camera, T_truth, T_second, masks
):
    for i in range(4):
        T = perturb(T_truth, (0.0, 0.001 * i, 0.002 * i, 0.0, 0.0, 0.002 * i), apply(T_truth, model.centroid))
        pair = ray_cast(model.centreline, T, camera), ray_cast(model.centreline, T_second @ T, second_camera)
        second = SecondView(whole(pair[1]), second_camera, T_second)
        result = registrar.register(whole(pair[0]), camera, i / 15, second)
        assert (result.state, result.views, result.second) == (State.TRACKING, 2, '')
        assert pose_errors(result.T_image_model, T, model, camera)['mtre_mm'] < 0.3
        assert ellipsoids(result.covariance, result.T_image_model, T, model.centroid)['pose']


def empty(masks, T_second, centre):
    return np.zeros_like(masks[1]), T_second


def turned(masks, T_second, centre):
    return masks[1], perturb(T_second, (0.0, 0.0, 0.0, 0.0, 0.3, 0.3), centre)


@pytest.mark.parametrize(('useless', 'reason'), [(empty, 'vessel|contrast'), (turned, 'agree')])
def test_a_second_view_of_no_use_is_left_out_and_the_first_one_goes_on(
    registrar, model, camera, second_camera, T_truth, T_second, masks, useless, reason
):
    mask, T = useless(masks, T_second, apply(T_second @ T_truth, model.centroid))
    for stamp in (0.0, 0.1):
        result = registrar.register(whole(masks[0]), camera, stamp, SecondView(whole(mask), second_camera, T))
        assert result.accepted and result.views == 1
        assert any(word in result.second for word in reason.split('|')), result.second
        assert pose_errors(result.T_image_model, T_truth, model, camera)['mpd_mm'] < 0.3
    good = registrar.register(whole(masks[0]), camera, 0.2, SecondView(whole(masks[1]), second_camera, T_second))
    assert (good.accepted, good.views, good.second) == (True, 2, '')
