"""How far the rays of a picture run inside a closed surface."""

import numpy as np
from numba import njit

_SUBPIXEL = 256
_SAMPLES = 2


def path_length(vertices_image, faces, camera):
    """Return the length (H, W) float32, metres, that the ray of each pixel runs inside a closed surface.

    Faces turned away from the source add the distance at which the ray meets them, faces turned to it take it away;
    what remains is the exact sum of chords. Four rays a pixel are averaged, so edges are soft.

    vertices_image: (V, 3) metres in the image frame. faces: (F, 3), outward by the right-hand rule. camera: of the
    picture; both signs of fx. Faces that reach behind the source are left out.
    """
    depth = np.zeros((camera.height, camera.width), np.float32)
    fine = camera.scaled(_SAMPLES)
    _accumulate(
        np.ascontiguousarray(vertices_image, dtype=np.float64),
        np.ascontiguousarray(faces, dtype=np.int32),
        fine.fx,
        fine.fy,
        fine.cx,
        fine.cy,
        depth,
    )
    # Depths along z become lengths along the pixel's ray.
    x = ((np.arange(camera.width) - camera.cx) / camera.fx).astype(np.float32)
    y = ((np.arange(camera.height) - camera.cy) / camera.fy).astype(np.float32)
    return depth * np.sqrt(1 + x**2 + y[:, None] ** 2)


@njit(cache=True, nogil=True)
def _accumulate(vertices, faces, fx, fy, cx, cy, out):
    height, width = _SAMPLES * out.shape[0], _SAMPLES * out.shape[1]
    weight = 1.0 / _SAMPLES**2
    count = len(vertices)
    # Vertices are snapped to a fixed grid, so that two faces that share an edge decide alike, exactly, in integers.
    u = np.empty(count, np.int64)
    v = np.empty(count, np.int64)
    w = np.empty(count, np.float64)
    for i in range(count):
        z = vertices[i, 2]
        if z <= 1e-6:
            w[i] = -1.0
            continue
        w[i] = 1 / z
        u[i] = int(np.rint((fx * vertices[i, 0] / z + cx) * _SUBPIXEL))
        v[i] = int(np.rint((fy * vertices[i, 1] / z + cy) * _SUBPIXEL))
    facing = 1.0 if fx > 0 else -1.0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if w[a] < 0 or w[b] < 0 or w[c] < 0:
            continue
        area = (u[b] - u[a]) * (v[c] - v[a]) - (v[b] - v[a]) * (u[c] - u[a])
        if area == 0:
            continue
        # With y down and z away from the source, a face turned away has positive area.
        sign = facing * weight if area > 0 else -facing * weight
        if area < 0:
            b, c = c, b
            area = -area
        x0 = max(0, -(-min(u[a], u[b], u[c]) // _SUBPIXEL))
        x1 = min(width - 1, max(u[a], u[b], u[c]) // _SUBPIXEL)
        y0 = max(0, -(-min(v[a], v[b], v[c]) // _SUBPIXEL))
        y1 = min(height - 1, max(v[a], v[b], v[c]) // _SUBPIXEL)
        if x0 > x1 or y0 > y1:
            continue
        # Edge functions, opposite to a, b and c; a pixel on an edge belongs to the face left of or above it.
        ax, ay = u[c] - u[b], v[c] - v[b]
        bx, by = u[a] - u[c], v[a] - v[c]
        gx, gy = u[b] - u[a], v[b] - v[a]
        bias_a = 0 if (ay < 0 or (ay == 0 and ax > 0)) else -1
        bias_b = 0 if (by < 0 or (by == 0 and bx > 0)) else -1
        bias_c = 0 if (gy < 0 or (gy == 0 and gx > 0)) else -1
        px = x0 * _SUBPIXEL
        for y in range(y0, y1 + 1):
            py = y * _SUBPIXEL
            ea = ax * (py - v[b]) - ay * (px - u[b])
            eb = bx * (py - v[c]) - by * (px - u[c])
            ec = gx * (py - v[a]) - gy * (px - u[a])
            for x in range(x0, x1 + 1):
                if ea + bias_a >= 0 and eb + bias_b >= 0 and ec + bias_c >= 0:
                    out[y // _SAMPLES, x // _SAMPLES] += sign * area / (ea * w[a] + eb * w[b] + ec * w[c])
                ea -= ay * _SUBPIXEL
                eb -= by * _SUBPIXEL
                ec -= gy * _SUBPIXEL
