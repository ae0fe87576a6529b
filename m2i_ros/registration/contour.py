"""The two curves that registration brings together: the mask's contour and the model's occluding contour."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import fast_simplification
import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from m2i_ros.model.projection import mesh_edges

FACES = 3000  # of the surface whose contour is followed: finer costs time and changes nothing below 0.1 px
BORDER = 3  # pixels along the picture's and the collimator's border where edges are not vessel walls
SPACING = 5.0  # pixels between the samples of the model's contour
CELL = 16  # pixels: contour points are kept by cells of this size, for their neighbours to be found
REACH = 3  # pixels from a contour point, and no more, that its place is taken from


def _kernels():
    """Return kernels (2, 8) float32, from `REACH` pixels before a pixel on: about the side after it, and about itself.

    Each for the value of the smoothed mask, then for its derivative; of a product of two, 0 to 255 becomes 0 to 1.
    """
    gaussian = cv2.getGaussianKernel(5, 1.0)[:, 0] / np.sqrt(255)
    value = np.pad(gaussian, (REACH - 2, 6 - REACH))
    pixel = np.stack([value, (np.roll(value, 1) - np.roll(value, -1)) / 2])
    side = (pixel + np.roll(pixel, 1, axis=1)) / 2
    return side.astype(np.float32), pixel.astype(np.float32)


_KERNELS = _kernels()
_NEIGHBOURS = np.ones((2 * BORDER - 1, 2 * BORDER - 1), np.uint8)


@dataclass(frozen=True)
class ContourSurface:
    """A decimated model surface, without its cap faces, from which occluding contours are taken.

    vertices: (V, 3) float64, metres. faces: (F, 3) int32. normals: (V, 3) float64, unit, the mean of the faces' around.
    radii: (V,) float64, metres: of the vessel, at the centreline's nearest point.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    radii: np.ndarray

    @cached_property
    def edges(self):
        """What `projection.mesh_edges` says of the faces."""
        return mesh_edges(self.faces)

    @classmethod
    def from_model(cls, model, count=FACES):
        """Return the surface of a `VesselModel` with at most about `count` faces.

        Without the caps the cut ends have no edge of their own: normals at the rim are the wall's.
        """
        faces = np.ascontiguousarray(model.faces[~model.cap_faces], dtype=np.int32)
        used, faces = np.unique(faces, return_inverse=True)
        vertices, faces = np.ascontiguousarray(model.vertices[used]), faces.reshape(-1, 3).astype(np.int32)
        if len(faces) > count:
            # Centred, since the decimation works in single precision.
            centre = vertices.mean(axis=0)
            small, faces = fast_simplification.simplify(
                (vertices - centre).astype(np.float32), faces, target_count=count
            )
            vertices, faces = small.astype(np.float64) + centre, np.ascontiguousarray(faces, dtype=np.int32)
        corners = vertices[faces]
        area_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(vertices)
        for corner in range(3):
            np.add.at(normals, faces[:, corner], area_normals)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        radii = model.centreline.radii[cKDTree(model.centreline.points).query(vertices)[1]]
        return cls(vertices, faces, normals, radii)


@dataclass(frozen=True)
class MaskContour:
    """The contour of a vessel mask.

    points: (N, 2) float64, pixels. normals: (N, 2) float64, unit, out of the vessel. lengths: (N,) float64: the pixels
    of contour that each point stands for. inside: (H, W) bool: where edges count. cells: (R * C + 1,) int64: the points
    in a cell of `CELL` pixels, in row r and column c of R and C, are those from cells[r * C + c] to before the next.
    """

    points: np.ndarray
    normals: np.ndarray
    lengths: np.ndarray
    inside: np.ndarray
    cells: np.ndarray

    @property
    def columns(self):
        """The number C of cells in a row."""
        return -(-self.inside.shape[1] // CELL)


def mask_contour(mask, valid, max_points):
    """Return the `MaskContour` of a mask (H, W) uint8, 0 to 255 (between them: partly covered pixels).

    Every side between a vessel pixel and another gives a point (if they are too many, every so manieth), moved along
    the gradient of the smoothed mask to its half level: accurate to about 0.1 px on a smooth wall.
    valid: (H, W) bool; edges within `BORDER` of its border, or of the picture's, are dropped.
    """
    inside = np.zeros(mask.shape, np.uint8)
    within = (slice(BORDER, -BORDER),) * 2
    inside[within] = cv2.erode(valid.view(np.uint8), _NEIGHBOURS, borderValue=0)[within]
    inside = inside.view(bool)
    mask = np.ascontiguousarray(mask)
    sides = _sides(mask, inside)
    every = max(1.0, len(sides) / max_points)
    sides = sides[(np.arange(min(len(sides), max_points)) * every).astype(int)]
    rows, cells = _sorted_by_cell(_crack_points(mask, sides, every, *_KERNELS), *mask.shape)
    return MaskContour(
        np.ascontiguousarray(rows[:, :2]), np.ascontiguousarray(rows[:, 2:4]), np.ascontiguousarray(rows[:, 4]), inside,
        cells,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _sides(mask, inside):
    """Return, row by row, the sides (N,) between a vessel pixel and another, both `inside`: twice the flat index of a
    pixel, plus 0 for the side on its right and 1 for the one below."""
    height, width = mask.shape
    # By rows at once, then eight pixels at a time: hardly any of them is an edge.
    differs = np.zeros((width + 7) // 8 * 8, np.uint8)
    eights = differs.view(np.uint64)
    out = np.empty(4096, np.int64)
    n = 0
    for y in range(height - 1):
        here, right, below = mask[y, :-1], mask[y, 1:], mask[y + 1]
        for x in range(len(here)):
            differs[x] = ((here[x] ^ right[x]) | (here[x] ^ below[x])) & 128
        if n + 2 * width > len(out):
            grown = np.empty(2 * (len(out) + width), np.int64)
            grown[:n] = out[:n]
            out = grown
        for eight in range(len(eights)):
            if eights[eight] == 0:
                continue
            for x in range(8 * eight, min(8 * eight + 8, width - 1)):
                if differs[x] == 0 or not inside[y, x]:
                    continue
                if (mask[y, x] ^ mask[y, x + 1]) > 127 and inside[y, x + 1]:
                    out[n] = 2 * (y * width + x)
                    n += 1
                if (mask[y, x] ^ mask[y + 1, x]) > 127 and inside[y + 1, x]:
                    out[n] = 2 * (y * width + x) + 1
                    n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _crack_points(mask, sides, every, along, across):
    """Return (N, 5): u, v, normal, and the length that a side stands for if it is one of `every`; see `mask_contour`.

    along, across: (2, 8) float32, kernels for a side's own direction, about its pixel, and for the other one: smoothing
    first, then the derivative.
    """
    width = mask.shape[1]
    out = np.empty((len(sides), 5))
    level, slope = np.empty(8, np.float32), np.empty(8, np.float32)  # of each column
    n = 0
    for side in sides:
        y, x = side // 2 // width, side // 2 % width
        dx, dy = 1 - side % 2, side % 2
        of_x, of_y = (along, across) if dx else (across, along)
        level[:] = 0
        slope[:] = 0
        for j in range(7 + dy):  # along the picture's border the eighth lies outside of it
            row = mask[y - REACH + j, x - REACH : x - REACH + 8]
            for i in range(len(row)):
                level[i] += of_y[0, j] * row[i]
                slope[i] += of_y[1, j] * row[i]
        here, gx, gy = 0.0, 0.0, 0.0
        for i in range(8):
            here += of_x[0, i] * level[i]
            gx += of_x[1, i] * level[i]
            gy += of_x[0, i] * slope[i]
        size = np.sqrt(gx * gx + gy * gy)
        if size < 1e-3:
            continue
        nx, ny = -gx / size, -gy / size
        move = min(0.75, max(-0.75, (here - 0.5) / size))
        out[n, 0] = x + 0.5 * dx + move * nx
        out[n, 1] = y + 0.5 * dy + move * ny
        out[n, 2] = nx
        out[n, 3] = ny
        # A line with normal n crosses |nx| + |ny| pixel sides per pixel of its length.
        out[n, 4] = every / (abs(nx) + abs(ny))
        n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _sorted_by_cell(rows, height, width):
    """Return rows (N, 5), which begin with u, v, sorted by cells of `CELL` pixels, and where each cell begins."""
    columns = (width + CELL - 1) // CELL
    first = np.zeros((height + CELL - 1) // CELL * columns + 1, np.int64)
    cell = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        cell[i] = int(rows[i, 1]) // CELL * columns + int(rows[i, 0]) // CELL
        first[cell[i] + 1] += 1
    for c in range(1, len(first)):
        first[c] += first[c - 1]
    out, free = np.empty_like(rows), first.copy()
    for i in range(len(rows)):
        out[free[cell[i]]] = rows[i]
        free[cell[i]] += 1
    return out, first


@njit(cache=True, nogil=True)
def occluding_contour(faces, normals, radii, T, fx, fy, cx, cy, uvz, silhouette, inside):
    """Return (K, 9): x, y, z in metres (image frame); u, v in pixels; outward normal in the picture; length in pixels;
    logarithm, of base 2, of the vessel's radius in pixels.

    The curve where the surface, its normals interpolated over the faces, is tangent to the rays (Hertzmann and Zorin
    2000), sampled every `SPACING` pixels; of it only the parts with the model on one side and none on the other
    (`silhouette` (H, W) uint8), and `inside` (H, W) bool.
    uvz: (V, 3), the projected vertices of `projection.project_vertices`.
    """
    height, width = silhouette.shape
    count = normals.shape[0]
    corners = np.empty((count, 7))  # points, normals, and how much these look away
    front = np.empty(count, np.int8)
    for i in range(count):
        z = uvz[i, 2]
        x, y = (uvz[i, 0] - cx) / fx * z, (uvz[i, 1] - cy) / fy * z
        corners[i, 0], corners[i, 1], corners[i, 2] = x, y, z
        for k in range(3):
            corners[i, 3 + k] = T[k, 0] * normals[i, 0] + T[k, 1] * normals[i, 1] + T[k, 2] * normals[i, 2]
        # Not as a sum over arrays: each would be allocated.
        corners[i, 6] = corners[i, 3] * x + corners[i, 4] * y + corners[i, 5] * z
        front[i] = corners[i, 6] > 0
    # Without branches: which way a face looks cannot be foretold.
    crossed = np.empty(faces.shape[0], np.int32)
    number = 0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        crossed[number] = f
        number += ((front[a] ^ front[b]) | (front[a] ^ front[c])) & (min(uvz[a, 2], uvz[b, 2], uvz[c, 2]) > 1e-3)

    out = np.empty((1024, 9))
    n = 0
    ends = np.empty((2, 6))
    for f in crossed[:number]:
        # Both sides at the corner that looks the other way are crossed.
        a, b, c = front[faces[f, 0]], front[faces[f, 1]], front[faces[f, 2]]
        k = (b ^ c) * (1 + (a ^ c))
        one = corners[faces[f, k]]
        for e in range(2):
            other = corners[faces[f, (k + 1 + e) % 3]]
            t = one[6] / (one[6] - other[6])
            bend = 0.0
            for m in range(3):
                bend += (other[m] - one[m]) * (other[3 + m] - one[3 + m])
            # The decimated surface has its vertices outside the true one and its edges inside. Half of the rise from
            # the chord to the arc, which the normals tell (Phong tessellation, Boubekeur and Alexa 2008), centres it.
            rise = 0.25 * t * (1 - t) * bend
            for m in range(3):
                normal = (1 - t) * one[3 + m] + t * other[3 + m]
                ends[e, m] = (1 - t) * one[m] + t * other[m] + rise * normal
                ends[e, 3 + m] = normal
        u0 = fx * ends[0, 0] / ends[0, 2] + cx
        v0 = fy * ends[0, 1] / ends[0, 2] + cy
        u1 = fx * ends[1, 0] / ends[1, 2] + cx
        v1 = fy * ends[1, 1] / ends[1, 2] + cy
        length = np.sqrt((u1 - u0) ** 2 + (v1 - v0) ** 2)
        samples = 1 + int(length / SPACING)
        octave = np.log2(max(abs(fx) * radii[faces[f, k]] / ends[0, 2], 0.5))
        for s in range(samples):
            t = (s + 0.5) / samples
            x = (1 - t) * ends[0, 0] + t * ends[1, 0]
            y = (1 - t) * ends[0, 1] + t * ends[1, 1]
            z = (1 - t) * ends[0, 2] + t * ends[1, 2]
            u, v = fx * x / z + cx, fy * y / z + cy
            if not (0 <= u <= width - 1 and 0 <= v <= height - 1) or not inside[int(v + 0.5), int(u + 0.5)]:
                continue
            # The plane of the ray and the tangent has the surface's normal; this is its trace in the picture.
            nu = ((1 - t) * ends[0, 3] + t * ends[1, 3]) / fx
            nv = ((1 - t) * ends[0, 4] + t * ends[1, 4]) / fy
            size = np.sqrt(nu * nu + nv * nv)
            if size < 1e-12:
                continue
            nu, nv = nu / size, nv / size
            ahead = _covered(silhouette, u + 1.5 * nu, v + 1.5 * nv)
            if ahead == _covered(silhouette, u - 1.5 * nu, v - 1.5 * nv):
                continue
            if ahead:  # an open surface may be turned inside out
                nu, nv = -nu, -nv
            if n == out.shape[0]:
                grown = np.empty((2 * n, 9))
                grown[:n] = out
                out = grown
            out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = x, y, z, u, v
            out[n, 5], out[n, 6], out[n, 7], out[n, 8] = nu, nv, length / samples, octave
            n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _covered(silhouette, u, v):
    x, y = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
    return 0 <= x < silhouette.shape[1] and 0 <= y < silhouette.shape[0] and silhouette[y, x] > 0
