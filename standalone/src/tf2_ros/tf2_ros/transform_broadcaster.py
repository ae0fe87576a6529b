"""Sends transforms that change."""

from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage


class TransformBroadcaster:
    """Publishes on /tf."""

    def __init__(self, node, qos=None):
        self.pub_tf = node.create_publisher(TFMessage, '/tf', QoSProfile(depth=100) if qos is None else qos)

    def sendTransform(self, transform):  # noqa: N802, the genuine name
        """Sends one TransformStamped, or a list of them."""
        transforms = list(transform) if isinstance(transform, (list, tuple)) else [transform]
        self.pub_tf.publish(TFMessage(transforms=transforms))
