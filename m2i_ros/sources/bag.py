"""A recorded bag as a source."""

import logging
from collections import OrderedDict, deque
from contextlib import suppress

import numpy as np

from m2i_ros.pipeline import FrameError
from m2i_ros.recording.bag_reader import BagError, BagReader
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.covariance import covariance_from_list
from m2i_ros.ros.images import grey_from_compressed, grey_from_image
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.sources.recorded_tf import RecordedTransforms, motion
from m2i_ros.sources.source_frame import SecondPicture, SourceError, SourceFrame

DECODERS = {'sensor_msgs/msg/Image': grey_from_image, 'sensor_msgs/msg/CompressedImage': grey_from_compressed}
# Beside the pictures: what is known of a frame, by its topic's name.
TYPES = {
    'camera_info': 'sensor_msgs/msg/CameraInfo',
    'initialpose': 'geometry_msgs/msg/PoseWithCovarianceStamped',
    'truth/mask': 'sensor_msgs/msg/Image',
    'truth/pose': 'geometry_msgs/msg/PoseStamped',
}
SECOND_TYPES = {'second/camera_info': 'sensor_msgs/msg/CameraInfo', 'tf': 'tf2_msgs/msg/TFMessage'}
WINDOW = 4  # pictures for which a picture waits for its camera_info and truth: topics are recorded beside each other

log = logging.getLogger(__name__)


class BagSource:
    """The pictures of a bag (`recording.bag_reader`), with camera_info, initialpose and the truth recorded beside them.

    path: the bag's folder, or one of its files.
    image: the topic of the pictures; '': the only one called image or image/compressed. Its namespace is that of
    camera_info and the others. camera_info, initialpose: topics of other names, where the bag has them.
    second_image: the topic of a second plane's pictures; '': second/image or second/image/compressed beside the first.
    start: seconds from the beginning of the bag. duration: seconds from there, 0 for all.

    origin: the first picture's stamp in ns; frames keep their recorded stamps. frame_id: the first picture's frame.
    A frame's camera is the camera_info of its stamp, or else the last one recorded before it, or else the first.
    An initialpose comes with the picture after it. A second picture is the nearest in time, however far; how it stands
    is what /tf and /tf_static say.
    second: the topic of a second plane's pictures, or ''. second_frame_id: the first one's frame.
    skipped: in words, what could not be read; its frames are left out.

    Raises SourceError for a bag that cannot be read, or where it is not clear which topic holds the pictures.
    """

    realtime = False
    model = None
    initial_pose = None  # the frames bring it
    _second_camera = None

    def __init__(self, path, image='', camera_info='', initialpose='', second_image='', start=0.0, duration=0.0):
        self.path = path
        self.skipped, self._told = [], set()
        with self._reader() as reader:
            self._image = image or self._find_pictures(reader)
            base = _beside(self._image)
            self.second = second_image or next((t for t in _seconds(base) if reader.topics.get(t) in DECODERS), '')
            for topic in filter(None, (self._image, self.second)):
                if reader.topics.get(topic) not in DECODERS:
                    raise SourceError(f'{path}: {topic}: no such topic of pictures; {_pictures(reader)}')
            named = {'camera_info': camera_info, 'initialpose': initialpose}
            self._roles = {named.get(role) or base + role: role for role in TYPES}
            for topic, role in self._roles.items():
                if named.get(role) and reader.topics.get(topic) != TYPES[role]:
                    raise SourceError(f'{path}: {topic}: no such topic of type {TYPES[role]}')
            self._roles = {t: role for t, role in self._roles.items() if reader.topics.get(t) == TYPES[role]}
            if self.second:
                own = {_beside(self.second) + 'camera_info': 'second/camera_info', '/tf': 'tf'}
                own = {topic: role for topic, role in own.items() if reader.topics.get(topic) == SECOND_TYPES[role]}
                self._roles = {self.second: 'second/image', **own, **self._roles}
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
            first = next(reader.messages([self.second]), None) if self.second else None
            self.second_frame_id = first[2].header.frame_id if first else ''
            with suppress(SourceError):  # a second plane without camera costs the first one nothing
                self._second_camera = self._first_camera(reader, 'second/camera_info')

    def __len__(self):
        """Return the number of pictures in the bag; of a part of it, at most."""
        return self._length

    def __iter__(self):
        """Yield a `SourceFrame` a picture, in the order of recording."""
        self.skipped, self._told = [], set()
        with self._reader() as reader:
            waiting = deque()
            camera, start = {'camera_info': None, 'second/camera_info': None}, (None, None)
            parts = {role: OrderedDict() for role in self._roles.values()}  # by stamp
            transforms = self._static_transforms(reader)
            last = None
            for topic, recorded, message in reader.messages([self._image, *self._roles], self._start, self._stop):
                role = self._roles.get(topic)
                stamp = recorded if role == 'tf' else nanoseconds(message.header.stamp)
                try:
                    if role == 'tf':
                        transforms.add(message)
                    elif role == 'initialpose':
                        start = self._initial_pose(message)
                    elif role:
                        part = self._part_of_frame(role, reader.topics[topic], message)
                        if role in camera:
                            camera[role] = part
                        parts[role][stamp] = (part, camera['second/camera_info']) if role == 'second/image' else part
                        if len(parts[role]) > 4 * WINDOW:
                            parts[role].popitem(last=False)
                    elif stamp == last:
                        raise FrameError('its stamp is that of the picture before')
                    else:
                        last = stamp
                        picture = DECODERS[reader.topics[topic]](message)
                        waiting.append((stamp, picture, camera['camera_info'], start))
                        start = (None, None)
                except (FrameError, ValueError) as error:
                    self._skip(f'{self.path}: {topic} at {stamp / 1e9:.3f} s: {error}', (topic, str(error)))
                if len(waiting) > WINDOW:
                    yield self._frame(*waiting.popleft(), parts, transforms)
            while waiting:
                yield self._frame(*waiting.popleft(), parts, transforms)
            if reader.damaged:
                self._skip(f'{self.path}: {reader.damaged} damaged places')

    def _frame(self, stamp, picture, camera, start, parts, transforms):
        def of_stamp(role, default=None):
            return parts.get(role, {}).get(stamp, default)

        T_start, covariance = start
        return SourceFrame(
            picture,
            1e-9 * (stamp - self.origin),
            camera=of_stamp('camera_info', camera) or self.camera,
            T_image_model=of_stamp('truth/pose'),
            mask=of_stamp('truth/mask'),
            initial_pose=T_start,
            initial_covariance=covariance,
            second=self._second(stamp, parts, transforms),
        )

    def _second(self, stamp, parts, transforms):
        """Return the `SecondPicture` nearest to a stamp, or None."""
        pictures = parts.get('second/image')
        if not pictures:
            return None
        at = min(pictures, key=lambda own: abs(own - stamp))
        picture, camera = pictures[at]
        camera = parts.get('second/camera_info', {}).get(at, camera) or self._second_camera
        T = None
        if self.second_frame_id != self.frame_id:
            T = transforms.lookup(self.second_frame_id, self.frame_id, at)
        return SecondPicture(picture, 1e-9 * (at - self.origin), camera, T)

    @staticmethod
    def _part_of_frame(role, kind, message):
        if role.endswith('camera_info'):
            return camera_from_info(message)
        if role == 'truth/pose':
            return motion(message.pose.position, message.pose.orientation)
        return DECODERS[kind](message)

    def _initial_pose(self, message):
        if message.header.frame_id not in ('', self.frame_id):
            raise ValueError(f'it is given in "{message.header.frame_id}", not in the pictures\' "{self.frame_id}"')
        pose = message.pose.pose
        return motion(pose.position, pose.orientation), covariance_from_list(message.pose.covariance)

    def _static_transforms(self, reader):
        """Return `RecordedTransforms` with /tf_static, whenever in the bag it was sent."""
        transforms = RecordedTransforms()
        known = self.second and reader.topics.get('/tf_static') == SECOND_TYPES['tf']
        for _, _, message in reader.messages(['/tf_static']) if known else ():
            try:
                transforms.add(message, static=True)
            except ValueError as error:
                self._skip(f'{self.path}: /tf_static: {error}')
        return transforms

    def _skip(self, text, sort=None):
        """Note what is skipped, and tell it: of a thousand of one sort the first."""
        self.skipped.append(text)
        if sort is None or sort not in self._told:
            self._told.add(sort)
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
        seconds = [second for topic in found for second in _seconds(_beside(topic))]
        found = [topic for topic in found if topic not in seconds]
        if len(found) != 1:
            raise SourceError(f'{self.path}: which topic is it? {_pictures(reader)}: name one, bag.image')
        return found[0]

    def _first_camera(self, reader, of='camera_info'):
        topics = [topic for topic, role in self._roles.items() if role == of]
        for _, _, message in reader.messages(topics):
            try:
                return camera_from_info(message)
            except ValueError as error:
                raise SourceError(f'{self.path}: {error}') from error
        return None


def _is_image(topic):
    return ('/' + topic).endswith(('/image', '/image/compressed'))


def _beside(topic):
    """Return the namespace of a topic of pictures."""
    return topic.removesuffix('/compressed').rpartition('/')[0] + '/'


def _seconds(base):
    return f'{base}second/image', f'{base}second/image/compressed'


def _pictures(reader):
    there = sorted(topic for topic, kind in reader.topics.items() if kind in DECODERS)
    return f'pictures are on: {", ".join(there) or "none of its topics"}'
