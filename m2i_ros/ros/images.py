"""Image and CompressedImage messages to grey pictures, and arrays to Image messages.

The functions touch only the messages' fields, so that they serve rclpy's messages and those of a bag reader alike.
"""

import array

import cv2
import numpy as np

from m2i_ros.pipeline import FrameError

# encoding: (type of one channel, channels, OpenCV's conversion to grey)
_ENCODINGS = {
    'mono8': (np.uint8, 1, None),
    '8UC1': (np.uint8, 1, None),
    'mono16': (np.uint16, 1, None),
    '16UC1': (np.uint16, 1, None),
    '32FC1': (np.float32, 1, None),
    'rgb8': (np.uint8, 3, cv2.COLOR_RGB2GRAY),
    'bgr8': (np.uint8, 3, cv2.COLOR_BGR2GRAY),
    'rgba8': (np.uint8, 4, cv2.COLOR_RGBA2GRAY),
    'bgra8': (np.uint8, 4, cv2.COLOR_BGRA2GRAY),
}

_OUTPUT_ENCODINGS = {
    (np.dtype(np.uint8), 2): 'mono8',
    (np.dtype(np.uint16), 2): 'mono16',
    (np.dtype(np.float32), 2): '32FC1',
    (np.dtype(np.uint8), 3): 'bgr8',
}


def grey_from_image(message):
    """Return the grey picture (H, W), uint8, uint16 or float32, of a sensor_msgs/Image.

    `step` and `is_bigendian` are honoured. Where the layout allows, the array shares the message's memory.
    Raises FrameError for an empty picture, a step or data length that does not fit, and an encoding nobody can decode.
    """
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise FrameError(f'empty image ({width}x{height}): does the source send pictures?')
    if message.encoding not in _ENCODINGS:
        return _grey_by_cv_bridge(message)
    kind, channels, to_grey = _ENCODINGS[message.encoding]
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    row = width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if step < row or len(data) < step * height:
        raise FrameError(
            f'image {width}x{height} {message.encoding} needs a step of at least {row} bytes and step x height bytes '
            f'of data: it has step {step} and {len(data)} bytes. Fix the publisher'
        )
    pixels = data[: step * height].reshape(height, step)[:, :row].view(dtype)
    pixels = np.ascontiguousarray(pixels, kind)
    return pixels if to_grey is None else cv2.cvtColor(pixels.reshape(height, width, channels), to_grey)


def grey_from_compressed(message):
    """Return the grey picture (H, W), uint8 or uint16, of a sensor_msgs/CompressedImage (JPEG, PNG, ...).

    Raises FrameError when the data are not a picture OpenCV can read.
    """
    data = np.frombuffer(message.data, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if picture is None:
        raise FrameError(
            f'compressed image of format "{message.format}" ({len(data)} bytes) cannot be decoded: send JPEG or PNG, '
            f'or use image_transport:=raw'
        )
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY if picture.shape[2] == 3 else cv2.COLOR_BGRA2GRAY)
    return picture


def fill_image(message, header, pixels):
    """Fill a sensor_msgs/Image with a header and an array, and return it.

    pixels: (H, W) uint8, uint16 or float32, or (H, W, 3) uint8 in BGR order; sent as mono8, mono16, 32FC1 or bgr8.
    """
    pixels = np.ascontiguousarray(pixels)
    # array.array is what rclpy stores as it is; any other buffer is checked and copied byte by byte.
    data = array.array('B')
    data.frombytes(pixels.data.cast('B'))
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = _OUTPUT_ENCODINGS[pixels.dtype, pixels.ndim]
    message.is_bigendian = 0
    message.step = len(data) // message.height
    message.data = data
    return message


def _grey_by_cv_bridge(message):
    try:
        # Only here: its compiled part does not load beside every NumPy, and rare encodings alone need it.
        from cv_bridge import CvBridge

        return CvBridge().imgmsg_to_cv2(message, desired_encoding='mono8')
    except Exception as error:  # ImportError, CvBridgeError, or what a broken build raises
        raise FrameError(
            f'unknown image encoding "{message.encoding}": send one of {", ".join(_ENCODINGS)}, or one that cv_bridge '
            f'turns into mono8 (it said: {error})'
        ) from error
