"""The mask at the sizes that registration works at."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from m2i_ros.geometry import Camera
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.contour import mask_contour

FULL = 512  # pixels: a larger picture is reduced until its longer side has this


@dataclass(frozen=True)
class View:
    """A vessel mask and its camera at one size.

    mask: (H, W) uint8, 0 to 255: how much of a pixel is vessel, 0 outside the valid area. valid: (H, W) bool.
    """

    mask: np.ndarray
    valid: np.ndarray
    camera: Camera

    @cached_property
    def contour(self):
        """The mask's `MaskContour`."""
        return mask_contour(self.mask, self.valid)

    def reduced(self, factor):
        """Return the view at `factor` (0 to 1) times the size."""
        camera = self.camera.scaled(factor)
        size = (camera.width, camera.height)
        return View(
            cv2.resize(self.mask, size, interpolation=cv2.INTER_AREA),
            cv2.resize(self.valid.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).view(bool),
            camera,
        )

    def overlap(self, surface, T_image_model):
        """Return Dice, recall and precision of the projected surface against the mask, NaN where a sum is empty."""
        model = (silhouette(surface, T_image_model, self.camera) > 0) & self.valid
        vessel = self.mask > 127
        common, model, vessel = (float(np.count_nonzero(a)) for a in (model & vessel, model, vessel))
        with np.errstate(invalid='ignore'):
            return tuple(np.divide(common, np.array([(model + vessel) / 2, vessel, model])).tolist())


def view_of(vessels, camera):
    """Return the full `View` of a VesselMask: at its own size, or reduced to `FULL`."""
    valid = np.ascontiguousarray(vessels.valid, dtype=bool)
    view = View(np.where(valid, vessels.mask, 0).astype(np.uint8, copy=False), valid, camera)
    factor = FULL / max(camera.width, camera.height)
    return view.reduced(factor) if factor < 1 else view
