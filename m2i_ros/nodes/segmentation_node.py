"""segmentation_node: the vessels of every picture, as a mask."""

import sys

from m2i_ros.pipeline import Frame
from m2i_ros.ros.frame_node import FrameNode, run
from m2i_ros.ros.parameters import SEGMENTATION
from m2i_ros.ros.segmentation_topics import SegmentationTopics
from m2i_ros.ros.stamps import seconds


class SegmentationNode(FrameNode):
    """`image` in; `vessel/mask` and `vessel/probability` out."""

    def __init__(self):
        super().__init__('segmentation_node', SEGMENTATION)
        self._segmentation = SegmentationTopics(self)
        self.topics = (self._segmentation,)
        self.listen()

    def process(self, messages, arrived):
        """Segment one picture."""
        (message,) = messages
        frame = Frame(self.grey(message), seconds(message.header.stamp))
        self._segmentation.publish(self._segmentation.segmenter.segment(frame.image), message.header)


def main(argv=None):
    """Run the node; return the exit code."""
    return run(SegmentationNode, argv)


if __name__ == '__main__':
    sys.exit(main())
