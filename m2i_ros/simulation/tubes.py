"""X-ray path lengths through tubes given by their axis: vessels from a centreline, catheters, wires, bones."""

import numpy as np
from numba import njit


def draw_tubes(pixels, radii_px, lengths, segments, shape):
    """Return the path lengths (H, W) float32 through tubes, and their cover (H, W) float32 in [0, 1].

    A tube is a stack of thin discs along its axis. Seen from the source, discs of radius r spaced by ds on a straight
    axis add up to 2 sqrt(r^2 - d^2) / sin(angle to the ray) at distance d from it: the chord of the oblique cylinder.
    Bends, tapers, overlaps and tubes seen end-on follow by adding.

    pixels: (N, 2) projected axis points. radii_px: (N,) radii at the detector, pixels.
    lengths: (E,) what a segment adds: its length in metres, times its concentration for contrast.
    segments: (E, 2) indices of neighbouring axis points. shape: (H, W).
    """
    path = np.zeros(shape, np.float32)
    cover = np.zeros(shape, np.float32)
    _draw(
        np.ascontiguousarray(pixels, dtype=np.float32),
        np.ascontiguousarray(radii_px, dtype=np.float32),
        np.ascontiguousarray(lengths, dtype=np.float32),
        np.ascontiguousarray(segments, dtype=np.int32),
        path,
        cover,
    )
    return path, cover


def smooth_curve(waypoints, step=2.0):
    """Return points (n, d) about `step` apart on the Catmull-Rom curve through waypoints (k, d)."""
    p = np.asarray(waypoints, dtype=float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    out = []
    for i in range(1, len(p) - 2):
        count = max(2, int(np.linalg.norm(p[i + 1] - p[i]) / step))
        t = np.linspace(0, 1, count, endpoint=False)[:, None]
        a, b, c, d = p[i - 1 : i + 3]
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*out, p[-2:-1]])


@njit(cache=True, nogil=True, fastmath=True)
def _draw(pixels, radii, lengths, segments, path, cover):
    height, width = path.shape
    for e in range(len(segments)):
        a, b = segments[e, 0], segments[e, 1]
        du, dv, dr = pixels[b, 0] - pixels[a, 0], pixels[b, 1] - pixels[a, 1], radii[b] - radii[a]
        count = max(1, int(np.ceil(np.sqrt(du * du + dv * dv))))
        step = lengths[e] / count
        for k in range(count):
            t = (k + 0.5) / count
            u, v = pixels[a, 0] + t * du, pixels[a, 1] + t * dv
            r = radii[a] + t * dr
            # A disc below a pixel is drawn a pixel wide and thinner. Its edge, a pixel wide, adds pi / 12 to its area.
            wide = max(r, 0.5)
            weight = np.float32(step * r * r / (wide * wide + 1 / 12))
            r = wide
            outer = r + 0.5
            inner2 = max(r - 0.5, 0.0) ** 2
            v0, v1 = max(0, int(np.ceil(v - outer))), min(height - 1, int(np.floor(v + outer)))
            u0, u1 = max(0, int(np.ceil(u - outer))), min(width - 1, int(np.floor(u + outer)))
            for y in range(v0, v1 + 1):
                for x in range(u0, u1 + 1):
                    d2 = (x - u) ** 2 + (y - v) ** 2
                    if d2 < inner2:
                        share = np.float32(1.0)
                    else:
                        share = np.float32(outer - np.sqrt(d2))
                        if share <= 0:
                            continue
                        if share > 1:
                            share = np.float32(1.0)
                    path[y, x] += share * weight
                    if share > cover[y, x]:
                        cover[y, x] = share
