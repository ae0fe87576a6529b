"""The lumen filled with cells, and the paths through it from which a centreline's topology comes."""

import heapq

import numpy as np
from numba import njit
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from m2i_ros.model.polyline import arc_length
from m2i_ros.model.surface import areas_and_normals, volume

_VOXELS = (120_000, 500_000)  # inside the lumen: about so many, or where vessels are thin up to
_ACROSS = 5  # cells in a thin vessel's mean radius
_CELLS = 150_000_000  # of the box about it, at most
_CORNER = -2  # owns what leads into the corner of a vessel's end


def fill_lumen(vertices, faces):
    """Return what `filled` does, with cells small enough for the thin vessels of a closed surface."""
    size = np.ptp(vertices, axis=0)
    inside, area = abs(volume(vertices, faces)), areas_and_normals(vertices, faces)[0].sum()
    few, many = np.cbrt(inside / np.array(_VOXELS))
    step = min(few, max(many, 2 * inside / area / _ACROSS))  # of a tube, 2 V / A is the radius
    return filled(vertices, faces, max(step, np.cbrt(size.prod() / _CELLS), size.max() / 2000, 1e-5))


def filled(vertices, faces, step):
    """Return grid (X, Y, Z) bool of the cells inside the closed surface, its corner (3,) and the cell size `step`,
    metres.

    Each axis votes by the winding number along its lines, two votes make an inside: a small defect does no harm.
    """
    low, size = vertices.min(axis=0), np.ptp(vertices, axis=0)
    origin = low - 1.5 * step * np.array([1.0, 1.01, 1.02])
    shape = np.ceil((low + size - origin) / step).astype(int) + 1
    votes = np.zeros(shape, np.uint8)
    relative = (vertices - origin) / step - 0.5
    for axis in range(3):
        turn = [(axis + k) % 3 for k in (1, 2, 0)]
        winding = np.zeros(shape[turn], np.int8)
        _crossings(relative[:, turn], faces, winding)
        np.cumsum(winding, axis=2, out=winding)
        winding[winding[:, :, -1] != 0] = 0
        votes += (winding != 0).transpose(np.argsort(turn))
    return votes >= 2, origin, step


@njit(cache=True, nogil=True)
def _crossings(vertices, faces, winding):
    """Add to `winding` (X, Y, Z) what each face changes along z: +1 where a line enters, -1 where it leaves."""
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        area = (vertices[b, 0] - vertices[a, 0]) * (vertices[c, 1] - vertices[a, 1]) - (
            vertices[b, 1] - vertices[a, 1]
        ) * (vertices[c, 0] - vertices[a, 0])
        if area == 0:
            continue
        x0 = max(0, int(np.ceil(min(vertices[a, 0], vertices[b, 0], vertices[c, 0]))))
        x1 = min(winding.shape[0] - 1, int(np.floor(max(vertices[a, 0], vertices[b, 0], vertices[c, 0]))))
        y0 = max(0, int(np.ceil(min(vertices[a, 1], vertices[b, 1], vertices[c, 1]))))
        y1 = min(winding.shape[1] - 1, int(np.floor(max(vertices[a, 1], vertices[b, 1], vertices[c, 1]))))
        for x in range(x0, x1 + 1):
            for y in range(y0, y1 + 1):
                inside = True
                z = 0.0
                for k in range(3):
                    i, j, opposite = faces[f, k], faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
                    # Both faces of an edge compute it from the same end, so that a line through it is counted once.
                    forward = i < j
                    p, q = (i, j) if forward else (j, i)
                    side = (vertices[q, 0] - vertices[p, 0]) * (y - vertices[p, 1]) - (
                        vertices[q, 1] - vertices[p, 1]
                    ) * (x - vertices[p, 0])
                    if (side >= 0) != (forward == (area > 0)):
                        inside = False
                        break
                    z += (side if forward else -side) / area * vertices[opposite, 2]
                if inside:
                    k = min(max(int(np.ceil(z)), 0), winding.shape[2] - 1)
                    winding[x, y, k] += 1 if area < 0 else -1


@njit(cache=True, nogil=True)
def _shortest(index, cells, cost, source):
    """Return distances (N,) and predecessors (N,) of least-cost paths from cell `source` (26 neighbours, Dijkstra)."""
    distance = np.full(len(cells), np.inf)
    previous = np.full(len(cells), -1, np.int32)
    distance[source] = 0.0
    heap = [(0.0, source)]
    while len(heap):
        d, i = heapq.heappop(heap)
        if d > distance[i]:
            continue
        x, y, z = cells[i]
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                for dz in range(-1, 2):
                    j = index[x + dx, y + dy, z + dz]
                    if j >= 0 and j != i:
                        new = d + np.sqrt(dx * dx + dy * dy + dz * dz) * 0.5 * (cost[i] + cost[j])
                        if new < distance[j]:
                            distance[j] = new
                            previous[j] = i
                            heapq.heappush(heap, (new, np.int64(j)))
    return distance, previous


@njit(cache=True, nogil=True)
def _lengths(cells, previous, order):
    """Return how long (N,) the paths of predecessors to each cell are; `order`: the cells reached, nearest first."""
    length = np.full(len(cells), -1.0)
    for i in order:
        length[i] = 0.0
        if previous[i] >= 0:
            a, b = cells[i], cells[previous[i]]
            length[i] = length[previous[i]] + np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)
    return length


@njit(cache=True, nogil=True)
def _cover(index, cells, chain, reach, covered):
    """Raise `covered` (N,): how far (cells) a path's reach goes beyond each cell, through the lumen, never through a
    wall into a neighbouring vessel."""
    heap = [(0.0, np.int64(0))]
    heap.pop()
    for n in range(len(chain)):
        if reach[n] > covered[chain[n]]:
            covered[chain[n]] = reach[n]
            heapq.heappush(heap, (-reach[n], np.int64(chain[n])))
    while len(heap):
        negative, i = heapq.heappop(heap)
        if -negative < covered[i]:
            continue
        x, y, z = cells[i]
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                for dz in range(-1, 2):
                    j = index[x + dx, y + dy, z + dz]
                    if j >= 0:
                        left = -negative - np.sqrt(dx * dx + dy * dy + dz * dz)
                        if left > covered[j]:
                            covered[j] = left
                            heapq.heappush(heap, (-left, np.int64(j)))


def depths(index, cells, points, wall, step):
    """Return the distances (N,) of the cells from the wall, metres, at least half a cell.

    Only cells at the wall ask a tree, which is slow for points in the middle: their nearest wall points are handed
    inwards (Danielsson, Computer Graphics and Image Processing 1980).
    """
    sides = np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    neighbours = np.array([index[tuple((cells + side).T)] >= 0 for side in sides])
    rim = np.flatnonzero(~neighbours.all(axis=0))
    nearest = np.full(len(cells), -1)
    distance, nearest[rim] = cKDTree(wall.points).query(points[rim])
    depth = np.full(len(cells), np.inf)
    depth[rim] = distance
    _hand_inwards(index, cells, points, wall.points, rim, nearest, depth)
    return np.maximum(depth, step / 2)


@njit(cache=True, nogil=True)
def _hand_inwards(index, cells, points, wall, rim, nearest, depth):
    heap = [(depth[i], i) for i in rim]
    heapq.heapify(heap)
    while len(heap):
        d, i = heapq.heappop(heap)
        if d > depth[i]:
            continue
        x, y, z = cells[i]
        w = wall[nearest[i]]
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                for dz in range(-1, 2):
                    j = index[x + dx, y + dy, z + dz]
                    if j >= 0:
                        p = points[j]
                        new = np.sqrt((p[0] - w[0]) ** 2 + (p[1] - w[1]) ** 2 + (p[2] - w[2]) ** 2)
                        if new < depth[j] - 1e-9:
                            depth[j] = new
                            nearest[j] = nearest[i]
                            heapq.heappush(heap, (new, np.int64(j)))


def voxel_paths(index, cells, wall, step):
    """Return paths as [cells from the joint or root towards the tip, number of the path it leaves or -1, facing].

    A tip is the farthest cell that no path covers; a path covers 1.6 times its radius, and is kept when it leaves the
    ball about its joint by more than a bulge of the wall would. Its last stretch leads into a corner of the vessel's
    end: it is left out.

    In a loop, of vessels that touch, two paths come round from both sides. `facing` is then the number of the path
    whose tip a path's own tip faces through the lumen, and -1 where a vessel ends.
    """
    length = np.ones(len(cells))
    cost = (wall / step) ** -3.0
    covered = np.zeros(len(cells))
    owner = np.full(len(cells), -1)
    paths, tips, whole = [], [], []
    remaining = np.ones(len(cells), bool)
    while remaining.any():
        start, _ = _shortest(index, cells, length, int(np.argmax(remaining)))
        part = np.isfinite(start)
        remaining &= ~part
        if part.sum() < 50:
            continue
        root = int(np.argmax(np.where(part, start, -1)))
        dear, previous = _shortest(index, cells, cost, root)
        # Along the paths, not the shortest way: so that, in a loop, the farthest cells are where the paths part.
        order = np.argsort(dear)[: part.sum()]
        along = _lengths(cells, previous, order)
        for tip in np.flatnonzero(part)[np.argsort(-along[part])]:
            if covered[tip] > 0:
                continue
            chain = [int(tip)]
            while owner[chain[-1]] == -1 and previous[chain[-1]] >= 0:
                chain.append(int(previous[chain[-1]]))
            chain = np.array(chain[::-1])
            _cover(index, cells, chain, 1.6 * wall[chain] / step + 2, covered)
            parent = int(owner[chain[0]])
            width, on_to = wall[chain], None
            if parent == _CORNER:  # no corner, where it is long against the vessel's width: another leaves, or touches
                parent = next(k for k, path in enumerate(whole) if chain[0] in path)
                on_to = _with(chain[0], paths[parent][0], whole[parent])
                width = np.maximum(width, wall[paths[parent][0][[0, -1]]].max())
            if not _is_branch(cells[chain] * step, width, parent == -1):
                continue
            if on_to is not None:
                paths[parent][0] = on_to
                owner[on_to[1:] if paths[parent][1] >= 0 else on_to] = parent
            whole.append(chain)
            owner[chain[1:] if parent >= 0 else chain] = _CORNER
            chain = chain[: _corner(cells[chain] * step, wall[chain])]
            if parent < 0:
                chain = chain[-_corner(cells[chain[::-1]] * step, wall[chain[::-1]]) :]
            owner[chain[1:] if parent >= 0 else chain] = len(paths)
            facing = _facing(index, cells, wall / step, tip, paths, tips)
            if facing >= 0:
                paths[facing][2] = len(paths)
            paths.append([chain, parent, facing])
            tips.append(tip)
        while True:
            one, two = _meeting(index, cells, order, previous, dear, along, owner, wall / step)
            if one < 0:
                break
            for tip, other in ((one, 1), (two, -1)):
                chain = [int(tip)]
                while owner[chain[-1]] < 0:
                    chain.append(int(previous[chain[-1]]))
                parent = int(owner[chain[-1]])
                paths.append([np.array(chain[::-1]), parent, len(paths) + other])
                whole.append(paths[-1][0])
                tips.append(tip)
            for k in (-2, -1):
                owner[paths[k][0][1:]] = len(paths) + k
    return _from_widest(paths, cells, wall / step)


def _with(cell, path, whole):
    """Return a path out of the whole one, on to a cell of it that lies beyond one of its ends."""
    at, first, last = (int(np.flatnonzero(whole == i)[0]) for i in (cell, path[0], path[-1]))
    return whole[min(at, first) : max(at, last) + 1]


@njit(cache=True, nogil=True)
def _meeting(index, cells, order, previous, dear, along, owner, wall):
    """Return two neighbours between which a way round a hole, that no path takes, is closed, or -1, -1.

    Such a way leaves the paths at places farther apart than the lumens there are wide, and between these lumens it is
    at least as long as a branch. The cheapest one goes through the middle of its vessel.
    """
    leave = np.full(len(cells), -1, np.int32)
    least = np.inf
    one = two = -1
    for i in order:
        if owner[i] >= 0:
            leave[i] = i
        elif previous[i] >= 0:
            leave[i] = leave[previous[i]]
    for i in order:
        a = leave[i]
        if a < 0 or owner[i] >= 0:
            continue
        x, y, z = cells[i]
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                for dz in range(-1, 2):
                    j = index[x + dx, y + dy, z + dz]
                    if j < 0 or j >= i or leave[j] < 0 or leave[j] == a or owner[j] >= 0:
                        continue
                    b = leave[j]
                    price = dear[i] - dear[a] + dear[j] - dear[b]
                    if price >= least:
                        continue
                    width = wall[a] + wall[b]
                    length = along[i] - along[a] + along[j] - along[b]
                    if length < 2.5 * width or min(wall[i], wall[j]) < 1:
                        continue
                    apart = 0.0
                    for k in range(3):
                        apart += (cells[a, k] - cells[b, k]) ** 2
                    if apart > 4 * width * width:
                        least, one, two = price, i, j
    return one, two


def _from_widest(paths, cells, wall):
    """Return the same paths, led from the widest end of each tree on: where the blood comes in, or goes out.

    From one twig's tip to another's a path would turn back sharply where both leave the trunk.
    """
    out = []
    for first in [k for k, path in enumerate(paths) if path[1] < 0]:
        tree = [first]
        for k in range(first + 1, len(paths)):
            if paths[k][1] in tree:
                tree.append(k)
        chains = [paths[k][0] for k in tree]
        widths = {paths[k][0][-1]: _end_width(cells, wall, paths[k][0]) for k in tree}
        widths[chains[0][0]] = 1.2 * _end_width(cells, wall, chains[0][::-1])  # as good as the widest
        meeting = {paths[k][0][-1] for k in tree if paths[k][2] >= 0}
        one, two = (np.concatenate([chain[part] for chain in chains]) for part in (slice(-1), slice(1, None)))
        nodes, number_of, degree = np.unique(np.concatenate([one, two]), return_inverse=True, return_counts=True)
        one, two = np.split(number_of, 2)
        tips = np.flatnonzero(degree == 1)
        ends = widths.keys() & set(nodes[tips])
        root = max(ends - meeting or ends, key=widths.get)
        length = np.linalg.norm(cells[nodes[one]] - cells[nodes[two]], axis=1)
        graph = coo_matrix((length, (one, two)), shape=(len(nodes),) * 2)
        distance, previous = dijkstra(graph, False, np.searchsorted(nodes, root), return_predecessors=True)
        facing = {paths[k][0][-1]: paths[paths[k][2]][0][-1] for k in tree if paths[k][2] >= 0}
        owner = np.full(len(nodes), -1)
        number = {}
        # A trunk goes on where it is long and wide: the aorta to the valve, though a coronary stem's tip is farther.
        size = distance[tips] * [widths[nodes[tip]] for tip in tips]
        for tip in tips[np.argsort(-size)]:
            if nodes[tip] == root:
                continue
            chain = [tip]
            while owner[chain[-1]] < 0 and previous[chain[-1]] >= 0:
                chain.append(previous[chain[-1]])
            chain = np.array(chain[::-1])
            parent = owner[chain[0]]
            owner[chain[1:] if parent >= 0 else chain] = number[nodes[tip]] = len(out)
            out.append([nodes[chain], parent, -1])
        for one, two in facing.items():
            if one in number and two in number:  # no other path leaves right there
                out[number[one]][2] = number[two]
    return out


def _end_width(cells, wall, chain):
    """Return the radius (cells) of a vessel at the end of a path."""
    left = arc_length(cells[chain[::-1]])[::-1]
    return np.median(wall[chain[left < 3 * wall[chain[-1]]]])


def _facing(index, cells, wall, tip, paths, tips):
    """Return the number of the path that ends where a new one with this tip does, seen through the lumen; -1: none.

    The new tip is as near as the other's cover lets it: 1.6 radii, and a radius more where both lie at the wall.
    """
    for k, (chain, _, facing) in enumerate(paths):
        way = cells[tips[k]] - cells[tip]
        distance = np.linalg.norm(way)
        if facing < 0 and distance < 2.6 * wall[chain[-1]] + 6:
            between = np.rint(cells[tip] + np.linspace(0, 1, int(2 * distance) + 2)[:, None] * way).astype(int)
            if (index[tuple(between.T)] >= 0).all():
                return k
    return -1


def _is_branch(line, radii, first):
    """Return whether a path is a vessel: longer than wide and, from its joint on, more than a bulge of the wall."""
    along = arc_length(line)
    if first:
        return along[-1] > 2 * np.median(radii)
    outside = np.linalg.norm(line - line[0], axis=1) > radii[0]
    if not outside.any():
        return False
    leave = int(np.argmax(outside))
    free = along[-1] - along[leave:]
    return bool(((free > 3.0 * radii[leave:]) & (free > 0.5 * radii[0])).any())


def _corner(line, radii):
    """Return how many points of a path (N, 3) come before its last stretch of less than 1.7 radii."""
    left = arc_length(line[::-1])[::-1]
    inner = np.flatnonzero(left >= 1.7 * radii)
    return max(int(inner[-1]) + 1 if len(inner) else 0, 2)
