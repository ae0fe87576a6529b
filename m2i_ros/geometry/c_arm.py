"""The C-arm: from positioner angles, as DICOM states them, to the pose of the image frame."""

from dataclasses import dataclass

import numpy as np

from m2i_ros.geometry.rigid import rigid


@dataclass(frozen=True)
class CArm:
    """An isocentric C-arm.

    primary_angle: radians, DICOM (0018,1510): positive LAO (detector towards the patient's left), negative RAO.
    secondary_angle: radians, DICOM (0018,1511): positive cranial (detector towards the head), negative caudal.
    source_to_isocentre, source_to_detector: metres, DICOM (0018,1111) and (0018,1110).

    Raises ValueError when the isocentre does not lie between source and detector.
    """

    primary_angle: float = 0.0
    secondary_angle: float = 0.0
    source_to_isocentre: float = 0.75
    source_to_detector: float = 1.1

    def __post_init__(self):
        values = (self.primary_angle, self.secondary_angle, self.source_to_isocentre, self.source_to_detector)
        if not np.isfinite(values).all() or not 0 < self.source_to_isocentre <= self.source_to_detector:
            raise ValueError(
                f'C-arm: source to isocentre {self.source_to_isocentre} m must be above 0 and at most source to '
                f'detector {self.source_to_detector} m, and the angles finite'
            )

    @property
    def T_image_isocentre(self):
        """The (4, 4) map from the isocentre frame into the image frame.

        The isocentre frame has the patient's LPS axes for a patient lying supine, head first: x to the left, y to the
        back, z to the head. At angles 0/0 the source is behind the patient and the detector in front. The image frame
        is optical: z from the source to the detector, y towards the feet, x = y cross z.
        """
        sin_p, cos_p = np.sin(self.primary_angle), np.cos(self.primary_angle)
        sin_s, cos_s = np.sin(self.secondary_angle), np.cos(self.secondary_angle)
        z = np.array([sin_p * cos_s, -cos_p * cos_s, sin_s])
        y = np.array([sin_p * sin_s, -cos_p * sin_s, -cos_s])
        return rigid(np.stack([np.cross(y, z), y, z]), (0.0, 0.0, self.source_to_isocentre))
