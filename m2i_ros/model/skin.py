"""The lumen surface of a centreline: the closed union of its tubes, cut flat at the free ends."""

import fast_simplification
import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

_FACES = 20000


def free_ends(tree):
    """Return the points (n, 3) where a `Centreline` was cut, unit directions (n, 3) out of it, and radii (n,)."""
    degree = np.bincount(tree.edges.ravel(), minlength=len(tree.points))
    ends = np.flatnonzero(degree == 1)
    inward = np.where(np.isin(ends + 1, ends) | (tree.arc_length[ends] > 0), -1, 1)
    out = tree.points[ends] - tree.points[ends + 2 * inward]
    return ends, out / np.linalg.norm(out, axis=1, keepdims=True)


def skin(tree, spacing, bulge=None):
    """Return vertices (V, 3) and faces (F, 3) of the closed union of a `Centreline`'s tubes, cut flat at its free ends.

    It is the zero level of the distance from the tubes, on a grid of `spacing` (metres), so that a tube must be wider
    than that; then about 20,000 faces are kept, up to 60,000 where fewer would pinch thin vessels.
    bulge: (N,), how far, as a share of the radius, three sinuses bulge at each point.
    """
    bulge = np.zeros(len(tree.points)) if bulge is None else bulge
    pad = 4 * spacing
    reach = (tree.radii + pad)[:, None]
    low = (tree.points - reach).min(axis=0)
    shape = np.ceil(((tree.points + reach).max(axis=0) - low) / spacing).astype(int) + 1
    field = np.full(shape, pad, np.float32)
    ends, outward = free_ends(tree)
    for branch in range(tree.branch.max() + 1):
        on = np.flatnonzero(tree.branch == branch)
        first = np.floor(((tree.points - reach)[on].min(axis=0) - low) / spacing).astype(int)
        last = np.ceil(((tree.points + reach)[on].max(axis=0) - low) / spacing).astype(int) + 1
        part = np.full(np.minimum(last, shape) - first, pad, np.float32)
        origin = low + first * spacing
        _tube(part, origin, spacing, tree.points[on], tree.radii[on], bulge[on], pad)
        for end, way in zip(ends, outward, strict=True):
            if tree.branch[end] == branch:
                _cut(part, origin, spacing, tree.points[end], way, 1.5 * tree.radii[end] + pad)
        there = field[tuple(slice(f, f + n) for f, n in zip(first, part.shape, strict=True))]
        np.minimum(there, part, out=there)
    field = gaussian_filter(field, 0.6)
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    vertices, faces = vertices * spacing + low, faces
    vertices, faces = vertices.astype(np.float32), faces.astype(np.int32)
    # Collapsing edges fast can pinch a thin wall into an edge of four faces; then more slowly, or less.
    for aggression, count in ((3, _FACES), (1, _FACES), (1, 2 * _FACES)):
        fewer = fast_simplification.simplify(vertices, faces, target_count=min(count, len(faces)), agg=aggression)
        if _closed(fewer[1]):
            vertices, faces = fewer
            break
    return np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int32)


def _closed(faces):
    """Return whether each edge belongs to two faces."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return bool((np.unique(edges, axis=0, return_counts=True)[1] == 2).all())


@njit(cache=True, nogil=True)
def _tube(field, origin, spacing, points, radii, bulge, pad):
    """Lower `field` to the distance from the round cones along one branch."""
    for e in range(len(points) - 1):
        a, b = points[e], points[e + 1]
        ab = b - a
        length2 = (ab * ab).sum() + 1e-18
        reach = max(radii[e], radii[e + 1]) * 1.15 + pad
        lo = np.empty(3, np.int64)
        hi = np.empty(3, np.int64)
        for k in range(3):
            lo[k] = max(0, int(np.floor((min(a[k], b[k]) - reach - origin[k]) / spacing)))
            hi[k] = min(field.shape[k], int(np.ceil((max(a[k], b[k]) + reach - origin[k]) / spacing)) + 1)
        for i in range(lo[0], hi[0]):
            x = origin[0] + i * spacing - a[0]
            for j in range(lo[1], hi[1]):
                y = origin[1] + j * spacing - a[1]
                for k in range(lo[2], hi[2]):
                    z = origin[2] + k * spacing - a[2]
                    t = min(1.0, max(0.0, (x * ab[0] + y * ab[1] + z * ab[2]) / length2))
                    dx, dy, dz = x - t * ab[0], y - t * ab[1], z - t * ab[2]
                    r = radii[e] + t * (radii[e + 1] - radii[e])
                    swell = bulge[e] + t * (bulge[e + 1] - bulge[e])
                    if swell != 0:
                        r *= 1 + swell * np.cos(3 * (np.arctan2(dy, dx) + 0.26))
                    d = np.sqrt(dx * dx + dy * dy + dz * dz) - r
                    if d < field[i, j, k]:
                        field[i, j, k] = d


@njit(cache=True, nogil=True)
def _cut(field, origin, spacing, point, way, reach):
    """Raise `field` beyond the plane through `point` across `way`, within `reach` of the point: no farther, for there
    the vessel itself may come back."""
    for i in range(field.shape[0]):
        x = origin[0] + i * spacing - point[0]
        if abs(x) > reach:
            continue
        for j in range(field.shape[1]):
            y = origin[1] + j * spacing - point[1]
            if abs(y) > reach:
                continue
            for k in range(field.shape[2]):
                z = origin[2] + k * spacing - point[2]
                if x * x + y * y + z * z < reach * reach:
                    beyond = x * way[0] + y * way[1] + z * way[2]
                    if beyond > field[i, j, k]:
                        field[i, j, k] = beyond
