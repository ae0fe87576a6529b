"""`evaluate segmentation`: scores the `Segmenter` on pictures with true masks: stored, simulated, or through a CT."""

import argparse
import json
import math
import os
import signal
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from m2i_ros.evaluation.metrics import mask_scores
from m2i_ros.evaluation.pictures import (
    PHASES,
    EvaluationError,
    ct_views,
    save_mask,
    simulated_views,
    stored_pictures,
)
from m2i_ros.evaluation.terminal import (
    add_quartiles,
    percentiles,
    progress_bar,
    quartile_table,
    quartiles,
)
from m2i_ros.recording.report import without_nan, write_json
from m2i_ros.segmentation import Segmenter
from m2i_ros.simulation.patients import OF

# Better when higher, and when lower.
OVERLAPS = ('dice', 'precision', 'recall', 'cldice', 'tolerant_dice')
DISTANCES = ('hd95_px', 'assd_px', 'hd95_mm', 'assd_mm')
# Vessel found where there is none, as a share of the picture: a frame without contrast is clean below this.
CLEAN = 0.002
# The anatomies the paper reports on (Li et al., ISMR 2021), by its names, and its medians on ten patients.
PAPER = {
    'iliofemoral': ('femoral artery', {'dice': 0.75, 'precision': 0.58, 'recall': 0.67}),
    'aortic_root': ('aortic root', {'dice': 0.71, 'precision': 0.56, 'recall': 0.74}),
}
# What was done is written at least this often, seconds.
_WRITE_EVERY = 10.0


def add_arguments(parser):
    """Add the job's own arguments to a parser."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--images', type=Path, help='folder of grey pictures; with --masks')
    what.add_argument(
        '--simulated',
        nargs='*',
        metavar='ANATOMY',
        help=f'simulated patients kept from training, of these anatomies (default: {" ".join(PAPER)})',
    )
    what.add_argument(
        '--ct', type=Path, help='CT in HU (NIfTI, NRRD, MetaImage) to draw pictures through; with --labels'
    )
    parser.add_argument('--masks', type=Path, help='folder of true masks of the same names as the pictures')
    parser.add_argument(
        '--labels', type=Path, help='label map of --ct: all that is full of contrast in it, which is taken out'
    )
    parser.add_argument('--label', type=float, nargs='+', help='those of the labels that contrast fills (default: all)')
    parser.add_argument(
        '--iodine-mg-ml',
        type=float,
        default=60.0,
        help='of --ct, where contrast is strongest, as the blood dilutes it (default: %(default)g)',
    )
    parser.add_argument(
        '--spacing-mm', type=float, default=math.nan, help='of a pixel of --images, for distances in mm'
    )
    parser.add_argument('--patients', type=_positive, default=10, help='of each anatomy (default: %(default)s)')
    parser.add_argument(
        '--of',
        choices=OF,
        default='evaluation',
        help='which patients: those kept for figures, or those by which weights and thresholds may be chosen',
    )
    parser.add_argument('--views', type=_positive, default=3, help='C-arm angles a patient (default: %(default)s)')
    parser.add_argument(
        '--frames', type=_positive, default=8, help='moments of the injection a view (default: %(default)s)'
    )
    parser.add_argument('--size', type=_positive, default=512, help='sides of simulated pictures, pixels')
    parser.add_argument(
        '--no-reference', action='store_true', help='compare no picture with an earlier one without contrast'
    )
    parser.add_argument('--html', type=Path, help='where the report for people goes: one file, pictures inside')
    parser.add_argument('--save', type=Path, help='folder for the masks found, as PNG named as the pictures')
    parser.add_argument('--resume', action='store_true', help='go on with what the JSON file of a stopped run holds')
    parser.add_argument(
        '--jobs', type=_positive, default=1, help='processes, each with --threads; latencies are those of one alone'
    )


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: a whole number from 1 on is needed')
    return int(text)


def run(arguments):
    """Score the pictures; write the JSON file and, where asked for, the HTML file, and print the tables.

    Stopped by Ctrl-C it writes and prints what is done, and raises KeyboardInterrupt.
    """
    simulated = arguments.simulated is not None
    if simulated:
        anatomies = arguments.simulated or list(PAPER)
        sources = simulated_views(
            anatomies, arguments.patients, arguments.views, arguments.frames, arguments.size, arguments.of
        )
        settings = {'of': arguments.of, 'frames': arguments.frames, 'size': arguments.size}
    elif arguments.ct is not None:
        if arguments.labels is None:
            raise EvaluationError('--ct needs --labels: the label map of its vessels')
        how_drawn = {key: getattr(arguments, key) for key in ('label', 'iodine_mg_ml', 'size')}
        sources = ct_views(arguments.ct, arguments.labels, views=arguments.views, **how_drawn)
        settings = {'ct': str(arguments.ct), 'labels': str(arguments.labels), **how_drawn}
    elif arguments.masks is None:
        raise EvaluationError('--images needs --masks: the folder of their true masks')
    else:
        sources = stored_pictures(arguments.images, arguments.masks, arguments.spacing_mm)
        settings = {'images': str(arguments.images), 'masks': str(arguments.masks), 'spacing_mm': arguments.spacing_mm}
    how = {
        'weights': arguments.weights,
        'engine': arguments.engine,
        'threads': arguments.threads,
        'reference': not arguments.no_reference,
    }
    segmenter = Segmenter(**how)
    report = {
        'job': 'segmentation',
        'command': arguments.command,
        'date': f'{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC',
        'segmenter': segmenter.info,
        'threads': arguments.threads,
        'jobs': arguments.jobs,
        'settings': {'simulated': simulated, **settings},
    }
    done = _earlier_rows(arguments.json, report) if arguments.resume else {}

    def update(complete):
        rows = [row for source in sources for row in done.get(source.name, ())]
        report.update(complete=complete, summary=summarise(rows), images=rows)
        if simulated:
            report['anatomies'] = {
                anatomy: {
                    **summarise_patients([row for row in rows if row['anatomy'] == anatomy]),
                    **({'paper': PAPER[anatomy][1]} if anatomy in PAPER else {}),
                }
                for anatomy in anatomies
            }
        write_json(arguments.json, report)

    left = [source for source in sources if source.name not in done]
    written = time.monotonic()
    try:
        with progress_bar() as bar:
            task = bar.add_task('segmenting', total=len(sources), completed=len(sources) - len(left))
            for source, rows in _score_all(left, segmenter, arguments.save, arguments.jobs, how):
                done[source.name] = rows
                bar.advance(task)
                if time.monotonic() - written > _WRITE_EVERY:
                    update(complete=False)
                    written = time.monotonic()
    except KeyboardInterrupt as stop:
        update(complete=False)
        _print(report)
        raise KeyboardInterrupt(
            f' with {len(done)} of {len(sources)} scored, written to {arguments.json}; --resume goes on'
        ) from stop
    update(complete=True)
    _print(report)
    print(f'written: {arguments.json}')
    if arguments.html:
        from m2i_ros.evaluation.report import write_html  # matplotlib, jinja2: for the report alone

        write_html(arguments.html, report, {source.name: source for source in sources}, segmenter)
        print(f'written: {arguments.html}')


def _earlier_rows(path, report):
    """Return {source's name: its rows} of a stopped run. Raises EvaluationError where it was another one."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text(encoding='utf-8'))
    for key in ('settings', 'segmenter'):
        ours = without_nan(report[key])
        if earlier.get(key) != ours:
            raise EvaluationError(f'{path}: {key}: was made with {earlier.get(key)}, not {ours}: give a new file')
    done = {}
    for row in earlier['images']:
        # What JSON has no number for: a distance to nothing is infinite, all else unknown.
        nothing = math.nan if row['spacing_mm'] is None else math.inf
        none = {key: math.inf if key.endswith('_px') else nothing for key in DISTANCES}
        row = {key: none.get(key, math.nan) if value is None else value for key, value in row.items()}
        done.setdefault(row['source'], []).append(row)
    return done


# Scoring


def _score_all(sources, segmenter, save, jobs, how):
    """Yield (source, its rows) as they are done. With several jobs, each is a process with a segmenter of its own."""
    if jobs == 1:
        for source in sources:
            yield source, score(source, segmenter, save)
        return
    waiting, running = list(reversed(sources)), {}
    with ProcessPoolExecutor(jobs, get_context('spawn'), _start_worker, (how,)) as pool:
        while waiting or running:
            # No more than can run at once: what is begun when Ctrl-C comes has to be waited for.
            while waiting and len(running) < jobs:
                source = waiting.pop()
                running[pool.submit(_score_in_worker, source, save)] = source
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


_workers_segmenter = None


def _start_worker(how):
    global _workers_segmenter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets a begun source be finished
    os.environ['OMP_NUM_THREADS'] = str(how['threads'])  # of torch, which is not imported yet
    cv2.setNumThreads(how['threads'])
    _workers_segmenter = Segmenter(**how)


def _score_in_worker(source, save):
    return score(source, _workers_segmenter, save)


def score(source, segmenter, save=None):
    """Return a dict for each picture of a source (`StoredPicture`, `SimulatedView`); write masks into the folder save.

    Distances to an empty mask are infinite, distances in mm without spacing NaN. Of a picture whose truth is empty
    false_positive_share counts, and the summary leaves the rest out.
    """
    rows = []
    segmenter.reset()  # another source, another stream
    for picture in source.pictures():
        start = time.perf_counter()
        mask = segmenter.segment(picture.image).mask
        latency_ms = 1e3 * (time.perf_counter() - start)
        scores = mask_scores(mask, picture.truth)
        found, true, both = (int(np.count_nonzero(m)) for m in (mask, picture.truth, picture.truth & (mask > 0)))
        rows.append(
            {
                'name': picture.name,
                'source': source.name,
                **picture.about,
                **scores,
                'hd95_mm': scores['hd95_px'] * picture.spacing_mm,
                'assd_mm': scores['assd_px'] * picture.spacing_mm,
                'spacing_mm': picture.spacing_mm,
                'false_positive_share': (found - both) / mask.size,
                'true_px': true,
                'found_px': found,
                'both_px': both,
                'latency_ms': latency_ms,
            }
        )
        save_mask(save, picture.name, mask)
    return rows


# Summaries


def summarise(rows):
    """Return the summary of pictures' rows.

    Of the pictures whose truth holds vessels: for each metric {'n', 'median', 'q1', 'q3'} and the worst twentieth:
    'p5' of overlaps, 'p95' of distances; 'pooled': dice, precision, recall of all pixels together.
    'without_contrast', of the others: their number 'n', quartiles of 'false_positive_share', and 'clean': the share of
    them in which less than 0.2% of the picture was taken for vessel. latency_ms: of all.
    """
    shown = [row for row in rows if row['true_px']]
    empty = [row for row in rows if not row['true_px']]
    found, true, both = (sum(row[key] for row in shown) for key in ('found_px', 'true_px', 'both_px'))
    false = [row['false_positive_share'] for row in empty]
    return {
        'pictures': len(rows),
        **{metric: _with_worst(shown, metric) for metric in (*OVERLAPS, *DISTANCES)},
        'pooled': {
            'dice': 2 * both / (found + true) if found + true else math.nan,
            'precision': both / found if found else math.nan,
            'recall': both / true if true else math.nan,
        },
        'without_contrast': {
            'n': len(empty),
            'false_positive_share': quartiles(false),
            'clean': sum(share < CLEAN for share in false) / len(false) if false else math.nan,
        },
        'latency_ms': quartiles([row['latency_ms'] for row in rows]),
    }


def _with_worst(rows, metric):
    values = [row[metric] for row in rows]
    worst = 95 if metric in DISTANCES else 5
    return {**quartiles(values), f'p{worst}': percentiles(values, [worst])[0]}


def summarise_patients(rows):
    """Return `summarise` of simulated patients' rows, and beside it: 'phases', the summary of each phase of the
    injection; 'patients', for each its number and medians; 'by_patient', the quartiles of the patients' medians."""
    patients = []
    for patient in dict.fromkeys(row['patient'] for row in rows):
        own = [row for row in rows if row['patient'] == patient and row['true_px']]
        medians = {metric: percentiles([row[metric] for row in own], [50])[0] for metric in (*OVERLAPS, *DISTANCES)}
        patients.append({'patient': patient, 'pictures': len(own), **medians})
    return {
        **summarise(rows),
        'phases': {phase: summarise([row for row in rows if row['phase'] == phase]) for phase in PHASES},
        'patients': patients,
        'by_patient': {
            metric: quartiles([patient[metric] for patient in patients]) for metric in (*OVERLAPS, *DISTANCES)
        },
    }


def title(anatomy):
    """Return the name of an anatomy for people: the paper's where it has one."""
    return PAPER[anatomy][0] if anatomy in PAPER else anatomy.replace('_', ' ')


def _print(report):
    console = Console()
    groups = {'pictures': report['summary']}
    if 'anatomies' in report:
        groups = {f'simulated, {title(name)}': summary for name, summary in report['anatomies'].items()}
    for name, summary in groups.items():
        empty = summary['without_contrast']
        table = quartile_table(
            f'{name}: {summary["pictures"]}, {empty["n"]} of them without vessels', 'worst 5%', 'pooled'
        )
        for metric in (*OVERLAPS, *DISTANCES, 'latency_ms'):
            values = summary[metric]
            if values['n'] or metric in OVERLAPS:
                worst = values.get('p5', values.get('p95'))
                add_quartiles(table, metric, values, worst, summary['pooled'].get(metric))
        console.print(table)
        if empty['n']:
            console.print(
                f'of those without vessels, {empty["clean"]:.1%} are clean: below {CLEAN:.1%} taken for vessel'
            )
