"""How well masks and poses agree with the truth, as the field defines it.

Dice, precision and recall as in Li et al., ISMR 2021; clDice: Shit et al., CVPR 2021; HD95: the 95th percentile of
surface distances, ASSD: their mean (Taha and Hanbury, BMC Medical Imaging 2015); mTRE, mPD: van de Kraats et al.,
IEEE TMI 2005.
"""

import cv2
import numpy as np

from m2i_ros.geometry import apply, pose_difference
from m2i_ros.registration.uncertainty import change_pivot, ray_basis

TOLERANCE_PX = 2
# All pixels whose centres are no farther.
_OFFSETS = np.mgrid[-TOLERANCE_PX : TOLERANCE_PX + 1, -TOLERANCE_PX : TOLERANCE_PX + 1]
_WITHIN = (np.hypot(*_OFFSETS) <= TOLERANCE_PX).astype(np.uint8)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


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
    from skimage.morphology import skeletonize  # the room takes a tenth of a second to import

    topology_precision = _share(skeletonize(np.asarray(mask) > 0), truth)
    topology_recall = _share(skeletonize(np.asarray(truth) > 0), mask)
    return _ratio(2 * topology_precision * topology_recall, topology_precision + topology_recall, of_nothing=0.0)


def tolerant_dice(mask, truth):
    """Return the Dice in which a pixel is right within 2 pixels: 2 p r / (p + r), 1 where both masks are empty.

    p: the share of the mask's pixels with a true pixel no farther than 2 pixels from centre to centre; r: the share of
    the truth's pixels with one of the mask's as near. It forgives how wide people draw, not what was missed.
    """
    mask, truth = _binary(mask), _binary(truth)
    if not mask.any() and not truth.any():
        return 1.0
    right, found = _share(mask, cv2.dilate(truth, _WITHIN)), _share(truth, cv2.dilate(mask, _WITHIN))
    return _ratio(2 * right * found, right + found, of_nothing=0.0)


def hd95_px(mask, truth):
    """Return the larger of the two directed 95th percentiles of distances between the masks' borders, pixels.

    A border is made of the mask's pixels that touch, by a side, a pixel outside it; beyond the picture is outside.
    0 where both masks are empty, inf where one is.
    """
    return _hd95(*_border_distances(_binary(mask), _binary(truth)))


def assd_px(mask, truth):
    """Return the mean distance of all pixels of both masks' borders to the other's border, pixels.

    Borders, and what empty masks give, as of `hd95_px`.
    """
    return _assd(*_border_distances(_binary(mask), _binary(truth)))


def mask_scores(mask, truth):
    """Return a dict of dice, precision, recall, cldice, tolerant_dice, hd95_px, assd_px of two masks (H, W), bool or
    0/255.

    Raises ValueError when their sizes differ.
    """
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape:
        raise ValueError(f'mask is {mask.shape[::-1]} and truth {truth.shape[::-1]} pixels: they must be of one size')
    # Outside the box about both there is nothing to score, and skeletons and distances cost by the pixel.
    left, top, width, height = cv2.boundingRect(_binary(mask) | _binary(truth))
    box = slice(top, top + height), slice(left, left + width)
    mask, truth = _binary(mask[box]), _binary(truth[box])
    distances = _border_distances(mask, truth)
    scores = {f.__name__: f(mask, truth) for f in (dice, precision, recall, cldice, tolerant_dice)}
    return {**scores, 'hd95_px': _hd95(*distances), 'assd_px': _assd(*distances)}


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


# 95% quantiles of chi-squared for as many unknowns.
_CHI2_95 = {1: 3.841, 2: 5.991, 6: 12.592}


def ellipsoids(covariance, T_estimate, T_truth, centre):
    """Return {'pose', 'in_plane', 'depth'}: whether the true pose lies in the 95% ellipsoid of an estimate.

    covariance: (6, 6), pivot at the model origin's position, as in `Registration`. T_estimate, T_truth: T_image_model.
    pose: all six unknowns. in_plane, depth: those of the model point `centre` (3,) across and along its ray, alone.
    """
    at = apply(T_estimate, centre)
    A = change_pivot(T_estimate[:3, 3], at)
    covariance = A @ covariance @ A.T
    error = np.concatenate([apply(T_truth, centre) - at, pose_difference(T_truth, T_estimate)[3:]])
    B = np.eye(6)
    B[:3, :3] = np.linalg.inv(ray_basis(at))
    covariance, error = B @ covariance @ B.T, B @ error
    parts = {'pose': slice(0, 6), 'in_plane': slice(0, 2), 'depth': slice(2, 3)}
    return {
        name: bool(error[part] @ np.linalg.solve(covariance[part, part], error[part]) < _CHI2_95[len(error[part])])
        for name, part in parts.items()
    }


def _overlap(one, two):
    return np.count_nonzero((np.asarray(one) > 0) & (np.asarray(two) > 0))


def _share(part, whole):
    """Return which share of `part` lies in `whole`; of an empty part 1 where the whole is empty too, else 0."""
    return _ratio(_overlap(part, whole), np.count_nonzero(part), of_nothing=float(not np.any(whole)))


def _ratio(numerator, denominator, of_nothing=1.0):
    return float(numerator / denominator) if denominator else of_nothing


def _binary(mask):
    return np.not_equal(mask, 0).view(np.uint8)


def _border_distances(mask, truth):
    """Return the distances (n,), pixels, of the mask's border to the truth's, and (m,) of the truth's to the mask's."""
    if not mask.any() or not truth.any():
        nothing = 0.0 if mask.any() == truth.any() else np.inf
        return np.array([nothing]), np.array([nothing])
    one, two = _border(mask), _border(truth)
    return _distance_to(two)[one], _distance_to(one)[two]


def _hd95(*distances):
    return float(max(np.percentile(d, 95) if np.isfinite(d[0]) else np.inf for d in distances))


def _assd(*distances):
    return float(np.concatenate(distances).mean())


def _border(mask):
    inner = cv2.erode(mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask > inner


def _distance_to(border):
    return cv2.distanceTransform((~border).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
