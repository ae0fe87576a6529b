"""Bags (MCAP) written by `rosbags`: serialised messages as they are, no ROS needed."""

import os

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_typestore

BAG_VERSION = 9  # of metadata.yaml, since Jazzy


class UnknownTypeError(ValueError):
    """A message type whose definition `rosbags` does not know."""


def typestore(distribution=None):
    """Return the message definitions of a ROS distribution: $ROS_DISTRO's by default, the newest's if unknown."""
    name = (distribution or os.environ.get('ROS_DISTRO', '')).upper()
    return get_typestore(getattr(Stores, f'ROS2_{name}', Stores.LATEST))


def _offered(transient_local):
    """Return the QoS a topic was offered with: `ros2 bag play` offers the same."""
    unlimited = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST,
        1 if transient_local else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if transient_local else QosDurability.VOLATILE,
        unlimited,
        unlimited,
        QosLiveliness.AUTOMATIC,
        unlimited,
        False,
    )


class BagWriter:
    """Writes a new bag folder; usable as a context manager.

    path: a folder that does not exist yet. types: message definitions (`typestore()`).
    Raises OSError or `rosbags` WriterError where it cannot be made.
    """

    def __init__(self, path, types=None):
        self.types = types or typestore()
        self._writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        # By chunk, not by message: `ros2 bag play` and Foxglove read it without unpacking a file first.
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections = {}

    def write(self, topic, message_type, stamp_ns, data, transient_local=False):
        """Append one message.

        message_type: like 'sensor_msgs/msg/Image'. stamp_ns: nanoseconds. data: CDR bytes, or a message object of
        `types`. Raises UnknownTypeError.
        """
        connection = self._connections.get(topic)
        if connection is None:
            if message_type not in self.types.types:
                raise UnknownTypeError(f'{topic}: {message_type} is not known, so the topic is not recorded')
            connection = self._writer.add_connection(
                topic,
                message_type,
                typestore=self.types,
                offered_qos_profiles=[_offered(transient_local)],
            )
            self._connections[topic] = connection
        if not isinstance(data, (bytes, bytearray, memoryview)):
            data = self.types.serialize_cdr(data, message_type)
        self._writer.write(connection, stamp_ns, data)

    def close(self):
        """Write index and metadata; without it the bag cannot be read."""
        self._writer.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
