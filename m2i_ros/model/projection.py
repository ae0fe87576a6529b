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


def mesh_edges(faces):
    """Return the edges (E, 2) int32 of faces (F, 3), and (F, 3) int32: which edge each side of a face is.

    The latter is twice the edge's number, plus one where the side runs along the edge. Any number of faces may share an
    edge.
    """
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel().astype(np.int64)
    low, high = np.minimum(start, end), np.maximum(start, end)
    _, first, number = np.unique(low << 32 | high, return_index=True, return_inverse=True)
    edges = np.stack([low, high], axis=1)[first]
    return edges.astype(np.int32), (2 * number.reshape(-1) + (start < end)).reshape(-1, 3).astype(np.int32)


@njit(cache=True, nogil=True)
def fill_silhouette(uvz, faces, edges, sides, out):
    """Set `out` (H, W) uint8 to 255 at every pixel whose centre lies in a face (F, 3) of projected vertices (V, 3).

    edges, sides: of `mesh_edges`. Pixel centres on an edge belong to what is on its right or below, so neighbours
    neither overlap nor leave gaps and the outline is not fattened. Faces that come nearer than `NEAR` to the source are
    left out.

    Every face is gone round the same way. What two faces side by side have in common then cancels: left are the edges
    where the surface turns away, or ends. Along a row each of them tells by how many the faces grow or dwindle.
    """
    height, width = out.shape
    turns = np.zeros(edges.shape[0], np.int8)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if min(uvz[a, 2], uvz[b, 2], uvz[c, 2]) <= NEAR:
            continue
        area = (uvz[b, 0] - uvz[a, 0]) * (uvz[c, 1] - uvz[a, 1]) - (uvz[c, 0] - uvz[a, 0]) * (uvz[b, 1] - uvz[a, 1])
        turn = 1 if area > 0 else -1
        for k in range(3):
            turns[sides[f, k] >> 1] += turn * (2 * (sides[f, k] & 1) - 1)
    outline = np.empty(edges.shape[0], np.int32)
    count = 0
    for e in range(edges.shape[0]):
        outline[count] = e
        count += turns[e] != 0
    outline = outline[:count]

    # Where each row's crossings lie in one list.
    first = np.zeros(height + 2, np.int32)
    for e in outline:
        top, bottom = uvz[edges[e, 0], 1], uvz[edges[e, 1], 1]
        begin, end = _rows(min(top, bottom), max(top, bottom), height)
        if begin < end:
            first[begin + 1] += 1
            first[end + 1] -= 1
    count, total = 0, 0
    for row in range(height):
        count += first[row + 1]
        first[row + 1] = total
        total += count
    # A crossing is a column and, in the last byte, by how many the faces grow there.
    crossings = np.empty(total, np.int32)
    for e in outline:
        a, b, turn = edges[e, 0], edges[e, 1], turns[e]
        if uvz[a, 1] > uvz[b, 1]:
            a, b, turn = b, a, -turn
        begin, end = _rows(uvz[a, 1], uvz[b, 1], height)
        if begin >= end:
            continue
        left, top = uvz[a, 0], uvz[a, 1]
        slope = (uvz[b, 0] - left) / (uvz[b, 1] - top)
        for row in range(begin, end):
            column = int(np.ceil(min(max(left + (row - top) * slope, 0.0), width)))
            crossings[first[row + 1]] = column << 8 | (turn + 128)
            first[row + 1] += 1
    for row in range(height):
        begin, end = first[row], first[row + 1]
        for i in range(begin + 1, end):  # few in a row: sorted by insertion
            crossing, at = crossings[i], i
            while at > begin and crossings[at - 1] > crossing:
                crossings[at] = crossings[at - 1]
                at -= 1
            crossings[at] = crossing
        depth, left = 0, 0
        for i in range(begin, end):
            right = crossings[i] >> 8
            if depth != 0:
                for column in range(left, right):
                    out[row, column] = 255
            depth += (crossings[i] & 255) - 128
            left = right


@njit(cache=True, nogil=True)
def _rows(top, bottom, height):
    """Return the first and past the last row whose centres lie from `top` to `bottom`."""
    return int(np.ceil(max(top, 0.0))), int(np.ceil(min(bottom, height)))


def silhouette(surface, T_image_model, camera):
    """Return the picture (H, W) uint8, 255 where the surface covers a pixel's centre and 0 elsewhere.

    surface: a VesselModel, or anything with vertices (V, 3) float64 in metres, faces (F, 3) int32 and what `mesh_edges`
    says of them as `edges`. T_image_model: (4, 4). camera: its size is the picture's; both signs of fx.
    """
    out = np.zeros((camera.height, camera.width), np.uint8)
    T = np.ascontiguousarray(T_image_model, dtype=np.float64)
    uvz = project_vertices(surface.vertices, T, camera.fx, camera.fy, camera.cx, camera.cy)
    fill_silhouette(uvz, surface.faces, *surface.edges, out)
    return out
