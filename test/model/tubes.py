"""Analytic vessels with known centrelines: surfaces by marching cubes of their distance function, or swept."""

import numpy as np


def swept_tube(line, radii, closed, sides=32, rings_per_cap=4):
    """Return vertices and faces of a tube about a polyline (N, 3) with radii (N,), flat caps where closed."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    u = np.cross(tangent[0], np.eye(3)[np.abs(tangent[0]).argmin()])
    frames = []
    for t in tangent:  # parallel transport, so that the tube does not twist
        u = u - (u @ t) * t
        u /= np.linalg.norm(u)
        frames.append((u, np.cross(t, u)))
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)

    def ring(i, scale):
        u, v = frames[i]
        return line[i] + scale * radii[i] * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)

    rings = [ring(i, 1.0) for i in range(len(line))]
    if closed:
        scales = np.arange(rings_per_cap - 1, 0, -1) / rings_per_cap
        rings += [ring(len(line) - 1, s) for s in scales]
        rings = [ring(0, s) for s in scales[::-1]] + rings
    vertices = np.vstack(rings)
    k = np.arange(sides)
    faces = []
    for i in range(len(rings) - 1):
        a, b = i * sides + k, i * sides + (k + 1) % sides
        faces += [np.stack([a, b, b + sides], 1), np.stack([a, b + sides, a + sides], 1)]
    if closed:
        n = len(vertices)
        vertices = np.vstack([vertices, line[0], line[-1]])
        last = (len(rings) - 1) * sides
        faces += [np.stack([(k + 1) % sides, k, np.full(sides, n)], 1)]
        faces += [np.stack([last + k, last + (k + 1) % sides, np.full(sides, n + 1)], 1)]
    return vertices, np.vstack(faces)


def implicit_tree(lines, radii, spacing, cut=None):
    """Return vertices and faces of the union of tubes about polylines, ends rounded unless planes cut them.

    lines: [(N, 3)], radii: [(N,)]. cut: [(point, outward normal)]: planes that cut vessels within two radii about.
    """
    from scipy.spatial import cKDTree
    from skimage.measure import marching_cubes

    dense = [dense_line(line, r, spacing / 2) for line, r in zip(lines, radii)]
    points = np.vstack([d[0] for d in dense])
    radius = np.concatenate([d[1] for d in dense])
    low, high = points.min(0) - radius.max() - 3 * spacing, points.max(0) + radius.max() + 3 * spacing
    axes = [np.arange(low[k], high[k], spacing) for k in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 3)
    distance, near = cKDTree(points).query(grid, k=12)
    value = (distance - radius[near]).min(axis=1)
    for point, normal in cut or ():
        offset = grid - point
        height = offset @ normal
        beside = np.linalg.norm(offset, axis=1) < 2.5 * radius.max()
        value = np.where(beside, np.maximum(value, height), value)
    shape = tuple(len(a) for a in axes)
    vertices, faces, _, _ = marching_cubes(value.reshape(shape), 0.0, spacing=(spacing,) * 3)
    return vertices + low, faces


def dense_line(line, radii, spacing):
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, along[-1], int(along[-1] / spacing) + 2)
    return np.stack([np.interp(at, along, line[:, k]) for k in range(3)], 1), np.interp(at, along, radii)


def straight(length=0.08, radius=4e-3, end_radius=None):
    n = 81
    z = np.linspace(0, length, n)
    line = np.stack([0 * z, 0 * z, z], 1) + (0.01, -0.02, 0.1)
    return line, np.linspace(radius, radius if end_radius is None else end_radius, n)


def bent(bend_radius=0.02, angle=np.pi, radius=4e-3):
    t = np.linspace(0, angle, 81)
    return np.stack([bend_radius * np.cos(t), bend_radius * np.sin(t), 0.005 * t], 1), np.full(81, radius)


def bifurcation(half_angle):
    """Return trunk and two daughters: lines and radii, all starting or ending at the origin."""
    trunk = np.array([[0, 0, 0.06], [0, 0, 0.0]])
    left = np.array([[0, 0, 0.0], [0.05 * np.sin(half_angle), 0, -0.05 * np.cos(half_angle)]])
    right = left * (-1, 1, 1)
    return [trunk, left, right], [np.full(2, 6e-3), np.full(2, 4e-3), np.full(2, 3.5e-3)]
