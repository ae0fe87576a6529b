"""What every source yields."""

from dataclasses import dataclass, replace

import numpy as np

from m2i_ros.geometry import Camera, CArm, inverse, rigid
from m2i_ros.pipeline import APART, Frame, FrameError, SecondFrame
from m2i_ros.ros.stamps import seconds_of


class SourceError(ValueError):
    """A source that cannot be opened or read; the message names the file and what to do."""


@dataclass(frozen=True)
class SecondPicture:
    """What a second plane saw at about the same moment.

    image, stamp: as of `SourceFrame`. camera, T_second_image ((4, 4), from the frame's image frame into this one's):
    None where not known.
    """

    image: np.ndarray
    stamp: float
    camera: Camera | None = None
    T_second_image: np.ndarray | None = None


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
    second: what a second plane saw, nearest in time, or None.
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


def beside(frames, others):
    """Yield the `SourceFrame`s of one plane, each with the nearest in time of another plane that began with it.

    How the planes stand to each other is what their C-arms say, about one isocentre.
    """
    others = iter(others)
    before, after = None, next(others, None)
    for frame in frames:
        while after is not None and after.stamp < frame.stamp:
            before, after = after, next(others, None)
        near = [other for other in (before, after) if other is not None]
        if near:
            other = min(near, key=lambda other: abs(other.stamp - frame.stamp))
            known = frame.c_arm and other.c_arm
            T = other.c_arm.T_image_isocentre @ inverse(frame.c_arm.T_image_isocentre) if known else None
            frame = replace(frame, second=SecondPicture(other.image, other.stamp, other.camera, T))
        yield frame


def with_second(frame, given, origin=0, apart=APART, T_second_image=None):
    """Return a `Frame` with the second picture of its `SourceFrame`, or with why that is of no use.

    origin: ns, when stamps of the source are 0. apart: seconds by which the pictures' stamps may differ.
    T_second_image: (4, 4), instead of what the source says; None: that.
    """
    second = given.second
    if second is None or frame.camera is None:
        return frame
    try:
        if abs(round(1e9 * (second.stamp - given.stamp))) > round(1e9 * apart):
            raise FrameError(f'no picture within {apart:g} s of the image (second.tolerance)')
        T = second.T_second_image if T_second_image is None else T_second_image
        if T is None:
            raise FrameError('how it stands to the first is not known (TF, or view.* and second.*)')
        other = Frame(second.image, seconds_of(origin + round(1e9 * second.stamp)), second.camera)
        return replace(frame, second=SecondFrame(other, T))
    except FrameError as error:
        return replace(frame, no_second=f'second plane: {error}')
