"""Keeps transforms for a while and joins them to chains."""

import bisect
import threading
import time as wall

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time

from tf2_ros.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
)

_NANOSECONDS = 1_000_000_000


class Buffer:
    """Transforms of the last `cache_time` (10 s if not given), looked up between any two frames of one tree.

    Between two stamps of a frame the translation is interpolated linearly and the rotation along the great arc; outside
    of the stamps received there is an ExtrapolationException. Time 0 asks for the latest that the whole chain has.
    """

    def __init__(self, cache_time=None, node=None):
        self._cache = (cache_time or Duration(seconds=10)).nanoseconds
        self._frames = {}  # child's name -> _Frame
        self._lock = threading.Lock()

    def __getattr__(self, name):
        if name.startswith('_'):
            raise AttributeError(name)
        raise NotImplementedError(f'tf2_ros.Buffer.{name} is not in this stand-in: install ROS 2 for it')

    def clear(self):
        """Forgets all transforms."""
        with self._lock:
            self._frames.clear()

    def set_transform(self, transform, authority):
        """Adds a TransformStamped; `authority` says who sent it."""
        self._set(transform, static=False)

    def set_transform_static(self, transform, authority):
        """Adds a TransformStamped that holds for all times."""
        self._set(transform, static=True)

    def lookup_transform(self, target_frame, source_frame, time, timeout=Duration()):  # noqa: B008, as in tf2_ros
        """Returns the TransformStamped that maps coordinates in `source_frame` into `target_frame`.

        Waits up to `timeout` for it (another thread must spin the listener). Raises the TransformException that tells
        why there is none.
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        with self._lock:
            return self._lookup(target_frame, source_frame, _nanoseconds(time))

    def can_transform(self, target_frame, source_frame, time, timeout=Duration(), return_debug_tuple=False):  # noqa: B008
        """Returns whether lookup_transform would succeed; with `return_debug_tuple` also why not."""
        end = wall.monotonic() + timeout.nanoseconds / _NANOSECONDS
        while True:
            try:
                with self._lock:
                    self._lookup(target_frame, source_frame, _nanoseconds(time))
                return (True, '') if return_debug_tuple else True
            except (ConnectivityException, ExtrapolationException, InvalidArgumentException, LookupException) as error:
                if wall.monotonic() >= end:
                    return (False, str(error)) if return_debug_tuple else False
            wall.sleep(0.02)

    # --- inside ---

    def _set(self, transform, static):
        parent, child = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
        t, q = transform.transform.translation, transform.transform.rotation
        translation, rotation = np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w])
        norm = np.linalg.norm(rotation)
        # The genuine buffer warns and drops these as well: one bad sender must not end the listener.
        if not parent or not child or parent == child or not np.isfinite(translation).all() or not abs(norm - 1) < 1e-2:
            return
        with self._lock:
            frame = self._frames.get(child)
            if frame is None or frame.parent != parent or frame.static != static:
                frame = self._frames[child] = _Frame(parent, static)
            frame.add(_nanoseconds(transform.header.stamp), translation, rotation / norm, self._cache)

    def _lookup(self, target, source, time):
        for name in (target, source):
            if not name or name.startswith('/'):
                raise InvalidArgumentException(f'"{name}": a frame id is not empty and does not start with "/"')
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        known = set(self._frames) | {frame.parent for frame in self._frames.values()}
        for name, role in ((target, 'target'), (source, 'source')):
            if name not in known and target != source:
                raise LookupException(f'"{name}" passed to lookupTransform argument {role}_frame does not exist.')
        common = next((name for name in up_source if name in up_target), None)
        if common is None:
            raise ConnectivityException(
                f"Could not find a connection between '{target}' and '{source}' because they are not part of the same "
                f'tree. Tf has two or more unconnected trees.'
            )
        chain_source = up_source[: up_source.index(common)]
        chain_target = up_target[: up_target.index(common)]
        if time == 0:
            moving = [
                self._frames[name].stamps[-1] for name in chain_source + chain_target if not self._frames[name].static
            ]
            time = min(moving, default=0)
        T_target_source = np.linalg.inv(self._chain(chain_target, time)) @ self._chain(chain_source, time)

        result = TransformStamped()
        result.header.frame_id, result.child_frame_id = target, source
        result.header.stamp = Time(nanoseconds=time).to_msg()
        t, q = result.transform.translation, result.transform.rotation
        t.x, t.y, t.z = map(float, T_target_source[:3, 3])
        q.x, q.y, q.z, q.w = map(float, _quaternion(T_target_source[:3, :3]))
        return result

    def _ancestors(self, name):
        """Returns the names from `name` up to its root."""
        names = [name]
        while name in self._frames:
            name = self._frames[name].parent
            if name in names:
                raise LookupException(f'the frames {names} form a loop')
            names.append(name)
        return names

    def _chain(self, names, time):
        """Returns the 4x4 motion from the first of `names` to the parent of the last."""
        T = np.eye(4)
        for name in names:
            T = self._frames[name].at(time, name) @ T
        return T


class _Frame:
    """One frame's way: the motions that map it into its parent, in the order of their stamps (ns)."""

    def __init__(self, parent, static):
        self.parent, self.static = parent, static
        self.stamps, self.poses = [], []  # pose: translation (3,), quaternion x y z w (4,)

    def add(self, stamp, translation, rotation, cache):
        if self.static:
            self.stamps, self.poses = [stamp], [(translation, rotation)]
            return
        if self.stamps and stamp <= self.stamps[-1] - cache:
            return  # older than what is kept
        i = bisect.bisect_left(self.stamps, stamp)
        if i < len(self.stamps) and self.stamps[i] == stamp:
            return  # the same stamp twice: the first one counts, as in tf2
        self.stamps.insert(i, stamp)
        self.poses.insert(i, (translation, rotation))
        kept = bisect.bisect_left(self.stamps, self.stamps[-1] - cache)
        del self.stamps[:kept], self.poses[:kept]

    def at(self, time, name):
        """Returns the 4x4 motion at `time` (ns)."""
        if self.static:
            return _matrix(*self.poses[0])
        i = bisect.bisect_left(self.stamps, time)
        if i < len(self.stamps) and self.stamps[i] == time:
            return _matrix(*self.poses[i])
        if i == 0 or i == len(self.stamps):
            bound = self.stamps[0] if i == 0 else self.stamps[-1]
            raise ExtrapolationException(
                f'Lookup would require extrapolation into the {"past" if i == 0 else "future"}.  Requested time '
                f'{time / _NANOSECONDS:.6f} but the {"earliest" if i == 0 else "latest"} data is at time '
                f'{bound / _NANOSECONDS:.6f}, when looking up the transform of frame [{name}] in [{self.parent}]'
            )
        (t0, q0), (t1, q1) = self.poses[i - 1], self.poses[i]
        part = (time - self.stamps[i - 1]) / (self.stamps[i] - self.stamps[i - 1])
        return _matrix(t0 + part * (t1 - t0), _slerp(q0, q1, part))


def _nanoseconds(time):
    """Returns the nanoseconds of an rclpy Time or of a message's stamp."""
    return time.nanoseconds if isinstance(time, Time) else time.sec * _NANOSECONDS + time.nanosec


def _slerp(q0, q1, part):
    cosine = float(q0 @ q1)
    if cosine < 0:  # q and -q are one rotation: the shorter way
        q1, cosine = -q1, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-9:
        return q0
    return (np.sin((1 - part) * angle) * q0 + np.sin(part * angle) * q1) / np.sin(angle)


def _matrix(translation, quaternion):
    x, y, z, w = quaternion
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = translation
    return T


def _quaternion(R):
    """Returns x, y, z, w of a rotation matrix: the eigenvector of Bar-Itzhack (2000), stable for all angles."""
    K = np.array(
        [
            [R[0, 0] - R[1, 1] - R[2, 2], R[0, 1] + R[1, 0], R[0, 2] + R[2, 0], R[2, 1] - R[1, 2]],
            [R[0, 1] + R[1, 0], R[1, 1] - R[0, 0] - R[2, 2], R[1, 2] + R[2, 1], R[0, 2] - R[2, 0]],
            [R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], R[2, 2] - R[0, 0] - R[1, 1], R[1, 0] - R[0, 1]],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], R[0, 0] + R[1, 1] + R[2, 2]],
        ]
    )
    q = np.linalg.eigh(K)[1][:, -1]
    return q if q[3] >= 0 else -q
