"""cv_bridge, genuine or stand-in."""

import numpy as np
import pytest

cv_bridge = pytest.importorskip('cv_bridge')


@pytest.fixture
def bridge():
    return cv_bridge.CvBridge()


@pytest.mark.parametrize(
    ('encoding', 'dtype', 'channels'),
    [('mono8', 'uint8', 1), ('mono16', 'uint16', 1), ('bgr8', 'uint8', 3), ('32FC1', 'float32', 1)],
)
def test_a_picture_comes_back_as_it_went(bridge, encoding, dtype, channels):
    picture = (np.random.default_rng(0).random((5, 7, channels)) * 250).astype(dtype).squeeze()
    message = bridge.cv2_to_imgmsg(picture, encoding)
    assert (message.height, message.width, message.encoding) == (5, 7, encoding)
    assert np.array_equal(bridge.imgmsg_to_cv2(message), picture)


def test_padded_rows_and_big_ends_are_honoured(bridge):
    picture = np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000
    message = bridge.cv2_to_imgmsg(picture, 'mono16')
    rows = np.full((3, 11), 255, np.uint8)
    rows[:, :8] = picture.astype('>u2').view(np.uint8).reshape(3, 8)
    message.data, message.step, message.is_bigendian = rows.tobytes(), 11, 1
    assert np.array_equal(bridge.imgmsg_to_cv2(message), picture)


def test_colours_are_put_in_order_and_made_grey(bridge):
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    message = bridge.cv2_to_imgmsg(red, 'rgb8')
    assert np.array_equal(bridge.imgmsg_to_cv2(message, 'bgr8')[0, 0], [0, 0, 200])
    assert bridge.imgmsg_to_cv2(message, 'mono8')[0, 0] == round(0.299 * 200)


def test_a_bayer_mosaic_of_one_colour_becomes_that_colour(bridge):
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[0::2, 0::2] = 180  # rggb: red in the even rows' even columns
    message = bridge.cv2_to_imgmsg(mosaic, '8UC1')
    message.encoding = 'bayer_rggb8'
    assert np.array_equal(bridge.imgmsg_to_cv2(message, 'rgb8')[4, 4], [180, 0, 0])


def test_yuv422_grey_is_its_luma(bridge):
    message = bridge.cv2_to_imgmsg(np.full((4, 4, 2), 128, np.uint8), '8UC2')
    message.encoding = 'yuv422'  # u y v y, full grey
    grey = bridge.imgmsg_to_cv2(message, 'bgr8')
    assert np.ptp(grey) <= 1
    assert abs(int(grey[0, 0, 0]) - 130) <= 3  # luma 128 of 16..235


def test_an_unknown_encoding_is_refused_by_name(bridge):
    message = bridge.cv2_to_imgmsg(np.zeros((2, 2), np.uint8), 'mono8')
    message.encoding = 'jabberwocky'
    with pytest.raises(Exception, match='jabberwocky'):
        bridge.imgmsg_to_cv2(message, 'bgr8')
