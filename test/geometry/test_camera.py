"""Projection agrees with OpenCV's, for pictures as the source sees them and for mirrored ones."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2i_ros.geometry import Camera

points_in_front = st.lists(
    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(0.3, 1.2)), min_size=1, max_size=8
).map(np.array)
sign = st.sampled_from([1.0, -1.0])


@given(points_in_front, sign, st.floats(300, 4000), st.floats(300, 4000))
def test_projection_is_opencvs(points, mirror, fx, fy):
    camera = Camera(512, 400, mirror * fx, fy, 250.3, 199.0)
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, None)
    np.testing.assert_allclose(camera.project(points), expected[:, 0], atol=1e-6)


@given(points_in_front, sign)
def test_a_ray_through_a_projected_point_meets_the_point(points, mirror):
    camera = Camera(512, 512, mirror * 1900.0, 1900.0, 255.5, 255.5)
    np.testing.assert_allclose(camera.ray(camera.project(points)) * points[:, 2:], points, atol=1e-9)


def test_focal_length_is_source_to_detector_distance_in_pixels():
    camera = Camera.from_detector(512, 512, source_to_detector=1.1, pixel_spacing=0.0005)
    assert camera.fx == pytest.approx(2200.0)
    # A point 10 mm off axis halfway to the detector is magnified twice: 20 mm = 40 pixels from the centre.
    np.testing.assert_allclose(camera.project([0.01, 0.0, 0.55]), [255.5 + 40, 255.5])


def test_flipping_the_picture_is_what_a_negative_fx_says():
    camera = Camera(512, 300, 2000.0, 2000.0, 240.0, 150.0)
    picture = np.zeros((300, 512), np.uint8)
    point = np.array([0.02, 0.01, 0.8])
    u, v = np.rint(camera.project(point)).astype(int)
    picture[v, u] = 255
    flipped = np.ascontiguousarray(picture[:, ::-1])
    u, v = np.rint(camera.flipped().project(point)).astype(int)
    assert flipped[v, u] == 255
    assert camera.flipped().mirrored and not camera.mirrored
    assert camera.flipped().flipped() == camera


def test_a_scaled_camera_sees_what_area_resampling_shows():
    camera = Camera(512, 512, 1900.0, 1900.0, 255.5, 255.5)
    point = np.array([0.031, -0.042, 0.75])
    u, v = camera.project(point)
    rows, columns = np.mgrid[:512, :512]
    blob = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 12.0**2)).astype(np.float32)
    small = cv2.resize(blob, (128, 128), interpolation=cv2.INTER_AREA)
    total = small.sum()
    centre = ((small.sum(0) * np.arange(128)).sum() / total, (small.sum(1) * np.arange(128)).sum() / total)
    np.testing.assert_allclose(camera.scaled(0.25).project(point), centre, atol=0.01)


def test_points_at_or_behind_the_source_have_no_projection():
    camera = Camera(64, 64, 100.0, 100.0, 31.5, 31.5)
    assert np.isnan(camera.project([[0.0, 0.0, 0.0], [0.1, 0.0, -0.5]])).all()


@pytest.mark.parametrize(
    'values',
    [dict(fx=0.0), dict(fy=0.0), dict(fy=-1.0), dict(cx=np.nan), dict(fx=np.inf), dict(width=0), dict(height=-4)],
)
def test_an_impossible_camera_is_refused(values):
    with pytest.raises(ValueError, match='camera'):
        Camera(**{**dict(width=64, height=64, fx=100.0, fy=100.0, cx=31.5, cy=31.5), **values})
