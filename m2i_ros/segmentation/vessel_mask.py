"""What the segmentation found in one frame."""

from dataclasses import dataclass

import numpy as np

from m2i_ros.segmentation.contrast import Contrast


@dataclass(frozen=True)
class VesselMask:
    """The vessels of one frame, at the frame's own resolution.

    mask: (H, W) uint8, 0 or 255.
    valid: (H, W) bool: inside the collimator. Vessel edges along its border are not vessel walls.
    probability: (H, W) float32 in [0, 1], or None where only the mask is known (a mask received by topic).
    contrast: how far the injection is, or None where frames are looked at one by one.
    """

    mask: np.ndarray
    valid: np.ndarray
    probability: np.ndarray | None = None
    contrast: Contrast | None = None
