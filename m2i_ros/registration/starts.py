"""Where a search starts: poses drawn from what is known, each shifted in the picture to overlap the mask best."""

import cv2
import numpy as np
from numba import njit
from scipy.special import ndtri

from m2i_ros.geometry import apply, rotation_matrix
from m2i_ros.model.projection import fill_silhouette, project_vertices

# What overlaps is model and mask, each a pixel wider all round: at this size a vessel may be as thin as a pixel.
WIDER = np.ones((3, 3), np.uint8)


class PriorProposer:
    """Proposes starts drawn from a `refine.Prior`: its pose first, then others at the density of the covariance.

    A proposer is anything callable as `proposer(count) -> (N, 4, 4)` poses; a network that looks at the picture can be
    another.
    """

    def __init__(self, prior):
        self.prior = prior

    def __call__(self, count):
        xi = _normal_sequence(count) @ _square_root(self.prior.covariance).T
        poses = np.tile(self.prior.T_image_model, (count, 1, 1))
        poses[:, :3, :3] = rotation_matrix(xi[:, 3:]) @ poses[:, :3, :3]
        poses[:, :3, 3] += xi[:, :3]
        return poses


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

    The overlap is Dice's coefficient of both, each dilated by `WIDER`, within the valid part of the picture: in [0, 1].
    The silhouette is drawn on a canvas twice as wide.
    """
    camera, (height, width) = view.camera, view.mask.shape
    mask = cv2.dilate(view.mask, WIDER) * view.valid
    pad_y, pad_x = height // 2, width // 2
    reach_y, reach_x = int(min(pad_y, limit)), int(min(pad_x, limit))
    margin = pad_x + reach_x
    # Sums along each row, so that a row of the silhouette takes two of them: of contrast, and of the valid part.
    sums = np.zeros((2, height, width + 2 * margin + 1), np.int32)
    for out, picture in zip(sums, (mask, view.valid)):
        np.cumsum(np.pad(picture, ((0, 0), (margin, margin))), axis=1, dtype=np.int32, out=out[:, 1:])

    shape = (height + 2 * pad_y, width + 2 * pad_x)
    overlaps = np.empty((len(poses), 2 * reach_y + 1, 2 * reach_x + 1), np.float32)
    vessel = mask.sum() / 255
    for T, overlap in zip(poses, overlaps):
        uvz = project_vertices(surface.vertices, T, camera.fx, camera.fy, camera.cx + pad_x, camera.cy + pad_y)
        picture = np.zeros(shape, np.uint8)
        fill_silhouette(uvz, surface.faces, *surface.edges, picture)
        common, visible = _common(cv2.dilate(picture, WIDER), sums, pad_y, reach_y, reach_x)
        np.divide(2 / 255 * common, np.maximum(visible, 1) + vessel, out=overlap)
    return overlaps, np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)


@njit(cache=True, nogil=True)
def _common(picture, sums, pad, reach_y, reach_x):
    """Return (2, R, C) int32: what shifted silhouettes have in common with two pictures.

    picture: (H, W) uint8, the silhouette, 0 or not, `pad` rows higher than the pictures above and below. sums:
    (2, rows, S), of the pictures along their rows, which begin where a shift of -reach_x brings the silhouette's.
    """
    rows, columns = 2 * reach_y + 1, 2 * reach_x + 1
    out = np.zeros((2, rows, columns), np.int32)
    for y in range(picture.shape[0]):
        first, last = max(-reach_y, pad - y), min(reach_y, pad - y + sums.shape[1] - 1)
        right = 0
        while right < picture.shape[1]:
            left = right
            while left < picture.shape[1] and picture[y, left] == 0:
                left += 1
            right = left
            while right < picture.shape[1] and picture[y, right] != 0:
                right += 1
            if left == right:
                break
            for which in range(2):
                for shift in range(first, last + 1):
                    to = out[which, shift + reach_y]
                    begin = sums[which, y + shift - pad, left : left + columns]
                    end = sums[which, y + shift - pad, right : right + columns]
                    for x in range(len(to)):
                        to[x] += end[x] - begin[x]
    return out
