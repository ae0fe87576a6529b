"""What a session leaves for people and programs: the table, report.json, the contact sheet."""

import json
import math
import os
from pathlib import Path

import cv2


def without_nan(value):
    """Return a JSON-ready copy in which figures that do not exist (NaN, infinite) are None."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path, report):
    """Write a report; the file appears whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + '.part')
    part.write_text(json.dumps(without_nan(report), indent=2) + '\n', encoding='utf-8')
    os.replace(part, path)


def write_contact_sheet(path, rows):
    """Write the contact sheet of `Session.sheet_rows`; nothing where there are none."""
    from m2i_ros.overlay import contact_sheet  # draws models by compiled code: not where no picture is drawn

    if rows and not cv2.imwrite(str(path), contact_sheet(rows)):
        raise OSError(f'{path} cannot be written')


def summary_table(report):
    """Return a report (`Session.report`) as lines of text for a terminal."""
    latency, memory, cpu = (
        report['latency_ms'],
        report['memory_mb'],
        report['cpu_percent'],
    )
    span = f'p50 {_figure(latency["p50"], ".0f", "ms")}, p99 {_figure(latency["p99"], ".0f", "ms")}'
    load = f'{_figure(memory, ".0f", "MB resident")}, {_figure(cpu, ".0f", "% of a core")}'
    rows = [
        (
            'frames',
            f'{report["frames"]} in, {report["masks"]} masks out, {report["dropped"]} dropped',
        ),
        ('rate', _figure(report['fps'], '.1f', 'frames/s')),
        (
            'latency',
            span + f' from {report["latency_from"]}' + _verdict(report['p50_below_66_ms'], 'p50 below 66 ms'),
        ),
    ]
    stages = [name for name in ('segmentation', 'registration') if report[f'{name}_ms']['n']]
    if stages:
        rows.append(
            (
                'stages, p50',
                ', '.join(f'{name} {report[f"{name}_ms"]["p50"]:.0f} ms' for name in stages),
            )
        )
    if math.isfinite(memory):
        rows.append(('pipeline', load + _verdict(report['memory_below_1_gb'], 'memory below 1 GB')))
    if report['source'].get('late', '0') != '0':
        rows.append(('source', f'{report["source"]["late"]} frames came late: this machine is too busy for real time'))
    if 'engine' in report:
        rows.append(
            (
                'engine',
                f'{report["engine"]}, weights {report.get("weights", "unknown")}',
            )
        )
    if report['states']:
        rows.append(
            (
                'states',
                ', '.join(f'{name} {share:.0%}' for name, share in report['states'].items()),
            )
        )
        if math.isfinite(report['first_tracking_s']):
            text = f'{report["first_tracking_s"]:.1f} s after the first frame'
            if math.isfinite(report['contrast_to_tracking_s']):
                text += f', {report["contrast_to_tracking_s"]:.1f} s after the first contrast'
            rows.append(('first tracking', text))
    for name in ('dice', 'precision', 'recall'):
        if report[name]['n']:
            text = '{median:.3f} (quartiles {q1:.3f} to {q3:.3f}, {n} frames with contrast)'
            rows.append((name, text.format(**report[name])))
    for key, name in (
        ('mpd_mm', 'mPD'),
        ('mtre_mm', 'mTRE'),
        ('in_plane_mm', 'in plane'),
        ('depth_mm', 'depth'),
    ):
        if report[key]['n']:
            rows.append(
                (
                    name,
                    'median {median:.2f} mm, p95 {p95:.2f} mm ({n} frames)'.format(**report[key]),
                )
            )
    width = max(len(name) for name, _ in rows)
    return '\n'.join(f'  {name:<{width}}  {text}' for name, text in rows)


def _figure(value, form, unit):
    return f'{value:{form}} {unit}' if math.isfinite(value) else 'unknown'


def _verdict(held, goal):
    return '' if held is None else f': {goal}' if held else f': NOT {goal}'
