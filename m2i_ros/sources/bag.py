"""A recorded bag as a source."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from scipy.spatial.transform import Rotation

from m2i_ros.geometry import rigid
from m2i_ros.pipeline import FrameError
from m2i_ros.recording.bag import typestore
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.images import grey_from_compressed, grey_from_image
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.sources.source_frame import SourceError, SourceFrame

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


class BagSource:
    """The pictures on `image` or `image/compressed` of a bag (MCAP or SQLite), with `camera_info` and `initialpose`.

    path: the bag's folder. The topics may lie in a namespace, if in one only.
    origin: the first picture's stamp in ns. frame_id: its frame. camera, initial_pose: the first recorded, or None.
    A picture that cannot be decoded is skipped, and its stamp kept in `skipped`.

    Raises SourceError for a bag that cannot be read, or that has not exactly one topic of pictures called image.
    """

    realtime = False
    model = None
    frame_rate = 15.0  # of the progress shown alone: stamps are the recorded ones

    def __init__(self, path):
        self.path = Path(path)
        self.skipped = []
        with self._open() as reader:
            self._image_topic = self._find_image_topic(reader)
            base = self._image_topic.removesuffix('/compressed').removesuffix('image')
            image = self._first(reader, self._image_topic)
            if image is None:
                raise SourceError(f'{self.path}: {self._image_topic} holds no message')
            self.origin, self.frame_id = nanoseconds(image.header.stamp), image.header.frame_id
            info = self._first(reader, base + 'camera_info')
            try:
                self.camera = camera_from_info(info) if info else None
            except ValueError as error:
                raise SourceError(f'{self.path}: {error}') from error
            pose = self._first(reader, base + 'initialpose')
            self.initial_pose = _motion(pose.pose.pose) if pose else None
            self._length = sum(c.msgcount for c in reader.connections if c.topic == self._image_topic)

    def __len__(self):
        """Return the number of pictures."""
        return self._length

    def __iter__(self):
        """Yield a `SourceFrame` a picture, in the order of recording."""
        self.skipped = []
        with self._open() as reader:
            connections = [c for c in reader.connections if c.topic == self._image_topic]
            decode = grey_from_image if connections[0].msgtype == IMAGE_TYPES[0] else grey_from_compressed
            for connection, _, data in reader.messages(connections):
                message = reader.deserialize(data, connection.msgtype)
                stamp = nanoseconds(message.header.stamp)
                try:
                    image = decode(message)
                except FrameError:
                    self.skipped.append(stamp)
                    continue
                yield SourceFrame(image, 1e-9 * (stamp - self.origin), '', self.camera)

    @contextmanager
    def _open(self):
        try:
            with AnyReader([self.path], default_typestore=typestore()) as reader:
                yield reader
        except (AnyReaderError, OSError) as error:
            raise SourceError(f'{self.path}: is no bag that can be read: {error}') from error

    def _find_image_topic(self, reader):
        topics = sorted({c.topic for c in reader.connections if c.msgtype in IMAGE_TYPES})
        found = [t for t in topics if t.endswith(('/image', '/image/compressed'))]
        if len(found) != 1:
            there = ', '.join(topics) or 'none'
            raise SourceError(
                f'{self.path}: needs one topic called image or image/compressed; pictures are on: {there}'
            )
        return found[0]

    @staticmethod
    def _first(reader, topic):
        connections = [c for c in reader.connections if c.topic == topic]
        for connection, _, data in reader.messages(connections) if connections else ():
            return reader.deserialize(data, connection.msgtype)
        return None


def _motion(pose):
    position, q = pose.position, pose.orientation
    rotation = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    return rigid(rotation, np.array([position.x, position.y, position.z]))
