"""registration_node: registers the model to masks that another node found."""

import sys
import time
from dataclasses import replace
from functools import partial

from sensor_msgs.msg import Image

from m2i_ros.pipeline import FrameError, Pipeline
from m2i_ros.ros.frame_node import FrameNode, run
from m2i_ros.ros.pairing import StampPairs
from m2i_ros.ros.parameters import PLANES, REGISTRATION
from m2i_ros.ros.qos import newest, overridable
from m2i_ros.ros.registration_topics import RegistrationTopics, check
from m2i_ros.ros.second_view import SecondViewTopics
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.vessel_mask import VesselMask


class RegistrationNode(FrameNode):
    """`image`, its `vessel/mask` and `camera_info` in, of a second plane too where there is one; the model's pose out.

    The image tells what lies inside the collimator, and is drawn in the overlay.
    """

    def __init__(self):
        super().__init__('registration_node', REGISTRATION + PLANES, check)
        self._registration = RegistrationTopics(self)
        self._second = SecondViewTopics(self, 'picture with a mask')
        self.topics = (self._registration, self._second)
        self._pipeline = Pipeline(None, self._registration.registrar)
        depth = self.parameters['depth']
        # A mask comes some frames after its image.
        self._first_pairs, self._second_pairs = (StampPairs(depth + 7) for _ in range(2))
        for topic, take in (('second/vessel/mask', self._pair_second), ('vessel/mask', self._pair)):
            options = overridable()
            self.create_subscription(Image, topic, partial(take, 'mask'), newest(depth), qos_overriding_options=options)
        self.listen()

    def receive(self, message):
        """Take an image; it is worked on once its mask is there."""
        self._pair('image', message)

    def receive_second(self, message):
        """Take an image of the second plane; it is used once its mask is there."""
        self._pair_second('image', message)

    def process(self, messages, second, arrived):
        """Register one picture, or a pair, whose vessels are known."""
        message, mask = messages
        frame = self._registration.frame(self.grey(message), message.header)
        vessels, others = self._vessels(frame.image, mask), None
        frame = self._second.join(frame, message.header, second)
        if frame.second:
            try:
                others = self._vessels(frame.second.frame.image, second[1])
            except FrameError as error:
                frame = replace(frame, second=None, no_second=f'second/{error}')
                self.complaints.warn('second', f'one view only: {frame.no_second}')
        result = self._pipeline.register(frame, vessels, second=others)
        self._registration.publish(result, message.header, arrived)

    def _vessels(self, image, message):
        mask = self.grey(message)
        if mask.shape != image.shape:
            raise FrameError(
                f'vessel/mask is {mask.shape[1]}x{mask.shape[0]}, its image {image.shape[1]}x{image.shape[0]}'
            )
        return VesselMask(mask, valid_area(image))

    def _pair(self, kind, message):
        pair = self._first_pairs.add(kind, nanoseconds(message.header.stamp), (message, time.monotonic()))
        if pair:
            (image, arrived), (mask, _) = pair['image'], pair['mask']
            self.put((image, mask), arrived)
        elif self._first_pairs.unmatched > 2 * self._first_pairs.capacity:
            self.complaints.warn(
                'pairs', 'images and masks do not have the same stamps: vessel/mask must carry the header of its image'
            )

    def _pair_second(self, kind, message):
        # A second picture that belongs to no first one has no mask.
        pair = self._second_pairs.add(kind, nanoseconds(message.header.stamp), message)
        if pair:
            self.put_second((pair['image'], pair['mask']))


def main(argv=None):
    """Run the node; return the exit code."""
    return run(RegistrationNode, argv)


if __name__ == '__main__':
    sys.exit(main())
