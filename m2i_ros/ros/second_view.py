"""A second plane as topics: from `second/image` and `second/camera_info` to the `SecondFrame` of a frame."""

from dataclasses import replace

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.time import Time
from tf2_ros import Buffer, TransformException, TransformListener

from m2i_ros.pipeline import Frame, FrameError, SecondFrame
from m2i_ros.ros.camera_topic import CameraTopic
from m2i_ros.ros.parameters import second_by_angles
from m2i_ros.ros.stamps import nanoseconds, seconds
from m2i_ros.ros.transforms import motion_from_transform

_LOOK = 0.2  # seconds from one look for a second plane to the next
_FRESH = 0.1  # seconds from the picture by which TF of a plane that moves may be off


class SecondPictureTopics:
    """Joins second pictures to frames, for masks: where the planes stand does not matter to these.

    A second plane that fails costs the first one nothing. wanted: what of it belongs to a frame, in words.
    """

    def __init__(self, node, wanted='picture'):
        self._node, self._wanted = node, wanted
        self._camera = CameraTopic(node, 'second/camera_info')
        self._seen = False
        self._problem = ''

    def join(self, frame, header, second):
        """Return the `Frame` with its second one, or with why there is none. header: the image's.

        second: messages of the second plane, the image first, or None.
        """
        self._seen |= second is not None
        if not self._seen or frame.camera is None:  # no second plane, or nothing to be joined to
            return frame
        worked, self._problem = not self._problem, ''
        try:
            return replace(frame, second=self._second_frame(header, second))
        except FrameError as error:
            self._problem = str(error)
            if second is not None or worked:  # a plane that is switched off is told once
                self._node.complaints.warn('second' if second else 'no second', f'one view only: {error}')
            return replace(frame, no_second=self._problem)

    def refused(self, header, reason):
        """The first plane says it."""

    def reset(self):
        """Nothing is kept from frame to frame."""

    def rewound(self):
        """Old pictures do not belong to new ones, which have smaller stamps: too far apart to be paired."""

    def changed(self, names):
        """Parameters are looked up when they are needed."""

    def values(self):
        """Return what the diagnostics say of the second plane."""
        return {'second': self._problem or 'paired'} if self._seen else {}

    def _second_frame(self, header, second):
        if second is None:
            tolerance = self._node.parameters['second.tolerance']
            raise FrameError(
                f'no {self._wanted} on {self._node.second_topic} within {tolerance:g} s of the image (second.tolerance)'
            )
        message = second[0]
        if self._camera.camera is None:
            problem = self._camera.problem
            raise FrameError(
                f'second/{problem}' if problem else f'no camera_info: nothing came on {self._camera.topic}'
            )
        try:
            frame = Frame(self._node.grey(message), seconds(message.header.stamp), self._camera.camera)
        except FrameError as error:
            raise FrameError(f'second/image: {error}') from error
        return SecondFrame(frame, self._transform(header, message.header))

    def _transform(self, header, second):
        return np.eye(4)


class SecondViewTopics(SecondPictureTopics):
    """Joins second pictures to frames, for registration: with how the planes stand, by angles or by TF."""

    def __init__(self, node, wanted='picture'):
        super().__init__(node, wanted)
        self._buffer = Buffer()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._looking = node.create_timer(_LOOK, self._look_for_plane, clock=steady)

    def _look_for_plane(self):
        """Listen to TF once there is a second plane: who has none does not."""
        if self._node.count_publishers(self._node.second_topic):
            self._looking.cancel()
            self._listener = TransformListener(self._buffer, self._node)

    def _transform(self, header, second):
        """Return T_second_image (4, 4): by the angles, or by TF. Raises FrameError where neither tells."""
        T = second_by_angles(*(self._node.parameters.group(name) for name in ('view', 'second')))
        if T is not None:
            return T
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
