"""Transforms over /tf and /tf_static: a stand-in for the genuine tf2_ros, as far as m2i_ros and its users need it."""

from tf2_ros.buffer import Buffer
from tf2_ros.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TimeoutException,
    TransformException,
)
from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster
from tf2_ros.transform_broadcaster import TransformBroadcaster
from tf2_ros.transform_listener import TransformListener

__all__ = [
    'Buffer',
    'ConnectivityException',
    'ExtrapolationException',
    'InvalidArgumentException',
    'LookupException',
    'StaticTransformBroadcaster',
    'TimeoutException',
    'TransformBroadcaster',
    'TransformException',
    'TransformListener',
]


def __getattr__(name):
    if name.startswith('__'):
        raise AttributeError(name)
    raise ImportError(f'tf2_ros.{name} is not in this stand-in: install ROS 2 for it')
