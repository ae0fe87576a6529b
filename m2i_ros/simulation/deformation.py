"""Vessels that no longer lie as in their CT: straightened by a stiff wire, or bent by breathing."""

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

_FADES = 0.03  # metres from a straightened vessel along its branches, over which they follow it less and less
_NEIGHBOURS = 12  # centreline points whose motion a vertex shares


def straightened(model, amplitude):
    """Return the `VesselModel` with a stiff wire in it: between the ends of its longest path the vessel is drawn
    towards a smoother course, at the most by `amplitude` metres; its branches follow.

    The course is the path's mean over 150 mm along it. The model's caps and radii stay. An amplitude above the height
    of the vessel's own bends bends it the other way; where the path turns sharply, at a joint, neighbours may part.
    """
    line = model.centreline
    one, two = line.edges.T
    length = np.linalg.norm(line.points[two] - line.points[one], axis=1)
    graph = coo_matrix((length, (one, two)), shape=(len(line.points),) * 2).tocsr()
    start = _farthest(dijkstra(graph, directed=False, indices=0))
    distance, previous = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
    path = [_farthest(distance)]
    while path[-1] != start:
        path.append(int(previous[path[-1]]))
    path = np.array(path[::-1])
    along = distance[path]
    # Reflected through its ends, which stay.
    points = line.points[path]
    long = np.vstack([2 * points[0] - points[:0:-1], points, 2 * points[-1] - points[-2::-1]])
    far = np.concatenate([-along[:0:-1], along, 2 * along[-1] - along[-2::-1]])
    weight = np.exp(-0.5 * ((along[:, None] - far) / 0.075) ** 2)
    pull = weight @ long / weight.sum(axis=1, keepdims=True) - points
    # A wire pushes sideways: what would stretch the vessel does not count.
    tangent = np.gradient(points, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    pull -= (pull * tangent).sum(axis=1, keepdims=True) * tangent
    pull *= amplitude / max(np.linalg.norm(pull, axis=1).max(), 1e-9)
    away, _, source = dijkstra(graph, directed=False, indices=path, return_predecessors=True, min_only=True)
    number = np.zeros(len(line.points), int)
    number[path] = np.arange(len(path))
    reached = np.isfinite(away)
    displacement = np.zeros_like(line.points)
    displacement[reached] = np.exp(-0.5 * (away[reached] / _FADES) ** 2)[:, None] * pull[number[source[reached]]]
    return moved(model, displacement)


def breathed(model, amplitude, direction=(0.0, -1.0, 0.3)):
    """Return the `VesselModel` bent by breathing: its middle moves by `amplitude` metres along `direction` against its
    ends, in half a wave along its longest side."""
    points = model.centreline.points
    axis = int(np.ptp(points, axis=0).argmax())
    share = (points[:, axis] - points[:, axis].min()) / np.ptp(points[:, axis])
    way = np.array(direction) / np.linalg.norm(direction)
    return moved(model, amplitude * np.sin(np.pi * share)[:, None] ** 2 * way)


def moved(model, displacement):
    """Return the `VesselModel` whose centreline's points move by displacement (N, 3), metres; the surface goes with
    them, each vertex with the points about it, the nearer the more."""
    line = model.centreline
    distance, near = cKDTree(line.points).query(model.vertices, min(_NEIGHBOURS, len(line.points)))
    weight = np.exp(-0.5 * ((distance - distance[:, :1]) / (0.5 * distance[:, :1] + 1e-3)) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    vertices = model.vertices + np.einsum('vk,vkc->vc', weight, displacement[near])
    return replace(model, vertices=vertices, centreline=replace(line, points=line.points + displacement))


def _farthest(distance):
    return int(np.argmax(np.where(np.isfinite(distance), distance, -1.0)))
