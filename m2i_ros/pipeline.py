"""The way of a frame: `Frame` -> segmentation -> registration -> `Result`. All that processes frames calls this."""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from m2i_ros.geometry import Camera, CArm, is_rigid
from m2i_ros.registration.result import Registration
from m2i_ros.segmentation.contrast import ContrastEstimator
from m2i_ros.segmentation.vessel_mask import VesselMask

APART = 0.02  # seconds by which the exposures of two planes may differ to be one frame, where nothing else is said


class FrameError(ValueError):
    """A frame that cannot be processed; the message says what is wrong with it and what to do."""


@dataclass(frozen=True)
class Frame:
    """One fluoroscopy picture.

    image: (H, W) uint8, uint16 or float32, finite, at least 32x32.
    stamp: seconds. camera: None where the geometry is not known (then there is no registration).
    second: what another plane of the X-ray system saw at about that moment, or None; no_second: in words, why there is
    none though there is such a plane.
    T_fixed_image: (4, 4) how the image frame stands in a frame in which the patient lies still, or None: not known.
    Raises FrameError for a picture that is empty, not finite, of another shape or type, or of another size than the
    camera says.
    """

    image: np.ndarray
    stamp: float
    camera: Camera | None = None
    second: 'SecondFrame | None' = None
    T_fixed_image: np.ndarray | None = None
    no_second: str = ''

    def __post_init__(self):
        image = self.image
        if image.ndim != 2 or min(image.shape) < 32:
            raise FrameError(f'image of shape {image.shape}: a grey picture of at least 32x32 pixels is needed')
        if image.dtype not in (np.uint8, np.uint16, np.float32):
            raise FrameError(f'image of type {image.dtype}: uint8, uint16 or float32 is needed')
        if image.dtype == np.float32 and not np.isfinite(image).all():
            raise FrameError('image contains NaN or infinite values: the frame is ignored')
        if self.camera is not None and (self.camera.height, self.camera.width) != image.shape:
            raise FrameError(
                f'image is {image.shape[1]}x{image.shape[0]} but camera_info says '
                f'{self.camera.width}x{self.camera.height}: publish the camera_info of this picture size'
            )


@dataclass(frozen=True)
class SecondFrame:
    """A second plane's `Frame`, whose camera must be known, and where it stands: T_second_image (4, 4).

    T_second_image maps the first picture's image frame into its own. Raises FrameError where the camera is not known or
    the transform is none.
    """

    frame: Frame
    T_second_image: np.ndarray

    def __post_init__(self):
        if self.frame.camera is None:
            raise FrameError('no camera_info of the second picture')
        if not is_rigid(self.T_second_image):
            raise FrameError(f'{np.asarray(self.T_second_image).tolist()} is not a rigid 4x4 motion')


@dataclass(frozen=True)
class Result:
    """What the pipeline made of one frame.

    second: the vessels of the second plane's picture, None without one. `latency` holds seconds a stage:
    'segmentation', 'registration'.
    """

    frame: Frame
    vessels: VesselMask
    registration: Registration
    latency: dict = field(default_factory=dict)
    second: VesselMask | None = None


class Pipeline:
    """Segments frames and registers the model to them, in the order given.

    segmenter: has `segment(image) -> VesselMask`, and `segment_beside` for second planes; is told the size of a pixel
    at the isocentre, `pixel_mm`, where the camera is known (of an ordinary C-arm: 0.75 m from the source).
    registrar: has `register(vessels, camera, stamp) -> Registration`, called with a `SecondView` as well where a frame
    has one; keeps the state between frames.
    """

    def __init__(self, segmenter, registrar):
        self.segmenter = segmenter
        self.registrar = registrar
        self._contrast = ContrastEstimator()

    def process(self, frame):
        """Return the `Result` of one `Frame`."""
        return self.register(frame, *self.segment(frame))

    def segment(self, frame):
        """Return the `VesselMask` of a frame, how long it took, and that of its second picture, for `register`.

        The two may run on a thread each, a frame apart, as long as each gets the frames in their order.
        """
        start = time.perf_counter()
        self.segmenter.pixel_mm = _pixel_mm(frame.camera)
        vessels, second = self.segmenter.segment(frame.image), None
        if frame.second:
            self.segmenter.pixel_mm = _pixel_mm(frame.second.frame.camera)
            second = self.segmenter.segment_beside(frame.second.frame.image)
        return vessels, {'segmentation': time.perf_counter() - start}, second

    def register(self, frame, vessels, latency=None, second=None):
        """Return the `Result` of a frame whose vessels are known already (masks received by topic, or `segment`).

        second: VesselMask of its second picture, where it has one.
        """
        start = time.perf_counter()
        vessels = replace(vessels, contrast=self._contrast.update(vessels, frame.stamp))
        others = ()
        if frame.second:
            from m2i_ros.registration.view import SecondView  # compiled code: not where nothing is registered

            other = frame.second.frame
            apart = abs(other.stamp - frame.stamp)
            others = (SecondView(second, other.camera, frame.second.T_second_image, apart),)
        system = {} if frame.T_fixed_image is None else {'T_fixed_image': frame.T_fixed_image}
        registration = self.registrar.register(vessels, frame.camera, frame.stamp, *others, **system)
        if frame.no_second:
            registration = replace(registration, second=frame.no_second)
        latency = {**(latency or {}), 'registration': time.perf_counter() - start}
        return Result(frame, vessels, registration, latency, second)


def _pixel_mm(camera):
    return 1e3 * CArm.source_to_isocentre / abs(camera.fx) if camera else None
