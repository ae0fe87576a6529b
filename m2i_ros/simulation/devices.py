"""What people put into and onto a patient, as path lengths (H, W) in metres: none of it is vessel.

Positions are pixels (x, y); lengths across and through a device are metres unless a name ends in `_px`.
"""

import numpy as np

from m2i_ros.simulation.tubes import draw_tubes, smooth_curve


def wires(curves, radius_px, depth, shape):
    """Return the path length (H, W) through thin round wires along curves (n, 2), `depth` metres at each one's axis.

    radius_px, depth: numbers, or one for each curve.
    """
    count = len(curves)
    if not count:
        return np.zeros(shape, np.float32)
    radius_px, depth = np.broadcast_to(radius_px, count), np.broadcast_to(depth, count)
    sizes = np.array([len(c) for c in curves])
    pixels = np.concatenate(curves)
    last = np.cumsum(sizes) - 1
    first = np.setdiff1d(np.arange(len(pixels) - 1), last)
    segments = np.stack([first, first + 1], axis=1)
    steps = np.linalg.norm(pixels[first + 1] - pixels[first], axis=1)
    radii, depths = np.repeat(radius_px, sizes), np.repeat(depth, sizes)
    return draw_tubes(pixels, radii, steps * (depths / (2 * radii))[first], segments, shape)[0]


def meanders(rng, starts, angles, lengths, wildness, count=20):
    """Return curves (k, count, 2) that wander from `starts` (k, 2) along `angles` (k,) for `lengths` (k,).

    wildness: how far a heading strays along the curve, radians.
    """
    k = len(starts)
    strayed = np.cumsum(rng.normal(0, wildness / np.sqrt(count), (k, count)), axis=1)
    swing = rng.normal(0, 0.5 * wildness, (k, 1)) * np.sin(
        np.linspace(0, 1, count) * rng.uniform(6, 20, (k, 1)) + rng.uniform(0, 6, (k, 1))
    )
    heading = np.asarray(angles)[:, None] + strayed + swing
    step = (np.asarray(lengths) / count)[:, None]
    return np.asarray(starts)[:, None] + np.cumsum(
        np.stack([step * np.cos(heading), step * np.sin(heading)], axis=2), axis=1
    )


def stent(axis_px, radius_px, pitch_px, strands=4, phase=0.0):
    """Return curves (n, 2) of a braid of `strands` helices either way round a tube: a stent, or a valve's frame.

    axis_px: (n, 2). radius_px: a number or (n,). pitch_px: length of a full turn.
    """
    way = np.gradient(axis_px, axis=0)
    step = np.linalg.norm(way, axis=1)
    normal = np.stack([-way[:, 1], way[:, 0]], axis=1) / np.maximum(step, 1e-6)[:, None]
    turn = 2 * np.pi * np.cumsum(step) / pitch_px
    out = []
    for k in range(strands):
        for hand in (-1, 1):
            aside = np.sin(hand * turn + phase + 2 * np.pi * k / strands)
            out.append(axis_px + (radius_px * aside)[:, None] * normal)
    return out


def strewn(rng, shape, spacing, scene, density):
    """Add catheters, wires, leads, electrodes, clips, stents and sternal wires to `scene`, `density` of each kind.

    spacing: metres a pixel at the isocentre. Sizes: catheters 4 to 8 French (1 French = 1/3 mm), guide wires 0.014 to
    0.035 inch, pacing leads 5 to 8 French, ECG electrodes and clips as their makers state them.
    """

    def px(metres):
        return max(0.4, metres / spacing)

    def add(curves, radius, low, high):
        scene.metal += wires(curves, px(radius), rng.uniform(low, high), shape)

    for _ in range(rng.poisson(0.8 * density)):
        # A catheter of plastic with barium or steel braid; filled with contrast in part.
        radius = rng.uniform(0.65, 1.35) * 1e-3
        points = _crossing(rng, shape, 0.06)
        if rng.uniform() < 0.35:
            points = _hook(rng, points)
        curve = smooth_curve(points)
        add([curve], radius, 2e-5, 2.2e-4)
        if rng.uniform() < 0.35:
            scene.iodine += wires([curve], px(0.6 * radius), 1.2 * radius * rng.uniform(30, 350), shape)
        elif rng.uniform() < 0.4:
            scene.tissue -= wires([curve], px(0.55 * radius), rng.uniform(0.0, 1e-3), shape)
    for _ in range(rng.poisson(0.6 * density)):
        add([smooth_curve(_crossing(rng, shape, 0.05))], rng.uniform(0.17, 0.45) * 1e-3, 5e-5, 6e-4)
    for _ in range(rng.poisson(0.25 * density)):
        # An ECG lead: a wire that ends in an electrode, with a snap in its middle.
        curve = smooth_curve(_crossing(rng, shape, 0.1))
        tip = curve[-1]
        add([curve], 0.4e-3, 5e-5, 2.5e-4)
        add([tip + np.array([[0, 0], [0.7, 0.7]])], rng.uniform(3e-3, 6e-3), 3e-5, 2e-4)
        add([tip + np.array([[0, 0], [0.7, 0.7]])], 2e-3, 2e-4, 8e-4)
    if rng.uniform() < 0.1 * density:
        # A pacing lead: a coil with an electrode ring near its tip.
        curve = smooth_curve(_hook(rng, _crossing(rng, shape, 0.08)))
        add([curve], rng.uniform(0.6, 1.0) * 1e-3, 1e-4, 4e-4)
        add([curve[-4:], curve[-14:-9]], 1.1e-3, 4e-4, 1e-3)
    if rng.uniform() < 0.06 * density:
        # Sternal wires: twisted loops one above the other.
        x = rng.uniform(0.2, 0.8) * shape[1]
        size = rng.uniform(5, 9) * 1e-3 / spacing
        loops = []
        for y in np.arange(rng.uniform(0, 0.3), 1.1, rng.uniform(0.15, 0.35)) * shape[0]:
            a = np.linspace(0, rng.uniform(5.0, 6.2), 9)
            loop = [x + size * rng.uniform(0.6, 1.2) * np.cos(a), y + size * rng.uniform(0.4, 0.9) * np.sin(a)]
            loops.append(smooth_curve(np.stack(loop, axis=1)))
        add(loops, 0.4e-3, 2e-4, 6e-4)
    clips = [
        spot + np.array([[0, 0], rng.normal(0, 4e-3 / spacing, 2)])
        for spot in rng.uniform(0, 1, (rng.poisson(0.5 * density), 2)) * shape[::-1]
    ]
    add(clips, 0.6e-3, 3e-4, 1e-3)
    if rng.uniform() < 0.08 * density:
        # A stent somewhere, in a vessel that holds no contrast.
        at = rng.uniform(0.1, 0.9, 2) * shape[::-1]
        way = rng.normal(0, rng.uniform(0.006, 0.03) / spacing, 2)
        radius = rng.choice([rng.uniform(1.3e-3, 2e-3), rng.uniform(3e-3, 6e-3)]) / spacing
        axis = at + np.linspace(-1, 1, 60)[:, None] * way
        add(stent(axis, radius, rng.uniform(3, 7) * radius), 0.1e-3, 5e-5, 2e-4)


def plaques(rng, pixels, radii_px, branch, pixel, count):
    """Return curves (n, 2), radii in pixels and depths in metres of `count` flecks of calcium in the vessels' walls.

    pixels: (N, 2) axis points with radii_px (N,) and branch (N,). pixel: metres. Flecks are 2 to 15 mm long and 0.3 to
    2 mm thick (Agatston et al., JACC 1990;15:827 count them from 1 mm2 on).
    """
    curves, radii, depths = [], [], []
    for _ in range(count):
        start = int(rng.integers(0, len(pixels)))
        run = np.arange(start, min(start + int(rng.integers(4, 14)), len(pixels)))
        run = run[branch[run] == branch[start]]
        if len(run) < 3:
            continue
        way = np.gradient(pixels[run], axis=0)
        normal = np.stack([-way[:, 1], way[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        side = rng.choice([-1, 1]) * rng.uniform(0.6, 1.05)
        curves.append(pixels[run] + side * radii_px[run, None] * normal)
        thick = rng.uniform(0.3e-3, 2e-3)
        radii.append(max(0.4, thick / 2 / pixel))
        depths.append(rng.uniform(0.5, 2) * thick)
    return curves, np.array(radii), np.array(depths)


def _crossing(rng, shape, wildness):
    """Waypoints of a curve that crosses the picture, or ends inside it."""
    size = max(shape)
    centre = np.array(shape[::-1]) / 2
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    normal = np.array([-way[1], way[0]])
    end = rng.uniform(-0.2, 0.75)
    t = np.linspace(-0.75, end, rng.integers(4, 8))
    offset = rng.uniform(-0.4, 0.4) + np.cumsum(rng.normal(0, wildness, len(t)))
    return centre + size * (t[:, None] * way + offset[:, None] * normal)


def _hook(rng, points):
    """Bend the end of a curve (k, 2) into the hook of a diagnostic catheter."""
    way = points[-1] - points[-2]
    size = np.linalg.norm(way) * rng.uniform(0.3, 0.7)
    way = way / max(np.linalg.norm(way), 1e-9)
    normal = np.array([-way[1], way[0]]) * rng.choice([-1, 1])
    turns = np.linspace(0.4, rng.uniform(1.5, 4.0), 5)[:, None]
    return np.concatenate([points, points[-1] + size * (np.sin(turns) * way + (1 - np.cos(turns)) * normal)])
