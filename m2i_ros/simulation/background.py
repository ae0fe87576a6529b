"""What lies around the vessels, as smooth path-length maps (metres), drawn anew for each generator state.

Positions are metres in the plane of the isocentre: x to the right and y down in the picture, (H, W) float32 grids.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from m2i_ros.simulation.devices import meanders, wires


@dataclass
class Scene:
    """What lies beside and around the vessels, (H, W) float32 each.

    tissue, bone, metal: path lengths, metres. iodine: contrast that is in no vessel, metres x mg/ml.
    """

    tissue: np.ndarray
    bone: np.ndarray
    metal: np.ndarray
    iodine: np.ndarray


def grid(shape, spacing, centre=(0.0, 0.0)):
    """Return x, y (H, W) float32, metres: `spacing` a pixel, the picture's middle at `centre`."""
    height, width = shape
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * spacing + centre[0]
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * spacing + centre[1]
    return np.meshgrid(x, y)


def cloud(rng, shape, cells):
    """Return smooth noise (H, W) float32 of unit variance with about `cells` blobs across the picture."""
    count = max(4, int(cells) + 3)
    coarse = rng.standard_normal((count, count), dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _step(distance, width):
    """A soft step from 0 to 1 where `distance` goes from -width to width."""
    return np.clip(0.5 + distance / (2 * width), 0, 1)


def soft_tissue(rng, shape, spacing, depth):
    """Return tissue about `depth` thick, with lumps of all sizes and faint fibres."""
    extent = shape[1] * spacing
    out = np.full(shape, depth, np.float32)
    for size, share in ((0.25, 0.08), (0.08, 0.028), (0.025, 0.015), (0.01, 0.01), (0.004, 0.006), (0.002, 0.004)):
        if extent / size > 0.4:
            out += depth * share * rng.uniform(0.2, 1.3) * cloud(rng, shape, min(extent / size, 120))
    if rng.uniform() < 0.4:
        fibres = cloud(rng, shape, rng.uniform(25, 70))
        turn = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), rng.uniform(0, 180), 1.0)
        turn[0] *= rng.uniform(4, 10)
        turn[0, 2] -= shape[1]
        fibres = cv2.warpAffine(
            fibres, turn, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
        )
        out += depth * rng.uniform(0.001, 0.004) * fibres
    return out


def lung_border(rng, x, y, extent):
    """Return (H, W) tissue missing where the lung shines beside the heart."""
    angle = rng.uniform(0, 2 * np.pi)
    radius = extent * rng.uniform(0.4, 1.5)
    shift = radius + extent * rng.uniform(-0.35, 0.25)
    distance = np.hypot(x - shift * np.cos(angle), y - shift * np.sin(angle)) - radius
    soft = extent * rng.uniform(0.005, 0.08)
    # Where the border is uneven it is blurred, too.
    distance += soft * rng.uniform(0.0, 0.8) * cloud(rng, x.shape, rng.uniform(2, 8))
    return -rng.uniform(0.02, 0.09) * _step(-distance, soft)


def diaphragm(rng, x, y, extent):
    """Return (H, W) tissue added by a dome from below, its edge sharp where the rays touch it."""
    radius = extent * rng.uniform(0.7, 2.5)
    top = extent * rng.uniform(-0.15, 0.42)
    middle = extent * rng.uniform(-0.6, 0.6)
    flat = rng.uniform(0.5, 1.0)
    height = top + flat * (radius - np.sqrt(np.maximum(radius**2 - (x - middle) ** 2, 0)))
    below = y - height + extent * rng.uniform(0, 0.003) * cloud(rng, x.shape, rng.uniform(3, 8))
    rise = extent * rng.uniform(0.03, 0.5)
    depth = np.sqrt(np.clip(below / rise, 0, 1))
    return rng.uniform(0.015, 0.09) * (rng.uniform(0.2, 0.6) * _step(below, 0.0012) + depth)


def heart(rng, x, y, extent):
    """Return (H, W) tissue added by the heart's shadow: an ellipsoid's chord, with soft, uneven borders."""
    a, b = extent * rng.uniform(0.35, 0.9, 2)
    dx, dy = x - extent * rng.uniform(-0.5, 0.5), y - extent * rng.uniform(-0.4, 0.5)
    turn = rng.uniform(0, np.pi)
    u = (np.cos(turn) * dx + np.sin(turn) * dy) / a
    v = (np.cos(turn) * dy - np.sin(turn) * dx) / b
    inside = 1 - np.hypot(u, v) + rng.uniform(0.0, 0.015) * cloud(rng, x.shape, rng.uniform(2, 6))
    return rng.uniform(0.02, 0.08) * np.sin(0.5 * np.pi * np.clip(inside * rng.uniform(1.5, 6), 0, 1))


def lung_markings(rng, shape, spacing):
    """Return (H, W) tissue added by vessels of the lung and folds of muscle: faint, blurred, branching streaks.

    Vessels of the lung are 1 to 5 mm wide without contrast in them.
    """
    count, extent = int(rng.integers(25, 90)), shape[1]
    hilum = np.array(shape[::-1]) * rng.uniform(-0.2, 1.2, 2)
    angles = rng.uniform(0, 2 * np.pi, count)
    away = extent * rng.exponential(0.4, count)
    starts = hilum + away[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    angles += rng.normal(0, 0.6, count)
    curves = meanders(rng, starts, angles, rng.uniform(0.1, 0.5, count) * extent, 0.8)
    widths = np.exp(rng.uniform(np.log(0.5e-3), np.log(2.5e-3), count))
    depths = 2 * widths * rng.uniform(0.4, 2.5) * rng.uniform(0.3, 1, count)
    return wires(curves, np.maximum(0.5, widths / spacing), depths, shape)


def wedge(rng, x, y, extent):
    """Return (H, W) tissue as thick as a wedge filter weighs, pushed in from one side: a straight, soft edge."""
    angle = rng.uniform(0, 2 * np.pi)
    distance = x * np.cos(angle) + y * np.sin(angle) - extent * rng.uniform(0.1, 0.5)
    return rng.uniform(0.01, 0.06) * _step(distance, extent * rng.uniform(0.005, 0.1))


def table_edge(rng, x, y, extent):
    """Return (H, W) tissue as thick as a carbon table, a mattress or an arm weighs: a straight, sharp edge."""
    angle = rng.choice([0, np.pi]) + rng.normal(0, 0.08)
    distance = x * np.cos(angle) + y * np.sin(angle) - extent * rng.uniform(0.0, 0.5)
    rim = np.exp(-((distance / rng.uniform(0.001, 0.004)) ** 2)) * rng.uniform(0, 1)
    return rng.uniform(0.003, 0.03) * (_step(distance, 0.0008) + rim)


def bladder(rng, x, y):
    """Return (H, W) iodine, metres x mg/ml, in a bladder that collects the contrast of earlier injections."""
    a, b = rng.uniform(0.025, 0.05, 2)
    inside = 1 - ((x - rng.normal(0, 0.01)) / a) ** 2 - ((y - 0.09 - rng.normal(0, 0.015)) / b) ** 2
    return rng.uniform(2, 25) * 2 * min(a, b) * np.sqrt(np.maximum(inside, 0))


def bowel_gas(rng, x, y, extent):
    """Return (H, W) tissue missing in gas bubbles."""
    out = np.zeros_like(x)
    for _ in range(rng.integers(2, 9)):
        a, b = rng.uniform(0.008, 0.035, 2)
        angle = rng.uniform(0, np.pi)
        dx, dy = x - extent * rng.uniform(-0.5, 0.5), y - extent * rng.uniform(-0.5, 0.5)
        u = (np.cos(angle) * dx + np.sin(angle) * dy) / a
        v = (np.cos(angle) * dy - np.sin(angle) * dx) / b
        out += rng.uniform(0.3, 1.0) * min(a, b) * np.sqrt(np.maximum(0, 1 - u**2 - v**2))
    return -out


def spine(rng, x, y, across=0.0, tilt=0.0):
    """Return (H, W) bone of a column of vertebrae along y, its middle at x = `across`, tilted by `tilt` radians."""
    u = np.cos(tilt) * (x - across) + np.sin(tilt) * y
    v = np.cos(tilt) * y - np.sin(tilt) * (x - across)
    half, pitch = rng.uniform(0.019, 0.025), rng.uniform(0.028, 0.036)
    phase = (v / pitch + rng.uniform()) % 1.0 - 0.5
    body = _step(0.41 - np.abs(phase), rng.uniform(0.05, 0.13))
    waist = half * (1 - 0.18 * np.cos(np.pi * phase) ** 2)
    inside = _step(waist - np.abs(u), rng.uniform(0.002, 0.005))
    rim = np.exp(-(((np.abs(phase) - 0.38) / 0.04) ** 2)) + np.exp(-(((np.abs(u) - waist + 0.002) / 0.0018) ** 2))
    pedicle = np.exp(-(((np.abs(u) - 0.6 * half) / 0.004) ** 2 + ((phase + 0.12) / 0.16) ** 2))
    process = np.exp(-((u / 0.003) ** 2 + ((phase - 0.25) / 0.22) ** 2))
    wings = np.exp(-(((phase + 0.05) / 0.14) ** 2)) * _step(1.9 * half - np.abs(u), 0.004) * 0.18
    return (
        rng.uniform(0.002, 0.008) * (body * inside * (1 + 0.5 * rim) + 0.5 * pedicle + 0.5 * process + wings)
    ).astype(np.float32)


def ribs(rng, x, y, extent):
    """Return (H, W) bone of a few ribs."""
    out = np.zeros_like(x)
    slope, bend = rng.uniform(-0.8, 0.8), rng.uniform(-1.5, 1.5) / extent
    pitch, half = rng.uniform(0.022, 0.038), rng.uniform(0.004, 0.008)
    v = y - slope * x - bend * x**2
    phase = (v / pitch + rng.uniform()) % 1.0 * pitch - pitch / 2
    chord = np.maximum(0, 1 - (phase / half) ** 2)
    out += np.minimum(1, 3 * chord) * (0.55 + 0.45 * np.exp(-(((np.abs(phase) - 0.8 * half) / 0.0012) ** 2)))
    return rng.uniform(0.0005, 0.003) * out


def pelvis(rng, x, y):
    """Return (H, W) bone of both iliac wings, the pelvic ring, the femoral heads and shafts; x = 0 in the middle."""
    # No two patients' bones are alike, nor the two halves of one.
    x = x * rng.uniform(0.9, 1.1) + rng.uniform(0, 0.004) * cloud(rng, x.shape, 4)
    y = y * rng.uniform(0.9, 1.1) + rng.uniform(0, 0.004) * cloud(rng, x.shape, 4)
    out = np.zeros_like(x)
    for side in (-1, 1):
        u = x * side
        # The iliac wing: a thin blade with a dense crest; the ring: the brim around the inlet; then hip and femur.
        wing = ((u - 0.095) / 0.055) ** 2 + ((y + 0.02 + 0.35 * (u - 0.095)) / 0.075) ** 2
        blade = _step(1 - wing, 0.08)
        crest = np.exp(-(((np.sqrt(wing) - 0.97) / 0.06) ** 2))
        out += 0.006 * blade + 0.006 * crest * (u > 0.03)
        brim = np.hypot(u / 1.15, (y - 0.085) / 0.9)
        out += 0.011 * np.exp(-(((brim - 0.063) / 0.007) ** 2)) * (u > 0)
        head = np.hypot(u - 0.094, y - 0.112)
        out += 0.028 * np.sqrt(np.maximum(0, 1 - (head / 0.024) ** 2)) + 0.006 * np.exp(
            -(((head - 0.027) / 0.003) ** 2)
        )
        along = (y - 0.118) * 0.8 + (u - 0.1) * 0.6
        off = (u - 0.1) * 0.8 - (y - 0.118) * 0.6
        out += 0.018 * _step(0.015 - np.abs(off), 0.004) * _step(along, 0.006) * _step(0.05 - along, 0.006)
        shaft = np.abs(u - 0.138 + 0.08 * (y - 0.15))
        out += (0.012 * _step(0.015 - shaft, 0.002) + 0.01 * np.exp(-(((shaft - 0.0115) / 0.0025) ** 2))) * _step(
            y - 0.13, 0.012
        )
    u = x / 0.045
    out += 0.008 * _step(1 - u**2 - ((y - 0.005) / 0.055) ** 2, 0.3)
    return rng.uniform(0.5, 1.2) * out * (1 + 0.05 * cloud(rng, x.shape, 50))


def chest(rng, shape, spacing, centre=(0.0, 0.0)):
    """Return the `Scene` of a chest without vessels."""
    x, y, extent = *grid(shape, spacing, centre), shape[1] * spacing
    u, v = _half(x), _half(y)
    soft = soft_tissue(rng, u.shape, 2 * spacing, rng.uniform(0.1, 0.2))
    for maker, chance in ((heart, 0.6), (lung_border, 0.7), (lung_border, 0.3), (wedge, 0.15)):
        if rng.uniform() < chance:
            soft += maker(rng, u, v, extent)
    if rng.uniform() < 0.85:
        soft += lung_markings(rng, u.shape, 2 * spacing)
    bone = np.zeros_like(u)
    if rng.uniform() < 0.35:
        bone += spine(rng, u, v, extent * rng.uniform(-0.5, 0.5), rng.normal(0, 0.15))
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15])):
        bone += ribs(rng, u, v, extent)
    tissue = _full(soft, shape)
    for maker, chance in ((diaphragm, 0.55), (diaphragm, 0.2), (table_edge, 0.06)):
        if rng.uniform() < chance:
            tissue += maker(rng, x, y, extent)
    return _scene(tissue, _full(bone, shape), 0.02)


def abdomen(rng, shape, spacing, centre=(0.0, 0.0)):
    """Return the `Scene` of a lower abdomen and pelvis without vessels."""
    x, y, extent = *grid(shape, spacing, centre), shape[1] * spacing
    u, v = _half(x), _half(y)
    across = rng.normal(0, 0.012)
    soft = soft_tissue(rng, u.shape, 2 * spacing, rng.uniform(0.14, 0.24))
    if rng.uniform() < 0.7:
        soft += bowel_gas(rng, u, v, extent)
    if rng.uniform() < 0.12:
        soft += wedge(rng, u, v, extent)
    # The thighs end: air beside and between them.
    soft *= _step(rng.uniform(0.17, 0.2) - np.abs(u - across) + 0.02 * np.cos(8 * v), 0.03)
    bone = spine(rng, u, v, across, rng.normal(0, 0.05)) * _step(-v - 0.02, 0.02) + pelvis(rng, u - across, v)
    tissue = _full(soft, shape)
    if rng.uniform() < 0.1:
        tissue += table_edge(rng, x, y, extent)
    iodine = _full(bladder(rng, u - across, v), shape) if rng.uniform() < 0.2 else None
    return _scene(tissue, _full(bone, shape), 0.005, iodine)


def strange(rng, shape, spacing, centre=(0.0, 0.0)):
    """Return the `Scene` of no body: nothing, mottles of any size and strength, bands side by side.

    A network that has seen it tells vessels by what they are, not by what is left where a body is subtracted.
    """
    x, y, extent = *grid(shape, spacing, centre), shape[1] * spacing
    depth = rng.uniform(0.02, 0.2)
    tissue = np.full(shape, depth, np.float32)
    for _ in range(rng.choice([0, 1, 2, 3])):
        cells = np.exp(rng.uniform(np.log(2), np.log(shape[1] / 6)))
        tissue += np.exp(rng.uniform(np.log(0.001), np.log(0.015))) * cloud(rng, shape, cells)
    bone = np.zeros(shape, np.float32)
    if rng.uniform() < 0.4:
        angle, pitch = rng.uniform(0, np.pi), extent / rng.uniform(3, 14)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        bend = rng.uniform(0, 0.6) * pitch * np.sin(2 * np.pi * v / (extent * rng.uniform(0.3, 2)))
        wave = np.cos(2 * np.pi * (u + bend) / pitch)
        sharp = np.exp(rng.uniform(np.log(0.05), np.log(1)))
        bone += rng.uniform(0.001, 0.012) * _step(wave - rng.uniform(-0.2, 0.8), sharp)
    return _scene(tissue, bone, 0.005)


def _half(values):
    """Return a grid (H, W) at half the resolution: what has soft edges is drawn there."""
    height, width = values.shape
    return cv2.resize(values, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_LINEAR)


def _full(values, shape):
    return cv2.resize(values.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)


def _scene(tissue, bone, thinnest, iodine=None):
    empty = np.zeros_like(tissue)
    iodine = empty.copy() if iodine is None else iodine
    return Scene(np.maximum(tissue, thinnest), np.maximum(bone, 0), empty, iodine)
