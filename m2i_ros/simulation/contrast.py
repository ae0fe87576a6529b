"""How contrast spreads in vessels: along them, across them and out of them."""

import cv2
import numpy as np


def bolus(travel, front, length, mixing):
    """Return the concentration (N,), 0 to 1, of a bolus on its way: a front and a tail, both blurred by mixing.

    travel: (N,) metres that blood runs from the root. front: how far it has come, metres. length: from front to tail,
    metres [inf: no wash-out]. mixing: metres over which an edge is spread [0]. The model of Waechter et al., Med Image
    Anal 2008;12:586, at one instant.
    """
    mixing = max(mixing, 1e-9)
    return _sigmoid((front - travel) / mixing) * (1 - _sigmoid((front - length - travel) / mixing))


def swirled(rng, path, size_px, amount):
    """Return the contrast's path (H, W) with streaks of unmixed blood `size_px` wide.

    amount: standard deviation of the concentration as a share of its mean [0]. Contrast is heavier and more viscous
    than blood and mixes late (Lieber et al., Med Phys 2009;36:5064).
    """
    count = int(np.clip(max(path.shape) / size_px, 2, 60)) + 2
    coarse = rng.standard_normal((count, count), dtype=np.float32)
    streaks = cv2.resize(coarse, path.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return path * np.clip(1 + amount * streaks, 0.05, 2)


def layered(pixels, radii_px, down, share):
    """Return axis points (N, 2) and radii (N,) of the lower part of the lumen, where heavy contrast sinks.

    down: (2,) projected direction of gravity, at most 1 long: shorter where gravity runs along the rays.
    share: radius of the lower part as a share of the lumen's [1: the whole lumen].
    """
    return pixels + (1 - share) * radii_px[:, None] * np.asarray(down), share * radii_px


def puff(rng, shape, at, size_px):
    """Return a cloud (H, W), at most about 1, of contrast that leaves a catheter's tip and misses the vessel.

    at: (2,) pixel. size_px: its standard deviation. Reflux into the aorta's sinus looks so.
    """
    y, x = np.ogrid[: shape[0], : shape[1]]
    u, v = (x - at[0]) / size_px, (y - at[1]) / (size_px * rng.uniform(0.6, 1.4))
    ragged = cv2.resize(rng.standard_normal((12, 12), dtype=np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (np.exp(-0.5 * (u**2 + v**2)) * np.clip(0.7 + 0.6 * ragged, 0, 1.5)).astype(np.float32)


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))
