"""The camera of a plane as a topic."""

from dataclasses import replace

from sensor_msgs.msg import CameraInfo

from m2i_ros.pipeline import FrameError
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.qos import newest, overridable


class CameraTopic:
    """Keeps the newest `Camera` of a topic of camera_info.

    topic: its resolved name. camera: None where none came, or the last message states none. problem: in words, why the
    last message states none, or why its camera did not fit the last picture; else empty.
    """

    def __init__(self, node, name):
        self.topic = node.resolve_topic_name(name)
        self.camera, self.problem = None, ''
        node.create_subscription(CameraInfo, name, self._take, newest(), qos_overriding_options=overridable())

    def join(self, frame):
        """Return a `Frame` with the camera, where one is known and fits its picture."""
        camera = self.camera
        if camera is None:
            return frame
        try:
            frame = replace(frame, camera=camera)
            self.problem = ''
        except FrameError as error:
            self.problem = str(error)
        return frame

    def _take(self, message):
        try:
            self.camera, self.problem = camera_from_info(message), ''
        except ValueError as error:
            self.camera, self.problem = None, str(error)
