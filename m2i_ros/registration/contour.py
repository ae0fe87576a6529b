"""The two curves that registration brings together: the mask's contour and the model's occluding contour."""

from dataclasses import dataclass

import cv2
import fast_simplification
import numpy as np
from numba import njit

FACES = 3000  # of the surface whose contour is followed: finer costs time and changes nothing below 0.1 px
BORDER = 3  # pixels along the picture's and the collimator's border where edges are not vessel walls
SPACING = 5.0  # pixels between the samples of the model's contour
_GAUSSIAN = cv2.getGaussianKernel(9, 1.0) / np.sqrt(255)  # along and across: 255 becomes 1


@dataclass(frozen=True)
class ContourSurface:
    """A decimated model surface, without its cap faces, from which occluding contours are taken.

    vertices: (V, 3) float64, metres. faces: (F, 3) int32. normals: (V, 3) float64, unit, the mean of the faces' around.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray

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
        return cls(vertices, faces, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30))


@dataclass(frozen=True)
class MaskContour:
    """The contour of a vessel mask, from top to bottom.

    points: (N, 2) float64, pixels. normals: (N, 2) float64, unit, out of the vessel. lengths: (N,) float64: the pixels
    of contour that each point stands for. inside: (H, W) bool: where edges count.
    """

    points: np.ndarray
    normals: np.ndarray
    lengths: np.ndarray
    inside: np.ndarray


def mask_contour(mask, valid, max_points=800):
    """Return the `MaskContour` of a mask (H, W) uint8, 0 to 255 (between them: partly covered pixels).

    Every side between a vessel pixel and another gives a point, moved along the gradient of the smoothed mask to its
    half level: accurate to about 0.1 px on a smooth wall.
    valid: (H, W) bool; edges within `BORDER` of its border, or of the picture's, are dropped.
    """
    inside = np.zeros(mask.shape, np.uint8)
    inside[1:-1, 1:-1] = valid[1:-1, 1:-1]
    inside = cv2.erode(inside, np.ones((2 * BORDER - 1, 2 * BORDER - 1), np.uint8), borderValue=0).astype(bool)
    smooth = cv2.sepFilter2D(mask, cv2.CV_32F, _GAUSSIAN, _GAUSSIAN, borderType=cv2.BORDER_REPLICATE)
    rows = _crack_points(np.ascontiguousarray(mask), _sides(mask), smooth, inside)
    if len(rows) > max_points:
        # Evenly along the list; being in raster order, it thins all parts alike.
        chosen = np.linspace(0, len(rows) - 1, max_points).astype(int)
        scale = rows[:, 4].sum() / rows[chosen, 4].sum()
        rows = rows[chosen]
        rows[:, 4] *= scale
    rows = rows[np.argsort(rows[:, 1], kind='stable')]
    return MaskContour(
        np.ascontiguousarray(rows[:, :2]), np.ascontiguousarray(rows[:, 2:4]), np.ascontiguousarray(rows[:, 4]), inside
    )


def _sides(mask):
    """Return the flat indices (N,) of pixels that differ in being vessel from the one on their right or below."""
    vessel = mask > 127
    differs = np.zeros(mask.shape, bool)
    np.not_equal(vessel[:, :-1], vessel[:, 1:], out=differs[:, :-1])
    differs[:-1] |= vessel[:-1] != vessel[1:]
    return np.flatnonzero(differs)


@njit(cache=True, nogil=True)
def _crack_points(mask, sides, smooth, inside):
    height, width = mask.shape
    out = np.empty((2 * len(sides), 5))
    n = 0
    for index in sides:
        y, x = index // width, index % width
        if not (1 <= y < height - 2 and 1 <= x < width - 2 and inside[y, x]):
            continue
        here = mask[y, x] > 127
        for side in range(2):
            dx, dy = 1 - side, side
            if here == (mask[y + dy, x + dx] > 127) or not inside[y + dy, x + dx]:
                continue
            xa, ya = x + dx, y + dy
            # Gradient and level halfway between the two pixels.
            gx = 0.25 * (smooth[y, x + 1] - smooth[y, x - 1] + smooth[ya, xa + 1] - smooth[ya, xa - 1])
            gy = 0.25 * (smooth[y + 1, x] - smooth[y - 1, x] + smooth[ya + 1, xa] - smooth[ya - 1, xa])
            size = np.sqrt(gx * gx + gy * gy)
            if size < 1e-3:
                continue
            nx, ny = -gx / size, -gy / size
            level = 0.5 * (smooth[y, x] + smooth[ya, xa])
            move = min(0.75, max(-0.75, (level - 0.5) / size))
            out[n, 0] = x + 0.5 * dx + move * nx
            out[n, 1] = y + 0.5 * dy + move * ny
            out[n, 2] = nx
            out[n, 3] = ny
            # A line with normal n crosses |nx| + |ny| pixel sides per pixel of its length.
            out[n, 4] = 1.0 / (abs(nx) + abs(ny))
            n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def occluding_contour(faces, normals, T, fx, fy, cx, cy, uvz, silhouette, inside):
    """Return (K, 8): x, y, z in metres (image frame); u, v in pixels; outward normal in the picture; length in pixels.

    The curve where the surface, its normals interpolated over the faces, is tangent to the rays (Hertzmann and Zorin
    2000), sampled every `SPACING` pixels; of it only the parts with the model on one side and none on the other
    (`silhouette` (H, W) uint8), and `inside` (H, W) bool.
    uvz: (V, 3), the projected vertices of `projection.project_vertices`.
    """
    height, width = silhouette.shape
    count = normals.shape[0]
    facing = np.empty(count)
    turned = np.empty((count, 3))
    points = np.empty((count, 3))
    for i in range(count):
        a, b, c = normals[i, 0], normals[i, 1], normals[i, 2]
        for k in range(3):
            turned[i, k] = T[k, 0] * a + T[k, 1] * b + T[k, 2] * c
        points[i, 2] = uvz[i, 2]
        points[i, 0] = (uvz[i, 0] - cx) / fx * uvz[i, 2]
        points[i, 1] = (uvz[i, 1] - cy) / fy * uvz[i, 2]
        # Not as a sum over arrays: each would be allocated.
        facing[i] = turned[i, 0] * points[i, 0] + turned[i, 1] * points[i, 1] + turned[i, 2] * points[i, 2]
    out = np.empty((4096, 8))
    n = 0
    ends = np.empty((2, 6))
    for f in range(faces.shape[0]):
        positive = 0
        near = False
        for k in range(3):
            v = faces[f, k]
            positive += 1 if facing[v] > 0 else 0
            near = near or uvz[v, 2] <= 1e-3
        if positive == 0 or positive == 3 or near:
            continue
        e = 0
        for k in range(3):
            i, j = faces[f, k], faces[f, (k + 1) % 3]
            if (facing[i] > 0) == (facing[j] > 0):
                continue
            t = facing[i] / (facing[i] - facing[j])
            bend = 0.0
            for m in range(3):
                bend += (points[j, m] - points[i, m]) * (turned[j, m] - turned[i, m])
            # The decimated surface has its vertices outside the true one and its edges inside. Half of the rise from
            # the chord to the arc, which the normals tell (Phong tessellation, Boubekeur and Alexa 2008), centres it.
            rise = 0.25 * t * (1 - t) * bend
            for m in range(3):
                normal = (1 - t) * turned[i, m] + t * turned[j, m]
                ends[e, m] = (1 - t) * points[i, m] + t * points[j, m] + rise * normal
                ends[e, 3 + m] = normal
            e += 1
        u0 = fx * ends[0, 0] / ends[0, 2] + cx
        v0 = fy * ends[0, 1] / ends[0, 2] + cy
        u1 = fx * ends[1, 0] / ends[1, 2] + cx
        v1 = fy * ends[1, 1] / ends[1, 2] + cy
        length = np.sqrt((u1 - u0) ** 2 + (v1 - v0) ** 2)
        samples = 1 + int(length / SPACING)
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
                grown = np.empty((2 * n, 8))
                grown[:n] = out
                out = grown
            out[n, 0], out[n, 1], out[n, 2], out[n, 3], out[n, 4] = x, y, z, u, v
            out[n, 5], out[n, 6], out[n, 7] = nu, nv, length / samples
            n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _covered(silhouette, u, v):
    x, y = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
    return 0 <= x < silhouette.shape[1] and 0 <= y < silhouette.shape[0] and silhouette[y, x] > 0
