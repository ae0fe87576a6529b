"""`evaluate registration`: scores the `Pipeline` on recorded cases whose true poses are known."""

import csv
import math
from pathlib import Path

import numpy as np
from rich.console import Console

from m2i_ros.evaluation.metrics import dice, pose_errors
from m2i_ros.evaluation.pictures import EvaluationError, save_mask
from m2i_ros.evaluation.terminal import add_quartiles, progress_bar, quartile_table, quartiles
from m2i_ros.pipeline import Frame, Pipeline
from m2i_ros.recording.report import write_json
from m2i_ros.registration import Registrar
from m2i_ros.segmentation import Segmenter
from m2i_ros.sources import open_case
from m2i_ros.sources.source_frame import with_second

POSE_METRICS = ('mtre_mm', 'in_plane_mm', 'depth_mm', 'mpd_mm')
SUCCESS_MM = (2.0, 5.0, 10.0)


def add_arguments(parser):
    """Add the job's own arguments to a parser."""
    parser.add_argument('cases', type=Path, nargs='+', metavar='CASE', help='case folder or its case.yaml')
    parser.add_argument(
        '--save', type=Path, help='folder for masks as PNG and poses.csv; of several cases, a folder each'
    )


def run(arguments):
    """Score the cases; write the JSON file and print the table."""
    cases = [_case(path) for path in arguments.cases]
    names = [case.folder.resolve().name for case in cases]
    if len(set(names)) < len(names):
        raise EvaluationError(f'cases must have different folder names, but these are {", ".join(names)}')
    segmenter = Segmenter(weights=arguments.weights, engine=arguments.engine, threads=arguments.threads)
    reports = []
    with progress_bar() as progress:
        for case, name in zip(cases, names):
            save = arguments.save / name if arguments.save and len(cases) > 1 else arguments.save
            frames = list(_score_case(case, segmenter, save, progress.track(case, description=name)))
            reports.append({'name': name, 'model': case.model.hash, 'summary': summarise(frames), 'frames': frames})
    summary = summarise([row for report in reports for row in report['frames']])
    report = {'job': 'registration', 'segmenter': segmenter.info, 'summary': summary, 'cases': reports}
    title = f'{len(cases)} case(s), {summary["frames"]} frames, {summary["accepted"]} accepted'
    title += f', {summary["two_views"]} of two views' if summary['two_views'] else ''
    table = quartile_table(title + ' (figures of accepted frames; latency of all)')
    for metric in (*POSE_METRICS, 'recall', 'precision', 'latency_ms'):
        add_quartiles(table, metric, summary[metric])
    write_json(arguments.json, report)
    Console().print(table)
    print(f'written: {arguments.json}')


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
    segmenter.reset()
    pipeline = Pipeline(segmenter, registrar)
    poses = []
    for index, source_frame in enumerate(source_frames):
        frame = with_second(Frame(source_frame.image, source_frame.stamp, source_frame.camera), source_frame)
        result = pipeline.process(frame)
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
            'views': registration.views,
            'second': registration.second,
            'mask_dice': math.nan,
            'latency_ms': 1e3 * sum(result.latency.values()),
        }
        row.update({f'{stage}_ms': 1e3 * seconds for stage, seconds in result.latency.items()})
        if T is not None and source_frame.T_image_model is not None:
            row.update(pose_errors(T, source_frame.T_image_model, case.model, source_frame.camera))
        if source_frame.mask is not None:
            row['mask_dice'] = dice(result.vessels.mask, source_frame.mask)
        save_mask(save, name, result.vessels.mask)
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

    two_views: of the accepted frames, how many rest upon a second plane as well.
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
        'two_views': sum(row['views'] > 1 for row in accepted),
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
