"""The way of a frame with a second picture."""

import numpy as np
import pytest

from m2i_ros.geometry import Camera, rigid
from m2i_ros.pipeline import Frame, FrameError, Pipeline, SecondFrame
from m2i_ros.registration.result import Registration, State
from m2i_ros.segmentation.vessel_mask import VesselMask

CAMERAS = Camera.from_detector(64, 64, 1.1, 1e-3), Camera.from_detector(80, 48, 1.2, 2e-3)
T = rigid((0.0, 1.2, 0.0), (0.7, 0.0, 0.6))


class Segmenter:
    def segment(self, image):
        return VesselMask(np.where(image > 0, 255, 0).astype(np.uint8), np.ones(image.shape, bool))

    def segment_beside(self, image):
        self.beside = self.pixel_mm
        return self.segment(image)


class Registrar:
    def register(self, vessels, camera, stamp, second=None):
        self.seen = vessels, camera, stamp, second
        return Registration(State.SEARCHING)


def frame_of(camera, stamp):
    return Frame(np.full((camera.height, camera.width), 9, np.uint8), stamp, camera)


def test_the_registrar_gets_both_views_and_the_time_between_them():
    segmenter, registrar = Segmenter(), Registrar()
    first, second = (frame_of(camera, stamp) for camera, stamp in zip(CAMERAS, (2.0, 1.97)))
    pair = Frame(first.image, first.stamp, first.camera, SecondFrame(second, T))
    result = Pipeline(segmenter, registrar).process(pair)
    vessels, camera, stamp, view = registrar.seen
    assert (camera, stamp, vessels.mask.shape) == (CAMERAS[0], 2.0, (64, 64))
    assert view.camera == CAMERAS[1] and view.apart == pytest.approx(0.03)
    assert np.array_equal(view.T_view_image, T) and np.array_equal(view.vessels.mask, result.second.mask)
    assert result.second.mask.shape == (48, 80)
    assert segmenter.beside == pytest.approx(1e3 * 2e-3 * 0.75 / 1.2), 'the size of its own pixels'
    assert Pipeline(segmenter, registrar).process(first).second is None and registrar.seen[3] is None


@pytest.mark.parametrize(('camera', 'transform', 'word'), [(None, T, 'camera_info'), (CAMERAS[1], 2 * T, 'rigid')])
def test_a_second_picture_without_geometry_is_refused_in_words(camera, transform, word):
    frame = Frame(np.zeros((48, 80), np.uint8), 0.0, camera)
    with pytest.raises(FrameError, match=word):
        SecondFrame(frame, transform)
