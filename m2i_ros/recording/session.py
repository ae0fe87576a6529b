"""The figures of one session: what came in, what went out, how late, how good."""

import math
from array import array
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

import numpy as np

from m2i_ros.evaluation.metrics import dice, pose_errors, precision, recall

WINDOW = 32  # frames whose parts may still be coming
RECENT = 75  # frames that a console line speaks of: 5 s at 15 fps
SHEET_ROWS = 6
LIVE_AGE = 5.0  # seconds: a first picture older than this carries a stamp of another day

MASK_SCORES = {'dice': dice, 'precision': precision, 'recall': recall}
POSE_ERRORS = ('mpd_mm', 'mtre_mm', 'in_plane_mm', 'depth_mm')
TIMES = ('latency_ms', 'processing_ms', 'segmentation_ms', 'registration_ms')


@dataclass
class Moment:
    """What is known of one frame, put together as its parts arrive. Stamps and arrivals in ns."""

    stamp: int
    arrival: int | None = None
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    overlay: np.ndarray | None = None
    true_mask: np.ndarray | None = None
    T: np.ndarray | None = None
    T_true: np.ndarray | None = None
    name: str = ''
    state: str = ''
    confidence: float = math.nan
    latency_ms: float = math.nan
    dice: float = math.nan
    mpd_mm: float = math.nan


class Session:
    """Follows one session by what is seen on the topics, and sums it up.

    model: `VesselModel` for errors in millimetres, or None. camera: to be set once it is known.
    done: called with each `Moment` when nothing more is expected of it.

    Stamps are the pictures', in ns; arrivals are times of receipt, in ns of one clock. Holds the figures of every
    frame, but pictures of the last `WINDOW` frames and of the contact sheet only.
    """

    def __init__(self, model=None, done=lambda moment: None):
        self.model = model
        self.camera = None
        self.source = {}
        self._done = done
        self._moments = OrderedDict()
        self._images = self._masks = self._answers = self._unanswered = self._drops = 0
        self._first = {}  # stamp of the first image, contrast, tracking
        self._stamps_are_live = False
        self._mask_arrivals = deque(maxlen=RECENT)
        self._first_mask_arrival = None
        self._state = 'waiting'
        self._contrast = ''
        self._states = Counter()
        self._figures = {key: array('d') for key in (*TIMES, *MASK_SCORES, *POSE_ERRORS)}
        self._engine = {}
        self._load = {'memory_mb': {}, 'cpu_percent': {}}  # figure: {who: values}
        self._sheet = _Spread(4 * SHEET_ROWS)

    # What arrives

    def image(self, stamp, arrival, picture):
        """Note a picture; picture: (H, W) of any grey type, or None where it cannot be decoded."""
        if 'image' not in self._first:
            self._stamps_are_live = -0.1 < 1e-9 * (arrival - stamp) < LIVE_AGE
            self._first['image'] = stamp
        moment = self._moment(stamp)
        self._images += moment.arrival is None
        moment.arrival, moment.image = arrival, picture

    def mask(self, stamp, arrival, mask):
        """Note a mask found, (H, W) uint8."""
        moment = self._moment(stamp)
        if moment.mask is None:
            self._masks += 1
            self._mask_arrivals.append(arrival)
            self._first_mask_arrival = self._first_mask_arrival or arrival
        moment.mask = mask
        self._score_mask(moment)

    def true_mask(self, stamp, mask):
        """Note the true mask, (H, W) uint8."""
        moment = self._moment(stamp)
        moment.true_mask = mask
        if mask.any():
            self._first.setdefault('contrast', stamp)
        self._score_mask(moment)

    def pose(self, stamp, T_image_model):
        """Note a pose that was broadcast as TF."""
        moment = self._moment(stamp)
        moment.T = T_image_model
        self._score_pose(moment)

    def true_pose(self, stamp, T_image_model):
        """Note the true pose."""
        moment = self._moment(stamp)
        moment.T_true = T_image_model
        self._score_pose(moment)

    def overlay(self, stamp, picture):
        """Note an overlay, (H, W, 3) uint8 BGR."""
        self._moment(stamp).overlay = picture

    def status(self, arrival, values):
        """Note a `registration/status`; values: its {key: value}, as text."""
        stamp = _stamp(values)
        if stamp is None:
            return
        moment = self._moment(stamp)
        moment.state = self._state = values.get('state', '')
        self._contrast = values.get('contrast', '')
        moment.confidence = _number(values, 'confidence')
        self._states[moment.state] += 1
        self._answers += 1
        self._drops = int(_number(values, 'drops', self._drops))
        if moment.state == 'tracking':
            self._first.setdefault('tracking', stamp)
        start = stamp if self._latency_from_stamp() else moment.arrival
        if start is not None:
            moment.latency_ms = 1e-6 * (arrival - start)
            self._figures['latency_ms'].append(moment.latency_ms)
        for key, name in (
            ('latency_ms', 'processing_ms'),
            ('segmentation_ms',) * 2,
            ('registration_ms',) * 2,
        ):
            if math.isfinite(value := _number(values, key)):
                self._figures[name].append(value)

    def source_status(self, message, values):
        """Note a `source/status`: its message and its {key: value}, as text."""
        self.source = {**values, 'message': message}
        stamp = _stamp(values)
        if stamp is not None and values.get('name'):
            self._moment(stamp).name = values['name']

    def diagnosis(self, who, values):
        """Note one status of `/diagnostics`; values: its {key: value}, as text."""
        self._engine.update({key: values[key] for key in ('engine', 'weights', 'weights_hash') if values.get(key)})
        waits = _number(values, 'rate_hz') == 0  # nothing flows: what it takes now is not what it takes at work
        for key, load in self._load.items():
            if not (waits and key == 'cpu_percent') and math.isfinite(value := _number(values, key)):
                load.setdefault(who, array('d')).append(value)

    def complete(self):
        """Return whether every picture the source says it sent has come, and was answered or dropped."""
        answered = min(self._masks, self._answers or self._masks) + self._drops
        return self._images >= _number(self.source, 'frame', 0) and answered >= self._images

    def close(self):
        """Finish the frames that still wait for parts."""
        while self._moments:
            self._finish(self._moments.popitem(last=False)[1])

    # What is told

    @property
    def begun(self):
        """Whether a picture has come."""
        return self._images > 0

    def line(self, now):
        """Return the console line of the last seconds; now: ns, of the clock of the arrivals."""
        parts = []
        if self.source.get('frame'):
            parts.append(f'{self.source["frame"]:>4}/{self.source.get("of", "?")}')
        parts.append(f'{self._state.upper():<9}')
        if self._contrast:
            parts.append(f'contrast {self._contrast.replace("_", " "):<11}')
        parts.append(f'{sum(now - t < 2e9 for t in self._mask_arrivals) / 2:4.1f} fps')
        if latency := self._figures['latency_ms'][-RECENT:]:
            parts.append('latency p50 {:3.0f} p99 {:3.0f} ms'.format(*np.percentile(latency, (50, 99))))
        parts.append(f'dropped {self._dropped()}')
        if scores := self._figures['dice'][-RECENT // 5 :]:
            parts.append(f'dice {np.median(scores):.2f}')
        if errors := self._figures['mpd_mm'][-RECENT // 5 :]:
            parts.append(f'mPD {np.median(errors):.2f} mm')
        return '  '.join(parts)

    def report(self):
        """Return all figures as a dict; NaN where there is none."""
        figures = {key: np.asarray(values) for key, values in self._figures.items()}
        memory = sum(max(values) for values in self._load['memory_mb'].values()) or math.nan
        cpu = sum(float(np.median(values)) for values in self._load['cpu_percent'].values()) or math.nan
        latency = {key: _summary(figures[key], p50=50, p99=99) for key in TIMES}
        p50 = latency['latency_ms']['p50']
        return {
            'source': self.source,
            **self._engine,
            'frames': self._images,
            'masks': self._masks,
            'dropped': self._dropped(),
            'fps': self._rate(),
            **latency,
            'latency_from': 'image stamp' if self._latency_from_stamp() else 'receipt of the image',
            'states': {state: count / self._answers for state, count in sorted(self._states.items())},
            'first_tracking_s': self._seconds('image', 'tracking'),
            'contrast_to_tracking_s': self._seconds('contrast', 'tracking'),
            **{key: _summary(figures[key], q1=25, median=50, q3=75) for key in MASK_SCORES},
            **{key: _summary(figures[key], median=50, p95=95) for key in POSE_ERRORS},
            'memory_mb': memory,
            'cpu_percent': cpu,
            'p50_below_66_ms': None if math.isnan(p50) else bool(p50 < 66),
            'memory_below_1_gb': None if math.isnan(memory) else bool(memory < 1024),
        }

    def sheet_rows(self):
        """Return up to `SHEET_ROWS` rows for `contact_sheet`, spread over the session, most of them tracked."""
        kept = self._sheet.items
        good = [m for m in kept if m.state == 'tracking'] or [m for m in kept if m.mask.any()]
        others = [m for m in kept if not any(m is other for other in good)]
        chosen = _evenly(good, SHEET_ROWS - min(2, len(others)))
        chosen += _evenly(others, SHEET_ROWS - len(chosen))
        return [(self._caption(m), m.image, m.mask, m.overlay) for m in sorted(chosen, key=lambda m: m.stamp)]

    # Inside

    def _moment(self, stamp):
        moment = self._moments.get(stamp)
        if moment is None:
            moment = self._moments[stamp] = Moment(stamp)
            if len(self._moments) > WINDOW:
                self._finish(self._moments.popitem(last=False)[1])
        return moment

    def _finish(self, moment):
        self._unanswered += moment.arrival is not None and moment.mask is None
        if moment.image is not None and moment.mask is not None:
            self._sheet.add(moment)
        self._done(moment)

    def _score_mask(self, moment):
        mask, truth = moment.mask, moment.true_mask
        # Where there is no vessel to be seen, Dice says nothing.
        if mask is None or truth is None or mask.shape != truth.shape or not truth.any():
            return
        for key, score in MASK_SCORES.items():
            self._figures[key].append(score(mask, truth))
        moment.dice = self._figures['dice'][-1]

    def _score_pose(self, moment):
        if moment.T is None or moment.T_true is None or self.model is None or self.camera is None:
            return
        errors = pose_errors(moment.T, moment.T_true, self.model, self.camera)
        for key in POSE_ERRORS:
            self._figures[key].append(errors[key])
        moment.mpd_mm = errors['mpd_mm']

    def _latency_from_stamp(self):
        # A stepped source holds frames back, but stamps them as if they had come at their rate.
        return self._stamps_are_live and self.source.get('stepped') != 'true'

    def _dropped(self):
        """Return how many pictures got no mask; while answers may still come, as far as is known by now."""
        if not self._moments:
            return max(0, self._images - self._masks)
        return max(self._unanswered, self._drops)

    def _rate(self):
        if self._masks < 2:
            return math.nan
        return (self._masks - 1) / max(1e-9 * (self._mask_arrivals[-1] - self._first_mask_arrival), 1e-9)

    def _seconds(self, start, end):
        if start not in self._first or end not in self._first:
            return math.nan
        return 1e-9 * (self._first[end] - self._first[start])

    def _caption(self, moment):
        parts = [moment.name or f't = {1e-9 * (moment.stamp - self._first["image"]):.1f} s']
        if moment.state:
            parts.append(moment.state + (f' {moment.confidence:.2f}' if moment.confidence > 0 else ''))
        if math.isfinite(moment.dice):
            parts.append(f'dice {moment.dice:.2f}')
        if math.isfinite(moment.mpd_mm):
            parts.append(f'mPD {moment.mpd_mm:.2f} mm')
        return '   '.join(parts)


class _Spread:
    """Keeps at most `limit` of endlessly many items, evenly spread: every one, then every 2nd, every 4th, ..."""

    def __init__(self, limit):
        self.items = []
        self._limit = limit
        self._stride = 1
        self._count = 0

    def add(self, item):
        if self._count % self._stride == 0:
            self.items.append(item)
            if len(self.items) > self._limit:
                self.items = self.items[::2]
                self._stride *= 2
        self._count += 1


def _evenly(items, number):
    if len(items) <= number:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, number).round().astype(int)] if number > 0 else []


def _summary(values, **percentiles):
    """Return {'n': number, name: percentile, ...}; NaN where there are no values."""
    out = {'n': len(values)}
    for name, percent in percentiles.items():
        out[name] = float(np.percentile(values, percent)) if len(values) else math.nan
    return out


def _number(values, key, default=math.nan):
    try:
        return float(values.get(key, default))
    except ValueError:
        return default


def _stamp(values):
    """Return the stamp in ns of {'stamp': 'seconds.nanoseconds'}, or None. As text: a float would lose the ns."""
    seconds, _, fraction = values.get('stamp', '').partition('.')
    return int(seconds) * 10**9 + int(fraction) if seconds.isdigit() and fraction.isdigit() else None
