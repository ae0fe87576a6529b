"""What lies around the vessels, as smooth path-length maps (metres), drawn anew for each generator state.

Positions are metres in the plane of the isocentre: x to the right and y down in the picture, (H, W) float32 grids.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from m2i_ros.simulation.tubes import draw_tubes, smooth_curve


@dataclass
class Scene:
    """Path lengths (H, W) float32 in metres through soft tissue, bone and metal, beside and around the vessels."""

    tissue: np.ndarray
    bone: np.ndarray
    metal: np.ndarray


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
    distance += extent * rng.uniform(0.0, 0.03) * cloud(rng, x.shape, rng.uniform(3, 10))
    soft = extent * rng.uniform(0.005, 0.08)
    return -rng.uniform(0.02, 0.09) * _step(-distance, soft)


def diaphragm(rng, x, y, extent):
    """Return (H, W) tissue added by a dome from below."""
    radius = extent * rng.uniform(0.5, 1.6)
    top = extent * rng.uniform(-0.1, 0.4)
    inside = radius**2 - (x - extent * rng.uniform(-0.6, 0.6)) ** 2 - (y - top - radius) ** 2
    depth = np.sqrt(np.maximum(inside, 0)) / radius
    return rng.uniform(0.02, 0.1) * np.minimum(1, depth * rng.uniform(1.2, 3.5))


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
    body = _step(0.41 - np.abs(phase), 0.06)
    waist = half * (1 - 0.18 * np.cos(np.pi * phase) ** 2)
    inside = _step(waist - np.abs(u), 0.0025)
    rim = np.exp(-(((np.abs(phase) - 0.38) / 0.04) ** 2)) + np.exp(-(((np.abs(u) - waist + 0.002) / 0.0018) ** 2))
    pedicle = np.exp(-(((np.abs(u) - 0.6 * half) / 0.004) ** 2 + ((phase + 0.12) / 0.16) ** 2))
    process = np.exp(-((u / 0.003) ** 2 + ((phase - 0.25) / 0.22) ** 2))
    wings = np.exp(-(((phase + 0.05) / 0.14) ** 2)) * _step(1.9 * half - np.abs(u), 0.004) * 0.18
    return (
        rng.uniform(0.004, 0.012) * (body * inside * (1 + 0.5 * rim) + 0.5 * pedicle + 0.5 * process + wings)
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
    return rng.uniform(0.5, 1.2) * out * (1 + 0.12 * cloud(rng, x.shape, 30))


def wire(rng, shape, waypoints, radius_px, depth):
    """Return the (H, W) path length of a thin curve through waypoints (k, 2) in pixels, `depth` metres at its axis."""
    pixels = smooth_curve(waypoints)
    segments = np.stack([np.arange(len(pixels) - 1), np.arange(1, len(pixels))], axis=1)
    steps = np.linalg.norm(np.diff(pixels, axis=0), axis=1)
    path, _ = draw_tubes(pixels, np.full(len(pixels), radius_px), steps * (depth / (2 * radius_px)), segments, shape)
    return path


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


def devices(rng, shape, spacing, scene, density):
    """Add catheters, guide wires, leads, clips and sternal wires to `scene`, about `density` of each kind.

    spacing: metres a pixel at the isocentre. None of them is vessel.
    """
    for _ in range(rng.poisson(0.8 * density)):
        # A catheter, 4 to 8 French, of plastic with barium or steel braid; filled with contrast in part.
        radius = rng.uniform(0.65, 1.35) * 1e-3 / spacing
        points = _crossing(rng, shape, 0.06)
        if rng.uniform() < 0.35:
            points = _hook(rng, points)
        scene.metal += wire(rng, shape, points, radius, rng.uniform(2e-5, 2.2e-4))
        if rng.uniform() < 0.3:
            scene.metal += wire(rng, shape, points, 0.6 * radius, rng.uniform(5e-5, 3e-4))
        elif rng.uniform() < 0.4:
            scene.tissue -= wire(rng, shape, points, 0.55 * radius, rng.uniform(0.0, 1e-3))
    for _ in range(rng.poisson(0.5 * density)):
        radius = max(0.4, rng.uniform(0.15, 0.45) * 1e-3 / spacing)
        scene.metal += wire(rng, shape, _crossing(rng, shape, 0.05), radius, rng.uniform(5e-5, 4e-4))
    for _ in range(rng.poisson(0.25 * density)):
        # An ECG lead: a wire with a clip at its end.
        points = _crossing(rng, shape, 0.1)
        scene.metal += wire(rng, shape, points, max(0.5, 0.4e-3 / spacing), rng.uniform(5e-5, 2.5e-4))
        tip = points[-1]
        scene.metal += wire(
            rng, shape, [tip, tip + rng.normal(0, 3e-3 / spacing, 2)], 3e-3 / spacing, rng.uniform(1e-4, 6e-4)
        )
    if rng.uniform() < 0.06 * density:
        # Sternal wires: twisted loops one above the other.
        x = rng.uniform(0.2, 0.8) * shape[1]
        size = rng.uniform(5, 9) * 1e-3 / spacing
        for y in np.arange(rng.uniform(0, 0.3), 1.1, rng.uniform(0.15, 0.35)) * shape[0]:
            a = np.linspace(0, rng.uniform(5.0, 6.2), 9)
            loop = np.stack(
                [x + size * rng.uniform(0.6, 1.2) * np.cos(a), y + size * rng.uniform(0.4, 0.9) * np.sin(a)], axis=1
            )
            scene.metal += wire(rng, shape, loop, max(0.5, 0.4e-3 / spacing), rng.uniform(2e-4, 6e-4))
    for _ in range(rng.poisson(0.3 * density)):
        spot = rng.uniform(0, 1, 2) * shape[::-1]
        scene.metal += wire(
            rng,
            shape,
            [spot, spot + rng.normal(0, 4e-3 / spacing, 2)],
            max(0.7, 0.6e-3 / spacing),
            rng.uniform(3e-4, 1e-3),
        )


def _hook(rng, points):
    """Bend the end of a curve (k, 2) into the hook of a diagnostic catheter."""
    way = points[-1] - points[-2]
    size = np.linalg.norm(way) * rng.uniform(0.3, 0.7)
    way = way / max(np.linalg.norm(way), 1e-9)
    normal = np.array([-way[1], way[0]]) * rng.choice([-1, 1])
    turns = np.linspace(0.4, rng.uniform(1.5, 4.0), 5)[:, None]
    return np.concatenate([points, points[-1] + size * (np.sin(turns) * way + (1 - np.cos(turns)) * normal)])


def chest(rng, shape, spacing, centre=(0.0, 0.0)):
    """Return the `Scene` of a chest without vessels."""
    x, y = grid(shape, spacing, centre)
    extent = shape[1] * spacing
    tissue = soft_tissue(rng, shape, spacing, rng.uniform(0.1, 0.2))
    for maker, chance in ((lung_border, 0.75), (lung_border, 0.35), (diaphragm, 0.5), (diaphragm, 0.15)):
        if rng.uniform() < chance:
            tissue += maker(rng, x, y, extent)
    x, y = x[::2, ::2], y[::2, ::2]
    bone = np.zeros(x.shape, np.float32)
    if rng.uniform() < 0.3:
        bone += spine(rng, x, y, extent * rng.uniform(-0.5, 0.5), rng.normal(0, 0.15))
    for _ in range(rng.choice([0, 1, 2], p=[0.6, 0.28, 0.12])):
        bone += ribs(rng, x, y, extent)
    return Scene(np.maximum(tissue, 0.02), _full_size(bone, shape), np.zeros(shape, np.float32))


def abdomen(rng, shape, spacing, centre=(0.0, 0.0)):
    """Return the `Scene` of a lower abdomen and pelvis without vessels."""
    x, y = grid(shape, spacing, centre)
    extent = shape[1] * spacing
    tissue = soft_tissue(rng, shape, spacing, rng.uniform(0.14, 0.24))
    if rng.uniform() < 0.7:
        tissue += bowel_gas(rng, x, y, extent)
    across = rng.normal(0, 0.012)
    # The thighs end: air beside and between them.
    edge = rng.uniform(0.17, 0.2) - np.abs(x - across) + 0.02 * np.cos(8 * y)
    tissue *= _step(edge, 0.03)
    x, y = x[::2, ::2], y[::2, ::2]
    bone = spine(rng, x, y, across, rng.normal(0, 0.05)) * _step(-y - 0.02, 0.02) + pelvis(rng, x - across, y)
    return Scene(np.maximum(tissue, 0.005), _full_size(bone, shape), np.zeros(shape, np.float32))


def _full_size(bone, shape):
    """Return bone, drawn at half the resolution as its edges are soft, at full size and nowhere negative."""
    return cv2.resize(np.maximum(bone, 0).astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
