"""The segmentation as topics: from parameters to a `Segmenter`, from masks to messages."""

import numpy as np
from sensor_msgs.msg import Image

from m2i_ros.ros.images import fill_image
from m2i_ros.ros.qos import RELIABLE
from m2i_ros.segmentation import Segmenter


class SegmentationTopics:
    """The `Segmenter` of a node, with `vessel/mask`, `second/vessel/mask` and `vessel/probability`.

    Raises ValueError where weights or engine do not exist.
    """

    def __init__(self, node):
        self._node = node
        settings = node.parameters.group('segmentation')
        self.segmenter = Segmenter(
            settings['weights'],
            settings['engine'],
            settings['threads'],
            settings['threshold'] or None,
            settings['largest_side'],
            settings['polarity'],
            settings['reference'],
        )
        self.segmenter.warm_up()
        self._mask = node.create_publisher(Image, 'vessel/mask', RELIABLE)
        self._second_mask = node.create_publisher(Image, 'second/vessel/mask', RELIABLE)
        self._probability = node.create_publisher(Image, 'vessel/probability', RELIABLE)

    def publish(self, vessels, header):
        """Publish a `VesselMask` with the header of its image."""
        self._mask.publish(fill_image(Image(), header, vessels.mask))
        if self._probability.get_subscription_count():
            # In steps of 1/256: finer ones are noise, and noise does not compress.
            steps = np.rint(vessels.probability * 256) / np.float32(256)
            self._probability.publish(fill_image(Image(), header, steps))

    def publish_second(self, vessels, header):
        """Publish the vessels of a second picture, with its header, to those who listen."""
        if self._second_mask.get_subscription_count():
            self._second_mask.publish(fill_image(Image(), header, vessels.mask))

    def refused(self, header, reason):
        """A frame that could not be processed has no mask."""

    def reset(self):
        """Forget the pictures so far: how contrast is shown, and what there is without, is found out anew."""
        self.segmenter.reset()

    def rewound(self):
        """The stamps went back: another run."""
        self.reset()

    def changed(self, names):
        """Take live parameters over."""
        if 'segmentation.threshold' in names:
            self.segmenter.threshold = self._node.parameters['segmentation.threshold'] or None
        if 'segmentation.largest_side' in names:
            self.segmenter.largest_side = self._node.parameters['segmentation.largest_side']
        if 'segmentation.polarity' in names:
            self.segmenter.polarity = self._node.parameters['segmentation.polarity']
        if 'segmentation.reference' in names:
            self.segmenter.reference = self._node.parameters['segmentation.reference']

    def values(self):
        """Return what the diagnostics say of the engine."""
        info = self.segmenter.info
        return {
            'engine': info['engine'],
            'weights': info['weights'],
            'weights_hash': info['hash'],
            'threshold': info['threshold'],
            'polarity': info['polarity'],
        }
