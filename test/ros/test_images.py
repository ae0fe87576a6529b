"""Image messages become the grey picture they hold, whatever their layout; what is none is refused in words."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2i_ros.pipeline import FrameError
from m2i_ros.ros.images import fill_image, grey_from_compressed, grey_from_image

LAYOUTS = {'mono8': 'u1', '8UC1': 'u1', 'mono16': 'u2', '16UC1': 'u2', '32FC1': 'f4'}
COLOURS = {'rgb8': (0, 1, 2), 'bgr8': (2, 1, 0), 'rgba8': (0, 1, 2), 'bgra8': (2, 1, 0)}


def image(pixels, encoding, padding=0, bigendian=False):
    """Return an Image-like message, each row written byte by byte as the message's definition says."""
    height, width = pixels.shape[:2]
    dtype = pixels.dtype.newbyteorder('>' if bigendian else '<')
    rows = [row.astype(dtype).tobytes() + b'\xaa' * padding for row in pixels]
    layout = {'height': height, 'width': width, 'encoding': encoding, 'is_bigendian': int(bigendian)}
    return SimpleNamespace(**layout, step=len(rows[0]), data=b''.join(rows))


@given(
    encoding=st.sampled_from(sorted(LAYOUTS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 5),
    bigendian=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_grey_pictures_survive_any_step_and_byte_order(encoding, height, width, padding, bigendian, seed):
    dtype = np.dtype(LAYOUTS[encoding])
    raw = np.random.default_rng(seed).integers(0, 256, (height, width * dtype.itemsize), dtype=np.uint8)
    pixels = np.nan_to_num(raw.view(dtype))
    grey = grey_from_image(image(pixels, encoding, padding, bigendian))
    assert grey.dtype == dtype and grey.dtype.isnative and grey.flags.c_contiguous
    np.testing.assert_array_equal(grey, pixels)


@given(encoding=st.sampled_from(sorted(COLOURS)), padding=st.integers(0, 5), rgb=st.tuples(*[st.integers(0, 255)] * 3))
def test_colour_is_weighted_as_the_eye_does(encoding, padding, rgb):
    pixels = np.full((3, 4, 4 if 'a8' in encoding else 3), 77, np.uint8)
    for value, channel in zip(rgb, COLOURS[encoding], strict=True):
        pixels[..., channel] = value
    luma = np.dot((0.299, 0.587, 0.114), rgb)  # ITU-R BT.601
    assert np.abs(grey_from_image(image(pixels, encoding, padding)) - luma).max() <= 1  # rounding


def test_a_grey_picture_sent_as_colour_keeps_its_values():
    grey = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    for encoding in ('rgb8', 'bgr8'):
        np.testing.assert_array_equal(grey_from_image(image(np.dstack([grey] * 3), encoding)), grey)


@pytest.mark.parametrize('size', [(0, 10), (10, 0), (0, 0)])
def test_an_empty_image_is_refused(size):
    message = image(np.zeros((1, 1), np.uint8), 'mono8')
    message.height, message.width = size
    with pytest.raises(FrameError, match='empty image'):
        grey_from_image(message)


@pytest.mark.parametrize('change', [{'step': 99}, {'data': b'\0' * 99}, {'height': 101}, {'width': 101}])
def test_a_size_that_does_not_fit_the_data_is_refused(change):
    message = image(np.zeros((100, 100), np.uint8), 'mono8')
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(FrameError, match='step'):
        grey_from_image(message)


def test_an_unknown_encoding_is_refused_by_name_and_the_right_ones_are_listed():
    with pytest.raises(FrameError, match='"sepia17".*mono8, 8UC1, mono16'):
        grey_from_image(image(np.zeros((40, 40), np.uint8), 'sepia17'))


@pytest.mark.parametrize(('dtype', 'suffix'), [(np.uint8, '.png'), (np.uint16, '.png'), (np.uint8, '.jpg')])
def test_compressed_pictures_are_decoded(dtype, suffix):
    y, x = np.mgrid[:48, :64]
    pixels = ((x + y) * np.iinfo(dtype).max // 200).astype(dtype)
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    grey = grey_from_compressed(SimpleNamespace(format=suffix, data=data))
    assert grey.dtype == dtype
    assert np.abs(grey.astype(int) - pixels).max() <= (3 if suffix == '.jpg' else 0)  # JPEG loses a little


@pytest.mark.parametrize('data', [b'', b'no picture at all'])
def test_compressed_data_that_are_no_picture_are_refused(data):
    with pytest.raises(FrameError, match='cannot be decoded'):
        grey_from_compressed(SimpleNamespace(format='jpeg', data=data))


@pytest.mark.parametrize(
    ('pixels', 'encoding'),
    [
        (np.arange(35, dtype=np.uint8).reshape(5, 7), 'mono8'),
        (np.arange(35, dtype=np.uint16).reshape(5, 7), 'mono16'),
        (np.arange(35, dtype=np.float32).reshape(5, 7), '32FC1'),
        (np.arange(35, dtype=np.uint8).reshape(5, 7)[:, ::-1], 'mono8'),  # not contiguous
    ],
)
def test_a_picture_written_to_a_message_is_read_back(pixels, encoding):
    message = fill_image(SimpleNamespace(), 'the header', pixels)
    assert (message.header, message.encoding) == ('the header', encoding)
    assert len(message.data) == message.step * message.height
    np.testing.assert_array_equal(grey_from_image(message), pixels)


def test_colour_is_written_as_bgr8():
    pixels = np.random.default_rng(2).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = fill_image(SimpleNamespace(), None, pixels)
    assert (message.encoding, message.step) == ('bgr8', 21)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(5, 7, 3), pixels)
