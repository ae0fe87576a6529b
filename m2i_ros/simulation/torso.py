"""A torso in three dimensions, of ellipsoids, seen from any side: what lies before and behind the great vessels."""

import numpy as np
from numba import njit

from m2i_ros.simulation.background import (
    bowel_gas,
    cloud,
    full_size,
    grid,
    half_size,
    lung_markings,
    make_scene,
    ribs,
    soft_tissue,
    spine,
    table_edge,
)

# Half an axis of what goes on beyond any picture, metres.
_LONG = 10.0


def torso(rng, shape, spacing, centre=(0.0, 0.0)):
    """Return the `Scene` of a chest and upper abdomen without vessels, from a random side.

    Rays run through 4 to 40 cm of tissue, with lungs beside a mediastinum that weighs several times as much as they do.
    Sizes and densities (lung 0.2 to 0.4 of water) are rough figures of adults' CT.
    """
    x, y = grid(shape, spacing, centre)
    u, v = half_size(x), half_size(y)
    extent = shape[1] * spacing
    # Seen from the front or the back most of the time, from any side else.
    turn = rng.normal(0, 0.45) if rng.uniform() < 0.7 else rng.uniform(-np.pi, np.pi)
    tilt, level = rng.normal(0, 0.06), rng.uniform(-0.22, 0.22)
    uneven = rng.uniform(0.0, 0.004, 2)
    across = np.cos(tilt) * u + np.sin(tilt) * v + uneven[0] * cloud(rng, u.shape, 5)
    along = np.cos(tilt) * v - np.sin(tilt) * u + level + uneven[1] * cloud(rng, u.shape, 5)
    parts, back = _parts(rng)
    tissue, lung = _through(across, along, np.cos(turn), np.sin(turn), parts)
    tissue += soft_tissue(rng, u.shape, 2 * spacing, 0.1) - 0.1
    # The vessels of the lung: as much of them as there is lung on the way.
    tissue += rng.uniform(0.7, 1.6) * lung_markings(rng, u.shape, 2 * spacing) * np.clip(lung / 0.15, 0, 1)
    if rng.uniform() < 0.5:
        gas = bowel_gas(rng, u, v, extent) * np.clip((along - 0.06) / 0.03, 0, 1)
        tissue = np.maximum(tissue + gas, 0.2 * tissue)
    bone = rng.uniform(0.3, 1.4) * spine(rng, across - back * np.sin(turn), along)
    for _ in range(rng.choice([0, 1, 2], p=[0.3, 0.4, 0.3])):
        bone += ribs(rng, across, along, extent) * np.clip(lung / 0.05, 0.2, 1)
    tissue, bone = full_size(tissue, shape), full_size(bone, shape)
    if rng.uniform() < 0.08:
        tissue += table_edge(rng, x, y, extent)
    return make_scene(tissue, bone, 0.01)


def _parts(rng):
    """Return ellipsoids (N, 8) and where the spine lies behind the middle, metres.

    Each: centre (to the side, to the back, down), half axes, density of water, and whether it is lung. Where several
    overlap the last counts. Down is 0 at the diaphragm's top.
    """
    size = rng.uniform(0.88, 1.12)
    wide, deep = rng.uniform(0.16, 0.21), rng.uniform(0.105, 0.14)
    air = rng.uniform(0.2, 0.4)
    side, fore = rng.uniform(0.075, 0.09), rng.uniform(-0.015, 0.01)
    lung = rng.uniform((0.06, 0.08, 0.16), (0.078, 0.1, 0.22))
    parts = [(0, 0, 0.1, wide, deep, _LONG, 1.0, 0)]
    for hand in (-1, 1):
        parts.append((hand * side, fore, -0.03, *np.minimum(lung, (1, 0.93 * deep, 1)), air, 1))
    narrow = rng.uniform(0.022, 0.045)
    parts.append((0, 0.02, -0.1, narrow, rng.uniform(0.05, 0.085), _LONG, 1.0, 0))
    # The heart, to the patient's left; then the domes, whose tops lie uneven.
    heart = rng.uniform((0.05, 0.045, 0.05), (0.085, 0.065, 0.085))
    parts.append((rng.uniform(0.0, 0.04), -0.035, -rng.uniform(0.02, 0.06), *heart, 1.04, 0))
    for hand in (-1, 1):
        dome = rng.uniform((0.08, 0.09, 0.1), (0.13, 0.13, 0.2))
        parts.append((hand * 0.08, 0.01, dome[2] + rng.uniform(-0.015, 0.02), *dome, 1.03, 0))
    back = rng.uniform(0.035, 0.06)
    parts.append((0, back, 0.1, rng.uniform(0.02, 0.027), rng.uniform(0.02, 0.027), _LONG, 1.08, 0))
    if rng.uniform() < 0.5:  # gas of the stomach
        bubble = rng.uniform(0.01, 0.035, 3)
        parts.append((rng.uniform(0.03, 0.1), -0.03, rng.uniform(0.03, 0.07), *bubble, 0.0, 0))
    if rng.uniform() < 0.7:  # the windpipe, down to where it forks
        parts.append((rng.normal(0, 0.005), 0.01, -0.3, 0.009, 0.009, rng.uniform(0.15, 0.19), 0.0, 0))
    parts = np.array(parts)
    parts[:, :6] *= size
    return parts, size * back


@njit(cache=True, nogil=True)
def _through(across, along, cosine, sine, parts):
    """Return water (H, W) and lung (H, W), metres, on parallel rays: exact chords; of parts that overlap the last."""
    count = len(parts)
    tissue, lung = np.zeros(across.shape, np.float32), np.zeros(across.shape, np.float32)
    enter, leave, cuts = np.empty(count), np.empty(count), np.empty(2 * count)
    for row in range(across.shape[0]):
        for column in range(across.shape[1]):
            u, v = across[row, column], along[row, column]
            for i in range(count):
                # The ray, u (cosine, sine) + t (-sine, cosine), in the ellipsoid's own units.
                px = (u * cosine - parts[i, 0]) / parts[i, 3]
                py = (u * sine - parts[i, 1]) / parts[i, 4]
                pz = (v - parts[i, 2]) / parts[i, 5]
                dx, dy = -sine / parts[i, 3], cosine / parts[i, 4]
                a, b = dx * dx + dy * dy, dx * px + dy * py
                root = b * b - a * (px * px + py * py + pz * pz - 1)
                half = np.sqrt(root) / a if root > 0 else 0.0
                enter[i], leave[i] = -b / a - half, -b / a + half
                cuts[2 * i], cuts[2 * i + 1] = enter[i], leave[i]
            ends = np.sort(cuts)
            for j in range(2 * count - 1):
                middle, length = 0.5 * (ends[j] + ends[j + 1]), ends[j + 1] - ends[j]
                if length <= 0:
                    continue
                for i in range(count - 1, -1, -1):
                    if enter[i] < middle < leave[i]:
                        # What lies outside the body is air, whatever part reaches there.
                        if enter[0] < middle < leave[0]:
                            tissue[row, column] += length * parts[i, 6]
                            lung[row, column] += length * parts[i, 7]
                        break
    return tissue, lung
