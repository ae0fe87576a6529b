"""Matching in the picture's plane: the projected model moved as a picture onto the vessels, the paper's task.

Li et al., ISMR 2021, report the Recall of the moved picture; nothing of it is a pose in space. Here the transform is
found by a search for the largest overlap: the baseline that `registration` is held against.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import minimize

from m2i_ros.geometry import apply
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.starts import best_shifts

SIDE = 128  # pixels of the longer side at which pictures are matched
BLURS = (3.0, 1.0)  # pixels, in turn: wide first, so that what lies beside its vessel is drawn to it
# Unknowns: shift (2), rotation, logarithm of scale, then the two of shear and stretch.
KINDS = {'rigid': 3, 'similarity': 4, 'affine': 6}
_STEPS = np.array([4.0, 4.0, 0.1, 0.1, 0.1, 0.1])  # pixels and shares, of the search's first steps


@dataclass(frozen=True)
class PlanarMatch:
    """matrix: (2, 3), from the projected model's pixels to the picture's. recall, precision, dice: of the moved
    silhouette against the mask, inside the valid area."""

    matrix: np.ndarray
    recall: float
    precision: float
    dice: float


def match_in_plane(surface, T_image_model, view, kind='rigid'):
    """Return the `PlanarMatch` of a surface, projected at T_image_model (4, 4), to the mask of a `View`.

    kind: 'rigid', 'similarity' or 'affine'. The model is shifted to its best overlap first, as in the search. Raises
    ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f'planar matching {kind!r}: choose one of {", ".join(KINDS)}')
    small = view.reduced(min(1.0, SIDE / max(view.mask.shape)))
    shifted, _ = best_shifts(surface, T_image_model[None], small, max(small.mask.shape) / 2)
    moving = silhouette(surface, shifted[0], small.camera)
    rows, columns = np.nonzero(moving)
    middle = np.array([columns.mean(), rows.mean()]) if len(rows) else np.array(moving.shape[::-1]) / 2
    theta = np.zeros(KINDS[kind])
    for blur in BLURS:
        fixed, source = (cv2.GaussianBlur(p.astype(np.float32) / 255, (0, 0), blur) for p in (small.mask, moving))
        steps = np.vstack([np.zeros(len(theta)), np.diag(_STEPS[: len(theta)] * blur / BLURS[0])])
        options = {'initial_simplex': theta + steps, 'maxfev': 150 * len(theta), 'xatol': 1e-3, 'fatol': 1e-5}
        theta = minimize(_loss, theta, (middle, source, fixed, small.valid), method='Nelder-Mead', options=options).x
    # At the view's own size, with hard edges.
    factor = view.camera.fy / small.camera.fy
    A = _matrix(theta, middle)
    A[:, 2] = factor * (A[:, 2] + 0.5 - A[:, :2] @ (0.5, 0.5)) + 0.5 * (A[:, :2].sum(axis=1) - 1)
    model = (_warp(silhouette(surface, shifted[0], view.camera), A) > 127) & view.valid
    vessel = view.mask > 127
    common, model, vessel = (float(np.count_nonzero(a)) for a in (model & vessel, model, vessel))
    centre = surface.vertices.mean(axis=0)
    shift = np.diff(view.camera.project([apply(T, centre) for T in (T_image_model, shifted[0])]), axis=0)[0]
    A[:, 2] += A[:, :2] @ shift
    return PlanarMatch(A, common / max(vessel, 1), common / max(model, 1), 2 * common / max(model + vessel, 1))


def _matrix(theta, middle):
    """Return the (2, 3) matrix of rotation, scale and shear about `middle` (2,), then a shift."""
    shift, (turn, growth, shear, stretch) = theta[:2], np.append(theta[2:], np.zeros(6 - len(theta)))
    cos, sin = np.cos(turn), np.sin(turn)
    A = np.exp(growth) * np.array([[cos, -sin], [sin, cos]]) @ np.array([[1 + stretch, shear], [shear, 1 - stretch]])
    return np.column_stack([A, middle - A @ middle + shift])


def _warp(picture, A):
    return cv2.warpAffine(picture, A, picture.shape[::-1], flags=cv2.INTER_LINEAR)


def _loss(theta, middle, source, fixed, valid):
    moved = _warp(source, _matrix(theta, middle)) * valid
    return 1 - 2 * np.minimum(moved, fixed).sum() / max(moved.sum() + fixed.sum(), 1e-6)
