"""Contrast in a centreline graph: where it flows and what it fills."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra


def flow_distance(tree):
    """Return the distance (N,) in metres that blood travels from the root (point 0) to each point of a `Centreline`."""
    a, b = tree.edges.T
    length = np.maximum(np.linalg.norm(tree.points[a] - tree.points[b], axis=1), 1e-9)
    graph = coo_array((length, (a, b)), shape=(len(tree.points),) * 2)
    return dijkstra(graph, directed=False, indices=0)


def open_segments(tree, points, radii):
    """Return the segments (E, 2) along branches and their lengths (E,) in metres, side branches opened.

    A side branch starts on its parent's axis: what lies inside the parent adds length 0, as there is only one lumen. Where
    branches go on from a parent's end, all but the first count as side branches.

    points (N, 3), radii (N,): metres, the tree's own or moved ones.
    """
    a, b = tree.edges.T
    joint = tree.branch[a] != tree.branch[b]
    segments = tree.edges[~joint]
    lengths = np.linalg.norm(points[segments[:, 0]] - points[segments[:, 1]], axis=1)
    parents = np.minimum(a[joint], b[joint])
    children = np.maximum(a[joint], b[joint])
    covered = np.zeros(tree.branch.max() + 1)
    ends = np.flatnonzero(np.diff(tree.branch, append=-1))
    taken = set()
    for parent, child in zip(parents, children, strict=True):
        if parent in ends and parent not in taken:
            taken.add(parent)
        else:
            covered[tree.branch[child]] = radii[parent]
    inside = tree.arc_length[segments].mean(axis=1) < 0.9 * covered[tree.branch[segments[:, 0]]]
    return segments, np.where(inside, 0.0, lengths)
