"""What goes through a centreline graph: contrast, and the catheters that bring it."""

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from m2i_ros.simulation.tubes import smooth_curve

_CATHETER = 1.0e-3  # radius of a lumen that still takes a 5 French catheter


def flow_distance(tree, site=0):
    """Return the distance (N,) in metres that blood travels from point `site` to each point of a `Centreline`.

    Blood comes from the root (point 0); it does not get to what is not downstream of the site: infinity.
    """
    distance, before = _flow(tree)
    reached = np.arange(len(distance)) == site
    for point in np.argsort(distance, kind='stable'):
        reached[point] |= before[point] >= 0 and reached[before[point]]
    return np.where(reached, distance - distance[site], np.inf)


def downstream(tree, amounts):
    """Return the sums (N,) of amounts (N,) over each point of a `Centreline` and all that lies downstream of it."""
    distance, before = _flow(tree)
    out = np.array(amounts, dtype=float)
    for point in np.argsort(-distance, kind='stable'):
        if before[point] >= 0:
            out[before[point]] += out[point]
    return out


def _flow(tree):
    """Return the distance (N,) from the root (point 0), metres, and the points (N,) before, negative for none."""
    return dijkstra(_graph(tree), directed=False, indices=0, return_predecessors=True)


def _graph(tree):
    a, b = tree.edges.T
    length = np.maximum(np.linalg.norm(tree.points[a] - tree.points[b], axis=1), 1e-9)
    return coo_array((length, (a, b)), shape=(len(tree.points),) * 2)


def coaxial_catheter(tree, tip, entry, lean):
    """Return the axis (n, 3) of a pigtail catheter that lies in the lumen from point `tip` to point `entry`, tip first.

    lean: radians, where round the lumen it begins to lean against the wall: it is straighter than the vessel.
    Where a collateral is all that leads to `entry`, it comes from the nearest free end that has a wider way.
    """
    entry = _passable(tree, tip, entry)
    _, before = dijkstra(_graph(tree), directed=False, indices=entry, return_predecessors=True)
    way = [tip]
    while way[-1] != entry:
        way.append(before[way[-1]])
    axis = tree.points[way]
    s = lean + np.linspace(0, 9, len(axis))
    aside = np.stack([np.sin(s), np.cos(0.7 * s), np.zeros(len(s))], axis=1)
    axis = axis + 0.45 * np.maximum(0, tree.radii[way][:, None] - 1e-3) * aside
    turn = np.linspace(2 * np.pi, 0, 24)[:, None]
    curl = axis[0] + 0.006 * ((1 - np.cos(turn)) * (1, 0, 0) + np.sin(turn) * (0, 0, 1))
    return np.concatenate([curl[:-1], axis])


def _passable(tree, tip, entry):
    """Return the free end nearest to `entry` whence a catheter comes to `tip` through lumens wider than itself."""
    wide = tree.radii > _CATHETER
    graph = _graph(replace(tree, edges=tree.edges[wide[tree.edges].all(axis=1)]))
    reached = np.isfinite(dijkstra(graph, directed=False, indices=tip))
    if reached[entry]:
        return entry
    ends = np.flatnonzero(reached & (np.bincount(tree.edges.ravel(), minlength=len(reached)) == 1))
    return int(ends[np.argmin(np.linalg.norm(tree.points[ends] - tree.points[entry], axis=1))])


def guide_catheter(tree, bend=(0.0, 0.0, 0.0)):
    """Return the axis (n, 3) of a catheter whose tip sits in the root of a coronary tree and that comes from the arch.

    bend: (3,) metres, how its far part is displaced.
    """
    ostium, away = tree.points[0], tree.points[0] - tree.points[4]
    away = away / np.linalg.norm(away)
    knots = np.array([-0.003 * away, 0.012 * away, 0.02 * away + (0, 0, 0.03), (0, 0, 0.12)])
    knots[2] += 0.4 * np.asarray(bend)
    knots[3] += bend
    return smooth_curve(ostium + knots, 1e-3)


def open_segments(tree):
    """Return the segments (E, 2) along branches and their lengths (E,) in metres, side branches opened.

    A side branch starts on its parent's axis: what lies inside the parent adds length 0, as there is only one lumen.
    Where branches go on from a parent's end, all but the first count as side branches.
    """
    a, b = tree.edges.T
    joint = tree.branch[a] != tree.branch[b]
    segments = tree.edges[~joint]
    lengths = np.linalg.norm(tree.points[segments[:, 0]] - tree.points[segments[:, 1]], axis=1)
    parents = np.minimum(a[joint], b[joint])
    children = np.maximum(a[joint], b[joint])
    covered = np.zeros(tree.branch.max() + 1)
    ends = np.flatnonzero(np.diff(tree.branch, append=-1))
    taken = set()
    for parent, child in zip(parents, children, strict=True):
        if parent in ends and parent not in taken:
            taken.add(parent)
        else:
            covered[tree.branch[child]] = tree.radii[parent]
    inside = tree.arc_length[segments].mean(axis=1) < 0.9 * covered[tree.branch[segments[:, 0]]]
    return segments, np.where(inside, 0.0, lengths)
