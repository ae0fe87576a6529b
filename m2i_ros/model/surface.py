"""Triangle surfaces: welding, orientation, openings, caps, distance samples."""

import numpy as np
from numba import njit
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

_FOLDED = 0.1  # share of neighbours turned by more than a right angle: noise as large as the faces
_LONG = 6  # radii: a longer component is a piece of a vessel
_UNFOLDED = 0.02  # share at which such noise is gone
_TURNS = 10  # of smoothing at a time
_FRAYED = 1.2  # times as long as a circle's of the same area: an opening's border
_HEM = 30  # turns of smoothing of such a border


def weld(vertices, faces):
    """Return (V', 3) float64 vertices and (F', 3) int32 faces without what a file may carry in excess.

    Vertices closer than a millionth of the extent become one (STL repeats them for every face). Faces that are
    degenerate, repeated or use a vertex that is not finite go, and so do vertices without a face.
    """
    vertices = np.asarray(vertices, dtype=float)
    faces = np.asarray(faces, dtype=np.int64)
    faces = faces[np.isfinite(vertices).all(axis=1)[faces].all(axis=1)]
    if not len(faces):
        return np.empty((0, 3)), np.empty((0, 3), np.int32)
    used = np.unique(faces)
    low = vertices[used].min(axis=0)
    step = max(np.ptp(vertices[used], axis=0).max(), np.finfo(float).tiny) / (2**20 - 1)
    cell = np.round((vertices[used] - low) / step).astype(np.int64)
    _, first, merged = np.unique(cell @ (1 << 42, 1 << 21, 1), return_index=True, return_inverse=True)
    renumber = np.full(len(vertices), -1)
    renumber[used] = merged.ravel()
    faces = renumber[faces]
    vertices = vertices[used[first]]
    distinct = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    faces = faces[distinct]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[np.sort(first)]
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3).astype(np.int32)


def areas_and_normals(vertices, faces):
    """Return areas (F,) and unit normals (F, 3); the normal of a face without area is zero."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    return length / 2, normal / np.where(length > 0, length, 1.0)[:, None]


def _half_edges(faces):
    """Return start, end (3F,) and a key (3F,) that both directions of an edge share; half-edge h is of face h % F."""
    start = faces.T.ravel().astype(np.int64)
    end = np.roll(faces, -1, axis=1).T.ravel().astype(np.int64)
    return start, end, np.minimum(start, end) * (faces.max() + 1) + np.maximum(start, end)


def adjacency(faces):
    """Return the pairs (P, 2) of faces that share an edge and (P,) bool: whether they run along it the same way.

    Edges of more than two faces join nothing.
    """
    start, _, key = _half_edges(faces)
    order = np.argsort(key, kind='stable')
    _, at, count = np.unique(key[order], return_index=True, return_counts=True)
    one, two = order[at[count == 2]], order[at[count == 2] + 1]
    return np.stack([one % len(faces), two % len(faces)], axis=1), start[one] == start[two]


def components(faces):
    """Return the number of edge-connected components and each face's component (F,)."""
    pairs, _ = adjacency(faces)
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(faces), len(faces)))
    return connected_components(graph, directed=False)


@njit(cache=True, nogil=True)
def _flips(first, neighbour, same_way, label):
    """Return which faces to turn so that neighbours agree; a face's neighbours lie at first[f]:first[f + 1]."""
    flip = np.zeros(len(label), np.bool_)
    seen = np.zeros(len(label), np.bool_)
    stack = np.empty(len(label), np.int64)
    for seed in range(len(label)):
        if seen[seed]:
            continue
        seen[seed] = True
        stack[0] = seed
        size = 1
        while size:
            size -= 1
            face = stack[size]
            for k in range(first[face], first[face + 1]):
                other = neighbour[k]
                if not seen[other]:
                    seen[other] = True
                    flip[other] = flip[face] != same_way[k]
                    stack[size] = other
                    size += 1
    return flip


def openings(vertices, faces):
    """Return the surface's openings and the faces that would close them.

    centres (K, 3) and radii (K,) of the openings, radius = perimeter / 2 pi, and the closed surface: vertices
    (V + K, 3), faces (F + B, 3), whose first rows are those given; each opening is closed by a fan about its centre.
    """
    start, end, key = _half_edges(faces)
    _, at, count = np.unique(key, return_index=True, return_counts=True)
    border = at[count == 1]
    if not len(border):
        return np.empty((0, 3)), np.empty(0), vertices, faces
    start, end = start[border], end[border]
    size = len(vertices)
    _, label = connected_components(coo_matrix((np.ones(len(start), bool), (start, end)), shape=(size, size)), False)
    _, opening = np.unique(label[start], return_inverse=True)
    opening = opening.ravel()
    number = opening.max() + 1
    length = np.linalg.norm(vertices[end] - vertices[start], axis=1)
    perimeter = np.bincount(opening, length, number)
    weight = np.maximum(length, 1e-12)  # edges that simplifying shrank to points may have a border of their own
    middle = (vertices[start] + vertices[end]) / 2
    centres = np.stack([np.bincount(opening, weight * middle[:, k], number) for k in range(3)], axis=1)
    centres /= np.bincount(opening, weight, number)[:, None]
    fan = np.stack([end, start, size + opening], axis=1).astype(np.int32)
    return centres, perimeter / (2 * np.pi), np.vstack([vertices, centres]), np.vstack([faces, fan])


def frayed_borders(vertices, faces):
    """Return the borders (K lists) of an outward surface's openings, as numbers of edges' two vertices (B, 2), of whole
    ones (0, 2); and the radii (K,) of circles of the openings' areas, which fraying leaves as they are."""
    _, around, closed_vertices, closed_faces = openings(vertices, faces)
    fan = closed_faces[len(faces) :]
    opening = fan[:, 2] - len(vertices)
    a, b, c = (closed_vertices[fan[:, k]] for k in range(3))
    piece = np.cross(b - a, c - a) / 2
    area = np.stack([np.bincount(opening, piece[:, k], len(around)) for k in range(3)], axis=1)
    radius = np.sqrt(np.linalg.norm(area, axis=1) / np.pi)  # whatever the border's way
    return [fan[(opening == k) & (around[k] > _FRAYED * radius[k]), :2] for k in range(len(around))], radius


def hemmed(vertices, borders):
    """Return the vertices (V, 3) of a surface with `frayed_borders` drawn to smooth curves."""
    edges = np.vstack([np.empty((0, 2), np.int32), *borders])
    return smooth(vertices, edges, _HEM) if len(edges) else vertices


def orient(vertices, faces):
    """Return the faces (F, 3) turned outward: neighbours agree, and each component, its openings closed, has a positive
    volume."""
    pairs, same_way = adjacency(faces)
    both = np.vstack([pairs, pairs[:, ::-1]])
    order = np.argsort(both[:, 0], kind='stable')
    first = np.searchsorted(both[order, 0], np.arange(len(faces) + 1))
    number, label = components(faces)
    flip = _flips(first, both[order, 1], np.concatenate([same_way, same_way])[order], label)
    faces = np.where(flip[:, None], faces[:, ::-1], faces)
    for component in range(number):
        at = label == component
        used, own = np.unique(faces[at], return_inverse=True)
        if volume(*openings(vertices[used], own.reshape(-1, 3))[2:]) < 0:
            faces[at] = faces[at][:, ::-1]
    return np.ascontiguousarray(faces, dtype=np.int32)


def volume(vertices, faces):
    """Return the signed volume of a closed surface, cubic metres."""
    a, b, c = (vertices[faces[:, k]] - vertices.mean(axis=0) for k in range(3))
    return float(np.einsum('ij,ij->', a, np.cross(b, c)) / 6)


def without_debris(vertices, faces):
    """Return vertices, faces and how many components were dropped.

    Debris is a component of less than a hundredth of the area and a tenth of the extent: specks of calcium and islands
    of a segmentation; the smaller of two vessel trees is far larger. A closed one that is long and thin, and near what
    is kept, is a piece of a vessel that few faces hold together no more.
    """
    number, label = components(faces)
    area, _ = areas_and_normals(vertices, faces)
    component_area = np.bincount(label, area, number)
    extent = np.ptp(vertices, axis=0).max()
    keep = component_area > 0.01 * area.sum()
    pieces = {}
    for component in np.flatnonzero(~keep):
        used, own = np.unique(faces[label == component], return_inverse=True)
        points, own = vertices[used], own.reshape(-1, 3)
        if np.ptp(points, axis=0).max() > 0.1 * extent:
            keep[component] = True
            continue
        length = np.linalg.norm(points - points[0], axis=1).max()  # from any point the farthest is half of it or more
        radius = 2 * abs(volume(points, own)) / component_area[component]  # of a tube
        if length > _LONG * radius and not len(openings(points, own)[0]):
            pieces[component] = points, length
    added = keep.copy()
    while pieces and added.any():
        tree = cKDTree(vertices[np.unique(faces[added[label]])])
        added = np.zeros(number, bool)
        for component, (points, length) in list(pieces.items()):
            if tree.query(points)[0].min() < length / 2:
                added[component] = keep[component] = True
                del pieces[component]
    used, faces = np.unique(faces[keep[label]], return_inverse=True)
    return vertices[used], faces.reshape(-1, 3).astype(np.int32), int((~keep).sum())


def smooth(vertices, edges, turns):
    """Return the vertices (V, 3) after so many turns of shrinking and growing along edges (E, 2), which keep the
    calibre (Taubin, ICCV 1995)."""
    one, two = np.unique(np.sort(edges, axis=1), axis=0).T
    size = len(vertices)
    neighbours = coo_matrix((np.ones(2 * len(one)), (np.append(one, two), np.append(two, one))), (size, size)).tocsr()
    number = np.asarray(neighbours.sum(axis=1))
    vertices = np.array(vertices, dtype=float)
    for _ in range(turns):
        for share in (0.5, -0.53):
            vertices += share * (neighbours @ vertices - number * vertices) / np.maximum(number, 1)
    return vertices


def unfolded(vertices, faces):
    """Return the vertices (V, 3) of a surface whose noise is as large as its faces, smoothed until it is not; of any
    other surface the vertices themselves.

    faces: (F, 3), neighbours turned alike. Few are folded together on a smooth surface, and where they are because
    faces are few, as on thin vessels that hold together no more, smoothing does not part them.
    """
    pairs, _ = adjacency(faces)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)

    def share_folded(vertices):
        _, normal = areas_and_normals(vertices, faces)
        return np.mean(np.einsum('ij,ij->i', *normal[pairs.T]) < 0)

    share = share_folded(vertices)
    if share < _FOLDED:
        return vertices
    while share > _UNFOLDED:
        smoother = smooth(vertices, edges, _TURNS)
        if (left := share_folded(smoother)) > share / 2:
            break
        vertices, share = smoother, left
    return vertices


def simplify(vertices, faces, count):
    """Return vertices and about `count` faces of a surface: edges collapsed where it changes least (Garland and
    Heckbert, SIGGRAPH 1997)."""
    import fast_simplification

    vertices, faces = fast_simplification.simplify(
        vertices.astype(np.float32), faces.astype(np.int32), target_count=count, agg=3
    )
    return weld(vertices, faces)


def surface_samples(vertices, faces, spacing):
    """Return points (S, 3) on the surface, corners included, such that no edge between them exceeds `spacing`, and the
    face (S,) that each lies on, one of several at a corner or an edge."""
    triangles = vertices[faces]
    face = np.arange(len(faces))
    corners, at = np.unique(faces, return_index=True)
    out, of = [vertices[corners]], [at // 3]
    while len(triangles):
        length = np.linalg.norm(triangles - np.roll(triangles, -1, axis=1), axis=2)
        long = length.max(axis=1) > spacing
        triangles, face, longest = triangles[long], face[long], length[long].argmax(axis=1)
        rows = np.arange(len(triangles))
        a, b, c = (triangles[rows, (longest + k) % 3] for k in range(3))
        middle = (a + b) / 2
        out.append(middle)
        of.append(face)
        face = np.concatenate([face, face])
        triangles = np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
    points = np.concatenate(out)
    _, first = np.unique(np.round(points / (spacing / 8)).astype(np.int64) @ (1 << 42, 1 << 21, 1), return_index=True)
    return points[first], np.concatenate(of)[first]


def first_hit(vertices, faces, origin, direction):
    """Return the distance (m) to the first face that the ray from `origin` along unit `direction` meets, and the face;
    inf and -1 where it meets none (Moeller and Trumbore 1997)."""
    a = vertices[faces[:, 0]]
    ab, ac = vertices[faces[:, 1]] - a, vertices[faces[:, 2]] - a
    p = np.cross(direction, ac)
    determinant = np.einsum('ij,ij->i', ab, p)
    with np.errstate(divide='ignore', invalid='ignore'):
        s = origin - a
        u = np.einsum('ij,ij->i', s, p) / determinant
        q = np.cross(s, ab)
        v = q @ direction / determinant
        t = np.einsum('ij,ij->i', ac, q) / determinant
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 0)
    if not hit.any():
        return np.inf, -1
    face = int(np.argmin(np.where(hit, t, np.inf)))
    return float(t[face]), face


def find_cap(vertices, faces, end, direction, radius):
    """Return (F,) bool: the faces of the flat cut that closes a vessel at `end`; all False where there is none.

    end: (3,) on the vessel's axis, within two radii of the cut. direction: (3,) unit, out of the vessel. radius: of the
    lumen there, metres. A cap is connected, flat but for a bevelled rim, faces `direction` within 53 degrees, and is
    about as large as the section: a rounded end, flat only about its pole, is none.
    """
    none = np.zeros(len(faces), bool)
    distance, seed = first_hit(vertices, faces, end - 2 * radius * direction, direction)
    while seed >= 0 and distance < radius:  # a wall of a strongly bent vessel may lie before
        step, seed = first_hit(vertices, faces, end + (distance + 1e-9 - 2 * radius) * direction, direction)
        distance += step + 1e-9
    if distance > 4 * radius:
        return none
    area, normal = areas_and_normals(vertices, faces)
    across = normal[seed] @ direction
    if across < 0.6:
        return none
    corner_offset = vertices[faces] - vertices[faces[seed]].mean(axis=0)
    height = np.abs(corner_offset @ normal[seed]).max(axis=1)
    # Slivers have no direction to speak of: they count by their place alone.
    sliver = (area < 1e-3 * np.pi * radius**2) & (height < 0.02 * radius)
    flat = sliver | ((normal @ normal[seed] > 0.6) & (height < 0.25 * radius))
    flat &= np.linalg.norm(corner_offset.mean(axis=1), axis=1) < 4 * radius
    flat[seed] = True
    at = np.flatnonzero(flat)
    number = np.full(len(faces), -1)
    number[at] = np.arange(len(at))
    pairs, _ = adjacency(faces)
    pairs = number[pairs[flat[pairs].all(axis=1)]]
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(at), len(at)))
    _, label = connected_components(graph, directed=False)
    cap = none.copy()
    cap[at[label == label[number[seed]]]] = True
    # As seen along the vessel. Of a hemisphere the part less than 0.25 radii high covers 0.44 of the section.
    share = (area[cap] * (normal[cap] @ normal[seed])).sum() * across / (np.pi * radius**2)
    return cap if 0.5 < share < 2.0 else none
