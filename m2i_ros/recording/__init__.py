"""What stays of a session: the bag, the pictures, the figures. Without rclpy."""

from m2i_ros.recording.bag import BagWriter, UnknownTypeError, typestore
from m2i_ros.recording.recorder import Recorder, RecordingError
from m2i_ros.recording.session import Session

__all__ = [
    'BagWriter',
    'Recorder',
    'RecordingError',
    'Session',
    'UnknownTypeError',
    'typestore',
]
