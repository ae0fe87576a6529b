"""Centreline extraction: from a lumen surface, closed or open, to a graph of points with radii.

The lumen is filled with voxels; paths of least cost, where cost falls with the distance from the wall, run from the
farthest tips to a root (after TEASAR: Sato et al., Pacific Graphics 2000). The voxels decide the topology only:
afterwards each point moves, across the vessel, to the centre of the largest ball that the surface itself admits.
"""

import heapq
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from m2i_ros.model.surface import areas_and_normals, find_cap, first_hit, openings, orient, surface_samples, volume
from m2i_ros.model.vessel_model import Centreline

SPACING = 1e-3  # metres between centreline points
_VOXELS = 120_000  # inside the lumen, about
_CELLS = 40_000_000  # of the box about it, at most
_CORNER = -2  # owns what leads into the corner of a vessel's end


def extract_centreline(vertices, faces):
    """Return the `Centreline` of the vessels that a surface bounds.

    vertices: (V, 3), metres. faces: (F, 3), any orientation. Openings are closed, by thought; those at a vessel's end
    are where it ends. A branch runs from joint to joint or end, points 1 mm apart; a vessel's last point lies in its
    opening, on its cap or, rounded, on the surface. Radii are those of the largest inscribed balls, caps aside.
    The result is a tree, or a forest for several components: a loop of vessels is cut open at one place.

    Raises ValueError when no vessel is found.
    """
    faces = orient(vertices, faces)
    surface = _Surface(vertices, faces)
    grid, origin, step = _fill(surface.closed_vertices, surface.closed_faces)
    cells = np.argwhere(grid).astype(np.int32)
    if not len(cells):
        raise ValueError('the surface encloses no volume: is it a vessel lumen?')
    index = np.full(grid.shape, -1, np.int32)
    index[tuple(cells.T)] = np.arange(len(cells), dtype=np.int32)
    points = origin + (cells + 0.5) * step
    wall = surface.wall()
    depth = _depth(index, cells, points, wall, step)

    paths = []
    for chain, parent in _voxel_paths(index, cells, depth, step):
        line = _ended(_centred(_resampled(points[chain]), wall), wall, surface)
        if parent < 0:
            line = _ended(line[::-1], wall, surface)[::-1]
        paths.append((line, parent))
    if not paths:
        raise ValueError('no vessel was found: every part of the surface is about as wide as long')

    wall = surface.wall()  # by now without the caps, which bend a line that nears them
    lines = []
    for line, parent in paths:
        line = np.vstack([line[:1], _centred(line[1:-1], wall), line[-1:]])
        joint = None if parent < 0 else _joint(line, lines, parent, wall)
        lines.append((_resampled(line if joint is None else _joined(line, lines, joint, wall)), joint))
    return _graph(lines, wall)


def find_caps(vertices, faces, centreline):
    """Return (F,) bool: the flat faces that close a vessel's cut end, at the ends of its centreline.

    vertices: (V, 3), metres; faces: (F, 3), outward. An open end has none, nor has a rounded one.
    """
    caps = np.zeros(len(faces), bool)
    for end, direction, radius in _ends(centreline):
        caps |= find_cap(vertices, faces, end, direction, radius)
    return caps


def _ends(centreline):
    """Yield point (3,), outward unit direction (3,) and radius of each free end of the graph."""
    degree = np.bincount(centreline.edges.ravel(), minlength=len(centreline.points))
    for i in np.flatnonzero(degree == 1):
        own = np.flatnonzero(centreline.branch == centreline.branch[i])
        distance = np.linalg.norm(centreline.points[own] - centreline.points[i], axis=1)
        radius = centreline.radii[i]
        for _ in range(4):  # in a rounded end the largest ball shrinks to nothing: the vessel's radius is behind
            near = own[distance <= 1.5 * radius + 2 * SPACING]
            radius = centreline.radii[near].max()
        if len(near) > 1:
            direction = centreline.points[i] - centreline.points[near].mean(axis=0)
            yield centreline.points[i], direction / np.linalg.norm(direction), float(radius)


class _Surface:
    """The surface, closed by thought, and what is known of its ends."""

    def __init__(self, vertices, faces):
        self.vertices, self.faces = vertices, faces
        self.centres, self.opening_radii, self.closed_vertices, self.closed_faces = openings(vertices, faces)
        self.area, _ = areas_and_normals(vertices, faces)
        self.caps = np.zeros(len(faces), bool)  # grows as ends are found

    def wall(self):
        """Return the `_Wall` of the surface without caps."""
        spacing = max(0.3e-3, np.sqrt(self.area.sum() / 100_000))
        points = surface_samples(self.vertices, self.faces[~self.caps], spacing)
        cell = 5 * spacing
        low = points.min(axis=0)
        index = ((points - low) / cell).astype(np.int64)
        shape = index.max(axis=0) + 1
        number = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
        order = np.argsort(number, kind='stable')
        first = np.searchsorted(number[order], np.arange(shape.prod() + 1))
        return _Wall(points[order], first, low, shape, cell)


class _Wall(NamedTuple):
    """Points on a vessel's wall, sorted into cubic cells.

    A tree is slow for points in the middle of a vessel, as far from one side as from the other: it opens every leaf.
    points: (S, 3). first: (cells + 1,): where a cell's points begin. low: (3,). shape: (3,). cell: side, metres.
    """

    points: np.ndarray
    first: np.ndarray
    low: np.ndarray
    shape: np.ndarray
    cell: float


@njit(cache=True, nogil=True)
def _range(wall, place, reach, axis):
    """Return the first and the last cell along an axis within `reach` of a place; none when the first is greater."""
    low = int(np.floor((place[axis] - reach - wall.low[axis]) / wall.cell))
    high = int(np.floor((place[axis] + reach - wall.low[axis]) / wall.cell))
    return max(low, 0), min(high, wall.shape[axis] - 1)


@njit(cache=True, nogil=True)
def _radii(points, wall):
    """Return the distances (N,) of points (N, 3) from the wall."""
    out = np.empty(len(points))
    for i in range(len(points)):
        reach = wall.cell / 2
        least = np.inf
        while least > reach * reach:
            reach = 2 * reach
            x0, x1 = _range(wall, points[i], reach, 0)
            y0, y1 = _range(wall, points[i], reach, 1)
            z0, z1 = _range(wall, points[i], reach, 2)
            for x in range(x0, x1 + 1 if z0 <= z1 else x0):
                for y in range(y0, y1 + 1):
                    row = (x * wall.shape[1] + y) * wall.shape[2]
                    for k in range(wall.first[row + z0], wall.first[row + z1 + 1]):
                        dx = wall.points[k, 0] - points[i, 0]
                        dy = wall.points[k, 1] - points[i, 1]
                        dz = wall.points[k, 2] - points[i, 2]
                        least = min(least, dx * dx + dy * dy + dz * dz)
        out[i] = np.sqrt(least)
    return out


def _fill(vertices, faces):
    """Return grid (X, Y, Z) bool of the cells inside the closed surface, its corner (3,) and the cell size, metres.

    Each axis votes by the winding number along its lines, two votes make an inside: a small defect does no harm.
    """
    low, size = vertices.min(axis=0), np.ptp(vertices, axis=0)
    step = max(np.cbrt(abs(volume(vertices, faces)) / _VOXELS), np.cbrt(size.prod() / _CELLS), size.max() / 2000, 1e-5)
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


def _depth(index, cells, points, wall, step):
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


def _voxel_paths(index, cells, wall, step):
    """Return paths as (cells from the joint or root towards the tip, number of the path it leaves or -1).

    A tip is the farthest cell that no path covers; a path covers 1.6 times its radius, and is kept when it leaves the
    ball about its joint by more than a bulge of the wall would. Its last stretch leads into a corner of the vessel's
    end: it is left out.
    """
    length = np.ones(len(cells))
    cost = (wall / step) ** -3.0
    covered = np.zeros(len(cells))
    owner = np.full(len(cells), -1)
    paths = []
    remaining = np.ones(len(cells), bool)
    while remaining.any():
        start, _ = _shortest(index, cells, length, int(np.argmax(remaining)))
        part = np.isfinite(start)
        remaining &= ~part
        if part.sum() < 50:
            continue
        root = int(np.argmax(np.where(part, start, -1)))
        along, _ = _shortest(index, cells, length, root)
        _, previous = _shortest(index, cells, cost, root)
        for tip in np.flatnonzero(part)[np.argsort(-along[part])]:
            if covered[tip] > 0:
                continue
            chain = [int(tip)]
            while owner[chain[-1]] == -1 and previous[chain[-1]] >= 0:
                chain.append(int(previous[chain[-1]]))
            chain = np.array(chain[::-1])
            _cover(index, cells, chain, 1.6 * wall[chain] / step + 2, covered)
            parent = int(owner[chain[0]])
            if parent == _CORNER or not _is_branch(cells[chain] * step, wall[chain], parent < 0):
                continue
            owner[chain[1:] if parent >= 0 else chain] = _CORNER
            chain = chain[: _corner(cells[chain] * step, wall[chain])]
            if parent < 0:
                chain = chain[-_corner(cells[chain[::-1]] * step, wall[chain[::-1]]) :]
            owner[chain[1:] if parent >= 0 else chain] = len(paths)
            paths.append((chain, parent))
    return paths


def _is_branch(line, radii, first):
    """Return whether a path is a vessel: longer than wide and, from its joint on, more than a bulge of the wall."""
    along = _arc_length(line)
    if first:
        return along[-1] > 2 * np.median(radii)
    outside = np.linalg.norm(line - line[0], axis=1) > radii[0]
    if not outside.any():
        return False
    leave = int(np.argmax(outside))
    free = along[-1] - along[leave]
    return bool(free > 2.0 * radii[leave] and free > 0.5 * radii[0])


def _corner(line, radii):
    """Return how many points of a path (N, 3) come before its last stretch of less than 1.7 radii."""
    left = _arc_length(line[::-1])[::-1]
    inner = np.flatnonzero(left >= 1.7 * radii)
    return max(int(inner[-1]) + 1 if len(inner) else 0, 2)


def _arc_length(line):
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])


def _resampled(line, spacing=SPACING):
    """Return the polyline (N, 3) with points about `spacing` apart, its ends kept."""
    along = _arc_length(line)
    at = np.linspace(0, along[-1], max(2, round(along[-1] / spacing) + 1))
    return np.stack([np.interp(at, along, line[:, k]) for k in range(3)], axis=1)


def _smoothed(line, sigma):
    """Return the polyline smoothed by a Gaussian along its length, of `sigma` (N,) metres, its ends kept."""
    n = len(line)
    if n < 3:
        return line
    # Reflected through its ends, so that they stay and the direction there is kept.
    long = np.vstack([2 * line[0] - line[:0:-1], line, 2 * line[-1] - line[-2::-1]])
    along = _arc_length(long)
    weight = np.exp(-0.5 * ((along[n - 1 : 2 * n - 1, None] - along) / np.maximum(sigma, 1e-6)[:, None]) ** 2)
    return weight @ long / weight.sum(axis=1, keepdims=True)


def _centred(line, wall):
    """Return the line (N, 3) moved, across its direction, to the centres of the largest balls that the wall admits."""
    if len(line) < 2:
        return line
    for sigma, first_step in ((1.0, 0.5), (0.5, 0.2)):
        line = _smoothed(line, sigma * _radii(line, wall))
        tangent = np.gradient(line, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
        side = np.cross(tangent, np.eye(3)[np.abs(tangent).argmin(axis=1)])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        line = _ball_centres(line, tangent, side, np.cross(tangent, side), wall, first_step)
    return _smoothed(line, 0.5 * _radii(line, wall))


@njit(cache=True, nogil=True)
def _ball_centres(points, tangent, side, other, wall, first_step):
    """Return the points (N, 3) moved, along `side` and `other`, to where the wall is farthest: pattern search, first
    step `first_step` times the radius."""
    radii = _radii(points, wall)
    out = points.copy()
    near = np.empty((len(wall.points), 3))
    for i in range(len(points)):
        radius = radii[i]
        reach = 2.4 * radius
        number = 0
        x0, x1 = _range(wall, points[i], reach, 0)
        y0, y1 = _range(wall, points[i], reach, 1)
        z0, z1 = _range(wall, points[i], reach, 2)
        for x in range(x0, x1 + 1):
            for y in range(y0, y1 + 1):
                row = (x * wall.shape[1] + y) * wall.shape[2]
                for k in range(wall.first[row + z0], wall.first[row + z1 + 1]):
                    dx = wall.points[k, 0] - points[i, 0]
                    dy = wall.points[k, 1] - points[i, 1]
                    dz = wall.points[k, 2] - points[i, 2]
                    along = dx * tangent[i, 0] + dy * tangent[i, 1] + dz * tangent[i, 2]
                    if abs(along) < 0.5 * radius and dx * dx + dy * dy + dz * dz < reach * reach:
                        near[number, 0] = dx * side[i, 0] + dy * side[i, 1] + dz * side[i, 2]
                        near[number, 1] = dx * other[i, 0] + dy * other[i, 1] + dz * other[i, 2]
                        near[number, 2] = along * along
                        number += 1
        stride = max(1, number // 800)  # as many tell a section's middle to a thousandth of its radius
        u = v = 0.0
        best = radius * radius
        size = first_step * radius
        for _ in range(7):
            best_u, best_v = u, v
            for n in range(8):
                trial_u = u + size * np.cos(n * np.pi / 4)
                trial_v = v + size * np.sin(n * np.pi / 4)
                least = np.inf
                for k in range(0, number, stride):
                    least = min(least, (near[k, 0] - trial_u) ** 2 + (near[k, 1] - trial_v) ** 2 + near[k, 2])
                if np.isfinite(least) and least > best * 1.004:
                    best, best_u, best_v = least, trial_u, trial_v
            u, v = best_u, best_v
            size *= 0.6
        out[i] += u * side[i] + v * other[i]
    return out


def _ended(line, wall, surface):
    """Return the line led straight on to where the vessel ends: into the opening, to the cap's centre or, the end being
    rounded, to the surface."""
    radius = _radii(line[-1:], wall)[0]
    left = _arc_length(line[::-1])[::-1]
    direction = line[-1] - line[np.argmax(left <= max(radius, 2.5 * SPACING))]
    if not direction.any():
        direction = line[-1] - line[-2]
    direction /= np.linalg.norm(direction)

    ahead = (surface.centres - line[-1]) @ direction
    gap = np.linalg.norm(surface.centres - line[-1], axis=1)
    fits = (gap < 3 * radius) & (ahead > 0.5 * gap) & (surface.opening_radii > 0.4 * radius)
    if fits.any():
        end = surface.centres[np.argmin(np.where(fits, gap, np.inf))]
    else:
        distance, _ = first_hit(surface.closed_vertices, surface.closed_faces, line[-1], direction)
        if distance > 3 * radius:
            return line
        end = line[-1] + distance * direction
        cap = find_cap(surface.vertices, surface.faces, end, direction, radius)
        if cap.any():
            surface.caps |= cap
            end = np.average(surface.vertices[surface.faces[cap]].mean(axis=1), axis=0, weights=surface.area[cap])
    return _resampled(np.vstack([line, end]))


def _joint(line, lines, parent, wall):
    """Return where a line leaves its parent: (number of the line, number of the point on it)."""
    parent_line = lines[parent][0]
    at = int(np.linalg.norm(parent_line - line[0], axis=1).argmin())
    # What leaves at nearly the same place leaves at the same place.
    taken = np.array([j[1] for _, j in lines if j is not None and j[0] == parent], int)
    near = np.linalg.norm(parent_line[taken] - parent_line[at], axis=1) < 0.5 * _radii(parent_line[at : at + 1], wall)
    return parent, taken[int(np.argmax(near))] if near.any() else at


def _joined(line, lines, joint, wall):
    """Return the line from its joint on. Inside the joint's ball, where the largest ball is the parent's own, it goes
    straight."""
    start = lines[joint[0]][0][joint[1]]
    outside = np.linalg.norm(line - start, axis=1) > _radii(start[None], wall)
    leave = int(np.argmax(outside)) if outside.any() else len(line) - 1
    return np.vstack([start, line[leave:]])


def _graph(lines, wall):
    """Return the `Centreline` of lines (points, joint): cut into branches where others leave them."""
    numbers, points, branch, arc, edges = [], [], [], [], []
    count = branches = 0
    for k, (line, joint) in enumerate(lines):
        new = line if joint is None else line[1:]
        own = np.arange(count, count + len(new))
        count += len(new)
        number = own if joint is None else np.concatenate([[numbers[joint[0]][joint[1]]], own])
        numbers.append(number)
        edges.append(np.stack([number[:-1], number[1:]], axis=1))
        cuts = [numbers[k][j[1]] + 1 for _, j in lines if j is not None and j[0] == k]
        for part in np.split(new, sorted({c - own[0] for c in cuts if own[0] < c < own[-1]})):
            points.append(part)
            arc.append(_arc_length(part))
            branch.append(np.full(len(part), branches))
            branches += 1
    points = np.vstack(points)
    return Centreline(
        points=points,
        radii=_radii(points, wall),
        branch=np.concatenate(branch).astype(np.int32),
        arc_length=np.concatenate(arc),
        edges=np.vstack(edges).astype(np.int32),
    )
