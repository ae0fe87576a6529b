"""A vessel's wall as points in cells: how far it is from a place, and where across a vessel it is farthest."""

from typing import NamedTuple

import numpy as np
from numba import njit

SECTORS = 16  # of a round wall, to tell how much of it is there
_ANGLES = 24  # sectors of a section, each as deep as its nearest wall
_COARSE = 1.5  # radii: the root of the area of faces of which a section takes three or four


class Wall(NamedTuple):
    """Points on a vessel's wall, sorted into cubic cells.

    A tree is slow for points in the middle of a vessel, as far from one side as from the other: it opens every leaf.
    points: (S, 3). facets: (S,): the root of the area of the face that each lies on, metres. first: (cells + 1,): where
    a cell's points begin. low: (3,). shape: (3,). cell: side, metres.
    """

    points: np.ndarray
    facets: np.ndarray
    first: np.ndarray
    low: np.ndarray
    shape: np.ndarray
    cell: float


def make_wall(points, facets, cell):
    """Return the `Wall` of points (S, 3) on faces of size `facets` (S,) in cells of side `cell`, metres."""
    low = points.min(axis=0)
    index = ((points - low) / cell).astype(np.int64)
    shape = index.max(axis=0) + 1
    number = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
    order = np.argsort(number, kind='stable')
    first = np.searchsorted(number[order], np.arange(shape.prod() + 1))
    return Wall(points[order], facets[order], first, low, shape, cell)


@njit(cache=True, nogil=True)
def _near(wall, place, reach):
    """Return the runs (R, 2) of points, from one to before another, in the cells within `reach` of a place: all that
    are so near, and some more."""
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    for k in range(3):
        low[k] = max(int(np.floor((place[k] - reach - wall.low[k]) / wall.cell)), 0)
        high[k] = min(int(np.floor((place[k] + reach - wall.low[k]) / wall.cell)), wall.shape[k] - 1)
    size = np.maximum(high - low + 1, 0)
    runs = np.empty((size[0] * size[1] if size[2] > 0 else 0, 2), np.int64)
    for r in range(len(runs)):
        row = ((low[0] + r // size[1]) * wall.shape[1] + low[1] + r % size[1]) * wall.shape[2]
        runs[r, 0] = wall.first[row + low[2]]
        runs[r, 1] = wall.first[row + high[2] + 1]
    return runs


@njit(cache=True, nogil=True)
def wall_distances(points, wall):
    """Return the distances (N,) of points (N, 3) from the wall."""
    out = np.empty(len(points))
    for i in range(len(points)):
        reach = wall.cell / 2
        least = np.inf
        while least > reach * reach:
            reach = 2 * reach
            runs = _near(wall, points[i], reach)
            for run in range(len(runs)):
                for k in range(runs[run, 0], runs[run, 1]):
                    dx = wall.points[k, 0] - points[i, 0]
                    dy = wall.points[k, 1] - points[i, 1]
                    dz = wall.points[k, 2] - points[i, 2]
                    least = min(least, dx * dx + dy * dy + dz * dz)
        out[i] = np.sqrt(least)
    return out


@njit(cache=True, nogil=True)
def _centroid(near, u, v):
    """Return the centroid of what is seen of a section from (u, v) inside its wall: points `near` (N, 3), of which the
    first two numbers count; (u, v) itself where the wall is open."""
    ends = np.empty(_ANGLES)
    for _ in range(3):
        ends[:] = np.inf
        for k in range(len(near)):
            du, dv = near[k, 0] - u, near[k, 1] - v
            n = int(_ANGLES * (np.arctan2(dv, du) / (2 * np.pi) + 1)) % _ANGLES
            ends[n] = min(ends[n], np.sqrt(du * du + dv * dv))
        area = moment_u = moment_v = 0.0
        for n in range(_ANGLES):
            end = ends[n] if ends[n] < np.inf else min(ends[n - 1], ends[(n + 1) % _ANGLES])
            if end == np.inf:
                return u, v
            angle = 2 * np.pi * (n + 0.5) / _ANGLES
            area += end**2 / 2
            moment_u += end**3 / 3 * np.cos(angle)
            moment_v += end**3 / 3 * np.sin(angle)
        u += moment_u / area
        v += moment_v / area
    return u, v


@njit(cache=True, nogil=True)
def middles(points, tangent, side, other, wall, first_step):
    """Return the points (N, 3) moved, along `side` and `other`, to where the wall repels least: pattern search, first
    step `first_step` times the radius.

    Each point of the wall repels with the distance's power of -8: that is nearly the centre of the largest ball, but a
    dent of a coarse surface, which would hold off the ball, is outvoted. Where faces are large against the radius the
    ball has play between them, and wanders from side to side: there it is the centroid of the section.
    """
    radii = wall_distances(points, wall)
    out = points.copy()
    near = np.empty((len(wall.points), 3))
    for i in range(len(points)):
        radius = radii[i]
        reach = 2.4 * radius
        number = 0
        facets = 0.0
        runs = _near(wall, points[i], reach)
        for run in range(len(runs)):
            for k in range(runs[run, 0], runs[run, 1]):
                dx = wall.points[k, 0] - points[i, 0]
                dy = wall.points[k, 1] - points[i, 1]
                dz = wall.points[k, 2] - points[i, 2]
                along = dx * tangent[i, 0] + dy * tangent[i, 1] + dz * tangent[i, 2]
                if abs(along) < 0.5 * radius and dx * dx + dy * dy + dz * dz < reach * reach:
                    near[number, 0] = dx * side[i, 0] + dy * side[i, 1] + dz * side[i, 2]
                    near[number, 1] = dx * other[i, 0] + dy * other[i, 1] + dz * other[i, 2]
                    near[number, 2] = along * along
                    facets += wall.facets[k]
                    number += 1
        stride = max(1, number // 800)  # as many tell a section's middle to a thousandth of its radius
        u = v = 0.0
        best = np.inf
        size = first_step * radius
        for _ in range(7):
            best_u, best_v = u, v
            for n in range(9):  # the last is the place itself, to begin with
                trial_u = u + size * np.cos(n * np.pi / 4) * (n < 8)
                trial_v = v + size * np.sin(n * np.pi / 4) * (n < 8)
                force = 0.0
                for k in range(0, number, stride):
                    square = (near[k, 0] - trial_u) ** 2 + (near[k, 1] - trial_v) ** 2 + near[k, 2]
                    force += (radius * radius / (square + 1e-15)) ** 4
                if force < best * 0.999:
                    best, best_u, best_v = force, trial_u, trial_v
            u, v = best_u, best_v
            size *= 0.6
        if facets > _COARSE * radius * number:
            u, v = _centroid(near[:number], u, v)
        out[i] += u * side[i] + v * other[i]
    return out


@njit(cache=True, nogil=True)
def _round(wall, place, direction, radius):
    """Return `place` moved, across `direction`, to the middle of a round wall of `radius` about it, and in how many of
    `SECTORS` about the middle that wall is.

    In a lumen that several vessels share, each is told by its own part of the wall: in each sector the nearest point
    counts, the less the farther it is from the circle (Tukey's biweight).
    """
    axis = np.zeros(3)
    axis[np.abs(direction).argmin()] = 1
    side = np.cross(direction, axis)
    side /= np.sqrt((side * side).sum())
    other = np.cross(direction, side)
    reach = 1.5 * radius
    runs = _near(wall, place, 1.2 * reach)
    near = np.empty((max((runs[:, 1] - runs[:, 0]).sum(), 1), 2))
    number = 0
    for run in range(len(runs)):
        for k in range(runs[run, 0], runs[run, 1]):
            dx = wall.points[k, 0] - place[0]
            dy = wall.points[k, 1] - place[1]
            dz = wall.points[k, 2] - place[2]
            if abs(dx * direction[0] + dy * direction[1] + dz * direction[2]) < 0.4 * radius:
                near[number, 0] = dx * side[0] + dy * side[1] + dz * side[2]
                near[number, 1] = dx * other[0] + dy * other[1] + dz * other[2]
                number += 1
    stride = max(1, number // 400)
    u = v = 0.0
    nearest = np.empty((SECTORS, 3))
    seen = 0
    for _ in range(4):
        nearest[:, 2] = np.inf
        for k in range(0, number, stride):
            du, dv = near[k, 0] - u, near[k, 1] - v
            square = du * du + dv * dv
            if square < reach * reach:
                sector = int(SECTORS * (np.arctan2(dv, du) / (2 * np.pi) + 1)) % SECTORS
                if square < nearest[sector, 2]:
                    nearest[sector, 0], nearest[sector, 1], nearest[sector, 2] = du, dv, square
        uu = vv = 0.5
        uv = ru = rv = 0.0
        seen = 0
        for n in range(SECTORS):
            distance = np.sqrt(nearest[n, 2])
            off = distance - radius
            if abs(off) < 0.35 * radius:
                weight = (1 - (off / (0.35 * radius)) ** 2) ** 2
                cos, sin = nearest[n, 0] / distance, nearest[n, 1] / distance
                uu += weight * cos * cos
                vv += weight * sin * sin
                uv += weight * cos * sin
                ru += weight * cos * off
                rv += weight * sin * off
                seen += abs(off) < 0.2 * radius
        determinant = uu * vv - uv * uv
        u += (vv * ru - uv * rv) / determinant
        v += (uu * rv - uv * ru) / determinant
    return place + u * side + v * other, seen


@njit(cache=True, nogil=True)
def round_middles(points, tangent, radii, wall):
    """Return the points (N, 3) moved, across `tangent` (N, 3), to the middle of the round walls of `radii` (N,) about
    them, and the shares (N,) of these walls that are there."""
    out = np.empty_like(points)
    share = np.empty(len(points))
    for i in range(len(points)):
        out[i], seen = _round(wall, points[i], tangent[i], radii[i])
        share[i] = seen / SECTORS
    return out, share


@njit(cache=True, nogil=True)
def trace(place, direction, radius, length, wall):
    """Return the points (N, 3) of a vessel's middle from `place` on, half a radius apart, as far as half of its
    round wall is to be seen: into a lumen that it shares with another, at most `length` metres."""
    step = 0.5 * radius
    out = np.empty((int(length / step) + 1, 3))
    out[0] = place
    last = 0
    for n in range(1, len(out)):
        guess = out[n - 1] + step * direction
        out[n], seen = _round(wall, guess, direction, radius)
        if seen < SECTORS // 2:
            out[n] = guess
        else:
            last = n
        if n - last > 2:
            break
        direction = 0.6 * step * direction + 0.4 * (out[n] - out[n - 1])
        direction /= np.sqrt((direction * direction).sum())
    return out[: last + 1]
