"""The X-ray system as a pinhole camera: source = optical centre, detector = picture plane."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels, as in `CameraInfo.K`.

    |fx| = source-to-detector distance / pixel spacing at the detector. The picture as the source sees it has fx > 0; a
    picture stored as displayed, as if one faced the patient, has fx < 0 (FIELD: a rigid motion cannot mirror, so the
    camera matrix must). fy > 0 always.

    Pixel centres have integer coordinates: the picture covers u in [-0.5, width - 0.5].

    Raises ValueError when a value is not finite or out of its range.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        values = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(values).all():
            raise ValueError(f'camera: fx, fy, cx, cy = {values} must be finite numbers')
        if self.width < 1 or self.height < 1:
            raise ValueError(f'camera: size {self.width}x{self.height} must be at least 1x1')
        if self.fx == 0 or self.fy <= 0:
            raise ValueError(
                f'camera: fx = {self.fx}, fy = {self.fy}: fx must not be 0 (negative means a picture stored as '
                f'displayed) and fy must be positive; is the camera uncalibrated?'
            )

    @classmethod
    def from_detector(cls, width, height, source_to_detector, pixel_spacing, mirrored=False):
        """Return the camera of a detector whose centre is hit by the central ray.

        source_to_detector, pixel_spacing: metres, DICOM (0018,1110) and (0018,1164).
        mirrored: the picture is stored as displayed, facing the patient (fx < 0).
        """
        f = source_to_detector / pixel_spacing
        return cls(width, height, -f if mirrored else f, f, (width - 1) / 2, (height - 1) / 2)

    @property
    def K(self):
        """The (3, 3) camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def mirrored(self):
        """Whether the picture is the mirror image of what the source sees."""
        return self.fx < 0

    def project(self, points_image):
        """Return pixel coordinates (..., 2) of points (..., 3), metres, in the image frame.

        Points at or behind the source (z <= 0) project to NaN.
        """
        points_image = np.asarray(points_image, dtype=float)
        z = np.where(points_image[..., 2] > 0, points_image[..., 2], np.nan)
        return np.stack(
            [self.fx * points_image[..., 0] / z + self.cx, self.fy * points_image[..., 1] / z + self.cy], axis=-1
        )

    def ray(self, pixels):
        """Return directions (..., 3) with z = 1 of the rays from the source through pixels (..., 2)."""
        pixels = np.asarray(pixels, dtype=float)
        return np.stack(
            [(pixels[..., 0] - self.cx) / self.fx, (pixels[..., 1] - self.cy) / self.fy, np.ones(pixels.shape[:-1])],
            axis=-1,
        )

    def scaled(self, factor):
        """Return the camera of the picture resampled by `factor` (0.5 halves the size), pixel areas kept aligned."""
        return Camera(
            max(1, round(self.width * factor)),
            max(1, round(self.height * factor)),
            self.fx * factor,
            self.fy * factor,
            (self.cx + 0.5) * factor - 0.5,
            (self.cy + 0.5) * factor - 0.5,
        )

    def flipped(self):
        """Return the camera of the picture flipped left to right."""
        return Camera(self.width, self.height, -self.fx, self.fy, self.width - 1 - self.cx, self.cy)
