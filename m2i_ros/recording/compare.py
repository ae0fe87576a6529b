"""How two recorded sessions or replays of the same frames differ: masks, transforms, status."""

import math
from dataclasses import dataclass, field

import numpy as np

from m2i_ros.evaluation.metrics import dice
from m2i_ros.model.projected_centreline import CENTRELINE_POINT
from m2i_ros.recording.bag_reader import BagError, BagReader
from m2i_ros.ros.images import grey_from_image
from m2i_ros.ros.stamps import nanoseconds

WINDOW = 32  # frames whose parts may still be coming
TOPICS = ('vessel/mask', 'vessel/centerline', 'registration/status', 'tf')
# Of a status: what no two runs have in common.
OF_THE_RUN = ('latency_ms', 'segmentation_ms', 'registration_ms', 'drops')


@dataclass
class _Answer:
    """What a session said of one frame."""

    mask: np.ndarray | None = None
    transform: tuple | None = None  # x, y, z, quaternion
    points: np.ndarray | None = None  # of `CENTRELINE_POINT`
    status: dict = field(default_factory=dict)


def compare(path_a, path_b, model_frame='vessel_model'):
    """Return how the answers in two bags differ, frame by frame of equal stamp, as a dict ready for JSON.

    same: whether masks, transforms and status (times apart) of all frames are equal, to the last bit.
    first: {frame (from 0), stamp_s, what} of the first difference, or None.
    frames: {a, b, common}. masks, transforms, status: number of common frames that differ.
    dice: {n, min, median} of masks that both have; 1 where both are empty.
    distance_mm: {n, median, max, of} between transforms that both have: mean distance of the model's centreline points
    where both bags have them, else of the model's origin. projected_px: the same of the points on the detector.
    damaged: places in the bags that could not be read; then they are not the same.

    Raises BagError for a bag that cannot be read or holds no answers.
    """
    with BagReader(path_a) as a, BagReader(path_b) as b:
        found = _Differences()
        for stamp, one, other in _joined(_answers(a, model_frame), _answers(b, model_frame)):
            found.add(stamp, one, other)
        for reader, count in ((a, found.counts['a']), (b, found.counts['b'])):
            if not count:
                raise BagError(f'{reader.path}: holds no vessel/mask, registration/status or transform to compare')
        damaged = a.damaged + b.damaged
    return {'a': str(path_a), 'b': str(path_b), **found.report(), 'damaged': damaged} | (
        {'same': False} if damaged else {}
    )


class _Differences:
    def __init__(self):
        self.counts = {'a': 0, 'b': 0, 'common': 0}
        self._differ = {'masks': 0, 'transforms': 0, 'status': 0}
        self._first = None
        self._dice, self._mm, self._px = [], [], []
        self._by_points = True
        self._number = 0

    def add(self, stamp, a, b):
        number, self._number = self._number, self._number + 1
        self.counts['a'] += a is not None
        self.counts['b'] += b is not None
        if a is None or b is None:
            self._note(number, stamp, f'the frame is only in {"B" if a is None else "A"}')
            return
        self.counts['common'] += 1
        self._masks(number, stamp, a.mask, b.mask)
        self._transforms(number, stamp, a, b)
        if (a.status, b.status) != ({}, {}) and a.status != b.status:
            self._differ['status'] += 1
            keys = [k for k in {**a.status, **b.status} if a.status.get(k) != b.status.get(k)]
            words = ', '.join(f'{k}: "{a.status.get(k, "")}" and "{b.status.get(k, "")}"' for k in keys)
            self._note(number, stamp, f'status: {words}')

    def report(self):
        of = 'model points' if self._by_points else 'model origin'
        return {
            'same': self._first is None,
            'first': self._first,
            'frames': self.counts,
            **self._differ,
            'dice': {'n': len(self._dice), 'min': _of(min, self._dice), 'median': _of(np.median, self._dice)},
            'distance_mm': {
                'n': len(self._mm),
                'median': _of(np.median, self._mm),
                'max': _of(max, self._mm),
                'of': of if self._mm else '',
            },
            'projected_px': {'n': len(self._px), 'median': _of(np.median, self._px), 'max': _of(max, self._px)},
        }

    def _note(self, number, stamp, what):
        if self._first is None:
            self._first = {'frame': number, 'stamp_s': f'{stamp // 10**9}.{stamp % 10**9:09d}', 'what': what}

    def _masks(self, number, stamp, a, b):
        if a is None or b is None:
            if a is not b:
                self._differ['masks'] += 1
                self._note(number, stamp, f'the mask is only in {"B" if a is None else "A"}')
            return
        if a.shape != b.shape:
            self._differ['masks'] += 1
            self._note(number, stamp, f'masks of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} pixels')
            return
        self._dice.append(dice(a, b))
        if not np.array_equal(a, b):
            self._differ['masks'] += 1
            self._note(number, stamp, f'mask: {np.count_nonzero(a != b)} pixels, dice {self._dice[-1]:.4f}')

    def _transforms(self, number, stamp, a, b):
        if a.transform is None or b.transform is None:
            if a.transform is not b.transform:
                self._differ['transforms'] += 1
                self._note(number, stamp, f'the transform is only in {"B" if a.transform is None else "A"}')
            return
        if a.points is not None and b.points is not None and len(a.points) == len(b.points):
            self._mm.append(1e3 * _mean_distance(a.points, b.points, 'xyz'))
            if math.isfinite(px := _mean_distance(a.points, b.points, 'uv')):
                self._px.append(px)
        else:
            self._by_points = False
            self._mm.append(1e3 * math.dist(a.transform[:3], b.transform[:3]))
        if a.transform != b.transform:
            self._differ['transforms'] += 1
            self._note(number, stamp, f'transform: {self._mm[-1]:.6f} mm apart')


def difference_table(found):
    """Return what `compare` found as lines of text for a terminal."""
    frames, dices, mm, px = (found[key] for key in ('frames', 'dice', 'distance_mm', 'projected_px'))
    lines = [f'A {found["a"]}', f'B {found["b"]}']
    lines.append(f'frames      {frames["a"]} and {frames["b"]}, {frames["common"]} in common')
    lines.append(f'masks       {found["masks"]} differ' + _span(dices, 'dice', '.4f', 'min'))
    lines.append(
        f'transforms  {found["transforms"]} differ'
        + _span(mm, f'mm ({mm["of"]})', '.4f', 'max')
        + _span(px, 'px', '.4f', 'max')
    )
    lines.append(f'status      {found["status"]} differ')
    if found['damaged']:
        lines.append(f'damaged     {found["damaged"]} places could not be read')
    if found['first']:
        first = found['first']
        lines.append(f'first difference: frame {first["frame"]}, stamp {first["stamp_s"]} s: {first["what"]}')
    return '\n'.join([*lines, 'the same' if found['same'] else 'NOT the same'])


def _span(values, name, form, extreme):
    if not values['n']:
        return ''
    return f'; {name}: median {values["median"]:{form}}, {extreme} {values[extreme]:{form}}'


def _answers(reader, model_frame):
    """Yield (stamp, `_Answer`) of a bag, by stamp where it was recorded in any order."""
    topics = {topic: role for topic in reader.topics for role in TOPICS if topic.endswith('/' + role)}
    topics = {topic: role for topic, role in topics.items() if not topic.endswith('/second/' + role)}
    waiting = {}
    for topic, _, message in reader.messages(topics):
        role = topics[topic]
        if role == 'tf':
            for transform in message.transforms:
                if transform.child_frame_id == model_frame:
                    answer = waiting.setdefault(nanoseconds(transform.header.stamp), _Answer())
                    answer.transform = _numbers(transform.transform)
        elif role == 'registration/status':
            values = {pair.key: pair.value for pair in message.values}
            stamp = values.get('stamp', '').replace('.', '')
            if stamp.isdigit():
                answer = waiting.setdefault(int(stamp), _Answer())
                answer.status = {k: v for k, v in values.items() if k not in OF_THE_RUN}
        else:
            answer = waiting.setdefault(nanoseconds(message.header.stamp), _Answer())
            if role == 'vessel/mask':
                answer.mask = grey_from_image(message)
            elif len(message.data) % CENTRELINE_POINT.itemsize == 0:
                answer.points = np.frombuffer(message.data, CENTRELINE_POINT)
        if len(waiting) > WINDOW:
            stamp = min(waiting)
            yield stamp, waiting.pop(stamp)
    yield from sorted(waiting.items(), key=lambda item: item[0])


def _joined(one, other):
    """Yield (stamp, answer or None, answer or None) of two sequences by stamp."""
    a, b = next(one, None), next(other, None)
    while a or b:
        stamp = min(item[0] for item in (a, b) if item)
        in_a, in_b = a is not None and a[0] == stamp, b is not None and b[0] == stamp
        yield stamp, a[1] if in_a else None, b[1] if in_b else None
        a, b = next(one, None) if in_a else a, next(other, None) if in_b else b


def _numbers(transform):
    t, q = transform.translation, transform.rotation
    return t.x, t.y, t.z, q.x, q.y, q.z, q.w


def _mean_distance(one, other, names):
    difference = np.stack([one[name].astype(float) - other[name] for name in names])
    return float(np.linalg.norm(difference, axis=0).mean())


def _of(function, values):
    return float(function(values)) if values else math.nan
