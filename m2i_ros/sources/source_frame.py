"""What every source yields."""

from dataclasses import dataclass

import numpy as np

from m2i_ros.geometry import Camera, CArm, inverse, rigid


class SourceError(ValueError):
    """A source that cannot be opened or read; the message names the file and what to do."""


@dataclass(frozen=True)
class SecondPicture:
    """What a second plane saw at the same moment: image as of `SourceFrame`, camera, how its C-arm stands."""

    image: np.ndarray
    camera: Camera
    c_arm: CArm


@dataclass(frozen=True)
class SourceFrame:
    """One picture of a source, with the truth where the source knows it.

    image: (H, W) uint8, uint16 or float32. stamp: seconds from the source's first frame.
    name: file name without its suffix, or '' where frames have no names.
    camera: None where the geometry is not known.
    T_image_model: (4, 4) true pose, metres, or None. mask: (H, W) uint8, 0 or 255: the vessels to be seen, or None.
    c_arm: how the C-arm stands, or None. table: (3,) how far the table has moved since the run's first frame, metres
    along the axes of the isocentre, or None.
    initial_pose: (4, 4) pose that was given, before this picture, for the search to start anew from, or None;
    initial_covariance: its (6, 6) covariance (`registration.Registration`), None where not known.
    second: what a second plane saw; then `c_arm` is known too.
    """

    image: np.ndarray
    stamp: float
    name: str = ''
    camera: Camera | None = None
    T_image_model: np.ndarray | None = None
    mask: np.ndarray | None = None
    c_arm: CArm | None = None
    table: np.ndarray | None = None
    initial_pose: np.ndarray | None = None
    initial_covariance: np.ndarray | None = None
    second: SecondPicture | None = None

    @property
    def T_table_isocentre(self):
        """(4, 4) how the isocentre stands above the table; the identity where no motion of the table is known."""
        return rigid() if self.table is None else rigid(translation=-self.table)

    @property
    def T_table_image(self):
        """(4, 4) how the image frame stands above the table on which the patient lies, or None: not known."""
        return None if self.c_arm is None else self.T_table_isocentre @ inverse(self.c_arm.T_image_isocentre)
