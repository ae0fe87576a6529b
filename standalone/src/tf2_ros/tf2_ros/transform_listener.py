"""Fills a buffer with what is sent."""

import threading

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage


class TransformListener:
    """Puts the transforms of /tf and /tf_static into `buffer`. With `spin_thread`, a thread of its own spins `node`."""

    def __init__(
        self,
        buffer,
        node,
        *,
        spin_thread=False,
        qos=None,
        static_qos=None,
        tf_topic='/tf',
        tf_static_topic='/tf_static',
    ):
        if static_qos is None:
            static_qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.buffer = buffer
        self.node = node or Node(f'transform_listener_impl_{id(self):010x}', start_parameter_services=False)
        # A callback of the node may wait for a transform: the subscriptions must not be in its group.
        self.group = ReentrantCallbackGroup()
        self.tf_sub = self.node.create_subscription(
            TFMessage, tf_topic, self.callback, QoSProfile(depth=100) if qos is None else qos, callback_group=self.group
        )
        self.tf_static_sub = self.node.create_subscription(
            TFMessage, tf_static_topic, self.static_callback, static_qos, callback_group=self.group
        )
        if spin_thread:
            self.executor = SingleThreadedExecutor(context=self.node.context)
            self.executor.add_node(self.node)
            threading.Thread(target=self._spin, daemon=True).start()

    def _spin(self):
        try:
            self.executor.spin()
        except ExternalShutdownException:
            pass

    def unregister(self):
        """Stops listening."""
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform(transform, 'default_authority')

    def static_callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform_static(transform, 'default_authority')
