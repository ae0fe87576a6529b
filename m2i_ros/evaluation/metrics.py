"""How well masks and poses agree with the truth, as the field defines it.

Dice, precision and recall as in Li et al., ISMR 2021; clDice: Shit et al., CVPR 2021; HD95: the 95th percentile of
surface distances (Taha and Hanbury, BMC Medical Imaging 2015); mTRE, mPD: van de Kraats et al., IEEE TMI 2005.
"""

import cv2
import numpy as np
from skimage.morphology import skeletonize

from m2i_ros.geometry import apply


def dice(mask, truth):
    """Return 2 TP / (2 TP + FP + FN) of two masks (H, W), bool or 0/255; 1 where both are empty."""
    return _ratio(2 * _overlap(mask, truth), np.count_nonzero(mask) + np.count_nonzero(truth))


def precision(mask, truth):
    """Return TP / (TP + FP): the share of the mask that is true; of an empty mask 1 where the truth is empty too, else
    0."""
    return _share(mask, truth)


def recall(mask, truth):
    """Return TP / (TP + FN): the share of the truth that the mask finds; of an empty truth 1 where the mask is empty
    too, else 0."""
    return _share(truth, mask)


def cldice(mask, truth):
    """Return the harmonic mean of the shares of each mask's skeleton inside the other mask; 1 where both are empty."""
    if not np.any(mask) and not np.any(truth):
        return 1.0
    topology_precision = _share(skeletonize(np.asarray(mask) > 0), truth)
    topology_recall = _share(skeletonize(np.asarray(truth) > 0), mask)
    return _ratio(2 * topology_precision * topology_recall, topology_precision + topology_recall, of_nothing=0.0)


def tolerant_dice(mask, truth, tolerance_px=2):
    """Return the harmonic mean of the shares of each mask within a distance of the other; 1 where both are empty.

    Borders drawn by people differ by a pixel or two, which costs a thin vessel much of its Dice and none of this.
    """
    if not np.any(mask) and not np.any(truth):
        return 1.0
    precision, recall = (
        _share(one, _distance_to(np.asarray(other) > 0) <= tolerance_px) if np.any(other) else 0.0
        for one, other in ((mask, truth), (truth, mask))
    )
    return _ratio(2 * precision * recall, precision + recall, of_nothing=0.0)


def hd95_px(mask, truth):
    """Return the larger of the two directed 95th percentiles of distances between the masks' borders, pixels.

    A border is made of the mask's pixels that touch, by a side, a pixel outside it; beyond the picture is outside.
    0 where both masks are empty, inf where one is.
    """
    mask, truth = np.asarray(mask) > 0, np.asarray(truth) > 0
    if not mask.any() or not truth.any():
        return 0.0 if mask.any() == truth.any() else float('inf')
    one, two = _border(mask), _border(truth)
    return float(max(np.percentile(_distance_to(two)[one], 95), np.percentile(_distance_to(one)[two], 95)))


def mask_scores(mask, truth):
    """Return a dict of dice, precision, recall, cldice, tolerant_dice, hd95_px of two masks (H, W), bool or 0/255.

    Raises ValueError when their sizes differ.
    """
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape:
        raise ValueError(f'mask is {mask.shape[::-1]} and truth {truth.shape[::-1]} pixels: they must be of one size')
    return {f.__name__: f(mask, truth) for f in (dice, precision, recall, cldice, tolerant_dice, hd95_px)}


def pose_errors(T_estimate, T_truth, model, camera):
    """Return a dict of a pose's errors over the centreline points of a `VesselModel`, millimetres.

    T_estimate, T_truth: T_image_model (4, 4).
    mtre_mm: mean distance in space of the points under both poses. in_plane_mm, depth_mm: means of its parts across and
    along the true ray through each point: one view sees the first well and the second badly.
    mpd_mm: mean distance of their projections, brought from the detector back to the depth of the model's middle under
    the true pose, where the isocentre is; inf when a point comes to lie behind the source.
    """
    points = model.centreline.points
    true, estimated = apply(T_truth, points), apply(T_estimate, points)
    difference = estimated - true
    ray = true / np.linalg.norm(true, axis=1, keepdims=True)
    along = np.einsum('ij,ij->i', difference, ray)
    across = np.linalg.norm(difference - along[:, None] * ray, axis=1)
    pixels = camera.project(estimated) - camera.project(true)
    shift = np.linalg.norm(pixels / (camera.fx, camera.fy), axis=1) * true[:, 2].mean()
    return {
        'mtre_mm': 1e3 * float(np.linalg.norm(difference, axis=1).mean()),
        'in_plane_mm': 1e3 * float(across.mean()),
        'depth_mm': 1e3 * float(np.abs(along).mean()),
        'mpd_mm': 1e3 * float(shift.mean()) if np.isfinite(shift).all() else float('inf'),
    }


def _overlap(one, two):
    return np.count_nonzero((np.asarray(one) > 0) & (np.asarray(two) > 0))


def _share(part, whole):
    """Return which share of `part` lies in `whole`; of an empty part 1 where the whole is empty too, else 0."""
    return _ratio(_overlap(part, whole), np.count_nonzero(part), of_nothing=float(not np.any(whole)))


def _ratio(numerator, denominator, of_nothing=1.0):
    return float(numerator / denominator) if denominator else of_nothing


def _border(mask):
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _distance_to(border):
    return cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
