"""pipeline_node: segmentation and registration in one process; arrays go from one to the other directly."""

import sys

from m2i_ros.pipeline import Pipeline
from m2i_ros.ros.frame_node import FrameNode, run
from m2i_ros.ros.parameters import PLANES, REGISTRATION, SEGMENTATION
from m2i_ros.ros.registration_topics import RegistrationTopics, check
from m2i_ros.ros.second_view import SecondViewTopics
from m2i_ros.ros.segmentation_topics import SegmentationTopics


class PipelineNode(FrameNode):
    """`image` and `camera_info` in, of a second plane too where there is one; everything of the topic table out."""

    def __init__(self):
        super().__init__('pipeline_node', SEGMENTATION + REGISTRATION + PLANES, check)
        self._registration = RegistrationTopics(self)
        self._segmentation = SegmentationTopics(self)
        self._second = SecondViewTopics(self)
        self.topics = (self._segmentation, self._registration, self._second)
        self._pipeline = Pipeline(self._segmentation.segmenter, self._registration.registrar)
        self.listen()

    def process(self, messages, second, arrived):
        """Segment and register one picture, or a pair."""
        (message,) = messages
        frame = self._registration.frame(self.grey(message), message.header)
        result = self._pipeline.process(self._second.join(frame, message.header, second))
        # The pose first: it is what somebody steers by.
        self._registration.publish(result, message.header, arrived)
        self._segmentation.publish(result.vessels, message.header)
        if result.second:
            self._segmentation.publish_second(result.second, second[0].header)


def main(argv=None):
    """Run the node; return the exit code."""
    return run(PipelineNode, argv)


if __name__ == '__main__':
    sys.exit(main())
