"""`evaluate`: scores the shipped way of a frame, the `Pipeline`, against known masks and poses."""

import argparse
import csv
import math
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from m2i_ros.evaluation.metrics import mask_scores, pose_errors
from m2i_ros.pipeline import Frame, Pipeline
from m2i_ros.recording.report import write_json
from m2i_ros.registration import Registrar
from m2i_ros.segmentation import Segmenter
from m2i_ros.sources import open_case
from m2i_ros.sources.images import SUFFIXES, natural_order, read_grey

MASK_METRICS = ('dice', 'precision', 'recall', 'cldice', 'hd95_px')
POSE_METRICS = ('mtre_mm', 'in_plane_mm', 'depth_mm', 'mpd_mm')
SUCCESS_MM = (2.0, 5.0, 10.0)


class EvaluationError(ValueError):
    """Input that cannot be scored; the message says what is missing and where."""


def main(argv=None):
    """Run `evaluate`; return 0, or 2 where the input cannot be scored."""
    parser = argparse.ArgumentParser(prog='evaluate', description=__doc__)
    jobs = parser.add_subparsers(dest='job', required=True)
    segmentation = jobs.add_parser('segmentation', help='score masks of pictures against true masks')
    segmentation.add_argument('--images', type=Path, required=True, help='folder of grey pictures')
    segmentation.add_argument('--masks', type=Path, required=True, help='folder of true masks of the same names')
    registration = jobs.add_parser('registration', help='score poses of recorded cases against true poses')
    registration.add_argument('cases', type=Path, nargs='+', metavar='CASE', help='case folder or its case.yaml')
    for job, saved in (
        (segmentation, 'the masks found, as PNG named as the pictures'),
        (registration, 'masks as PNG and poses.csv; of several cases, a folder each'),
    ):
        job.add_argument('--json', type=Path, required=True, help='where the figures go')
        job.add_argument('--save', type=Path, help=f'folder for {saved}')
        job.add_argument('--weights', default='default', help='segmentation weights (default: %(default)s)')
        job.add_argument('--engine', default='auto', help='auto, openvino, onnxruntime or torch (default: %(default)s)')
        job.add_argument('--threads', type=int, default=2, help='CPU threads of the engine (default: %(default)s)')
    segmentation.set_defaults(run=_segmentation)
    registration.set_defaults(run=_registration)
    arguments = parser.parse_args(argv)
    try:
        report, table = arguments.run(arguments)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, report)
    except (ValueError, OSError) as error:  # of masks, models, cases, weights and frames: each says what is wrong
        print(f'evaluate: {error}', file=sys.stderr)
        return 2
    Console().print(table)
    print(f'written: {arguments.json}')
    return 0


def quartiles(values):
    """Return {'n', 'median', 'q1', 'q3'} of values that are numbers, infinite ones too; NaN is left out."""
    values = np.array([v for v in values if not math.isnan(v)], dtype=float)
    if not len(values):
        return {'n': 0, 'median': math.nan, 'q1': math.nan, 'q3': math.nan}
    # Between an infinite and a finite value there is no middle: the nearest value, then.
    q1, median, q3 = np.percentile(values, (25, 50, 75), method='linear' if np.isfinite(values).all() else 'nearest')
    return {'n': len(values), 'median': float(median), 'q1': float(q1), 'q3': float(q3)}


# Segmentation


def _segmentation(arguments):
    pairs = _pairs(arguments.images, arguments.masks)
    segmenter = Segmenter(weights=arguments.weights, engine=arguments.engine, threads=arguments.threads)
    rows, counts = [], np.zeros(3)
    with _progress() as progress:
        for image_path, mask_path in progress.track(pairs, description='segmenting'):
            frame = Frame(read_grey(image_path), 0.0)
            truth = read_grey(mask_path) > 127
            if truth.shape != frame.image.shape:
                raise EvaluationError(
                    f'{mask_path}: mask is {truth.shape[1]}x{truth.shape[0]}, its picture '
                    f'{frame.image.shape[1]}x{frame.image.shape[0]}'
                )
            start = time.perf_counter()
            mask = segmenter.segment(frame.image).mask
            latency_ms = 1e3 * (time.perf_counter() - start)
            rows.append({'name': image_path.stem, **mask_scores(mask, truth), 'latency_ms': latency_ms})
            counts += [np.count_nonzero(truth & (mask > 0)), np.count_nonzero(mask), np.count_nonzero(truth)]
            _save_mask(arguments.save, image_path.stem, mask)
    both, found, true = counts
    summary = {metric: quartiles([row[metric] for row in rows]) for metric in (*MASK_METRICS, 'latency_ms')}
    summary['pooled'] = {
        'dice': 2 * both / (found + true) if found + true else math.nan,
        'precision': both / found if found else math.nan,
        'recall': both / true if true else math.nan,
    }
    report = {'job': 'segmentation', 'segmenter': segmenter.info, 'summary': summary, 'images': rows}
    table = _table(f'{len(rows)} pictures', 'pooled')
    for metric in (*MASK_METRICS, 'latency_ms'):
        _add_row(table, metric, summary[metric], summary['pooled'].get(metric))
    return report, table


def _pairs(images, masks):
    """Return [(picture, mask)] by name. Raises EvaluationError for what has no partner."""
    found = []
    for folder in (images, masks):
        if not folder.is_dir():
            raise EvaluationError(f'{folder}: is not a folder')
        files = sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES), key=natural_order)
        if not files:
            raise EvaluationError(f'{folder}: holds no picture ({", ".join(SUFFIXES)})')
        by_name = {p.stem: p for p in files}
        if len(by_name) < len(files):
            raise EvaluationError(f'{folder}: two pictures have one name and differ by their suffix only')
        found.append(by_name)
    for one, two, folder in ((*found, masks), (*found[::-1], images)):
        alone = [name for name in one if name not in two]
        if alone:
            raise EvaluationError(
                f'{folder}: no file is named {alone[0]}.*' + (f', nor {len(alone) - 1} others' if alone[1:] else '')
            )
    return [(path, found[1][name]) for name, path in found[0].items()]


# Registration


def _registration(arguments):
    cases = [_case(path) for path in arguments.cases]
    names = [case.folder.resolve().name for case in cases]
    if len(set(names)) < len(names):
        raise EvaluationError(f'cases must have different folder names, but these are {", ".join(names)}')
    segmenter = Segmenter(weights=arguments.weights, engine=arguments.engine, threads=arguments.threads)
    reports = []
    with _progress() as progress:
        for case, name in zip(cases, names):
            save = arguments.save / name if arguments.save and len(cases) > 1 else arguments.save
            frames = list(_score_case(case, segmenter, save, progress.track(case, description=name)))
            reports.append({'name': name, 'model': case.model.hash, 'summary': summarise(frames), 'frames': frames})
    summary = summarise([row for report in reports for row in report['frames']])
    report = {'job': 'registration', 'segmenter': segmenter.info, 'summary': summary, 'cases': reports}
    title = f'{len(cases)} case(s), {summary["frames"]} frames, {summary["accepted"]} accepted'
    table = _table(title + ' (figures of accepted frames; latency of all)')
    for metric in (*POSE_METRICS, 'recall', 'precision', 'latency_ms'):
        _add_row(table, metric, summary[metric])
    return report, table


def _case(path):
    case = open_case(path)
    for key in ('model', 'camera', 'initial_pose'):
        if getattr(case, key) is None:
            raise EvaluationError(f'{case.file}: {key}: missing: a registration needs model, camera and initial_pose')
    return case


def _score_case(case, segmenter, save, source_frames):
    """Yield a dict a frame; write masks and poses.csv into `save` where given."""
    registrar = Registrar(case.model)
    registrar.set_initial_pose(case.initial_pose)
    pipeline = Pipeline(segmenter, registrar)
    poses = []
    for index, source_frame in enumerate(source_frames):
        result = pipeline.process(Frame(source_frame.image, source_frame.stamp, source_frame.camera))
        registration = result.registration
        T = registration.T_image_model
        name = source_frame.name or f'{index:06d}'
        row = {
            'name': name,
            'stamp_s': source_frame.stamp,
            'state': registration.state.value,
            'accepted': registration.accepted,
            'reason': registration.reason,
            'probability': registration.probability,
            **dict.fromkeys(POSE_METRICS, math.nan),
            'recall': registration.recall,
            'precision': registration.precision,
            'residual_mm': registration.residual_mm,
            'mask_dice': math.nan,
            'latency_ms': 1e3 * sum(result.latency.values()),
        }
        row.update({f'{stage}_ms': 1e3 * seconds for stage, seconds in result.latency.items()})
        if T is not None and source_frame.T_image_model is not None:
            row.update(pose_errors(T, source_frame.T_image_model, case.model, source_frame.camera))
        if source_frame.mask is not None:
            row['mask_dice'] = mask_scores(result.vessels.mask, source_frame.mask)['dice']
        _save_mask(save, name, result.vessels.mask)
        numbers = [''] * 16 if T is None else [repr(float(v)) for v in np.asarray(T).ravel()]
        state = [registration.state.value, str(registration.accepted).lower(), repr(float(registration.probability))]
        poses.append([repr(float(source_frame.stamp)), *state, *numbers])
        yield row
    if save:
        save.mkdir(parents=True, exist_ok=True)
        with open(save / 'poses.csv', 'w', newline='', encoding='utf-8') as stream:
            header = ['stamp_s', 'state', 'accepted', 'probability', *(f't{i}{j}' for i in range(4) for j in range(4))]
            csv.writer(stream).writerows([header, *poses])


def summarise(frames):
    """Return the summary of frames' rows: how many, in which states, and the figures of those that were accepted.

    accepted_within_...: of the accepted frames whose truth is known, the share with an error below so many millimetres.
    latency_ms is of all frames.
    """
    accepted = [row for row in frames if row['accepted']]
    scored = [row for row in accepted if not math.isnan(row['mpd_mm'])]
    states = [row['state'] for row in frames]
    summary = {
        'frames': len(frames),
        'accepted': len(accepted),
        'states': {state: states.count(state) for state in dict.fromkeys(states)},
        'accepted_scored': len(scored),
    }
    for metric in ('mtre_mm', 'mpd_mm'):
        summary[f'accepted_within_{metric}'] = {
            f'{limit:g}': sum(row[metric] < limit for row in scored) / len(scored) if scored else math.nan
            for limit in SUCCESS_MM
        }
    for metric in (*POSE_METRICS, 'recall', 'precision'):
        summary[metric] = quartiles([row[metric] for row in accepted])
    latency = [row['latency_ms'] for row in frames]
    summary['latency_ms'] = {
        **quartiles(latency),
        'p99': float(np.percentile(latency, 99)) if latency else math.nan,
    }
    return summary


# Output


def _save_mask(folder, name, mask):
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(folder / f'{name}.png'), mask):
        raise EvaluationError(f'{folder / name}.png: cannot be written')


def _progress():
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _table(title, *more):
    table = Table(title=title)
    for column in ('', 'median', 'q1', 'q3', 'n', *more):
        table.add_column(column, justify='left' if not column else 'right')
    return table


def _add_row(table, metric, values, *more):
    figures = [_figure(v) for v in (values['median'], values['q1'], values['q3'])]
    table.add_row(metric, *figures, str(values['n']), *(_figure(v) for v in more))


def _figure(value):
    return '-' if value is None or math.isnan(value) else f'{value:.3f}'


if __name__ == '__main__':
    sys.exit(main())
