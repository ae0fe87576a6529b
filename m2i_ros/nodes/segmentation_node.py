"""segmentation_node: the vessels of every picture, as a mask."""

import sys

from m2i_ros.pipeline import Frame, Pipeline
from m2i_ros.ros.camera_topic import CameraTopic
from m2i_ros.ros.frame_node import FrameNode, run
from m2i_ros.ros.parameters import SEGMENTATION
from m2i_ros.ros.second_view import SecondPictureTopics
from m2i_ros.ros.segmentation_topics import SegmentationTopics
from m2i_ros.ros.stamps import seconds


class SegmentationNode(FrameNode):
    """`image` in, of a second plane too where there is one; `vessel/mask` and `vessel/probability` out.

    camera_info tells how large a pixel is, which masks depend on a little; a second plane needs those of both.
    """

    def __init__(self):
        super().__init__('segmentation_node', SEGMENTATION)
        self._segmentation = SegmentationTopics(self)
        self._camera = CameraTopic(self, 'camera_info')
        self._second = SecondPictureTopics(self)
        self.topics = (self._segmentation, self._second)
        self._pipeline = Pipeline(self._segmentation.segmenter, None)
        self.listen()

    def process(self, messages, second, arrived):
        """Segment one picture, or a pair."""
        (message,) = messages
        frame = self._camera.join(Frame(self.grey(message), seconds(message.header.stamp)))
        vessels, _, others = self._pipeline.segment(self._second.join(frame, message.header, second))
        if others:  # before the first, whose mask a registration waits for
            self._segmentation.publish_second(others, second[0].header)
        self._segmentation.publish(vessels, message.header)


def main(argv=None):
    """Run the node; return the exit code."""
    return run(SegmentationNode, argv)


if __name__ == '__main__':
    sys.exit(main())
