"""The mask at the sizes that registration works at."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from m2i_ros.geometry import Camera
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.contour import mask_contour

FULL = 512  # pixels: a larger picture is reduced until its longer side has this
POINTS = 800 / FULL  # of the contour for each pixel of a picture's longer side, at most


@dataclass(frozen=True)
class View:
    """A vessel mask and its camera at one size.

    mask: (H, W) uint8, 0 to 255: how much of a pixel is vessel, 0 outside the valid area. valid: (H, W) bool.
    T_view_image: (4, 4) from the image frame, in which the pose is sought, into this view's own: the identity for the
    first view. sway: (2, 2) square metres, covariance in its plane of how far the anatomy is elsewhere in this view
    than T_view_image says (seen at another moment; an inexact geometry); twist: radians, standard deviation about each
    axis of how far it is turned. Without meaning for the first view.
    age: seconds since this picture, where it is one that was kept while the C-arm turned; 0 for the frame's own.
    """

    mask: np.ndarray
    valid: np.ndarray
    camera: Camera
    T_view_image: np.ndarray = field(default_factory=lambda: np.eye(4))
    sway: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    twist: float = 0.0
    age: float = 0.0

    @cached_property
    def contour(self):
        """The mask's `MaskContour`."""
        return mask_contour(self.mask, self.valid, round(POINTS * max(self.mask.shape)))

    def reduced(self, factor):
        """Return the view at `factor` (0 to 1) times the size."""
        camera = self.camera.scaled(factor)
        size = (camera.width, camera.height)
        return replace(
            self,
            mask=cv2.resize(self.mask, size, interpolation=cv2.INTER_AREA),
            valid=cv2.resize(self.valid.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).view(bool),
            camera=camera,
        )

    def overlap(self, surface, T_image_model):
        """Return Dice, recall and precision of the projected surface against the mask, NaN where a sum is empty."""
        model = silhouette(surface, self.T_view_image @ T_image_model, self.camera).view(bool) & self.valid
        vessel = (self.mask >> 7).view(bool)
        common, model, vessel = (float(np.count_nonzero(a)) for a in (model & vessel, model, vessel))
        with np.errstate(invalid='ignore'):
            return tuple(np.divide(common, np.array([(model + vessel) / 2, vessel, model])).tolist())


@dataclass(frozen=True)
class SecondView:
    """A picture from elsewhere that belongs to a frame: another plane of the X-ray system.

    vessels: VesselMask. camera: Camera of its size. T_view_image: (4, 4) from the frame's image frame into its own.
    apart: seconds between the two exposures.
    """

    vessels: object
    camera: Camera
    T_view_image: np.ndarray
    apart: float = 0.0


def view_of(vessels, camera, T_view_image=None, sway=None):
    """Return the full `View` of a VesselMask: at its own size, or reduced to `FULL`. The others: see there."""
    valid = np.ascontiguousarray(vessels.valid, dtype=bool)
    mask = vessels.mask * valid
    others = {'T_view_image': T_view_image, 'sway': sway}
    view = View(mask, valid, camera, **{name: value for name, value in others.items() if value is not None})
    factor = FULL / max(camera.width, camera.height)
    return view.reduced(factor) if factor < 1 else view
