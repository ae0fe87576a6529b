"""The metrics are what the field defines: checked by hand and by a second way of computing them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from m2i_ros.evaluation.metrics import (
    assd_px,
    cldice,
    dice,
    ellipsoids,
    hd95_px,
    mask_scores,
    pose_errors,
    precision,
    recall,
    tolerant_dice,
)
from m2i_ros.geometry import Camera, apply, perturb, rigid
from m2i_ros.model import Centreline, VesselModel
from m2i_ros.registration.uncertainty import change_pivot

EMPTY = np.zeros((20, 20), np.uint8)


def blocks():
    """Truth of 10x10 pixels, mask of 10x10 shifted by 5 columns: TP 50, FP 50, FN 50."""
    truth, mask = EMPTY.copy(), EMPTY.copy()
    truth[5:15, 2:12] = 255
    mask[5:15, 7:17] = 255
    return mask, truth


def test_overlap_by_hand():
    mask, truth = blocks()
    assert (dice(mask, truth), precision(mask, truth), recall(mask, truth)) == (0.5, 0.5, 0.5)
    mask[:, 12:] = 0  # only the 50 pixels in common stay
    assert (dice(mask, truth), precision(mask, truth), recall(mask, truth)) == (pytest.approx(2 / 3), 1.0, 0.5)


def test_empty_masks():
    full = EMPTY + 255
    overlaps = ('dice', 'precision', 'recall', 'cldice', 'tolerant_dice')
    assert mask_scores(EMPTY, EMPTY) == {**dict.fromkeys(overlaps, 1.0), 'hd95_px': 0.0, 'assd_px': 0.0}
    for mask, truth in ((EMPTY, full), (full, EMPTY)):
        assert mask_scores(mask, truth) == {**dict.fromkeys(overlaps, 0.0), 'hd95_px': np.inf, 'assd_px': np.inf}


def test_masks_of_different_size_are_refused():
    with pytest.raises(ValueError, match='one size'):
        mask_scores(EMPTY, EMPTY[:10])


def test_cldice_sees_topology_where_dice_sees_area():
    truth = np.zeros((60, 60), np.uint8)
    truth[10:20, 5:55] = 255
    truth[30:32, 5:55] = 255  # a thin vessel
    without_thin = truth.copy()
    without_thin[30:32] = 0
    eroded = truth.copy()
    eroded[[10, 11, 18, 19]] = 0
    assert dice(without_thin, truth) > dice(eroded, truth)
    assert cldice(without_thin, truth) < 0.8 < 0.95 < cldice(eroded, truth)


def test_cldice_by_hand():
    truth, mask = EMPTY.copy(), EMPTY.copy()
    truth[10, 2:18] = 255  # 16 pixels, its own skeleton
    mask[10, 6:18] = 255  # 12 of them
    assert cldice(mask, truth) == pytest.approx(2 * 1.0 * 0.75 / 1.75)


def test_tolerant_dice_by_hand():
    # 3 of the mask's 10 columns lie more than 2 pixels beyond the truth, 3 of the truth's beyond the mask.
    assert tolerant_dice(*blocks()) == pytest.approx(0.7)


def test_a_pixel_is_tolerated_within_two_pixels_of_its_centre():
    truth, mask = EMPTY.copy(), EMPTY.copy()
    truth[10, 10] = 255
    mask[12, 10] = 255  # 2 px off
    assert tolerant_dice(mask, truth) == 1.0
    mask[:] = 0
    mask[12, 11] = 255  # 2.24 px off
    assert tolerant_dice(mask, truth) == 0.0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_tolerant_dice_and_assd_agree_with_nearest_neighbours(seed):
    rng = np.random.default_rng(seed)
    mask, truth = (rng.uniform(size=(2, 24, 30)) < rng.uniform(0.005, 0.2, (2, 1, 1))).astype(bool)
    if not mask.any() or not truth.any():
        return
    one, two = np.argwhere(mask), np.argwhere(truth)
    to_truth, to_mask = cKDTree(two).query(one)[0], cKDTree(one).query(two)[0]
    p, r = np.mean(to_truth <= 2), np.mean(to_mask <= 2)
    assert tolerant_dice(mask, truth) == pytest.approx(2 * p * r / (p + r) if p + r else 0.0)
    borders = [np.argwhere(m & ~binary_erosion(m)) for m in (mask, truth)]
    there, back = (cKDTree(borders[1 - i]).query(borders[i])[0] for i in (0, 1))
    assert assd_px(mask, truth) == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-4)


def test_empty_margins_change_no_score():
    rng = np.random.default_rng(0)
    mask, truth = rng.uniform(size=(2, 30, 40)) < 0.4
    assert mask_scores(np.pad(mask, 9), np.pad(truth, 9)) == mask_scores(mask, truth)


def test_scores_of_all_at_once_are_those_of_one_by_one():
    mask, truth = (np.pad(m, 7) for m in blocks())
    for name, value in mask_scores(mask, truth).items():
        one = (dice, precision, recall, cldice, tolerant_dice, hd95_px, assd_px)
        assert value == next(f for f in one if f.__name__ == name)(mask, truth)


@pytest.mark.parametrize('shift', [1, 3, 7])
def test_hd95_of_a_shifted_line_is_the_shift(shift):
    mask, truth = np.zeros((2, 40, 60), bool)
    truth[10, :] = True
    mask[10 + shift, :] = True
    assert hd95_px(mask, truth) == shift


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_hd95_agrees_with_nearest_neighbours(seed):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        y, x = np.mgrid[:40, :50]
        cy, cx, ry, rx = rng.uniform((5, 5, 1, 1), (35, 45, 15, 15))
        masks.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
    if not masks[0].any() or not masks[1].any():
        return
    borders = []
    for mask in masks:
        pixels = np.argwhere(mask)
        sides = pixels[:, None] + np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
        padded = np.pad(mask, 1)
        borders.append(pixels[~padded[sides[..., 0] + 1, sides[..., 1] + 1].all(axis=1)].astype(float))
    one, two = (cKDTree(b).query(a)[0] for a, b in (borders, borders[::-1]))
    assert hd95_px(*masks) == pytest.approx(max(np.percentile(one, 95), np.percentile(two, 95)), abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_dice_is_the_harmonic_mean_of_precision_and_recall(seed):
    mask, truth = np.random.default_rng(seed).random((2, 15, 15)) < 0.4
    p, r = precision(mask, truth), recall(mask, truth)
    assert dice(mask, truth) == pytest.approx(2 * p * r / (p + r))
    assert precision(mask, truth) == recall(truth, mask)


# Poses

CAMERAS = [Camera.from_detector(512, 512, 1.1, 0.4e-3, mirrored) for mirrored in (False, True)]


def model_of(points):
    n = len(points)
    line = Centreline(points, np.full(n, 1e-3), np.zeros(n, int), np.zeros(n), np.empty((0, 2), int))
    return VesselModel(points, np.zeros((1, 3), np.int32), np.zeros(1, bool), line)


@pytest.mark.parametrize('camera', CAMERAS, ids=['fx > 0', 'fx < 0'])
def test_a_known_shift_of_one_point_on_the_axis(camera):
    model = model_of(np.zeros((1, 3)))
    truth = rigid(translation=(0, 0, 0.75))
    sideways = pose_errors(rigid(translation=(3e-3, 4e-3, 0.75)), truth, model, camera)
    assert sideways == pytest.approx(dict(mtre_mm=5, in_plane_mm=5, depth_mm=0, mpd_mm=5), abs=1e-9)
    deeper = pose_errors(rigid(translation=(0, 0, 0.76)), truth, model, camera)
    assert deeper == pytest.approx(dict(mtre_mm=10, in_plane_mm=0, depth_mm=10, mpd_mm=0), abs=1e-9)


@pytest.mark.parametrize('camera', CAMERAS, ids=['fx > 0', 'fx < 0'])
def test_mpd_is_the_detector_distance_scaled_back_to_the_vessel(camera):
    model = model_of(np.zeros((1, 3)))
    truth, estimate = rigid(translation=(0.02, -0.01, 0.8)), rigid(translation=(0.022, -0.01, 0.81))
    pixels = camera.project(estimate[:3, 3]) - camera.project(truth[:3, 3])
    at_detector = np.linalg.norm(pixels) * 0.4e-3
    assert pose_errors(estimate, truth, model, camera)['mpd_mm'] == pytest.approx(1e3 * at_detector * 0.8 / 1.1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_errors_do_not_depend_on_how_the_picture_is_stored_and_split_by_pythagoras(seed):
    rng = np.random.default_rng(seed)
    model = model_of(rng.normal(0, 0.05, (50, 3)))
    truth = rigid(rng.normal(size=3), (0.01, 0.02, 0.75))
    estimate = perturb(truth, rng.normal(0, 0.01, 6), truth[:3, 3])
    one, two = (pose_errors(estimate, truth, model, camera) for camera in CAMERAS)
    assert one == pytest.approx(two)
    moved = np.linalg.norm(apply(estimate, model.centreline.points) - apply(truth, model.centreline.points), axis=1)
    assert one['mtre_mm'] == pytest.approx(1e3 * moved.mean())
    assert max(one['in_plane_mm'], one['depth_mm']) <= one['mtre_mm'] <= one['in_plane_mm'] + one['depth_mm'] + 1e-9


def test_the_truth_itself_has_no_error_and_a_pose_behind_the_source_an_infinite_one():
    model = model_of(np.zeros((1, 3)))
    truth = rigid(translation=(0, 0, 0.75))
    assert set(pose_errors(truth, truth, model, CAMERAS[0]).values()) == {0.0}
    assert pose_errors(rigid(translation=(0, 0, -0.1)), truth, model, CAMERAS[0])['mpd_mm'] == np.inf


@pytest.mark.parametrize('origin', [(0.0, 0.0, 0.0), (0.3, -0.5, 1.0)])
def test_as_many_true_poses_lie_in_the_95_percent_ellipsoid_as_its_name_says(origin):
    rng = np.random.default_rng(0)
    centre = np.array(origin)  # of the vessels, which may be far from the model's origin
    T = rigid((0.2, -0.4, 0.1), (0.01, 0.02, 0.7))
    root = rng.normal(size=(6, 6)) * np.array([3e-4, 3e-4, 5e-3, 2e-3, 2e-3, 2e-3])[:, None]
    at = apply(T, centre)
    A = change_pivot(at, T[:3, 3])
    inside = [
        ellipsoids(A @ root @ root.T @ A.T, T, perturb(T, root @ rng.normal(size=6), at), centre) for _ in range(1500)
    ]
    for part in ('pose', 'in_plane', 'depth'):
        assert np.mean([i[part] for i in inside]) == pytest.approx(0.95, abs=0.02)
    far = perturb(T, (0, 0, 0.5, 0, 0, 0))
    assert ellipsoids(A @ root @ root.T @ A.T, T, far, centre)['depth'] is False
