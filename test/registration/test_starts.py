"""Where a search starts, and how it shifts."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, grey_dilation
from trees import ray_cast

from m2i_ros.geometry import apply, perturb, pose_difference
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.refine import Prior
from m2i_ros.registration.starts import PriorProposer, _overlaps, best_shifts
from m2i_ros.registration.uncertainty import isotropic
from m2i_ros.registration.view import View


def test_starts_follow_the_prior_and_begin_with_its_pose(T_truth, model):
    covariance = isotropic(T_truth, model.centroid, np.radians(10), 0.04, 0.06)
    starts = PriorProposer(Prior(T_truth, covariance))(512)
    assert np.allclose(starts[0], T_truth)
    xi = np.array([pose_difference(T, T_truth) for T in starts])
    # Of low discrepancy: the sample covariance is nearly the prior's.
    L = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(L, xi.T)
    assert np.allclose(np.cov(whitened), np.eye(6), atol=0.15)


def test_the_same_starts_come_every_time(T_truth, model):
    prior = Prior(T_truth, isotropic(T_truth, model.centroid, 0.1, 0.01, 0.01))
    assert np.array_equal(PriorProposer(prior)(16), PriorProposer(prior)(16))


def test_a_start_is_shifted_to_where_the_mask_is(T_truth, model, camera):
    surface = ContourSurface.from_model(model)
    for c in (camera, camera.flipped()):
        mask = ray_cast(model.centreline, T_truth, c)
        view = View(mask, np.ones(mask.shape, bool), c).reduced(0.125)
        away = perturb(T_truth, (0.03, -0.025, 0, 0, 0, 0), T_truth[:3, 3])
        poses, overlaps = best_shifts(surface, np.stack([away, T_truth]), view, limit=30)
        pixel = 1e-3 * 8 * 0.75 / 1.1 * 0.6
        for T in poses:
            error = apply(T, model.centroid) - apply(T_truth, model.centroid)
            assert np.abs(error[:2]).max() < pixel and abs(error[2]) < 1e-9
        assert (overlaps > 0.85).all()


def test_overlaps_are_those_of_the_shifted_silhouette_a_pixel_wider_within_the_valid_part(T_truth, model, camera):
    surface = ContourSurface.from_model(model, 1000)
    valid = np.ones((camera.height, camera.width), bool)
    valid[:, :90] = False
    mask = np.where(valid, ray_cast(model.centreline, T_truth, camera), 0).astype(np.uint8)
    view = View(mask, valid, camera).reduced(0.125)
    away = perturb(T_truth, (0.02, -0.03, 0, 0, 0, 0.1), T_truth[:3, 3])
    overlaps, rows, columns = _overlaps(surface, away[None], view, limit=12)
    wide = replace(view.camera, width=192, height=192, cx=view.camera.cx + 64, cy=view.camera.cy + 64)
    drawn = binary_dilation(silhouette(surface, away, wide) > 0, np.ones((3, 3)))
    vessel = grey_dilation(view.mask, (3, 3)) * view.valid / 255
    for row, column in [(-12, -12), (-3, 7), (0, 0), (5, -8), (12, 12)]:
        moved = drawn[64 - row : 128 - row, 64 - column : 128 - column] & view.valid
        dice = 2 * vessel[moved].sum() / (vessel.sum() + moved.sum())
        assert overlaps[0, rows == row, columns == column] == pytest.approx(dice, abs=1e-6)


def test_a_start_is_not_shifted_beyond_the_limit(T_truth, model, camera):
    surface = ContourSurface.from_model(model)
    mask = ray_cast(model.centreline, T_truth, camera)
    view = View(mask, np.ones(mask.shape, bool), camera).reduced(0.125)
    away = perturb(T_truth, (0.03, 0, 0, 0, 0, 0), T_truth[:3, 3])
    poses, _ = best_shifts(surface, away[None], view, limit=3)
    assert np.abs(poses[0, :2, 3] - away[:2, 3]).max() < 3.01e-3 * 8 * 0.8 / 1.1 * 0.6 * 1.05
