"""`benchmark registration`: simulated patients registered from starts that are wrong by a known amount, and tracked.

What it says of doubt: whether wrong poses are refused, right ones believed, probabilities and covariances true.
"""

import json
import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from m2i_ros.evaluation.baselines import BASELINES, USUAL, check
from m2i_ros.evaluation.terminal import percentiles, progress_bar, quartiles
from m2i_ros.evaluation.trials import BANDS, MASKS, SWEEPS, cases, mislead, planes_of, register, track
from m2i_ros.recording.report import write_json
from m2i_ros.registration import RegistrationSettings
from m2i_ros.segmentation import Segmenter
from m2i_ros.simulation.patients import OF

RIGHT_MM, GROSS_MM = 2.0, 5.0  # mPD below which a pose is right; above which it is grossly wrong
SUCCESS_MM = (2.0, 5.0, 10.0)
CAPTURED = 0.95  # share of starts that must succeed within the capture range
GOALS = {'gross_accepted': 0.005, 'right_refused': 0.05, 'in_ellipsoid': (0.90, 0.99)}
ACCEPT_MM = RegistrationSettings().accept_mm
_BINS = np.array([0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])  # of probability, for the reliability diagram
_ROWS = ('trials', 'strangers', 'tracked')  # what a report holds
_ASKED = (0.35, 0.5, 0.65, 0.8, 0.9)  # probabilities that might be asked for


def add_arguments(parser):
    """Add the job's own arguments to a parser."""
    parser.add_argument('--anatomies', nargs='+', default=['iliofemoral', 'aortic_root'])
    parser.add_argument('--patients', type=int, default=8, help='of each anatomy, each in a view of its own')
    parser.add_argument(
        '--of', choices=OF, default='evaluation', help='which patients: those kept for figures, or others'
    )
    parser.add_argument('--masks', nargs='+', choices=MASKS, default=list(MASKS), help='default: all')
    parser.add_argument('--starts', type=int, default=1, help='of each band, patient and mask (default: %(default)s)')
    parser.add_argument('--size', type=int, default=512, help='side of the picture in pixels (default: %(default)s)')
    parser.add_argument(
        '--views', type=int, choices=(1, 2), default=1, help='2: with a second plane at 60 to 120 degrees (default: 1)'
    )
    parser.add_argument('--frames', type=int, default=0, help='also track so many frames of each patient')
    parser.add_argument(
        '--baselines',
        nargs='*',
        choices=BASELINES,
        help=f'beside other ways, from the same starts; without names: {" ".join(USUAL)}. drr: some 10 s a start',
    )
    parser.add_argument(
        '--strangers', action='store_true', help="also the next patient's model, of which no pose may be believed"
    )
    parser.add_argument('--capture', action='store_true', help='also rotations and shifts alone, for the capture range')
    parser.add_argument('--html', type=Path, help='where the report for people goes: one file')
    parser.add_argument('--resume', action='store_true', help='go on with what the JSON file of a stopped run holds')


def run(arguments):
    """Register and track; write the JSON file and, where asked for, the HTML file; print the tables. Return 0."""
    keys = ('of', 'masks', 'starts', 'size', 'views', 'frames', 'baselines', 'capture', 'strangers', 'weights')
    settings = {key: getattr(arguments, key) for key in keys}
    if settings['baselines'] is not None:
        settings['baselines'] = settings['baselines'] or list(USUAL)
        check(settings['baselines'])
    report = {
        'job': 'registration',
        'command': arguments.command,
        'date': f'{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC',
        'settings': settings,
        **(_earlier(arguments.json, settings) if arguments.resume else {key: [] for key in _ROWS}),
    }
    done = {(row['anatomy'], row['seed']) for row in report['trials']}
    seeds = OF[arguments.of][: arguments.patients]
    patients = [(a, seed) for seed in seeds for a in arguments.anatomies if (a, seed) not in done]
    segmenter = None
    if {'found', 'partial'} & set(arguments.masks) or arguments.frames:
        segmenter = Segmenter(weights=arguments.weights, threads=arguments.threads)
    with progress_bar() as progress:
        for anatomy, seed in progress.track(patients, description='registering patients'):
            trials, strangers = _registered(anatomy, seed, settings, segmenter)
            if arguments.frames:
                report['tracked'] += track(anatomy, seed, arguments.size, segmenter, arguments.frames, arguments.views)
            report['trials'] += trials
            report['strangers'] += strangers
            report['summary'] = summarise(report)
            write_json(arguments.json, report)
    report['summary'] = summarise(report)
    write_json(arguments.json, report)
    _print(report['summary'])
    if arguments.html:
        from m2i_ros.evaluation.registration_report import write_html  # matplotlib, jinja2: for the report alone

        write_html(arguments.html, report)
        print(f'written: {arguments.html}')
    return 0


def _registered(anatomy, seed, settings, segmenter):
    """Return the rows of a patient's own model, and of the next patient's (none where they are not asked for)."""
    stranger = planes_of(anatomy, seed + 1, settings['size'])[0].model if settings['strangers'] else None
    trials, strangers = [], []
    for case in cases(anatomy, seed, settings['size'], settings['masks'], segmenter, settings['views']):
        trials += _trials(case, settings)
        if stranger is not None:
            strangers += [mislead(case, stranger, band, offset) for band, offset in BANDS.items()]
    return trials, strangers


def _trials(case, settings):
    baselines = {name: BASELINES[name] for name in settings['baselines'] or ()}
    for number in range(settings['starts']):
        for band, offset in BANDS.items():
            yield from register(case, band, offset, number, baselines)
        if settings['capture']:
            for sweep in SWEEPS.values():
                for band, offset in sweep.items():
                    yield from register(case, band, offset, number)


def _earlier(path, settings):
    if not path.exists():
        return {key: [] for key in _ROWS}
    report = json.loads(path.read_text(encoding='utf-8'))
    if report.get('settings') != settings:
        raise ValueError(f'{path}: was made with other settings ({report.get("settings")}): give a new file')
    return {key: [_numbers(row) for row in report[key]] for key in _ROWS}


def _numbers(row):
    """Return a row with what JSON has no number for: errors without a pose are infinite, other figures unknown."""
    unknown = {key: math.inf if key.endswith('_mm') else math.nan for key in row if key not in ('evidence',)}
    unknown |= {'in_ellipsoid': None, 'track_ms': math.nan}
    return {key: unknown.get(key) if value is None else value for key, value in row.items()}


# Summaries


def summarise(report):
    """Return {'all', 'anatomies': {anatomy: {mask: summary}}, 'baselines', 'capture', 'strangers', 'tracked'} of a
    report's rows.

    Summaries: see `figures`; 'all' is of all starts of `BANDS` that the registrar had. 'strangers': {anatomy: {'n',
    'accepted': how many of these wrong models were believed, 'most': the highest probability}}.
    """
    trials = report['trials']
    out = {'anatomies': {}, 'baselines': [], 'capture': [], 'strangers': {}, 'tracked': {}}
    own = [row for row in trials if row['method'] == 'registrar']
    out['all'] = figures([row for row in own if row['band'] in BANDS])
    for anatomy in dict.fromkeys(row['anatomy'] for row in own):
        out['anatomies'][anatomy] = {}
        for mask in dict.fromkeys(row['mask'] for row in own):
            rows = [r for r in own if (r['anatomy'], r['mask']) == (anatomy, mask)]
            banded = [r for r in rows if r['band'] in BANDS]
            out['anatomies'][anatomy][mask] = {
                **figures(banded),
                'bands': {band: figures([r for r in banded if r['band'] == band]) for band in BANDS},
                'search_ms': quartiles([r['search_ms'] for r in rows]),
                'track_ms': quartiles([r['track_ms'] for r in rows]),
                'segmentation_ms': quartiles([r['segmentation_ms'] for r in rows]),
            }
            for kind, sweep in SWEEPS.items():
                swept = [r for r in rows if r['band'] in sweep]
                if swept:
                    success = {b: _share(r['mpd_mm'] < RIGHT_MM for r in swept if r['band'] == b) for b in sweep}
                    captured = {'anatomy': anatomy, 'mask': mask, 'kind': kind, 'success': success}
                    largest = capture_range(sweep, success)
                    ends = largest == max(map(max, sweep.values()))  # the sweep does, not the capture
                    out['capture'].append({**captured, 'range': largest, 'at_least': ends})
            for method in dict.fromkeys(r['method'] for r in trials):
                for band in BANDS:
                    key = (anatomy, mask, method, band)
                    same = [r for r in trials if (r['anatomy'], r['mask'], r['method'], r['band']) == key]
                    if same and len({r['method'] for r in trials}) > 1:
                        names = dict(zip(('anatomy', 'mask', 'method', 'band'), key))
                        times = quartiles([r['search_ms'] for r in same])
                        out['baselines'].append({**names, **accuracy(same), 'search_ms': times})
    for anatomy in dict.fromkeys(row['anatomy'] for row in report['strangers']):
        rows = [r for r in report['strangers'] if r['anatomy'] == anatomy]
        most = max(r['probability'] for r in rows)
        out['strangers'][anatomy] = {'n': len(rows), 'accepted': sum(r['accepted'] for r in rows), 'most': most}
    for anatomy in dict.fromkeys(row['anatomy'] for row in report['tracked']):
        rows = [r for r in report['tracked'] if r['anatomy'] == anatomy]
        posed = [r for r in rows if math.isfinite(r['mpd_mm'])]
        states = [r['state'] for r in rows]
        out['tracked'][anatomy] = {
            **figures(posed),
            'frames': len(rows),
            'states': {state: states.count(state) for state in dict.fromkeys(states)},
            'tracking': figures([r for r in posed if r['state'] == 'tracking']),
            'holding': figures([r for r in posed if r['state'] == 'holding']),
            'registration_ms': quartiles([r['registration_ms'] for r in rows if r['state'] == 'tracking']),
            'segmentation_ms': quartiles([r['segmentation_ms'] for r in rows]),
        }
    return out


def accuracy(rows):
    """Return how far rows' poses are off: {'n', 'success' within 2, 5, 10 mm of mPD and of mTRE, quartiles of errors}.

    A row without a pose is off by infinity. 'recall', 'precision': of the projected model against the true mask.
    """
    out = {'n': len(rows)}
    for metric in ('mpd_mm', 'mtre_mm'):
        out[f'success_{metric}'] = {f'{mm:g}': _share(r[metric] < mm for r in rows) for mm in SUCCESS_MM}
    for metric in ('mpd_mm', 'mtre_mm', 'in_plane_mm', 'depth_mm', 'recall', 'precision'):
        values = [r[metric] for r in rows]
        out[metric] = {**quartiles(values), 'p95': percentiles(values, [95])[0]}
    return out


def figures(rows):
    """Return `accuracy` of rows, and what their doubt is worth.

    accepted: share believed. gross_accepted: wrong by more than 5 mm yet accepted; right_refused: right to 2 mm yet
    refused; shares of all. risk_coverage: [[share believed, share of them wrong by more than 2 mm, and by more than 5]]
    as the probability asked for falls. at_probability: {asked for: {'accepted', 'gross_accepted', 'right_refused'}}, as
    if `accept_probability` were that. reliability: [[mean probability, share below `accept_mm`, n]] in bins.
    in_ellipsoid: {'pose', 'in_plane', 'depth'}: share of accepted poses whose truth lies in the 95% ellipsoid; and
    in_ellipsoid_right: the same of all right ones. accepted_errors: `accuracy` of the accepted.
    """
    accepted = [r for r in rows if r['accepted']]
    right = [r for r in rows if r['mpd_mm'] < RIGHT_MM]
    return {
        **accuracy(rows),
        **_doubt(rows, [r['accepted'] for r in rows]),
        'at_probability': {f'{p:g}': _doubt(rows, [r['probability'] >= p for r in rows]) for p in _ASKED},
        'risk_coverage': risk_coverage(rows),
        'reliability': reliability(rows),
        'in_ellipsoid': _inside(accepted),
        'in_ellipsoid_right': _inside(right),
        'accepted_errors': accuracy(accepted),
    }


def _doubt(rows, accepted):
    pairs = list(zip(rows, accepted))
    return {
        'accepted': _share(accepted),
        'gross_accepted': _share(a and r['mpd_mm'] > GROSS_MM for r, a in pairs),
        'right_refused': _share(not a and r['mpd_mm'] < RIGHT_MM for r, a in pairs),
    }


def _share(flags):
    flags = list(flags)
    return sum(map(bool, flags)) / len(flags) if flags else math.nan


def _inside(rows):
    rows = [r['in_ellipsoid'] for r in rows if r['in_ellipsoid'] is not None]
    return {part: _share(r[part] for r in rows) for part in ('pose', 'in_plane', 'depth')}


def risk_coverage(rows):
    """Return [[coverage, risk of 2 mm, risk of 5 mm], ...], the most probable poses first."""
    ordered = sorted(rows, key=lambda r: -r['probability'])
    wrong, gross = (np.cumsum([not r['mpd_mm'] < mm for r in ordered]) for mm in (RIGHT_MM, GROSS_MM))
    n = len(rows)
    return [[(i + 1) / n, float(wrong[i] / (i + 1)), float(gross[i] / (i + 1))] for i in range(n)]


def reliability(rows):
    """Return [[mean probability, share with an mPD below `accept_mm`, n], ...] in bins of the probability."""
    at = np.clip(np.digitize([r['probability'] for r in rows], _BINS) - 1, 0, len(_BINS) - 2)
    out = []
    for i in range(len(_BINS) - 1):
        own = [r for r, b in zip(rows, at) if b == i]
        if own:
            mean = float(np.mean([r['probability'] for r in own]))
            out.append([mean, _share(r['mpd_mm'] < ACCEPT_MM for r in own), len(own)])
    return out


def capture_range(sweep, success):
    """Return the largest offset of a sweep up to which at least 95% of starts succeed, degrees or mm; 0 for none."""
    largest = 0
    for band, offset in sweep.items():
        if not success[band] >= CAPTURED:
            break
        largest = max(offset)
    return largest


# Output


def _print(summary):
    console = Console()
    for anatomy, masks in summary['anatomies'].items():
        rows = [(mask, band, own) for mask, both in masks.items() for band, own in both['bands'].items() if own['n']]
        if anatomy in summary['tracked']:
            rows.append(('found', 'tracked', summary['tracked'][anatomy]))
        table = Table(
            title=anatomy.replace('_', ' '),
            caption=f'per cent of all; right: mPD < {RIGHT_MM:g} mm; wrong: > {GROSS_MM:g} mm yet accepted; refused: '
            'right yet refused; mPD, depth and mTRE: medians, mm; inside: accepted poses in the 95% ellipsoid',
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for column in 'masks start n right accepted wrong refused mPD depth mTRE inside'.split():
            table.add_column(column, justify='left' if column in ('masks', 'start') else 'right', min_width=len(column))
        for mask, start, own in rows:
            shares = [own['success_mpd_mm']['2'], own['accepted'], own['gross_accepted'], own['right_refused']]
            medians = [own[metric]['median'] for metric in ('mpd_mm', 'depth_mm', 'mtre_mm')]
            errors = [f'{mm:.2f}' if mm < 100 else f'{mm:.0f}' for mm in medians]
            inside = _percent(own['in_ellipsoid']['pose'])
            table.add_row(mask, start, str(own['n']), *map(_percent, shares), *errors, inside)
        console.print(table)
    for capture in summary['capture']:
        where = f'{capture["anatomy"]}, {capture["mask"]} masks'
        unit = 'degrees' if capture['kind'] == 'rotation' else 'mm'
        least = 'at least ' if capture['at_least'] else ''
        print(f'capture range, {capture["kind"]}: {least}{capture["range"]} {unit} ({where})')
    for anatomy, own in summary['strangers'].items():
        print(
            f"another patient's model: {own['accepted']} of {own['n']} believed, "
            f'highest probability {own["most"]:.2f} ({anatomy})'
        )


def _percent(share):
    return '-' if math.isnan(share) else f'{100 * share:.1f}'
