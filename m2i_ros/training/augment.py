"""Pictures as they might also have come: what keeps a network from learning a few pictures by heart."""

import cv2
import numpy as np

SCALES = (0.7, 1.5)


def augment(image, mask, size, rng, reference=None):
    """Return (size, size) cut-outs, uint8, of a picture, its mask and its reference: turned, scaled, flipped, its grey
    values bent.

    image, mask, reference: (H, W) uint8; the latter may be None. Elastic bending, uneven light and blades of a
    collimator on top were worse than this on real pictures not seen (docs/training_log.md).
    """
    shown = [image] if reference is None else [image, reference]
    *shown, mask = _move([*shown, mask], size, rng)
    table = 255 * np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.25))
    if rng.uniform() < 0.3:
        table = table * rng.uniform(0.5, 1) + 255 * rng.uniform(0, 0.3)
    table = np.clip(table, 0, 255).astype(np.float32)
    shown = [table[picture] for picture in shown]
    if rng.uniform() < 0.3:
        blur = rng.uniform(0.4, 1.2)
        shown = [cv2.GaussianBlur(picture, (0, 0), blur) for picture in shown]
    if rng.uniform() < 0.5:
        # Screens and lenses spread light over some pixels, processing takes that back or does more than that.
        gain, reach = rng.uniform(-0.8, 0.7), rng.uniform(1.5, 5)
        shown = [picture + gain * (picture - cv2.GaussianBlur(picture, (0, 0), reach)) for picture in shown]
    if rng.uniform() < 0.3:
        # The noise of a smoothed picture is smooth too.
        strength, blur = rng.uniform(1, 6), rng.choice([0.0, rng.uniform(0.5, 1.0)], p=[0.7, 0.3])
        shown = [picture + np.float32(strength) * _noise(picture.shape, rng, blur) for picture in shown]
    image, *reference = (np.clip(picture, 0, 255).astype(np.uint8) for picture in shown)
    return image, mask, reference[0] if reference else None


def _noise(shape, rng, blur):
    """(H, W) float32 of unit variance."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    return noise / noise.std()


def _move(pictures, size, rng):
    height, width = pictures[0].shape
    angle = rng.uniform(0, 2 * np.pi) if rng.uniform() < 0.5 else rng.integers(4) * np.pi / 2
    scale = np.exp(rng.uniform(*np.log(SCALES)))
    flip = rng.choice([-1.0, 1.0])
    # Output pixel -> input pixel, about a point such that small pictures are not left for their mirrored surroundings.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([flip, 1.0]) / scale
    room = np.maximum(np.array([width, height]) - size / scale, 0) / 2
    centre = (np.array([width, height]) - 1) / 2 + rng.uniform(-room, room)
    matrix = np.column_stack([turn, centre - turn @ np.full(2, (size - 1) / 2)])
    how = {'flags': cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, 'borderMode': cv2.BORDER_REFLECT_101}
    return tuple(cv2.warpAffine(picture, matrix, (size, size), **how) for picture in pictures)
