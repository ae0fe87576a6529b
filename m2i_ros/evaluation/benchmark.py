"""`benchmark`: how fast segmentation and its networks are on this machine, how well simulated patients are registered,
and how well their centrelines are found."""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from m2i_ros.evaluation.centrelines import score_patient
from m2i_ros.evaluation.metrics import dice, pose_errors
from m2i_ros.evaluation.terminal import progress_bar
from m2i_ros.geometry import CArm, apply, perturb
from m2i_ros.recording.report import write_json
from m2i_ros.registration import Registrar
from m2i_ros.segmentation import Segmenter, VesselMask, WeightsError
from m2i_ros.segmentation.engines import ENGINES, make_engine
from m2i_ros.segmentation.weights import Weights, find
from m2i_ros.simulation import ANATOMIES

# How far the start is off: rotation (degrees), shift in the picture's plane (mm), shift in depth (mm).
BANDS = {'near': (5, 10, 20), 'mid': (10, 20, 50), 'far': (25, 40, 100)}
# The deep residual U-Net of the paper's width.
PAPER_NETWORK = {'width': 64, 'stem': 1, 'norm': 'batch'}
RIGHT_MM = 2.0  # mPD below which a pose is right
SUCCESS_MM = (2.0, 5.0, 10.0)
_OPACIFIED = 4.0  # seconds into the phantom's sequence: contrast has come everywhere


def main(argv=None):
    """Run `benchmark`; return 0, 2 where it cannot be run, or 130 where it was stopped."""
    parser = argparse.ArgumentParser(prog='benchmark', description=__doc__)
    jobs = parser.add_subparsers(dest='job', required=True)
    job = jobs.add_parser('segmentation', help='milliseconds a picture, by engine and size')
    job.add_argument('--engines', nargs='+', default=['openvino', 'onnxruntime', 'torch'])
    job.add_argument('--sizes', nargs='+', type=int, default=[256, 512, 1024], help='sides in pixels')
    job.add_argument('--frames', type=int, default=20, help='pictures timed for each figure (default: %(default)s)')
    job.set_defaults(run=_segmentation)
    job = jobs.add_parser('networks', help="milliseconds of the weights' network beside the paper's (R64), same run")
    job.add_argument('--engines', nargs='+', default=None, help='default: those installed')
    job.add_argument('--size', type=int, default=512, help='side of the picture in pixels (default: %(default)s)')
    job.add_argument('--rounds', type=int, default=5, help='both networks, one after the other (default: %(default)s)')
    job.set_defaults(run=_networks)
    job = jobs.add_parser('registration', help='success against how far the start is off, on simulated patients')
    job.add_argument('--anatomies', nargs='+', default=['iliofemoral', 'aortic_root'])
    job.add_argument('--patients', type=int, default=8, help='of each anatomy, each in a view of its own')
    job.add_argument('--seed', type=int, default=1000, help="the first patient's (default: %(default)s)")
    job.add_argument('--size', type=int, default=512, help='side of the picture in pixels (default: %(default)s)')
    job.add_argument('--masks', choices=('true', 'found'), default='true', help='true masks, or those segmented')
    job.add_argument('--resume', action='store_true', help='go on with what the JSON file of a stopped run holds')
    job.set_defaults(run=_registration)
    job = jobs.add_parser(
        'centrelines', help="centrelines extracted from simulated patients' surfaces, against the true ones"
    )
    job.add_argument('--anatomies', nargs='+', default=ANATOMIES, choices=ANATOMIES)
    job.add_argument('--patients', type=int, default=6, help='of each anatomy (default: %(default)s)')
    job.add_argument('--seed', type=int, default=0, help="the first patient's (default: %(default)s)")
    job.set_defaults(run=_centrelines)
    for name, job in jobs.choices.items():
        job.add_argument('--json', type=Path, required=True, help='where the figures go')
        if name == 'centrelines':
            continue
        job.add_argument('--weights', default='default', help='segmentation weights (default: %(default)s)')
        job.add_argument('--threads', type=int, default=2, help='CPU threads of the engine (default: %(default)s)')
    arguments = parser.parse_args(argv)
    try:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('benchmark: stopped', file=sys.stderr)
        return 130


# Segmentation


def _segmentation(arguments):
    rows = []
    with progress_bar() as progress:
        task = progress.add_task('timing', total=len(arguments.engines) * len(arguments.sizes))
        for engine in arguments.engines:
            for size in arguments.sizes:
                rows.append(_time_engine(engine, size, arguments))
                progress.advance(task)
    write_json(arguments.json, {'job': 'segmentation', 'threads': arguments.threads, 'engines': rows})
    table = Table(title=f'segmentation, {arguments.threads} threads')
    for column in ('engine', 'size', 'median ms', 'p90 ms', 'fps', ''):
        table.add_column(column, justify='right')
    for row in rows:
        figures = [_figure(row[key], '.1f') for key in ('median_ms', 'p90_ms', 'fps')]
        table.add_row(row['engine'], str(row['size']), *figures, row['problem'])
    Console().print(table)
    return 0


def _time_engine(engine, size, arguments):
    row = {'engine': engine, 'size': size, 'median_ms': math.nan, 'p90_ms': math.nan, 'fps': math.nan, 'problem': ''}
    try:
        segmenter = Segmenter(weights=arguments.weights, engine=engine, threads=arguments.threads)
    except WeightsError:
        raise
    except ValueError as error:  # an engine that is not there
        return {**row, 'problem': str(error)}
    image = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    times = []
    for _ in range(arguments.frames + 3):
        start = time.perf_counter()
        segmenter.segment(image)
        times.append(1e3 * (time.perf_counter() - start))
    times = times[3:]  # the first ones prepare buffers
    median = statistics.median(times)
    return {**row, 'median_ms': median, 'p90_ms': float(np.percentile(times, 90)), 'fps': 1e3 / median}


# Networks


def _networks(arguments):
    own = find(arguments.weights)
    engines = arguments.engines or [name for name in ENGINES if find_spec(name)]
    rows = []
    with tempfile.TemporaryDirectory() as folder, progress_bar() as progress:
        networks = {own.name: own, 'R64': random_weights(Path(folder), PAPER_NETWORK)}
        costs = {name: {'network': w.network, **cost(w, arguments.size)} for name, w in networks.items()}
        report = {key: getattr(arguments, key) for key in ('job', 'size', 'threads', 'rounds')}
        for engine in progress.track(engines, description='timing'):
            rows += time_networks(engine, networks, arguments.size, arguments.rounds, arguments.threads)
            write_json(arguments.json, {**report, 'networks': costs, 'engines': rows})
    table = Table(
        title=f'networks, {arguments.size}x{arguments.size}, {arguments.threads} threads',
        caption='R64: random weights. times faster: R64 / network, medians of the same rounds',
    )
    for column in ('engine', 'network', 'M weights', 'GFLOP', 'median ms', 'p90 ms', 'times faster'):
        table.add_column(column, justify='right', no_wrap=column in ('engine', 'network'))
    for row in rows:
        size = costs[row['network']]
        figures = [f'{size["parameters"] / 1e6:.2f}', f'{size["gflop"]:.1f}', f'{row["median_ms"]:.1f}']
        table.add_row(row['engine'], row['network'], *figures, f'{row["p90_ms"]:.1f}', f'{row["times_faster"]:.1f}')
    Console().print(table)
    return 0


def random_weights(folder, network):
    """Write untrained weights of a `DeepResidualUNet` into a folder, for timing alone, and return them."""
    import torch

    from m2i_ros.segmentation.network import DeepResidualUNet
    from m2i_ros.training.export import to_onnx

    made = DeepResidualUNet(**network).eval()
    weights = Weights('R64', folder / 'R64.onnx', folder / 'R64.pt', network, made.multiple, threshold=0.5)
    weights.onnx.write_bytes(to_onnx(made))
    torch.save({'network': network, 'state_dict': made.state_dict()}, weights.torch)
    return weights


def time_networks(engine, networks, size, rounds, threads):
    """Return a dict a network: milliseconds of the network alone, and how many times faster than the last one it is.

    networks: {name: `Weights`}. Each round runs all of them, so that what disturbs the machine disturbs them alike.
    """
    picture = np.random.default_rng(0).uniform(0, 1, (1, 1, size, size)).astype(np.float32)
    engines = {name: make_engine(engine, weights, threads)[1] for name, weights in networks.items()}
    times = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, run in engines.items():
            start = time.perf_counter()
            run(picture)
            if number:  # the first prepares buffers
                times[name].append(1e3 * (time.perf_counter() - start))
    slowest = statistics.median(list(times.values())[-1])
    return [
        {
            'engine': engine,
            'network': name,
            'median_ms': statistics.median(own),
            'p90_ms': float(np.percentile(own, 90)),
            'times_faster': slowest / statistics.median(own),
        }
        for name, own in times.items()
    ]


def cost(weights, size):
    """Return {'parameters', 'gflop'} of a network for a picture (size, size): counted, 2 FLOP a multiply-add."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from m2i_ros.segmentation.network import DeepResidualUNet

    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        network = DeepResidualUNet(**weights.network).eval()
        network(torch.zeros(1, 1, size, size))
    parameters = sum(p.numel() for p in network.parameters())
    return {'parameters': parameters, 'gflop': counter.get_total_flops() / 1e9}


# Registration


def _registration(arguments):
    settings = {key: getattr(arguments, key) for key in ('size', 'masks', 'weights')}
    rows = _earlier_rows(arguments.json, settings) if arguments.resume else []
    done = {(row['anatomy'], row['seed']) for row in rows}
    patients = [(a, arguments.seed + i) for a in arguments.anatomies for i in range(arguments.patients)]
    segmenter = Segmenter(weights=arguments.weights, threads=arguments.threads) if arguments.masks == 'found' else None
    with progress_bar() as progress:
        for anatomy, seed in progress.track(patients, description='registering patients'):
            if (anatomy, seed) in done:
                continue
            rows += _register_patient(anatomy, seed, arguments.size, segmenter)
            report = {'job': 'registration', 'settings': settings, 'summary': summarise(rows), 'trials': rows}
            write_json(arguments.json, report)
    table = Table(
        title=f'registration of {len(rows)} starts, {arguments.masks} masks',
        caption='per cent; right: mPD < 2 mm; wrong: of the accepted; mTRE in mm; median ms',
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    columns = {
        'mpd_within_2_mm': 'right',
        'accepted': 'accepted',
        'accepted_wrong': 'wrong',
        'refused_right': 'refused right',
        **{f'mtre_within_{limit:g}_mm': f'mTRE <{limit:g}' for limit in SUCCESS_MM},
    }
    for column in ('anatomy', 'start', 'n', *columns.values(), 'search ms', 'track ms'):
        table.add_column(column, justify='right', min_width=max(map(len, column.split())))
    for row in summarise(rows):
        shares = [_figure(100 * row[key], '.0f') for key in columns]
        times = [_figure(row[key], '.0f') for key in ('search_ms', 'track_ms')]
        table.add_row(row['anatomy'], row['band'], str(row['n']), *shares, *times)
    Console().print(table)
    return 0


def _earlier_rows(path, settings):
    if not path.exists():
        return []
    report = json.loads(path.read_text(encoding='utf-8'))
    if report.get('settings') != settings:
        raise ValueError(f'{path}: was made with other settings ({report.get("settings")}): give a new file')
    return [{key: math.nan if value is None else value for key, value in row.items()} for row in report['trials']]


def _register_patient(anatomy, seed, size, segmenter):
    """Return a dict a band: one patient, seen under random angles, fully opacified, from one random start a band."""
    from m2i_ros.simulation import Phantom  # torch: not for the other benchmark

    rng = np.random.default_rng((seed, 77))
    angles = np.radians(rng.uniform((-35, -15), (35, 15)))
    phantom = Phantom(anatomy, seed, size, size, c_arm=CArm(*angles), mirrored=bool(seed % 2))
    frame = phantom[round(_OPACIFIED * phantom.frame_rate)]
    if segmenter is None:
        vessels = VesselMask(frame.mask, np.ones(frame.mask.shape, bool))
    else:
        vessels = segmenter.segment(frame.image)
    rows = []
    for band in BANDS:
        start_pose = _start(rng, frame.T_image_model, phantom.model, BANDS[band])
        registrar = Registrar(phantom.model)
        registrar.set_initial_pose(start_pose)
        start = time.perf_counter()
        result = registrar.register(vessels, phantom.camera, 0.0)
        search_ms = 1e3 * (time.perf_counter() - start)
        start = time.perf_counter()
        registrar.register(vessels, phantom.camera, 1 / 15)
        track_ms = 1e3 * (time.perf_counter() - start) if result.accepted else math.nan
        errors = dict.fromkeys(('mtre_mm', 'in_plane_mm', 'depth_mm', 'mpd_mm'), math.inf)
        if result.T_image_model is not None:
            errors = pose_errors(result.T_image_model, frame.T_image_model, phantom.model, phantom.camera)
        offset = pose_errors(start_pose, frame.T_image_model, phantom.model, phantom.camera)['mtre_mm']
        rows.append(
            {
                'anatomy': anatomy,
                'seed': seed,
                'band': band,
                'start_mtre_mm': offset,
                'mask_dice': dice(vessels.mask, frame.mask),
                'accepted': result.accepted,
                'reason': result.reason,
                'probability': result.probability,
                'recall': result.recall,
                'precision': result.precision,
                **errors,
                'search_ms': search_ms,
                'track_ms': track_ms,
            }
        )
    return rows


def _start(rng, T_truth, model, band):
    """Return the true pose put wrong by exactly a band's rotation, shift in plane and in depth, each in a random
    direction."""
    rotation, in_plane, depth = band
    turn, slide = rng.normal(size=3), rng.uniform(0, 2 * np.pi)
    shift = 1e-3 * np.array([in_plane * np.cos(slide), in_plane * np.sin(slide), depth * rng.choice([-1, 1])])
    xi = np.concatenate([shift, np.radians(rotation) * turn / np.linalg.norm(turn)])
    return perturb(T_truth, xi, apply(T_truth, model.centroid))


def summarise(rows):
    """Return a dict for each anatomy and band: how many trials, and shares (0 to 1) and median milliseconds of them.

    accepted_wrong is a share of the accepted; refused_right, refused although right, one of all.
    """
    out = []
    for anatomy, band in dict.fromkeys((row['anatomy'], row['band']) for row in rows):
        own = [row for row in rows if (row['anatomy'], row['band']) == (anatomy, band)]
        accepted = [row for row in own if row['accepted']]
        tracked = [row['track_ms'] for row in accepted]
        wrong = sum(not row['mpd_mm'] < RIGHT_MM for row in accepted)
        summary = {
            'anatomy': anatomy,
            'band': band,
            'n': len(own),
            'mpd_within_2_mm': np.mean([row['mpd_mm'] < RIGHT_MM for row in own]),
            **{f'mtre_within_{mm:g}_mm': np.mean([row['mtre_mm'] < mm for row in own]) for mm in SUCCESS_MM},
            'accepted': len(accepted) / len(own),
            'accepted_wrong': wrong / len(accepted) if accepted else math.nan,
            'refused_right': np.mean([row['mpd_mm'] < RIGHT_MM and not row['accepted'] for row in own]),
            'search_ms': statistics.median(row['search_ms'] for row in own),
            'track_ms': statistics.median(tracked) if tracked else math.nan,
        }
        out.append({key: float(v) if isinstance(v, np.floating) else v for key, v in summary.items()})
    return out


# Centrelines


def _centrelines(arguments):
    patients = [(a, arguments.seed + i) for a in arguments.anatomies for i in range(arguments.patients)]
    rows = []
    with progress_bar() as progress:
        for anatomy, seed in progress.track(patients, description='extracting centrelines'):
            rows.append(score_patient(anatomy, seed))
            write_json(arguments.json, {'job': 'centrelines', 'patients': rows})
    table = Table(
        title=f'centrelines of {len(rows)} simulated patients',
        caption='per cent of the length within a third of the radius: mean (least); seconds of processor time, median',
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ('anatomy', 'true', 'found', 'ends missed', 'spurious', '% of length', 'seconds'):
        table.add_column(column, justify='right')
    for anatomy in arguments.anatomies:
        own = [row for row in rows if row['anatomy'] == anatomy]
        shares = [[100 * row[key] for row in own] for key in ('true_within', 'found_within')]
        table.add_row(
            anatomy,
            *[f'{statistics.mean(share):.1f} ({min(share):.1f})' for share in shares],
            f'{sum(row["missed_ends"] for row in own)} of {sum(row["true_ends"] for row in own)}',
            str(sum(row['spurious'] for row in own)),
            f'{100 * statistics.mean(row["spurious_share"] for row in own):.1f}',
            f'{statistics.median(row["seconds"] for row in own):.1f}',
        )
    Console().print(table)
    return 0


# Output


def _figure(value, form):
    return format(value, form) if math.isfinite(value) else '-'


if __name__ == '__main__':
    sys.exit(main())
