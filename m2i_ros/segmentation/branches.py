"""Vessels judged by the branch: as a whole it is one or none, however its pixels differ."""

import cv2
import numpy as np

_NEIGHBOURS = np.ones((3, 3), np.uint8)


def likely_branches(mask, probability, least):
    """Return (kept, axes), (H, W) bool: the branches of a mask that are likely vessels, and their axes, three pixels
    wide.

    mask: (H, W) bool, what may be vessel. Its skeleton (Zhang and Suen, Communications of the ACM 1984;27:236) is cut
    at its forks; of each piece the mean of `probability`, (H, W), is to be at least `least`. Every pixel of the mask
    belongs to the piece nearest to it.
    """
    kept, axes = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return kept, axes
    # What costs by the pixel, only where there are vessels.
    box = np.s_[top : top + height, left : left + width]
    kept[box], axes[box] = _likely(mask[box], probability[box], least)
    return kept, axes


def _likely(mask, probability, least):
    from skimage.morphology import skeletonize  # the room takes a tenth of a second to import

    skeleton = skeletonize(mask).view(np.uint8)
    around = cv2.filter2D(skeleton, -1, _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)
    pieces = cv2.bitwise_and(skeleton, (around <= 3).view(np.uint8))
    if not pieces.any():  # a star of a few pixels, all of them forks
        pieces = skeleton
    number, piece = cv2.connectedComponents(pieces, connectivity=8)
    rows, columns = np.nonzero(pieces)
    piece = piece[rows, columns]
    total = np.bincount(piece, probability[rows, columns], number)
    likely = total >= least * np.bincount(piece, minlength=number)
    # Of each pixel the nearest one of a piece, by a number that OpenCV gives it.
    _, nearest = cv2.distanceTransformWithLabels(1 - pieces, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    chosen = np.zeros(nearest.max() + 1, bool)
    chosen[nearest[rows, columns]] = likely[piece]
    kept = mask & chosen.take(nearest)
    return kept, kept & (cv2.dilate(skeleton, _NEIGHBOURS) > 0)
