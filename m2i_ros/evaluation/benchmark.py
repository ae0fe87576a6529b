"""`benchmark`: how fast segmentation and its networks are on this machine, how well simulated patients are registered,
and how well their centrelines are found."""

import argparse
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

from m2i_ros.evaluation import registration_benchmark, tracking_benchmark
from m2i_ros.evaluation.centrelines import score_patient
from m2i_ros.evaluation.terminal import progress_bar
from m2i_ros.recording.report import write_json
from m2i_ros.segmentation import Segmenter, WeightsError
from m2i_ros.segmentation.engines import ENGINES, make_engine
from m2i_ros.segmentation.weights import Weights, find
from m2i_ros.simulation import ANATOMIES
from m2i_ros.simulation.surface_faults import FAULTS

# The deep residual U-Net of the paper's width.
PAPER_NETWORK = {'width': 64, 'stem': 1, 'norm': 'batch'}


def main(argv=None):
    """Run `benchmark`; return 0, 2 where it cannot be run, or 130 where it was stopped."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog='benchmark', description=__doc__)
    jobs = parser.add_subparsers(dest='job', required=True)
    job = jobs.add_parser('segmentation', help='milliseconds a picture, by engine and size')
    job.add_argument('--engines', nargs='+', default=None, help='default: those whose file the weights have')
    job.add_argument('--sizes', nargs='+', type=int, default=[256, 512, 1024], help='sides in pixels')
    job.add_argument('--frames', type=int, default=20, help='pictures timed for each figure (default: %(default)s)')
    job.set_defaults(run=_segmentation)
    job = jobs.add_parser('networks', help="milliseconds of the weights' network beside the paper's (R64), same run")
    job.add_argument('--engines', nargs='+', default=None, help='default: those installed, in float32')
    job.add_argument('--size', type=int, default=512, help='side of the picture in pixels (default: %(default)s)')
    job.add_argument('--rounds', type=int, default=5, help='both networks, one after the other (default: %(default)s)')
    job.set_defaults(run=_networks)
    job = jobs.add_parser('registration', help='errors, doubt and capture on simulated patients, beside baselines')
    registration_benchmark.add_arguments(job)
    job.set_defaults(run=registration_benchmark.run)
    job = jobs.add_parser('tracking', help='simulated patients followed, and what prediction is worth')
    tracking_benchmark.add_arguments(job)
    job.set_defaults(run=tracking_benchmark.run)
    job = jobs.add_parser(
        'centrelines', help="centrelines extracted from simulated patients' surfaces, against the true ones"
    )
    job.add_argument('--anatomies', nargs='+', default=ANATOMIES, choices=ANATOMIES)
    job.add_argument('--patients', type=int, default=6, help='of each anatomy (default: %(default)s)')
    job.add_argument('--seed', type=int, default=0, help="the first patient's (default: %(default)s)")
    job.add_argument('--faces', type=int, help='of coarser surfaces: what each is reduced to (default: as simulated)')
    job.add_argument('--fault', choices=FAULTS, help='what is wrong with the surfaces (default: nothing)')
    amounts = '; '.join(f'{name} {amount:g} {unit}' for name, (amount, unit) in FAULTS.items())
    job.add_argument('--amount', type=float, help=f'of the fault (default: {amounts})')
    job.set_defaults(run=_centrelines)
    for name, job in jobs.choices.items():
        job.add_argument('--json', type=Path, required=True, help='where the figures go')
        if name == 'centrelines':
            continue
        job.add_argument('--weights', default='default', help='segmentation weights (default: %(default)s)')
        job.add_argument('--threads', type=int, default=2, help='CPU threads of the engine (default: %(default)s)')
    arguments = parser.parse_args(argv)
    arguments.command = ' '.join(['benchmark', *argv])
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
    rows, weights = [], find(arguments.weights)
    engines = arguments.engines or [name for name, kind in ENGINES.items() if weights.file(kind.reads).is_file()]
    with progress_bar() as progress:
        task = progress.add_task('timing', total=len(engines) * len(arguments.sizes))
        for engine in engines:
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
    engines = arguments.engines or [
        name for name, kind in ENGINES.items() if kind.reads != 'int8' and find_spec(kind.library)
    ]
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
    weights = Weights('R64', folder / 'R64.md', network, made.multiple, threshold=0.5)
    weights.file('onnx').write_bytes(to_onnx(made))
    torch.save({'network': network, 'state_dict': made.state_dict()}, weights.file('pt'))
    return weights


def time_networks(engine, networks, size, rounds, threads):
    """Return a dict a network: milliseconds of the network alone, and how many times faster than the last one it is.

    networks: {name: `Weights`}. Each round runs all of them, so that what disturbs the machine disturbs them alike.
    """
    pictures = np.random.default_rng(0).uniform(0, 1, (1, 2, size, size)).astype(np.float32)
    engines = {name: make_engine(engine, weights, threads)[1] for name, weights in networks.items()}
    times = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, run in engines.items():
            start = time.perf_counter()
            run(pictures[:, : networks[name].pictures])
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
        network(torch.zeros(1, weights.pictures, size, size))
    parameters = sum(p.numel() for p in network.parameters())
    return {'parameters': parameters, 'gflop': counter.get_total_flops() / 1e9}


# Centrelines


def _centrelines(arguments):
    patients = [(a, arguments.seed + i) for a in arguments.anatomies for i in range(arguments.patients)]
    fault, amount = arguments.fault, arguments.amount
    if fault is not None and amount is None:
        amount, _ = FAULTS[fault]
    rows = []
    with progress_bar() as progress:
        for anatomy, seed in progress.track(patients, description='extracting centrelines'):
            rows.append(score_patient(anatomy, seed, arguments.faces, fault, amount))
            write_json(arguments.json, {'job': 'centrelines', 'fault': fault, 'amount': amount, 'patients': rows})
    table = Table(
        title=f'centrelines of {len(rows)} simulated patients',
        caption="per cent of the length within a third of the vessel's radius, of the lumen's there, of the vessel's "
        'beyond the ostia, and of what was found: mean (least); ends missed; spurious branches (of the length); '
        'seconds of processor time, median',
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ('anatomy', 'true', 'in lumen', 'beyond', 'found', 'missed', 'spurious', 's'):
        table.add_column(column, justify='right', no_wrap=True)
    for anatomy in arguments.anatomies:
        own = [row for row in rows if row['anatomy'] == anatomy]
        shares = [[100 * row[f'{key}_within'] for row in own] for key in ('true', 'lumen', 'ostium', 'found')]
        spurious = 100 * statistics.mean(row['spurious_share'] for row in own)
        table.add_row(
            anatomy,
            *[f'{statistics.mean(share):.1f} ({min(share):.1f})' for share in shares],
            f'{sum(row["missed_ends"] for row in own)} of {sum(row["true_ends"] for row in own)}',
            f'{sum(row["spurious"] for row in own)} ({spurious:.1f}%)',
            f'{statistics.median(row["seconds"] for row in own):.1f}',
        )
    Console().print(table)
    return 0


# Output


def _figure(value, form):
    return format(value, form) if math.isfinite(value) else '-'


if __name__ == '__main__':
    sys.exit(main())
