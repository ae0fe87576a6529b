"""Images between messages and OpenCV's arrays: a stand-in for cv_bridge (8 and 16 bit, float, Bayer, YUV 4:2:2)."""

import sys

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

__all__ = ['CvBridge', 'CvBridgeError']

# name -> (dtype, channels) as they lie in a message's data
_LAYOUT = {
    'mono8': ('uint8', 1),
    'mono16': ('uint16', 1),
    'rgb8': ('uint8', 3),
    'bgr8': ('uint8', 3),
    'rgba8': ('uint8', 4),
    'bgra8': ('uint8', 4),
    'yuv422': ('uint8', 2),
    'uyvy': ('uint8', 2),
    'yuv422_yuy2': ('uint8', 2),
    'yuyv': ('uint8', 2),
    **{f'bayer_{order}8': ('uint8', 1) for order in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{f'bayer_{order}16': ('uint16', 1) for order in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{
        f'{depth}C{channels}': (dtype, channels)
        for depth, dtype in (('8U', 'uint8'), ('16U', 'uint16'), ('16S', 'int16'), ('32S', 'int32'), ('32F', 'float32'))
        for channels in (1, 2, 3, 4)
    },
}

# To bgr of the same depth. OpenCV names a Bayer pattern by its second row, ROS by its first.
_TO_BGR = {
    'mono': cv2.COLOR_GRAY2BGR,
    'bgr': None,
    'rgb': cv2.COLOR_RGB2BGR,
    'bgra': cv2.COLOR_BGRA2BGR,
    'rgba': cv2.COLOR_RGBA2BGR,
    'yuv422': cv2.COLOR_YUV2BGR_UYVY,
    'uyvy': cv2.COLOR_YUV2BGR_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2BGR_YUYV,
    'yuyv': cv2.COLOR_YUV2BGR_YUYV,
    'bayer_rggb': cv2.COLOR_BayerBG2BGR,
    'bayer_bggr': cv2.COLOR_BayerRG2BGR,
    'bayer_gbrg': cv2.COLOR_BayerGR2BGR,
    'bayer_grbg': cv2.COLOR_BayerGB2BGR,
}
_FROM_BGR = {
    'mono': cv2.COLOR_BGR2GRAY,
    'bgr': None,
    'rgb': cv2.COLOR_BGR2RGB,
    'bgra': cv2.COLOR_BGR2BGRA,
    'rgba': cv2.COLOR_BGR2RGBA,
}


class CvBridgeError(TypeError):
    """An encoding that cannot be read or made."""


class CvBridge:
    """Converts images both ways."""

    def imgmsg_to_cv2(self, img_msg, desired_encoding='passthrough'):
        """Returns the picture (H, W) or (H, W, C) of an Image message, in `desired_encoding`."""
        dtype, channels = _layout(img_msg.encoding)
        dtype = np.dtype(dtype).newbyteorder('>' if img_msg.is_bigendian else '<')
        rows = np.frombuffer(img_msg.data, np.uint8).reshape(img_msg.height, img_msg.step)
        used = np.ascontiguousarray(rows[:, : img_msg.width * channels * dtype.itemsize])
        picture = used.view(dtype).astype(dtype.newbyteorder('='), copy=False)
        if channels > 1:
            picture = picture.reshape(img_msg.height, img_msg.width, channels)
        return _convert(picture, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(self, cvim, encoding='passthrough', header=None):
        """Returns the Image message of a picture; `encoding` must fit its type, 'passthrough' names it by its type."""
        own = f'{_DEPTH[cvim.dtype.name]}C{1 if cvim.ndim == 2 else cvim.shape[2]}'
        if encoding == 'passthrough':
            encoding = own
        if (cvim.dtype.name, 1 if cvim.ndim == 2 else cvim.shape[2]) != _layout(encoding):
            raise CvBridgeError(f'encoding specified as {encoding}, but image has incompatible type {own}')
        message = Image(
            height=cvim.shape[0], width=cvim.shape[1], encoding=encoding, is_bigendian=sys.byteorder == 'big'
        )
        if header is not None:
            message.header = header
        message.data.frombytes(np.ascontiguousarray(cvim).tobytes())
        message.step = len(message.data) // message.height
        return message

    def compressed_imgmsg_to_cv2(self, cmprs_img_msg, desired_encoding='passthrough'):
        """Returns the picture of a CompressedImage message: bgr8 or mono8 where `desired_encoding` is 'passthrough'."""
        picture = cv2.imdecode(np.frombuffer(cmprs_img_msg.data, np.uint8), cv2.IMREAD_ANYCOLOR)
        if picture is None:
            raise CvBridgeError(f'not a picture that can be decoded (format "{cmprs_img_msg.format}")')
        return _convert(picture, 'mono8' if picture.ndim == 2 else 'bgr8', desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim, dst_format='jpg'):
        """Returns the CompressedImage message of a picture."""
        message = CompressedImage(format=dst_format)
        message.data.frombytes(cv2.imencode('.' + dst_format, cvim)[1].tobytes())
        return message


_DEPTH = {'uint8': '8U', 'uint16': '16U', 'int16': '16S', 'int32': '32S', 'float32': '32F'}


def _layout(encoding):
    if encoding not in _LAYOUT:
        raise CvBridgeError(f'encoding "{encoding}" is not in this stand-in: install ROS 2 for it')
    return _LAYOUT[encoding]


def _colour(encoding):
    """Returns (colour, bits): 'bgr8' is ('bgr', 8)."""
    for bits in (16, 8):
        if encoding.endswith(str(bits)):
            return encoding[: -len(str(bits))], bits
    return encoding, 8


def _convert(picture, source, target):
    if target in ('passthrough', source):
        return picture
    dtype, channels = _layout(target)
    if source[0].isdigit() or target[0].isdigit():  # a bare type says nothing of colours: it is only renamed
        if (picture.dtype.name, 1 if picture.ndim == 2 else picture.shape[2]) != (dtype, channels):
            raise CvBridgeError(f'[{source}] is not convertible to [{target}]')
        return picture
    (from_colour, from_bits), (to_colour, to_bits) = _colour(source), _colour(target)
    if from_colour not in _TO_BGR or to_colour not in _FROM_BGR:
        raise CvBridgeError(f'[{source}] to [{target}] is not in this stand-in: install ROS 2 for it')
    if from_colour != to_colour:
        if _TO_BGR[from_colour] is not None:
            picture = cv2.cvtColor(picture, _TO_BGR[from_colour])
        if _FROM_BGR[to_colour] is not None:
            picture = cv2.cvtColor(picture, _FROM_BGR[to_colour])
    if from_bits != to_bits:  # the full range of one onto the full range of the other
        picture = (picture.astype(np.float32) * (255 / 65535 if to_bits == 8 else 65535 / 255)).round().astype(dtype)
    return picture
