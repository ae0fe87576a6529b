"""How a picture comes to a screen: the grey values' curve, local equalisation, letters and lines drawn into it."""

import cv2
import numpy as np

# Shares of the pictures that are shown so.
BENT, EQUALISED, MARKED = 0.3, 0.06, 0.12
_LETTERS = np.array(list('ABCDEFGHIKLMNOPRSTUVW0123456789:/-. '))


def draw_looks(rng, shape):
    """Return how a picture (H, W) is shown, for `show`: a dict of exponent, equalisation and marks."""
    return {
        'exponent': np.exp(rng.normal(0, 0.4)) if rng.uniform() < BENT else 1.0,
        'equalisation': (rng.uniform(1.5, 4), int(rng.integers(3, 11))) if rng.uniform() < EQUALISED else None,
        'marks': _marks(rng, shape) if rng.uniform() < MARKED else None,
    }


def show(picture, looks):
    """Return a picture (H, W) float32 in [0, 1] as it is shown.

    exponent: of the grey values. equalisation: None, or limit and tiles a side of a contrast-limited adaptive histogram
    equalisation (Zuiderveld, Graphics Gems IV, 1994, p. 474). marks: None, or grey values (H, W), NaN where there is
    none: names, dates, exposure and angles, rulers and electrocardiograms, as stored pictures hold them.
    """
    picture = picture ** np.float32(looks['exponent'])
    if looks['equalisation']:
        limit, tiles = looks['equalisation']
        levels = np.rint(255 * picture).astype(np.uint8)
        picture = cv2.createCLAHE(limit, (tiles, tiles)).apply(levels).astype(np.float32) / 255
    if looks['marks'] is not None:
        picture = np.where(np.isnan(looks['marks']), picture, looks['marks'])
    return picture


def _marks(rng, shape):
    """Draw grey values (H, W) float32 of marks, NaN where there is none."""
    height, width = shape
    ink = np.zeros(shape, np.uint8)
    size = rng.uniform(0.3, 0.55) * min(shape) / 512 + 0.15
    line = int(np.ceil(36 * size))
    for _ in range(rng.integers(1, 5)):  # a block of lines, mostly in a corner
        count, left = int(rng.integers(1, 6)), rng.uniform() < 0.5
        x = 4 if left else int(rng.uniform(0.55, 0.85) * width)
        y = line if rng.uniform() < 0.5 else height - line * count
        if rng.uniform() < 0.15:
            x, y = int(rng.uniform(0, 0.8) * width), int(rng.uniform(0, 0.9) * height)
        for i in range(count):
            text = ''.join(rng.choice(_LETTERS, int(rng.integers(2, 26))))
            cv2.putText(ink, text, (x, y + i * line), cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1, cv2.LINE_AA)
    if rng.uniform() < 0.25:  # an electrocardiogram along the lower side
        x = np.arange(width)
        beat = (x / width * rng.uniform(3, 12) + rng.uniform()) % 1
        wave = np.exp(-(((beat - 0.3) / 0.015) ** 2)) + 0.2 * np.exp(-(((beat - 0.55) / 0.05) ** 2))
        y = height * (rng.uniform(0.85, 0.97) - rng.uniform(0.03, 0.1) * wave)
        cv2.polylines(ink, [np.stack([x, y], 1).round().astype(np.int32)], False, 255, 1, cv2.LINE_AA)
    if rng.uniform() < 0.25:  # a ruler or an arrow
        ends = (rng.uniform(0.02, 0.98, (2, 2)) * (width, height)).astype(int)
        ends[1, rng.integers(2)] = ends[0, rng.integers(2)]
        cv2.line(ink, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 255, 1, cv2.LINE_AA)
    grey = rng.choice([1.0, 0.0, rng.uniform(0.6, 1.0)], p=[0.6, 0.15, 0.25])
    return np.where(ink > 100, grey, np.nan).astype(np.float32)
