"""Vessel trees for the tests: round cones, whose surface is known by formula, meshed by marching cubes."""

import numpy as np
from scipy.interpolate import CubicSpline
from skimage.measure import marching_cubes

from m2i_ros.model.vessel_model import Centreline, VesselModel


def _curve(points, radii, step=0.001):
    """Return a smooth curve (N, 3) through the points with radii (N,)."""

    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, s[-1], int(s[-1] / step) + 2)
    return CubicSpline(s, points)(at), np.interp(at, s, radii)


# Metres, LPS: x to the patient's left, y to the back, z to the head. Asymmetric on purpose.
ILIAC = [
    ([(0, 0, 0.09), (0.002, -0.004, 0.05), (0, 0, 0.02), (0, 0, 0)], [0.010, 0.010, 0.009, 0.009]),
    ([(0, 0, 0), (0.02, 0.008, -0.03), (0.03, 0.02, -0.06), (0.05, 0, -0.1), (0.055, -0.02, -0.15)],
     [0.007, 0.006, 0.006, 0.005, 0.0045]),
    ([(0, 0, 0), (-0.015, 0.004, -0.03), (-0.035, 0.025, -0.055), (-0.045, -0.005, -0.1), (-0.05, -0.015, -0.15)],
     [0.007, 0.006, 0.0055, 0.005, 0.0045]),
    ([(0.03, 0.02, -0.06), (0.028, 0.04, -0.08), (0.02, 0.055, -0.1)], [0.004, 0.0035, 0.003]),
    ([(-0.035, 0.025, -0.055), (-0.045, 0.045, -0.07), (-0.035, 0.06, -0.095)], [0.004, 0.0035, 0.003]),
    ([(0, 0, 0.05), (0.02, -0.005, 0.047), (0.045, 0.01, 0.035)], [0.0035, 0.003, 0.003]),
]  # fmt: skip


def tree(branches=ILIAC, spacing=0.0012, offset=(0.0, 0.0, 0.0), axes='lps'):
    """Return a VesselModel: the union of tubes around smooth curves, and the curves as its centreline."""
    curves = [_curve(np.array(p, dtype=float), np.array(r, dtype=float)) for p, r in branches]
    points = np.concatenate([c for c, _ in curves])
    radii = np.concatenate([r for _, r in curves])
    low = points.min(axis=0) - 0.015
    shape = np.ceil((np.ptp(points, axis=0) + 0.03) / spacing).astype(int) + 1
    field = np.full(shape, 0.005, np.float32)
    for p, r in zip(points, radii):
        reach = r + 0.005
        a = np.maximum(np.floor((p - reach - low) / spacing).astype(int), 0)
        b = np.minimum(np.ceil((p + reach - low) / spacing).astype(int) + 1, shape)
        grid = [low[k] + spacing * np.arange(a[k], b[k]) - p[k] for k in range(3)]
        d = np.sqrt(grid[0][:, None, None] ** 2 + grid[1][None, :, None] ** 2 + grid[2][None, None, :] ** 2) - r
        block = field[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
        np.minimum(block, d, out=block)
    vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(spacing,) * 3, gradient_direction='ascent')
    vertices = vertices.astype(float) + low + offset
    branch = np.concatenate([np.full(len(c), i, np.int32) for i, (c, _) in enumerate(curves)])
    arc = np.concatenate(
        [np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(c, axis=0), axis=1))]) for c, _ in curves]
    )
    edges = np.array([(i, i + 1) for i in range(len(points) - 1) if branch[i] == branch[i + 1]], np.int32)
    return VesselModel(
        vertices,
        faces.astype(np.int32),
        np.zeros(len(faces), bool),
        Centreline(points + offset, radii, branch, arc, edges),
        axes=axes,
        name='test tree',
    )


def ray_cast(centreline, T_image_model, camera):
    """Return the mask (H, W) uint8 of the spheres along the centreline: each pixel's ray against each sphere.

    Exact, and shares nothing with the rasteriser.
    """
    out = np.zeros((camera.height, camera.width), np.uint8)
    centres = centreline.points @ T_image_model[:3, :3].T + T_image_model[:3, 3]
    for c, r in zip(centres, centreline.radii):
        u, v = camera.project(c)
        reach = 1.2 * r * camera.fy / (c[2] - r) + 2
        rows = np.arange(max(0, int(v - reach)), min(camera.height, int(v + reach) + 1))
        columns = np.arange(max(0, int(u - reach)), min(camera.width, int(u + reach) + 1))
        if len(rows) and len(columns):
            rays = camera.ray(np.stack(np.meshgrid(columns, rows), axis=-1))
            along = rays @ c
            hit = along**2 >= (rays**2).sum(-1) * (c @ c - r * r)
            out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][hit] = 255
    return out
