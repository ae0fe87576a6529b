"""TF that was recorded: how frames stood to each other, without a ROS graph."""

from bisect import bisect_left
from collections import deque

import numpy as np
from transforms3d.quaternions import quat2mat

from m2i_ros.geometry import inverse, is_rigid, perturb, pose_difference, rigid
from m2i_ros.ros.stamps import nanoseconds

KEPT = 1000  # transforms of each frame
FRESH = 10**8  # ns from a moment by which the nearest transform may be off, where there are none on both sides


class RecordedTransforms:
    """The transforms of TFMessages, `lookup` between any two frames of one tree."""

    def __init__(self):
        self._parents, self._static, self._moving = {}, {}, {}

    def add(self, message, static=False):
        """Take a tf2_msgs/TFMessage. static: it holds at all times. Raises ValueError for one that is no motion."""
        for transform in message.transforms:
            child, stamp = transform.child_frame_id, nanoseconds(transform.header.stamp)
            T = motion(transform.transform.translation, transform.transform.rotation)
            self._parents[child] = transform.header.frame_id
            if static:
                self._static[child] = T
            else:
                self._moving.setdefault(child, deque(maxlen=KEPT)).append((stamp, T))

    def lookup(self, target, source, stamp):
        """Return T_target_source (4, 4) at a stamp, ns; None where that is not known."""
        up, down = self._to_root(source, stamp), self._to_root(target, stamp)
        common = next((frame for frame in up if frame in down), None)
        return None if common is None else inverse(down[common]) @ up[common]

    def _to_root(self, frame, stamp):
        """Return {ancestor: T_ancestor_frame}, nearest first, the frame itself in front."""
        found = {frame: np.eye(4)}
        T = found[frame]
        while (parent := self._parents.get(frame)) not in (None, *found):
            T_parent_frame = self._static.get(frame)
            if T_parent_frame is None:
                T_parent_frame = _at(self._moving[frame], stamp)
            if T_parent_frame is None:
                break
            found[parent] = T = T_parent_frame @ T
            frame = parent
        return found


def _at(transforms, stamp):
    """Return the motion at a stamp, between its neighbours as tf2 has it; None where they are too far off."""
    transforms = sorted(transforms, key=lambda each: each[0])
    after = bisect_left(transforms, stamp, key=lambda each: each[0])
    if 0 < after < len(transforms) and transforms[after][0] != stamp:
        (begin, T_begin), (end, T_end) = transforms[after - 1 : after + 1]
        share = (stamp - begin) / (end - begin)
        return perturb(T_begin, share * pose_difference(T_end, T_begin), T_begin[:3, 3])
    nearest, T = transforms[min(after, len(transforms) - 1)]
    return T if abs(nearest - stamp) <= FRESH else None


def motion(position, orientation):
    """Return the (4, 4) motion of a position and a quaternion message. Raises ValueError where it is none."""
    q = np.array([orientation.w, orientation.x, orientation.y, orientation.z])
    if not abs(np.linalg.norm(q) - 1) < 0.01:
        raise ValueError(f'quaternion {[*q[1:].tolist(), q[0].item()]}: length 1 is needed')
    T = rigid(quat2mat(q), np.array([position.x, position.y, position.z]))
    if not is_rigid(T):
        raise ValueError('the pose is not finite')
    return T
