"""The search for a first pose: many starts, each shifted in the picture to where it overlaps the mask best."""

import numpy as np
from scipy import fft
from scipy.special import ndtri

from m2i_ros.geometry import perturb
from m2i_ros.model.projection import fill_faces, project_vertices


class PriorProposer:
    """Proposes starts drawn from a `refine.Prior`: its pose first, then others at the density of the covariance.

    A proposer is anything callable as `proposer(count) -> (N, 4, 4)` poses; a network that looks at the picture can be
    another.
    """

    def __init__(self, prior):
        self.prior = prior

    def __call__(self, count):
        L = _square_root(self.prior.covariance)
        pivot = self.prior.T_image_model[:3, 3]
        return np.stack([perturb(self.prior.T_image_model, L @ z, pivot) for z in _normal_sequence(count)])


def _square_root(covariance):
    """Return L (6, 6) with L @ L.T == covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _normal_sequence(count):
    """Return (count, 6) standard normal points of low discrepancy, the first one zero (Roberts 2018, R-sequence)."""
    ratio = 2.0
    for _ in range(30):
        ratio = (1 + ratio) ** (1 / 7)
    steps = ratio ** -np.arange(1, 7)
    return ndtri((0.5 + np.arange(count)[:, None] * steps) % 1.0)


def best_shifts(surface, poses, view, limit):
    """Return poses (N, 4, 4), each shifted in plane to its best overlap with the mask, and the overlaps (N,).

    surface: vertices and faces. poses: (N, 4, 4). view: a small `View`. limit: its pixels; larger shifts are not
    considered.

    The overlap is Dice's coefficient within the valid part of the picture, in [0, 1]. All shifts come from two
    correlations by FFT (of the silhouette with mask and with valid), the silhouette drawn on a canvas twice as wide.
    """
    camera, (height, width) = view.camera, view.mask.shape
    pad_y, pad_x = height // 2, width // 2
    shape = (fft.next_fast_len(height + 2 * pad_y, True), fft.next_fast_len(width + 2 * pad_x, True))
    fixed = np.zeros((2, *shape), np.float32)
    fixed[0, pad_y : pad_y + height, pad_x : pad_x + width] = view.mask / np.float32(255)
    fixed[1, pad_y : pad_y + height, pad_x : pad_x + width] = view.valid
    vessel = fixed[0].sum()
    fixed = fft.rfft2(fixed)

    canvas = np.zeros((len(poses), *shape), np.uint8)
    for T, picture in zip(poses, canvas):
        uvz = project_vertices(surface.vertices, T, camera.fx, camera.fy, camera.cx + pad_x, camera.cy + pad_y)
        fill_faces(uvz, surface.faces, picture)
    moving = np.conj(fft.rfft2((canvas > 0).astype(np.float32), workers=2))

    reach_y, reach_x = min(pad_y, int(limit)), min(pad_x, int(limit))
    rows = np.arange(-reach_y, reach_y + 1)
    columns = np.arange(-reach_x, reach_x + 1)
    common, visible = (fft.irfft2(moving * f, s=shape, workers=2)[:, rows[:, None], columns[None, :]] for f in fixed)
    overlap = 2 * common / (np.maximum(visible, 1.0) + vessel)
    best = overlap.reshape(len(poses), -1).argmax(axis=1)
    shifts = np.column_stack([columns[best % len(columns)], rows[best // len(columns)]])

    shifted = poses.copy()
    depth = poses[:, 2, :3] @ surface.vertices.mean(axis=0) + poses[:, 2, 3]
    shifted[:, 0, 3] += shifts[:, 0] * depth / camera.fx
    shifted[:, 1, 3] += shifts[:, 1] * depth / camera.fy
    return shifted, overlap.reshape(len(poses), -1).max(axis=1)
