"""Bags (MCAP) written by `rosbags`: serialised messages as they are, no ROS needed."""

import os
from contextlib import suppress
from functools import cache, partial

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
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import Stores, get_typestore

from m2i_ros.recording.mending import MendedMcap, zstd

BAG_VERSION = 9  # of metadata.yaml, since Jazzy
# Not zstd's default, 3: it takes twice the time for a sixth less bytes, and recording stands beside work in real time.
COMPRESSION_LEVEL = 1


class UnknownTypeError(ValueError):
    """A message type whose definition `rosbags` does not know."""


def typestore(distribution=None):
    """Return the message definitions of a ROS distribution: $ROS_DISTRO's by default, the newest's if unknown."""
    return _typestore((distribution or os.environ.get('ROS_DISTRO', '')).upper())


@cache
def _typestore(name):
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


class _QuickMcapWriter(McapWriter):
    """The storage of `rosbags`, at `COMPRESSION_LEVEL`."""

    def __init__(self, path, compression):
        super().__init__(path, compression)
        self.compressor = partial(zstd.compress, level=COMPRESSION_LEVEL)


class _Writer(Writer):
    STORAGE_PLUGINS = {StoragePlugin.MCAP: _QuickMcapWriter}


class BagWriter:
    """Writes a new bag folder; usable as a context manager.

    path: a folder that does not exist yet. types: message definitions (`typestore()`).
    Raises OSError or `rosbags` WriterError where it cannot be made.
    """

    def __init__(self, path, types=None):
        self.types = types or typestore()
        self._writer = _Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        # By chunk, not by message: `ros2 bag play` and Foxglove read it without unpacking a file first.
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._file = self._writer.storage.path
        self._torn = False
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
        try:
            self._writer.write(connection, stamp_ns, data)
        except Exception:
            self._torn = True
            raise

    def describe(self, key, text):
        """Note something about the recording: custom_data of metadata.yaml, and of the MCAP file's own copy of it."""
        self._writer.set_custom_data(key, text)

    def close(self):
        """Write index and metadata. After a write that failed, as on a full disk: save what was written before it.

        Saved means: what is not whole is cut off, which makes room, and the index written if that is enough for it.
        Without an index `BagReader` still reads the file.
        """
        try:
            if not self._torn:
                return self._writer.close()
        except Exception:
            self._save()
            raise
        self._save()

    def _save(self):
        with suppress(Exception):  # what waits in memory cannot be written
            self._writer.abort()
        with suppress(Exception):
            MendedMcap(self._file).write()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
