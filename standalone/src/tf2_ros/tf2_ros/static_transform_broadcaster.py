"""Sends transforms that never change."""

from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage


class StaticTransformBroadcaster:
    """Publishes on /tf_static, latched: who comes later hears all that was sent."""

    def __init__(self, node, qos=None):
        if qos is None:
            qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.pub_tf = node.create_publisher(TFMessage, '/tf_static', qos)
        self._sent = {}

    def sendTransform(self, transform):  # noqa: N802, the genuine name
        """Sends one TransformStamped, or a list of them, with all sent before; the newest of a child counts."""
        for one in transform if isinstance(transform, (list, tuple)) else [transform]:
            self._sent[one.child_frame_id] = one
        self.pub_tf.publish(TFMessage(transforms=list(self._sent.values())))
