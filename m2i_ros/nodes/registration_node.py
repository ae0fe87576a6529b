"""registration_node: registers the model to masks that another node found."""

import sys
import time

from sensor_msgs.msg import Image

from m2i_ros.pipeline import FrameError, Pipeline
from m2i_ros.ros.frame_node import FrameNode, run
from m2i_ros.ros.pairing import StampPairs
from m2i_ros.ros.parameters import REGISTRATION
from m2i_ros.ros.qos import newest, overridable
from m2i_ros.ros.registration_topics import RegistrationTopics, check
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.vessel_mask import VesselMask


class RegistrationNode(FrameNode):
    """`image`, its `vessel/mask` and `camera_info` in; the model's pose out.

    The image tells what lies inside the collimator, and is drawn in the overlay.
    """

    def __init__(self):
        super().__init__('registration_node', REGISTRATION, check)
        self._registration = RegistrationTopics(self)
        self.topics = (self._registration,)
        self._pipeline = Pipeline(None, self._registration.registrar)
        self._pairs = StampPairs(self.parameters['depth'] + 7)  # a mask comes some frames after its image
        self.create_subscription(
            Image,
            'vessel/mask',
            self._receive_mask,
            newest(self.parameters['depth']),
            qos_overriding_options=overridable(),
        )
        self.listen()

    def receive(self, message):
        """Take an image; it is worked on once its mask is there."""
        self._pair('image', message)

    def process(self, messages, arrived):
        """Register one picture whose vessels are known."""
        message, mask_message = messages
        image, mask = self.grey(message), self.grey(mask_message)
        if mask.shape != image.shape:
            raise FrameError(
                f'vessel/mask is {mask.shape[1]}x{mask.shape[0]}, its image {image.shape[1]}x{image.shape[0]}'
            )
        frame = self._registration.frame(image, message.header)
        result = self._pipeline.register(frame, VesselMask(mask, valid_area(image)))
        self._registration.publish(result, message.header, arrived)

    def _receive_mask(self, message):
        self._pair('mask', message)

    def _pair(self, kind, message):
        pair = self._pairs.add(kind, nanoseconds(message.header.stamp), (message, time.monotonic()))
        if pair:
            (image, arrived), (mask, _) = pair['image'], pair['mask']
            self.put((image, mask), arrived)
        elif self._pairs.unmatched > 2 * self._pairs.capacity:
            self.complaints.warn(
                'pairs', 'images and masks do not have the same stamps: vessel/mask must carry the header of its image'
            )


def main(argv=None):
    """Run the node; return the exit code."""
    return run(RegistrationNode, argv)


if __name__ == '__main__':
    sys.exit(main())
