"""Recordings as tests, for your own CI: replay a bag or a case, and hold its figures against what you expect.

from m2i_ros.testing import check_replay

def test_patient_7(tmp_path):
    check_replay('patient_7_bag', {'states.tracking': [0.8, None], 'mpd_mm.median': [None, 1.0]}, tmp_path / 'out',
                 model='aorta.stl')
"""

import json
import math
from pathlib import Path

import yaml


def check_replay(recording, expected, output, reference=None, params=None, **options):
    """Replay a recording; return the report. Raises AssertionError, naming each figure that is not as expected.

    recording: bag, case folder, folder of pictures. expected: see `deviations`; or a YAML or JSON file that holds it.
    output: the bag to write, its figures go to OUTPUT.json. reference: an earlier replay; masks, transforms and status
    must then be the same to the last bit, as they are on one machine with one engine.
    params: a parameter file (config/pipeline.yaml). options: model, units, axes, weights, engine, threads, as `replay`
    has them; they go before the file.
    Raises ValueError or OSError for what cannot be read.
    """
    from m2i_ros.recording.compare import compare, difference_table
    from m2i_ros.replay import parameters_from, replay_file

    report = replay_file(recording, Path(output), parameters_from(params, **options))
    wrong = deviations(report, read_expected(expected))
    if report['skipped'] or report['refused']:
        wrong.append(f'{report["refused"]} frames refused, not read: {report["skipped"]}')
    if reference is not None and not (found := compare(reference, output))['same']:
        wrong.append(difference_table(found))
    if wrong:
        raise AssertionError(f'{recording}:\n' + '\n'.join(wrong))
    return report


def deviations(report, expected):
    """Return in words which figures of a report are not as expected; an empty list where all are.

    report: `Session.report`, or report.json as `record` and `replay` write it.
    expected: {figure: value, or [least, most] with None for no bound}; figures inside others are joined by dots, as
    'dice.median'. A figure that is not there, or that could not be measured, is never as expected.
    """
    wrong = []
    for name, wanted in expected.items():
        value = report
        for key in name.split('.'):
            value = value.get(key) if isinstance(value, dict) else None
        least, most = wanted if isinstance(wanted, (list, tuple)) else (wanted, wanted)
        if isinstance(wanted, (str, bool)):
            good = value == wanted
        else:
            good = isinstance(value, (int, float)) and math.isfinite(value)
            good = good and (least is None or value >= least) and (most is None or value <= most)
        if not good:
            bounds = wanted if least == most else f'{"" if least is None else least} to {"" if most is None else most}'
            wrong.append(f'{name} is {value}, expected {bounds}')
    return wrong


def read_expected(expected):
    """Return the expected figures, from a dict or from the YAML or JSON file that holds one. Raises ValueError."""
    if isinstance(expected, dict):
        return expected
    try:
        figures = yaml.safe_load(Path(expected).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{expected}: cannot be read: {error}') from error
    if not isinstance(figures, dict) or not figures:
        raise ValueError(f'{expected}: must hold lines like "dice.median: [0.8, null]"')
    for name, wanted in figures.items():
        if isinstance(wanted, (dict, type(None))) or isinstance(wanted, list) and len(wanted) != 2:
            raise ValueError(f'{expected}: {name}: {wanted} must be a value or [least, most]')
    return figures


def check_report(path, expected):
    """Hold a report.json, of a recorded session, against expected figures (`check_replay`). Raises AssertionError."""
    report = json.loads(Path(path).read_text(encoding='utf-8'))
    if wrong := deviations(report, read_expected(expected)):
        raise AssertionError(f'{path}:\n' + '\n'.join(wrong))
