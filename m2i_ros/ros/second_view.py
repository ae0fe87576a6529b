"""A second plane as topics: from `second/image` and `second/camera_info` to the `SecondFrame` of a frame."""

import time
from dataclasses import replace

from rclpy.clock import Clock, ClockType
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from tf2_ros import Buffer, TransformException, TransformListener

from m2i_ros.geometry import inverse
from m2i_ros.pipeline import Frame, FrameError, SecondFrame
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.images import fill_image
from m2i_ros.ros.pairing import NearestPairs
from m2i_ros.ros.qos import RELIABLE, newest, overridable
from m2i_ros.ros.registration_topics import c_arm_of
from m2i_ros.ros.stamps import nanoseconds, seconds
from m2i_ros.ros.transforms import motion_from_transform

_FRESH = 0.1  # seconds from the picture by which TF of a plane that moves may be off


class SecondViewTopics:
    """Finds each image its `second/image`, and what that needs; a second plane that fails costs the first one nothing.

    hand_over: called with (image message, second image message or None) and the monotonic seconds of arrival.
    """

    def __init__(self, node, hand_over):
        self._node, self._hand_over = node, hand_over
        self._camera = None
        self._buffer = None
        self._problem = ''
        self._pairs = NearestPairs(self._tolerance(), node.parameters['second.patience'])
        self._topic = node.listen_to_images('second/image', self._take_second)
        node.create_subscription(
            CameraInfo, 'second/camera_info', self._take_camera_info, newest(), qos_overriding_options=overridable()
        )
        self._mask = node.create_publisher(Image, 'second/vessel/mask', RELIABLE)
        # Steady: simulated time may stand still.
        self._timer = node.create_timer(
            self._pairs.patience, self._end_of_patience, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()

    def receive(self, message):
        """Take an image message of the first plane; on the executor's thread."""
        now = time.monotonic()
        self._send(self._pairs.first(nanoseconds(message.header.stamp), (message, now), now))
        if self._pairs.waits:
            self._timer.reset()

    def join(self, frame, header, second):
        """Return the `Frame` with its second one where that can be used. header: the image's. second: message or None.

        Where it cannot, `explain` says why.
        """
        self._problem = ''
        if self._buffer is None or frame.camera is None:  # no second plane, or nothing to be joined to
            return frame
        try:
            return replace(frame, second=self._second_frame(header, second))
        except FrameError as error:
            self._problem = str(error)
            if second is not None:  # a plane that is switched off is no mistake
                self._node.complaints.warn('second', f'one view only: {error}')
            return frame

    def explain(self, result):
        """Return the `Result` with the reason why its second picture was not used."""
        if not self._problem:
            return result
        return replace(result, registration=replace(result.registration, second=self._problem))

    def publish(self, result, second):
        """Publish the vessels of the second picture to those who listen. second: its message."""
        if result.second is not None and self._mask.get_subscription_count():
            self._mask.publish(fill_image(Image(), second.header, result.second.mask))

    def refused(self, header, reason):
        """The first plane says it."""

    def reset(self):
        """Nothing is kept from frame to frame."""

    def rewound(self):
        """Old pictures do not belong to new ones, which have smaller stamps: too far apart to be paired."""

    def changed(self, names):
        """Take live parameters over."""
        self._pairs.tolerance = self._tolerance()

    def values(self):
        """Return what the diagnostics say of the second plane."""
        return {} if self._buffer is None else {'second': self._problem or 'paired'}

    def _second_frame(self, header, second):
        if second is None:
            tolerance = self._node.parameters['second.tolerance']
            raise FrameError(f'no picture on {self._topic} within {tolerance:g} s of the image (second.tolerance)')
        if isinstance(self._camera, ValueError):
            raise FrameError(f'second/{self._camera}')
        if self._camera is None:
            raise FrameError(f'no camera_info: nothing came on {self._node.resolve_topic_name("second/camera_info")}')
        try:
            frame = Frame(self._node.grey(second), seconds(second.header.stamp), self._camera)
        except FrameError as error:
            raise FrameError(f'{self._topic}: {error}') from error
        return SecondFrame(frame, self._transform(header, second.header))

    def _transform(self, header, second):
        """Return T_second_image (4, 4): by the angles, or by TF. Raises FrameError where neither tells."""
        view, other = (self._node.parameters.group(name) for name in ('view', 'second'))
        if other['source_to_isocentre'] and view['source_to_isocentre']:
            return c_arm_of(other).T_image_isocentre @ inverse(c_arm_of(view).T_image_isocentre)
        names = second.frame_id, header.frame_id
        try:
            if names[0] == names[1]:
                raise ValueError('both images have one frame_id')
            try:
                found = self._buffer.lookup_transform(*names, Time.from_msg(second.stamp))
            except TransformException:
                found = self._buffer.lookup_transform(*names, Time())
                age = abs(nanoseconds(second.stamp) - nanoseconds(found.header.stamp)) * 1e-9
                if nanoseconds(found.header.stamp) and age > _FRESH:
                    raise ValueError(f'the latest is {age:.2f} s from the picture') from None
            return motion_from_transform(found.transform)
        except (TransformException, ValueError) as error:
            raise FrameError(
                f'no TF from "{names[1]}" to "{names[0]}" ({error}): publish it, or set view.* and '
                f'second.source_to_isocentre with its angles'
            ) from error

    def _take_second(self, message):
        if self._buffer is None:  # who has no second plane has no listener to TF
            self._buffer = Buffer()
            self._listener = TransformListener(self._buffer, self._node)
        self._send(self._pairs.second(nanoseconds(message.header.stamp), message, time.monotonic()))

    def _take_camera_info(self, message):
        try:
            self._camera = camera_from_info(message)
        except ValueError as error:
            self._camera = error

    def _end_of_patience(self):
        self._timer.cancel()
        self._send(self._pairs.overdue(time.monotonic() + 1e-3))

    def _send(self, ready):
        for (message, arrived), second in ready:
            self._hand_over((message, second), arrived)

    def _tolerance(self):
        return round(1e9 * self._node.parameters['second.tolerance'])
