"""A recorded bag as a source."""

import logging
from collections import OrderedDict, deque

import numpy as np
from transforms3d.quaternions import quat2mat

from m2i_ros.geometry import is_rigid, rigid
from m2i_ros.pipeline import FrameError
from m2i_ros.recording.bag_reader import BagError, BagReader
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.covariance import covariance_from_list
from m2i_ros.ros.images import grey_from_compressed, grey_from_image
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.sources.source_frame import SourceError, SourceFrame

DECODERS = {'sensor_msgs/msg/Image': grey_from_image, 'sensor_msgs/msg/CompressedImage': grey_from_compressed}
# Beside the pictures: what is known of a frame, by its topic's name.
TYPES = {
    'camera_info': 'sensor_msgs/msg/CameraInfo',
    'initialpose': 'geometry_msgs/msg/PoseWithCovarianceStamped',
    'truth/mask': 'sensor_msgs/msg/Image',
    'truth/pose': 'geometry_msgs/msg/PoseStamped',
}
WINDOW = 4  # pictures for which a picture waits for its camera_info and truth: topics are recorded beside each other

log = logging.getLogger(__name__)


class BagSource:
    """The pictures of a bag (`recording.bag_reader`), with camera_info, initialpose and the truth recorded beside them.

    path: the bag's folder, or one of its files.
    image: the topic of the pictures; '': the only one called image or image/compressed. Its namespace is that of
    camera_info and the others. camera_info, initialpose: topics of other names, where the bag has them.
    start: seconds from the beginning of the bag. duration: seconds from there, 0 for all.

    origin: the first picture's stamp in ns; frames keep their recorded stamps. frame_id: the first picture's frame.
    A frame's camera is the camera_info of its stamp, or else the last one recorded before it, or else the first.
    An initialpose comes with the picture after it.
    skipped: in words, what could not be read; its frames are left out.

    Raises SourceError for a bag that cannot be read, or where it is not clear which topic holds the pictures.
    """

    realtime = False
    model = None
    initial_pose = None  # the frames bring it

    def __init__(self, path, image='', camera_info='', initialpose='', start=0.0, duration=0.0):
        self.path = path
        self.skipped = []
        with self._reader() as reader:
            self._image = image or self._find_pictures(reader)
            if reader.topics.get(self._image) not in DECODERS:
                raise SourceError(f'{path}: {self._image}: no such topic of pictures; {_pictures(reader)}')
            base = self._image.removesuffix('/compressed').removesuffix('image')
            named = {'camera_info': camera_info, 'initialpose': initialpose}
            self._roles = {named.get(role) or base + role: role for role in TYPES}
            for topic, role in self._roles.items():
                if named.get(role) and reader.topics.get(topic) != TYPES[role]:
                    raise SourceError(f'{path}: {topic}: no such topic of type {TYPES[role]}')
            self._roles = {t: role for t, role in self._roles.items() if reader.topics.get(t) == TYPES[role]}
            self._start = reader.start_time + round(1e9 * start) if start else None
            self._stop = (self._start or reader.start_time) + round(1e9 * duration) if duration else None
            self._length = min(reader.counts[self._image], 2**31)  # more only a damaged index states
            first = next(reader.messages([self._image], self._start, self._stop), None)
            if first is None:
                raise SourceError(f'{path}: {self._image}: no picture that can be read{self._part(reader)}')
            header = first[2].header
            self.origin, self.frame_id = nanoseconds(header.stamp), header.frame_id
            seconds = 1e-9 * (reader.end_time - reader.start_time)
            rate = (self._length - 1) / seconds if self._length > 1 and seconds > 0 else 15.0
            self.frame_rate = float(np.clip(rate, 0.1, 1000.0))
            self.camera = self._first_camera(reader)

    def __len__(self):
        """Return the number of pictures in the bag; of a part of it, at most."""
        return self._length

    def __iter__(self):
        """Yield a `SourceFrame` a picture, in the order of recording."""
        self.skipped = []
        with self._reader() as reader:
            waiting = deque()
            camera, start = None, (None, None)
            parts = {role: OrderedDict() for role in ('camera_info', 'truth/mask', 'truth/pose')}  # by stamp
            last = None
            for topic, _, message in reader.messages([self._image, *self._roles], self._start, self._stop):
                stamp = nanoseconds(message.header.stamp)
                role = self._roles.get(topic)
                try:
                    if role == 'initialpose':
                        start = self._initial_pose(message)
                    elif role:
                        part = self._part_of_frame(role, message)
                        parts[role][stamp] = part
                        if len(parts[role]) > 4 * WINDOW:
                            parts[role].popitem(last=False)
                        camera = part if role == 'camera_info' else camera
                    elif stamp == last:
                        raise FrameError('its stamp is that of the picture before')
                    else:
                        last = stamp
                        picture = DECODERS[reader.topics[topic]](message)
                        waiting.append((stamp, picture, camera, start))
                        start = (None, None)
                except (FrameError, ValueError) as error:
                    self._skip(f'{self.path}: {topic} at {stamp / 1e9:.3f} s: {error}')
                if len(waiting) > WINDOW:
                    yield self._frame(*waiting.popleft(), parts)
            while waiting:
                yield self._frame(*waiting.popleft(), parts)
            if reader.damaged:
                self._skip(f'{self.path}: {reader.damaged} damaged places')

    def _frame(self, stamp, picture, camera, start, parts):
        camera = parts['camera_info'].get(stamp, camera) or self.camera
        T, mask = parts['truth/pose'].get(stamp), parts['truth/mask'].get(stamp)
        T_start, covariance = start
        return SourceFrame(
            picture,
            1e-9 * (stamp - self.origin),
            camera=camera,
            T_image_model=T,
            mask=mask,
            initial_pose=T_start,
            initial_covariance=covariance,
        )

    def _part_of_frame(self, role, message):
        if role == 'camera_info':
            return camera_from_info(message)
        return grey_from_image(message) if role == 'truth/mask' else _motion(message.pose)

    def _initial_pose(self, message):
        if message.header.frame_id not in ('', self.frame_id):
            raise ValueError(f'it is given in "{message.header.frame_id}", not in the pictures\' "{self.frame_id}"')
        return _motion(message.pose.pose), covariance_from_list(message.pose.covariance)

    def _skip(self, text):
        self.skipped.append(text)
        log.warning('%s (skipped, %d so far)', text, len(self.skipped))

    def _reader(self):
        try:
            return BagReader(self.path, log.warning)
        except (BagError, OSError) as error:
            raise SourceError(str(error)) from error

    def _part(self, reader):
        seconds = 1e-9 * (reader.end_time - reader.start_time)
        return f' from {1e-9 * ((self._start or reader.start_time) - reader.start_time):g} s on, of {seconds:.3f} s'

    def _find_pictures(self, reader):
        found = [t for t, kind in reader.topics.items() if kind in DECODERS and _is_image(t)]
        if len(found) != 1:
            raise SourceError(f'{self.path}: which topic is it? {_pictures(reader)}: name one, bag.image')
        return found[0]

    def _first_camera(self, reader):
        topics = [topic for topic, role in self._roles.items() if role == 'camera_info']
        for _, _, message in reader.messages(topics):
            try:
                return camera_from_info(message)
            except ValueError as error:
                raise SourceError(f'{self.path}: {error}') from error
        return None


def _is_image(topic):
    return ('/' + topic).endswith(('/image', '/image/compressed'))


def _pictures(reader):
    there = sorted(topic for topic, kind in reader.topics.items() if kind in DECODERS)
    return f'pictures are on: {", ".join(there) or "none of its topics"}'


def _motion(pose):
    position, q = pose.position, pose.orientation
    quaternion = np.array([q.w, q.x, q.y, q.z])
    if not abs(np.linalg.norm(quaternion) - 1) < 0.01:
        raise ValueError(f'quaternion {[q.x, q.y, q.z, q.w]}: length 1 is needed')
    T = rigid(quat2mat(quaternion), np.array([position.x, position.y, position.z]))
    if not is_rigid(T):
        raise ValueError('the pose is not finite')
    return T
