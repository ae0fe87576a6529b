"""Pairs of fixed and moving image with the motion between them, made from models alone: no registration is labelled."""

from dataclasses import dataclass

import numpy as np

from m2i_ros.geometry import Camera, CArm, apply, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.matching import CELL, look, through
from m2i_ros.registration.view import View
from m2i_ros.simulation.mask_faults import damaged

PICTURE = 256  # pixels of the pictures from which the windows are cut
FARTHEST = np.array([0.04, 0.04, 0.06, 0.26, 0.26, 0.26])  # standard deviations of the widest starts: metres, radians
SHIFTED = 0.5  # of the starts are nearly right in the picture's plane, as the search's shifts leave them


@dataclass(frozen=True)
class Batch:
    """Pairs: arrays whose first axis counts them.

    images: (B, CHANNELS, SIDE, SIDE). share: (B, N) and points: (B, N, 3) of the `Cells`. window: (B, 3): tangents of
    the ray through the middle, and of half of the view. theta: (B, 6): the true motion. truth: (B, SIDE, SIDE): the
    undamaged silhouette. All float32.
    """

    images: np.ndarray
    share: np.ndarray
    points: np.ndarray
    window: np.ndarray
    theta: np.ndarray
    truth: np.ndarray


def batches(surfaces, rng, size, starts=8, pool=8, reuse=3):
    """Yield `Batch`es of `size` pairs without end.

    surfaces: list of ContourSurface: the patients. rng: numpy Generator. starts: pairs that share one fixed image.
    pool: batches made at a time; `reuse` times as many are drawn from them, each pair turned or flipped another way.
    """
    while True:
        rows = []
        while len(rows) < pool * size:
            rows += scene(surfaces[rng.integers(len(surfaces))], rng, starts)
        for _ in range(reuse):
            order = rng.permutation(len(rows))
            for first in range(0, pool * size, size):
                chosen = [turned(rows[i], *rng.integers(2, size=3)) for i in order[first : first + size]]
                yield Batch(*(np.stack(part).astype(np.float32) for part in zip(*chosen)))


def turned(row, swap, left, up):
    """Return a row of `Batch` as seen in a mirror: x and y swapped, then x and y negated, each if its flag is set.

    The window is square and its camera looks alike along both axes, so that these are pairs as good as the first.
    """
    image, share, points, window, theta, truth = row
    M = np.diag([-1.0 if left else 1.0, -1.0 if up else 1.0, 1.0]) @ (np.eye(3)[[1, 0, 2]] if swap else np.eye(3))

    def picture(a):
        a = np.swapaxes(a, -1, -2) if swap else a
        return a[..., :: -1 if up else 1, :: -1 if left else 1]

    n = image.shape[-1] // CELL
    points = np.stack([picture(points[:, k].reshape(n, n)).ravel() for k in range(3)], axis=1) @ M.T
    ray, turn = M[:2, :2] @ window[:2], np.linalg.det(M) * M @ theta[3:]
    motion = np.concatenate([M[:2, :2] @ theta[:2], theta[2:3], turn])
    return picture(image), picture(share.reshape(n, n)).ravel(), points, (*ray, window[2]), motion, picture(truth)


def scene(surface, rng, starts):
    """Return rows of `Batch`: one picture of a surface with the faults of a segmentation, looked at from some poses."""
    while True:
        T, camera = _pose(surface, rng), _camera(rng)
        mask = silhouette(surface, T, camera)
        if np.count_nonzero(mask) > 0.01 * mask.size:
            break
    clean = View(mask, np.ones(mask.shape, bool), camera)
    view = clean
    if rng.uniform() < 0.8:
        vessels = damaged(mask, rng)
        view = View(vessels.mask, vessels.valid, camera)
    rows = []
    while len(rows) < starts:
        start = _start(surface, T, camera, rng)
        image, window, cells = look(view, surface, start)
        if cells.share.sum() < 4:
            continue
        truth, _ = through(window, clean)
        c = window.middle
        rows.append(
            (
                image,
                cells.share.ravel(),
                cells.points.reshape(-1, 3),
                (*(c[:2] / c[2]), window.half),
                window.motion(start, T),
                truth,
            )
        )
    return rows


def _pose(surface, rng):
    """Return T_image_model: some point of the surface at the isocentre, usual angles, the patient askew."""
    c_arm = CArm(
        np.radians(rng.uniform(-60, 60)),
        np.radians(rng.uniform(-35, 35)),
        rng.uniform(0.65, 0.85),
        rng.uniform(0.95, 1.25),
    )
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    middle = low + rng.uniform(0.3, 0.7, 3) * (high - low)
    turn = rigid(rng.normal(0, 0.1, 3))
    return c_arm.T_image_isocentre @ turn @ rigid(translation=-middle)


def _camera(rng):
    spacing = rng.uniform(0.2, 0.4) / PICTURE
    camera = Camera.from_detector(PICTURE, PICTURE, rng.uniform(0.95, 1.25), spacing)
    return camera.flipped() if rng.uniform() < 0.5 else camera


def _start(surface, T, camera, rng):
    """Return a pose off the truth T: from as far as a search begins to as near as it ends."""
    xi = FARTHEST * rng.normal(size=6) * np.exp(rng.uniform(np.log(0.08), 0))
    if rng.uniform() < SHIFTED:
        xi[:2] *= 0.15
    pixels = camera.project(apply(T, surface.vertices))
    seen = ((pixels >= 0) & (pixels <= PICTURE - 1)).all(axis=1)
    middle = apply(T, surface.vertices[seen].mean(axis=0) if seen.any() else surface.vertices.mean(axis=0))
    return perturb(T, xi, middle)
