"""The report of `benchmark registration` that people read: tables and plots in one HTML file."""

import numpy as np

from m2i_ros.evaluation.page import BLUE, INK, MARK, make_axes, svg, write_page
from m2i_ros.evaluation.registration_benchmark import ACCEPT_MM, GOALS, GROSS_MM, RIGHT_MM, SUCCESS_MM
from m2i_ros.evaluation.trials import BANDS

_COLOURS = (BLUE, '#ff9f1c', '#d13fd1', INK)
_STARTS_MM = np.array([0, 25, 50, 75, 100, 150, 200])  # of the starts' mTRE, for success against it


def write_html(path, report):
    """Write the report (the dict that is also the JSON file) as one HTML file with its plots inside."""
    summary = report['summary']
    sections = []
    for anatomy, masks in summary['anatomies'].items():
        rows = [r for r in report['trials'] if r['anatomy'] == anatomy]
        own = [r for r in rows if r['method'] == 'registrar']
        sections.append(
            {
                'anatomy': anatomy,
                'title': anatomy.replace('_', ' '),
                'masks': masks,
                'plots': [
                    ('Starts that end right (mPD below 2 mm) against how far they were off.', _success(own)),
                    *((caption, plot(masks)) for caption, plot in _DOUBT.items()),
                ],
                'baselines': [r for r in summary['baselines'] if r['anatomy'] == anatomy],
                'capture': [r for r in summary['capture'] if r['anatomy'] == anatomy],
                'strangers': summary['strangers'].get(anatomy),
                'tracked': summary['tracked'].get(anatomy),
            }
        )
    limits = {'right': RIGHT_MM, 'gross': GROSS_MM, 'success': SUCCESS_MM, 'accept': ACCEPT_MM}
    write_page(
        path, 'registration.html.jinja', report=report, sections=sections, bands=BANDS, limits=limits, goals=GOALS
    )


def _success(rows):
    figure, axes = make_axes()
    for colour, mask in zip(_COLOURS, dict.fromkeys(r['mask'] for r in rows)):
        own = [r for r in rows if r['mask'] == mask]
        bins = np.digitize([r['start_mtre_mm'] for r in own], _STARTS_MM) - 1
        at, share = [], []
        for b in sorted(set(bins)):
            inside = [r for r, i in zip(own, bins) if i == b]
            at.append(np.mean([r['start_mtre_mm'] for r in inside]))
            share.append(100 * np.mean([r['mpd_mm'] < RIGHT_MM for r in inside]))
        axes.plot(at, share, 'o-', color=colour, label=f'{mask} masks')
    axes.set(xlabel="the start's mTRE, mm", ylabel='% right', ylim=(-2, 102), xlim=(0, None))
    axes.legend(frameon=False)
    return svg(figure)


def _risk_coverage(masks):
    figure, axes = make_axes()
    for colour, (mask, own) in zip(_COLOURS, masks.items()):
        coverage, wrong, gross = 100 * np.array(own['risk_coverage']).T
        axes.plot(coverage, wrong, color=colour, label=f'{mask} masks')
        axes.plot(coverage, gross, ':', color=colour)
        axes.plot(100 * own['accepted'], 0, '^', color=colour, clip_on=False)
    axes.axhline(100 * GOALS['gross_accepted'], color=MARK, linestyle='--', linewidth=1)
    axes.set(xlabel='% of poses believed, the most probable first', ylabel='% of these wrong', xlim=(0, 101))
    axes.legend(frameon=False)
    return svg(figure)


def _reliability(masks):
    figure, axes = make_axes()
    axes.plot([0, 100], [0, 100], color='#8a96a3', linewidth=1)
    for colour, (mask, own) in zip(_COLOURS, masks.items()):
        stated, seen, n = np.array(own['reliability']).T
        axes.plot(100 * stated, 100 * seen, '-', color=colour, linewidth=1, label=f'{mask} masks')
        axes.scatter(100 * stated, 100 * seen, 8 + 2 * n, color=colour, zorder=3)
    axes.set(xlabel='stated probability, %', ylabel=f'% with an mPD below {ACCEPT_MM:g} mm', ylim=(-3, 103))
    axes.legend(frameon=False)
    return svg(figure)


_DOUBT = {
    'Risk against coverage: wrong by more than 2 mm (dotted: 5 mm) among the poses believed. '
    'Triangles: what is accepted by default; dashed: the goal.': _risk_coverage,
    'Reliability: of poses given some probability, how many are as good as it says. Larger dots: more poses.': (
        _reliability
    ),
}
