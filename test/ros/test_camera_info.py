"""CameraInfo and Camera say the same; what is no C-arm is refused in words."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2i_ros.geometry import Camera
from m2i_ros.ros.camera_info import camera_from_info, fill_camera_info


def info(camera, **changes):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    message = fill_camera_info(SimpleNamespace(binning_x=0, binning_y=0, roi=roi), None, camera)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@given(fx=st.floats(100, 1e4), mirrored=st.booleans(), cx=st.floats(-50, 700), cy=st.floats(-50, 700))
def test_a_camera_survives_the_message(fx, mirrored, cx, cy):
    camera = Camera(640, 480, -fx if mirrored else fx, fx, cx, cy)
    message = info(camera)
    assert camera_from_info(message) == camera
    assert message.p[0] == message.k[0] and np.sign(message.p[0]) == (-1 if mirrored else 1)


def test_binning_keeps_the_place_that_a_pixel_shows():
    camera = Camera(640, 480, 2000.0, 1800.0, 300.0, 250.0)
    binned = camera_from_info(info(camera, binning_x=2, binning_y=4))
    assert (binned.width, binned.height) == (320, 120)
    # The ray through the common corner of the first 2x4 pixels' block: its middle is binned pixel (0, 0).
    np.testing.assert_allclose(binned.ray([0, 0]), camera.ray([0.5, 1.5]), atol=1e-12)
    np.testing.assert_allclose(binned.ray([319, 119]), camera.ray([638.5, 477.5]), atol=1e-12)


def test_a_region_of_interest_moves_the_centre():
    camera = Camera(640, 480, 2000.0, 2000.0, 300.0, 250.0)
    roi = SimpleNamespace(x_offset=100, y_offset=60, width=200, height=100)
    cut = camera_from_info(info(camera, roi=roi))
    assert (cut.width, cut.height) == (200, 100)
    np.testing.assert_allclose(cut.ray([0, 0]), camera.ray([100, 60]), atol=1e-12)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'k': [0.0] * 9}, 'all zeros.*pixel spacing'),
        ({'k': [1e3, 1.0, 5.0, 0.0, 1e3, 5.0, 0.0, 0.0, 1.0]}, 'must be'),
        ({'k': [1e3, 0.0, 5.0, 0.0, -1e3, 5.0, 0.0, 0.0, 1.0]}, 'fy must be positive'),
        ({'k': [float('nan'), 0.0, 5.0, 0.0, 1e3, 5.0, 0.0, 0.0, 1.0]}, 'finite'),
        ({'d': [0.1, 0.0, 0.0, 0.0, 0.0]}, 'distortion'),
        ({'width': 0}, 'size 0x480'),
    ],
)
def test_what_is_no_calibrated_pinhole_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        camera_from_info(info(Camera(640, 480, 2000.0, 2000.0, 300.0, 250.0), **changes))
