"""The qualities of service of this package's topics."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def newest(depth=1):
    """What comes in as a stream: best effort, the newest `depth` messages; matches every publisher."""
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)


# What goes out, and commands that come in.
RELIABLE = QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)

# What late joiners get too: the last message.
LATCHED = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def overridable():
    """Let history, depth and reliability of a topic be set by parameters `qos_overrides.TOPIC.subscription.*`."""
    return QoSOverridingOptions.with_default_policies()
