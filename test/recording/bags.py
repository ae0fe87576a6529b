"""Makes small bags of every kind, by `rosbags`' own writer and by ours; nothing of them is kept."""

import sqlite3
from contextlib import closing

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from m2i_ros.geometry import Camera, rigid
from m2i_ros.recording.bag import BagWriter, typestore
from m2i_ros.recording.messages import Messages
from m2i_ros.sources import SourceFrame

TYPES = typestore()
BEGUN = 1_795_388_611_123_456_789  # ns
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
CAMERA = Camera(48, 40, 900.0, 900.0, 23.5, 19.5)
LARGE = Camera(160, 128, 900.0, 900.0, 79.5, 63.5)  # 50 of its frames are 2 MB, two of an MCAP file's chunks
_TIME = QosTime(0, 0)
QOS = Qos(
    QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, _TIME, _TIME, QosLiveliness.AUTOMATIC,
    _TIME, False,
)  # fmt: skip


def frames(count, start=0, camera=CAMERA):
    """Return `SourceFrame`s with noise that tells them apart, 10 a second, the first with a pose to start from."""
    out = []
    for index in range(start, start + count):
        image = np.random.default_rng(index).integers(0, 255, (camera.height, camera.width), np.uint8)
        pose = rigid((0.0, 0.0, 0.01 * index), (0.001 * index, 0.0, 0.75))
        mask = np.where(image > 127, 255, 0).astype(np.uint8)
        begin = pose if index == 0 else None
        out.append(SourceFrame(image, 0.1 * index, '', camera, pose, mask, initial_pose=begin))
    return out


def messages(some, namespace=''):
    """Yield (topic, type, stamp, message) of frames, as an X-ray system that began at `BEGUN` would publish them."""
    maker = Messages(TYPES, 'c_arm')
    for frame in some:
        stamp = BEGUN + round(1e9 * frame.stamp)
        for topic, kind, message in maker.of_frame(frame, stamp):
            yield namespace + topic, kind, stamp, message


def write_bag(path, some, namespace='', extra=()):
    """Write a bag as `record` and `replay` do; extra: more (topic, type, stamp, message)."""
    with BagWriter(path) as bag:
        for topic, kind, stamp, message in [*messages(some, namespace), *extra]:
            bag.write(topic, kind, stamp, message)
    return path


def write_plain_bag(path, some, storage='mcap', compression='none', qos=(QOS,)):
    """Write a bag with rosbags' own writer. compression: none, file, message, storage. qos: without, read faster."""
    writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
    if compression != 'none':
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, kind, stamp, message in messages(some):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES, offered_qos_profiles=qos)
            writer.write(connections[topic], stamp, TYPES.serialize_cdr(message, kind))
    return path


def write_split_bag(path, parts, storage='mcap'):
    """Write a bag of several files, each with its own frames, as `ros2 bag record` does when a size is reached."""
    path.mkdir()
    for number, some in enumerate(parts):
        part = write_plain_bag(path / f'part_{number}', some, storage)
        (file,) = (file for file in part.iterdir() if file.suffix in ('.mcap', '.db3'))
        file.rename(path / f'{path.name}_{number}{file.suffix}')
        (part / 'metadata.yaml').unlink()
        part.rmdir()
    return path


def leave_in_wal(file, journal_of):
    """Add the messages of another SQLite bag to `file` so that they are in its write-ahead log only."""
    with closing(sqlite3.connect(journal_of)) as other:
        rows = other.execute('SELECT topic_id, timestamp, data FROM messages').fetchall()
    copy = file.with_name('live.db3')
    copy.write_bytes(file.read_bytes())
    connection = sqlite3.connect(copy)
    connection.execute('PRAGMA journal_mode=WAL')
    connection.execute('PRAGMA wal_autocheckpoint=0')
    connection.executemany('INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)', rows)
    connection.commit()
    file.write_bytes(copy.read_bytes())  # as a crash leaves them: both files, nothing closed
    file.with_name(file.name + '-wal').write_bytes(copy.with_name('live.db3-wal').read_bytes())
    connection.close()
    copy.unlink()
