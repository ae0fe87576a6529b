"""`benchmark tracking`: simulated injections followed from frame to frame, and what prediction is worth in them.

Each patient breathes and beats with periods of its own. On the same track are compared: the last place, constant
velocity, and the two periodic motions of `registration.motion`. Then contrast is taken away again and again.
With `--turned` the C-arm looks from one side first and then from another: with what it saw there, and without.
"""

import math
import time
from datetime import datetime, timezone

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from m2i_ros.evaluation.metrics import ellipsoids, pose_errors
from m2i_ros.evaluation.terminal import percentiles, progress_bar
from m2i_ros.evaluation.trials import ERRORS, begin_stream, planes_of
from m2i_ros.geometry import apply, inverse
from m2i_ros.recording.report import write_json
from m2i_ros.registration import Registrar, RegistrationSettings, State
from m2i_ros.registration.motion import Motion
from m2i_ros.segmentation import Segmenter, VesselMask
from m2i_ros.simulation.patients import OF

MASKS = ('true', 'found')
AHEAD = (1, 3, 8)  # frames: 0.07, 0.2 and 0.53 seconds
WAYS = ('last place', 'constant velocity', 'periodic')
VELOCITY = 4  # frames that the constant velocity is taken from
LEARNED = 4.0  # seconds of track before predictions count
SEEN, GONE = 2.0, 1.0  # seconds with contrast, and then without
TURNING, AFTER = 2.0, 2.0  # seconds without contrast while the C-arm turns; and with contrast once it has
_PLATEAU = 15.0  # seconds: contrast stays as long as it is looked at


class _StillMotion(Motion):
    """Predicts nothing: the last place, and the speed seen so far."""

    def predict(self, stamp):
        return None


def add_arguments(parser):
    """Add the job's own arguments to a parser."""
    parser.add_argument('--anatomies', nargs='+', default=['iliofemoral', 'aortic_root'])
    parser.add_argument('--patients', type=int, default=2, help='of each anatomy (default: %(default)s)')
    parser.add_argument('--masks', nargs='+', choices=MASKS, default=list(MASKS), help='default: both')
    parser.add_argument('--size', type=int, default=512, help='side of the picture in pixels (default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=14.0, help='of each injection (default: %(default)s)')
    parser.add_argument(
        '--turned',
        type=float,
        metavar='SECONDS',
        help='instead: what a C-arm, before it turned by 60 to 120 degrees, saw for so many seconds',
    )
    parser.add_argument('--still', action='store_true', help='of patients who neither breathe nor have a heart beat')
    parser.add_argument(
        '--of', choices=OF, default='evaluation', help='which patients: those kept for figures, or others'
    )


def run(arguments):
    """Track, predict and hold; write the JSON file and print the tables. Return 0."""
    keys = ('anatomies', 'patients', 'masks', 'size', 'seconds', 'turned', 'still', 'of', 'weights')
    report = {
        'job': 'tracking',
        'command': arguments.command,
        'date': f'{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC',
        'settings': {key: getattr(arguments, key) for key in keys},
    }
    segmenter = Segmenter(weights=arguments.weights, threads=arguments.threads) if 'found' in arguments.masks else None
    patients = [(a, seed) for seed in OF[arguments.of][: arguments.patients] for a in arguments.anatomies]
    with progress_bar() as progress:
        for anatomy, seed in progress.track(patients, description='tracking patients'):
            about = {'anatomy': anatomy, 'seed': seed}
            parts = (
                _turned(anatomy, seed, arguments, segmenter)
                if arguments.turned
                else _followed(anatomy, seed, arguments, segmenter)
            )
            for name, rows in parts.items():
                report.setdefault(name, []).extend({**about, **row} for row in rows)
            report['summary'] = summarise_turned(report) if arguments.turned else summarise(report)
            write_json(arguments.json, report)
    (_print_turned if arguments.turned else _print)(report['summary'])
    return 0


def _phantoms(anatomy, seed, arguments, seconds, views=1):
    """Return the planes of a patient in whom contrast is everywhere."""
    rng = np.random.default_rng((seed, 81))
    periods = {'breath': rng.uniform(3.0, 5.5), 'beat': rng.uniform(0.7, 1.1)}
    if arguments.still:
        periods = dict.fromkeys(periods, math.inf)
    contrast = {'injections': (-2.0,), 'plateau': _PLATEAU + seconds}
    return planes_of(anatomy, seed, arguments.size, views, duration=seconds, **contrast, **periods)


def _sequence(phantom, segmenter, begin=0.0, end=math.inf):
    """Return [(stamp, T_image_model, {mask: VesselMask})] of a `Phantom` between two stamps, as another run."""
    out = []
    if segmenter:
        begin_stream(segmenter, [phantom])
    for index in range(len(phantom)):
        if not begin <= index / phantom.frame_rate < end:
            continue
        frame = phantom[index]
        masks = {'true': VesselMask(frame.mask, np.ones(frame.mask.shape, bool))}
        if segmenter:
            masks['found'] = segmenter.segment(frame.image)
        out.append((frame.stamp, frame.T_image_model, masks))
    return out


def _followed(anatomy, seed, arguments, segmenter):
    """Return rows of a patient: {'tracked', 'predicted', 'held': [...]}."""
    (phantom,) = _phantoms(anatomy, seed, arguments, arguments.seconds)
    sequence = _sequence(phantom, segmenter)
    out = {'tracked': [], 'predicted': [], 'held': []}
    for mask in arguments.masks:
        rows, predictions = _track(phantom, sequence, mask)
        out['tracked'] += [{'mask': mask, **row} for row in rows]
        out['predicted'] += [{'mask': mask, **row} for row in predictions]
        for way, motion in (('last place', _StillMotion()), ('periodic', Motion())):
            out['held'] += [{'mask': mask, 'way': way, **row} for row in _hold(phantom, sequence, mask, motion)]
    return out


def _turned(anatomy, seed, arguments, segmenter):
    """Return rows of the frames after the C-arm has turned, without and with what it saw before: {'turned': [...]}.

    While it turns there is no contrast, and the track is lost.
    """
    turns = arguments.turned + TURNING
    now, early = _phantoms(anatomy, seed, arguments, turns + AFTER, views=2)
    before, after = _sequence(early, segmenter, end=arguments.turned), _sequence(now, segmenter, turns)
    shape = (now.camera.height, now.camera.width)
    nothing = VesselMask(np.zeros(shape, np.uint8), np.ones(shape, bool))
    told = [inverse(phantom.c_arm.T_image_isocentre) for phantom in (early, now)]
    rows = []
    for mask in arguments.masks:
        for way, seconds in (('alone', 0.0), ('kept', RegistrationSettings.max_keep)):
            registrar = Registrar(now.model, RegistrationSettings(max_keep=seconds))
            registrar.set_initial_pose(early.initial_pose)
            for stamp, _, masks in before:
                registrar.register(masks[mask], early.camera, stamp, T_fixed_image=told[0])
            for stamp in np.arange(arguments.turned, turns, 0.2):
                registrar.register(nothing, early.camera, stamp, T_fixed_image=told[0])
            for stamp, T, masks in after:
                result = registrar.register(masks[mask], now.camera, stamp, T_fixed_image=told[1])
                rows.append({'mask': mask, 'way': way, 'views': result.views, **_scored(result, T, now)})
    return {'turned': rows}


def _track(phantom, sequence, mask):
    """Return rows of tracked frames, and rows of predictions made from the accepted ones."""
    registrar = Registrar(phantom.model)
    registrar.set_initial_pose(phantom.initial_pose)
    rows, predictions, stamps, poses = [], [], [], []
    for index, (stamp, T, masks) in enumerate(sequence):
        cpu, wall = time.process_time(), time.perf_counter()
        result = registrar.register(masks[mask], phantom.camera, stamp)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append({**_scored(result, T, phantom), 'cpu_ms': 1e3 * cpu, 'wall_ms': 1e3 * wall})
        if not result.accepted:
            continue
        stamps, poses = [*stamps, stamp][-VELOCITY:], [*poses, result.T_image_model][-VELOCITY:]
        if stamp - sequence[0][0] < LEARNED or index + max(AHEAD) >= len(sequence):
            continue
        for ahead in AHEAD:
            later, truth = sequence[index + ahead][:2]
            point = _point_in_view(phantom, truth)
            came = _place(truth, point) - _place(result.T_image_model, point)
            places = np.array([_place(pose, point) for pose in poses])
            velocity = np.polyfit(np.array(stamps) - stamp, places, 1)[0] if len(poses) > 1 else np.zeros(2)
            predicted = registrar.motion.predict(later)
            shift, deviation = predicted or (np.zeros(2), None)
            shifts = (np.zeros(2), velocity * (later - stamp), shift)
            errors = {way: 1e3 * float(np.linalg.norm(s - came)) for way, s in zip(WAYS, shifts)}
            predictions.append({'ahead': ahead, 'deviation_mm': predicted and 1e3 * deviation, **errors})
    return rows, predictions


def _hold(phantom, sequence, mask, motion):
    """Return a row for each frame whose contrast is taken away."""
    registrar = Registrar(phantom.model)
    registrar.motion = motion
    registrar.set_initial_pose(phantom.initial_pose)
    shape = (phantom.camera.height, phantom.camera.width)
    nothing = VesselMask(np.zeros(shape, np.uint8), np.ones(shape, bool))
    rows = []
    for stamp, T, masks in sequence:
        since = (stamp - LEARNED) % (SEEN + GONE)
        gone = stamp > LEARNED and since >= SEEN
        result = registrar.register(nothing if gone else masks[mask], phantom.camera, stamp)
        if gone:
            rows.append({'unseen': since - SEEN, **_scored(result, T, phantom)})
    return rows


def _scored(result, T, phantom):
    row = {'state': result.state.value, 'accepted': result.accepted, **dict.fromkeys(ERRORS), 'inside': None}
    if result.T_image_model is None:
        return row
    errors = pose_errors(result.T_image_model, T, phantom.model, phantom.camera)
    inside = ellipsoids(result.covariance, result.T_image_model, T, phantom.model.centroid)['pose']
    return {**row, **errors, 'inside': bool(inside)}


def _point_in_view(phantom, T):
    points = phantom.model.centreline.points
    pixels = phantom.camera.project(apply(T, points))
    seen = ((pixels >= 0) & (pixels < (phantom.camera.width, phantom.camera.height))).all(axis=1)
    return points[seen].mean(axis=0)


def _place(T, point):
    """Return where a model point lies in the picture's plane (2,), metres at the isocentre's usual depth."""
    x, y, z = apply(T, point)
    return np.array([x, y]) * 0.75 / z


def summarise(report):
    """Return {'anatomy, mask masks': {'tracked': ..., 'predicted': ..., 'held': ...}}: medians and 95th percentiles."""
    out = {}
    for key in dict.fromkeys((row['anatomy'], row['mask']) for row in report['tracked']):
        tracked, predicted, held = (
            [row for row in report[part] if (row['anatomy'], row['mask']) == key]
            for part in ('tracked', 'predicted', 'held')
        )
        steady = [row for row in tracked if row['state'] == State.TRACKING.value][1:]
        out[f'{key[0]}, {key[1]} masks'] = {
            'tracked': {
                **_figures(tracked),
                'cpu_ms': percentiles([row['cpu_ms'] for row in steady], [50, 95]),
                'wall_ms': percentiles([row['wall_ms'] for row in steady], [50, 95]),
            },
            'predicted': {
                ahead: {
                    **{
                        way: percentiles([row[way] for row in predicted if row['ahead'] == ahead], [50, 95])
                        for way in WAYS
                    },
                    'used': _share(row['deviation_mm'] is not None for row in predicted if row['ahead'] == ahead),
                }
                for ahead in AHEAD
            },
            'held': {way: _figures([row for row in held if row['way'] == way]) for way in ('last place', 'periodic')},
        }
    return out


def summarise_turned(report):
    """Return {'anatomy, mask masks': {way: figures}} of the frames after the C-arm has turned."""
    out = {}
    for anatomy, mask, way in dict.fromkeys((row['anatomy'], row['mask'], row['way']) for row in report['turned']):
        rows = [r for r in report['turned'] if (r['anatomy'], r['mask'], r['way']) == (anatomy, mask, way)]
        figures = {**_figures(rows), 'two_views': _share(row['views'] > 1 for row in rows)}
        out.setdefault(f'{anatomy}, {mask} masks', {})[way] = figures
    return out


def _figures(rows):
    posed, believed = ([row for row in rows if row[key]] for key in ('mpd_mm', 'accepted'))
    return {
        'n': len(rows),
        'believed': _share(row['accepted'] for row in rows),
        'mpd_mm': percentiles([row['mpd_mm'] for row in posed], [50, 95]),
        'believed_mpd_mm': percentiles([row['mpd_mm'] for row in believed], [50, 95]),
        'believed_mtre_mm': percentiles([row['mtre_mm'] for row in believed], [50, 95]),
        'believed_depth_mm': percentiles([row['depth_mm'] for row in believed], [50, 95]),
        'believed_wrong_2mm': sum(row['mpd_mm'] > 2 for row in believed),
        'believed_inside': _share(row['inside'] for row in believed),
    }


def _share(flags):
    flags = list(flags)
    return sum(map(bool, flags)) / len(flags) if flags else None


def _print(summary):
    console = Console()
    table = Table(title='place foretold, error in mm: median / 95th percentile', box=SIMPLE_HEAD, pad_edge=False)
    for column in ('', 'frames ahead', *WAYS, 'periodic used'):
        table.add_column(column)
    for name, parts in summary.items():
        for ahead, row in parts['predicted'].items():
            table.add_row(name, str(ahead), *(_pair(row[way]) for way in WAYS), _percent(row['used']))
    console.print(table)
    columns = ('', '', 'n', 'believed', 'mPD', 'mPD believed', 'depth believed', '> 2 mm believed', 'inside')
    table = Table(
        title=f'tracked; and contrast taken away for {GONE:g} s of every {SEEN + GONE:g} s',
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column)
    for name, parts in summary.items():
        for what, row in {'tracked': parts['tracked'], **{f'held: {w}': r for w, r in parts['held'].items()}}.items():
            table.add_row(
                name, what, str(row['n']), _percent(row['believed']),
                *(_pair(row[key]) for key in ('mpd_mm', 'believed_mpd_mm', 'believed_depth_mm')),
                str(row['believed_wrong_2mm']), _percent(row['believed_inside']),
            )  # fmt: skip
    console.print(table)
    for name, parts in summary.items():
        cpu, wall = parts['tracked']['cpu_ms'], parts['tracked']['wall_ms']
        print(f'{name}: {cpu[0]:.1f} ms of CPU and {wall[0]:.1f} ms a tracked frame (medians)')


def _print_turned(summary):
    title = 'after the C-arm has turned, without and with what it saw before; mm: median / 95th percentile of believed'
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for column in ('', '', 'n', 'believed', 'two views', 'mTRE', 'depth', 'mPD', '> 2 mm', 'inside'):
        table.add_column(column)
    for name, ways in summary.items():
        for way, row in ways.items():
            table.add_row(
                name, way, str(row['n']), _percent(row['believed']), _percent(row['two_views']),
                *(_pair(row[f'believed_{key}_mm']) for key in ('mtre', 'depth', 'mpd')),
                str(row['believed_wrong_2mm']), _percent(row['believed_inside']),
            )  # fmt: skip
    Console().print(table)


def _pair(values):
    return ' / '.join('-' if value is None or np.isnan(value) else f'{value:.2f}' for value in values)


def _percent(share):
    return '-' if share is None else f'{100 * share:.0f}%'
