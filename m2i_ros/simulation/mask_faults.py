"""The faults that segmentation makes, put into a true vessel mask: what a registration must survive."""

import cv2
import numpy as np

from m2i_ros.segmentation.vessel_mask import VesselMask
from m2i_ros.simulation.devices import meanders
from m2i_ros.simulation.tubes import smooth_curve

# Each fault by its name, with the chance that `damaged` draws it.
FAULTS = {
    'walls': 0.8,
    'gaps': 0.5,
    'missing_branches': 0.5,
    'partial_contrast': 0.25,
    'false_curves': 0.5,
    'catheter': 0.4,
    'cut_field': 0.3,
}


def damaged(mask, rng, faults=None):
    """Return the `VesselMask` that a poor segmentation would make of a true mask (H, W) uint8, 0 or 255.

    rng: numpy Generator; the same state gives the same damage. faults: names out of `FAULTS`, all of which are made;
    None draws each with its chance.
    Lengths are shares of the picture's longer side, so that pictures of all sizes are damaged alike.
    """
    if faults is None:
        faults = [name for name, chance in FAULTS.items() if rng.uniform() < chance]
    out, valid = np.where(mask > 127, np.uint8(255), np.uint8(0)), np.ones(mask.shape, bool)
    for name in FAULTS:  # always in this order: what is missing is missed before something false is found
        if name not in faults:
            continue
        if name == 'cut_field':
            valid = _field(out.shape, rng)
        else:
            out = _MAKERS[name](out, rng)
    return VesselMask(np.where(valid, out, np.uint8(0)), valid)


def _walls(mask, rng):
    """Walls too far out or in as a whole (up to 1.5 px of 512), and wavy (0.8 px of 512)."""
    side = max(mask.shape) / 512
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(255 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    level = rng.uniform(-1.5, 1.5) * side + 0.8 * side * _waves(rng, mask.shape, 24)
    return np.where(inside - outside + level > 0, np.uint8(255), np.uint8(0))


def _gaps(mask, rng):
    """One to four holes, 0.4 to 1.4 times as wide as the vessel there."""
    radii = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    out = mask.copy()
    for row, column in _some_pixels(mask, rng, rng.integers(1, 5)):
        reach = max(2.0, radii[max(row - 8, 0) : row + 9, max(column - 8, 0) : column + 9].max())
        axes = (round(reach * rng.uniform(0.4, 1.4)), round(reach * rng.uniform(0.4, 1.4)))
        cv2.ellipse(out, (int(column), int(row)), axes, rng.uniform(0, 180), 0, 360, 0, -1)
    return out


def _missing_branches(mask, rng):
    """What is thinner than a limit drawn from 0.2 to 0.6 of the widest vessel: each piece is missed or not."""
    widest = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
    limit = max(1, round(rng.uniform(0.2, 0.6) * widest))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * limit + 1, 2 * limit + 1))
    thin = mask & ~cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)
    # Corners of wide vessels are thin too: what does not reach out of them is no branch.
    count, pieces, sizes, _ = cv2.connectedComponentsWithStats(thin, connectivity=8)
    missed = (sizes[:, 4] > 4 * limit**2) & (rng.uniform(size=count) < 0.7)
    missed[0] = False
    return np.where(missed[pieces], np.uint8(0), mask)


def _partial_contrast(mask, rng):
    """Nothing beyond a ragged front that leaves 50 to 95% of the vessels."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    way = np.cos(angle) * x + np.sin(angle) * y + 0.02 * max(mask.shape) * _waves(rng, mask.shape, 16)
    vessel = way[mask > 0]
    if not len(vessel):
        return mask
    return np.where(way < np.quantile(vessel, rng.uniform(0.5, 0.95)), mask, np.uint8(0))


def _false_curves(mask, rng):
    """One to four pieces of curve of a vessel's width: ribs' edges, bowel gas, other vessels."""
    side = max(mask.shape)
    count = int(rng.integers(1, 5))
    starts = rng.uniform(0, 1, (count, 2)) * mask.shape[::-1]
    curves = meanders(rng, starts, rng.uniform(0, 2 * np.pi, count), rng.uniform(0.08, 0.4, count) * side, 0.8)
    return _drawn(mask, curves, np.maximum(1, rng.uniform(0.004, 0.025, count) * side))


def _catheter(mask, rng):
    """A catheter or wire across the picture, or from its border to somewhere inside."""
    side = max(mask.shape)
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    along = np.linspace(-0.75, rng.uniform(-0.1, 0.75), 5)
    aside = rng.uniform(-0.3, 0.3) + np.cumsum(rng.normal(0, 0.06, 5))
    points = np.array(mask.shape[::-1]) / 2 + side * (
        along[:, None] * way + aside[:, None] * np.array([-way[1], way[0]])
    )
    return _drawn(mask, [smooth_curve(points)], [max(1, rng.uniform(0.003, 0.01) * side)])


_MAKERS = {
    'walls': _walls,
    'gaps': _gaps,
    'missing_branches': _missing_branches,
    'partial_contrast': _partial_contrast,
    'false_curves': _false_curves,
    'catheter': _catheter,
}


def _field(shape, rng):
    """Return what shutters or a round opening leave of the field: (H, W) bool."""
    height, width = shape
    y, x = np.ogrid[:height, :width]
    if rng.uniform() < 0.3:
        at = rng.uniform(0.4, 0.6, 2) * (width, height)
        return np.hypot(x - at[0], y - at[1]) < rng.uniform(0.32, 0.55) * max(shape)
    left, top, right, bottom = rng.uniform(0, 0.25, 4) * (rng.uniform(size=4) < 0.6)
    return (x >= left * width) & (x < (1 - right) * width) & (y >= top * height) & (y < (1 - bottom) * height)


def _waves(rng, shape, count):
    """Return smooth noise (H, W) float32 of standard deviation 1, about `count` waves across."""
    coarse = rng.standard_normal((count, count), dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _some_pixels(mask, rng, count):
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(0, len(rows), count) if len(rows) else []
    return [(int(rows[i]), int(columns[i])) for i in chosen]


def _drawn(mask, curves, widths):
    out = mask.copy()
    for curve, width in zip(curves, widths):
        cv2.polylines(out, [np.round(curve).astype(np.int32).reshape(-1, 1, 2)], False, 255, max(1, round(width)))
    return out
