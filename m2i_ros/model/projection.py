"""The vessel model's surface as the X-ray system sees it: its silhouette."""

import numpy as np
from numba import njit

NEAR = 1e-3  # metres from the source; what lies nearer, or behind, is not drawn


@njit(cache=True, nogil=True)
def project_vertices(vertices, T, fx, fy, cx, cy):
    """Return (V, 3) float64: u, v in pixels and z in metres of vertices (V, 3) under T (4, 4)."""
    out = np.empty((vertices.shape[0], 3))
    for i in range(vertices.shape[0]):
        a, b, c = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        x = T[0, 0] * a + T[0, 1] * b + T[0, 2] * c + T[0, 3]
        y = T[1, 0] * a + T[1, 1] * b + T[1, 2] * c + T[1, 3]
        z = T[2, 0] * a + T[2, 1] * b + T[2, 2] * c + T[2, 3]
        w = max(z, NEAR)
        out[i, 0] = fx * x / w + cx
        out[i, 1] = fy * y / w + cy
        out[i, 2] = z
    return out


@njit(cache=True, nogil=True)
def fill_faces(uvz, faces, out):
    """Set `out` (H, W) uint8 to 255 at every pixel whose centre lies in a face (F, 3) of projected vertices (V, 3).

    Pixel centres on an edge belong to the face on its right or below, so neighbours neither overlap nor leave gaps and
    the outline is not fattened. Faces that come nearer than `NEAR` to the source are left out.
    """
    height, width = out.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if uvz[a, 2] <= NEAR or uvz[b, 2] <= NEAR or uvz[c, 2] <= NEAR:
            continue
        # a is the highest corner in the picture, c the lowest.
        if uvz[b, 1] < uvz[a, 1]:
            a, b = b, a
        if uvz[c, 1] < uvz[b, 1]:
            b, c = c, b
            if uvz[b, 1] < uvz[a, 1]:
                a, b = b, a
        ax, ay, bx, by, cx, cy = uvz[a, 0], uvz[a, 1], uvz[b, 0], uvz[b, 1], uvz[c, 0], uvz[c, 1]
        first, last = int(np.ceil(max(ay, 0.0))), int(np.ceil(min(cy, height)))
        if first >= last:
            continue
        slope = (cx - ax) / (cy - ay)
        upper = (bx - ax) / (by - ay) if by > ay else 0.0
        lower = (cx - bx) / (cy - by) if cy > by else 0.0
        for row in range(first, last):
            left = ax + (row - ay) * slope
            right = ax + (row - ay) * upper if row < by else bx + (row - by) * lower
            if right < left:
                left, right = right, left
            for column in range(int(np.ceil(max(left, 0.0))), int(np.ceil(min(right, width)))):
                out[row, column] = 255


def silhouette(surface, T_image_model, camera):
    """Return the picture (H, W) uint8, 255 where the surface covers a pixel's centre and 0 elsewhere.

    surface: a VesselModel, or anything with vertices (V, 3) float64 in metres and faces (F, 3) int32.
    T_image_model: (4, 4). camera: its size is the picture's; both signs of fx.
    """
    out = np.zeros((camera.height, camera.width), np.uint8)
    T = np.ascontiguousarray(T_image_model, dtype=np.float64)
    uvz = project_vertices(surface.vertices, T, camera.fx, camera.fy, camera.cx, camera.cy)
    fill_faces(uvz, surface.faces, out)
    return out
