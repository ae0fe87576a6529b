"""The search for a first pose: many starts, each shifted in the picture to where it overlaps the mask best."""

import numpy as np
from scipy import fft
from scipy.special import ndtri

from m2i_ros.geometry import apply, perturb
from m2i_ros.model.projection import fill_silhouette, project_vertices


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

    surface: vertices and faces. poses: (N, 4, 4). view: a small `View`, the first. limit: its pixels; larger shifts are
    not considered.
    """
    camera = view.camera
    overlap, rows, columns = _overlaps(surface, poses, view, limit)
    best = overlap.reshape(len(poses), -1).argmax(axis=1)
    shifts = np.column_stack([columns[best % len(columns)], rows[best // len(columns)]])

    shifted = poses.copy()
    depth = poses[:, 2, :3] @ surface.vertices.mean(axis=0) + poses[:, 2, 3]
    shifted[:, 0, 3] += shifts[:, 0] * depth / camera.fx
    shifted[:, 1, 3] += shifts[:, 1] * depth / camera.fy
    return shifted, overlap.reshape(len(poses), -1).max(axis=1)


def best_depths(surface, poses, view, limit):
    """Return poses (N, 4, 4), each moved along its ray to its best overlap with another view's mask, and the overlaps.

    The ray is the first view's through the model's centre. poses: as the first view has them. view: a small `View`,
    another one. limit: metres.
    """
    camera, T = view.camera, view.T_view_image
    overlap, rows, columns = _overlaps(surface, T @ poses, view, np.inf)
    centre = surface.vertices.mean(axis=0)
    steps = np.linspace(-limit, limit, 101)
    moved, best_overlaps = poses.copy(), np.empty(len(poses))
    for pose, own, index in zip(moved, overlap, range(len(poses))):
        at = apply(pose, centre)
        ray = at / np.linalg.norm(at)
        pixels = camera.project(apply(T, at + steps[:, None] * ray)) - camera.project(apply(T, at))
        with np.errstate(invalid='ignore'):
            near = (np.abs(pixels) <= (columns[-1], rows[-1])).all(axis=1)
        column, row = np.round(pixels[near]).astype(int).T
        along = own[row - rows[0], column - columns[0]]
        best = along.argmax()
        # Steps that share a pixel overlap alike: the nearest of them.
        best = np.flatnonzero(along == along[best])[np.abs(steps[near][along == along[best]]).argmin()]
        pose[:3, 3] += steps[near][best] * ray
        best_overlaps[index] = along[best]
    return moved, best_overlaps


def _overlaps(surface, poses, view, limit):
    """Return overlaps (N, R, C) of shifted silhouettes with a view's mask, and the shifts: rows (R,), columns (C,).

    poses: (N, 4, 4) in the view's own frame. limit: pixels; shifts go from -limit to limit, at most half a picture.

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
        fill_silhouette(uvz, surface.faces, *surface.edges, picture)
    moving = np.conj(fft.rfft2((canvas > 0).astype(np.float32), workers=2))

    reach_y, reach_x = int(min(pad_y, limit)), int(min(pad_x, limit))
    rows = np.arange(-reach_y, reach_y + 1)
    columns = np.arange(-reach_x, reach_x + 1)
    common, visible = (fft.irfft2(moving * f, s=shape, workers=2)[:, rows[:, None], columns[None, :]] for f in fixed)
    return 2 * common / (np.maximum(visible, 1.0) + vessel), rows, columns
