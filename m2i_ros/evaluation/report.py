"""The report of `evaluate segmentation` that people read: tables, box plots and frames in one HTML file."""

import math

import cv2
import numpy as np

from m2i_ros.evaluation.page import INK, MARK, data_uri, make_axes, svg, write_page
from m2i_ros.evaluation.segmentation import CLEAN, DISTANCES, OVERLAPS, title
from m2i_ros.evaluation.terminal import progress_bar
from m2i_ros.overlay import to_grey8

# How many frames the gallery shows of each kind, and how wide.
SHOWN, TILE = 3, 384
# Found and true, found but not true, true but not found: blue, orange and violet hold apart for colour-blind eyes.
COLOURS = {'right': '#4aa3ff', 'false': '#ff9f1c', 'missed': '#d13fd1'}
_NAMES = {
    'dice': 'Dice (DSC)',
    'precision': 'precision',
    'recall': 'recall',
    'cldice': 'clDice',
    'tolerant_dice': 'Dice within 2 px',
    'hd95_px': 'HD95, px',
    'assd_px': 'ASSD, px',
    'hd95_mm': 'HD95, mm',
    'assd_mm': 'ASSD, mm',
}


def write_html(path, report, sources, segmenter):
    """Write the report (the dict that is also the JSON file) as one HTML file with its pictures inside.

    sources: {name: `StoredPicture` or `SimulatedView`} of its rows; segmenter: the one that was scored. The frames of
    the gallery are made and segmented once more.
    """
    if 'anatomies' in report:
        groups = [
            (f'Simulated patients, {title(name)}', summary, [r for r in report['images'] if r['anatomy'] == name])
            for name, summary in report['anatomies'].items()
        ]
    else:
        groups = [('Pictures', report['summary'], report['images'])]
    chosen = [choose(rows) for _, _, rows in groups]
    pictures = _draw([row for kinds in chosen for rows in kinds.values() for row in rows], sources, segmenter)
    sections = []
    for (heading, summary, rows), kinds in zip(groups, chosen):
        sections.append(
            {
                'title': heading,
                'summary': summary,
                'metrics': [m for m in (*OVERLAPS, *DISTANCES) if m in OVERLAPS or summary[m]['n']],
                'figures': _figures(rows, summary),
                'gallery': {kind: [(row, pictures[row['name']]) for row in rows] for kind, rows in kinds.items()},
            }
        )
    write_page(
        path,
        'report.html.jinja',
        report=report,
        sections=sections,
        names=_NAMES,
        overlaps=OVERLAPS,
        colours=COLOURS,
        clean=CLEAN,
    )


# Frames


def choose(rows):
    """Return {kind: rows} of the frames to show: best, median and worst by Dice, and the worst without vessels.

    Of each kind SHOWN, of different patients as far as there are so many.
    """
    shown = sorted((row for row in rows if row['true_px']), key=lambda row: row['dice'])
    empty = sorted((row for row in rows if not row['true_px']), key=lambda row: -row['false_positive_share'])
    middle = np.median([row['dice'] for row in shown]) if shown else math.nan
    kinds = {
        'Best': shown[::-1],
        'Median': sorted(shown, key=lambda row: abs(row['dice'] - middle)),
        'Worst': shown,
        'Without vessels: most taken for vessel': empty,
    }
    return {kind: _of_different_patients(rows) for kind, rows in kinds.items() if rows}


def _of_different_patients(rows):
    first = {}
    for row in rows:
        first.setdefault(row.get('patient', row['name']), row)
    ahead = list(first.values())
    names = {row['name'] for row in ahead}
    return (ahead + [row for row in rows if row['name'] not in names])[:SHOWN]


def _draw(rows, sources, segmenter):
    """Return {name: (picture, its agreement with the truth)} of rows, each a data URI."""
    wanted = {}
    for row in rows:
        wanted.setdefault(row['source'], set()).add(row['name'])
    drawn = {}
    with progress_bar() as bar:
        for source, names in bar.track(wanted.items(), description='drawing'):
            segmenter.reset()
            # All of them: what is found in a picture depends on those before it.
            for picture in sources[source].pictures():
                mask = segmenter.segment(picture.image).mask
                if picture.name not in names:
                    continue
                grey = cv2.cvtColor(to_grey8(picture.image), cv2.COLOR_GRAY2BGR)
                drawn[picture.name] = tuple(_jpeg(image) for image in (grey, agreement(grey, mask > 0, picture.truth)))
    return drawn


def agreement(picture, mask, truth):
    """Return the picture (H, W, 3) uint8 BGR with what was found rightly, falsely and not at all in COLOURS."""
    out = picture.copy()
    for kind, area in (('right', mask & truth), ('false', mask & ~truth), ('missed', truth & ~mask)):
        colour = np.array([int(COLOURS[kind][i : i + 2], 16) for i in (5, 3, 1)])
        strength = 0.45 if kind == 'right' else 0.75
        out[area] = (1 - strength) * picture[area] + strength * colour
    return out


def _jpeg(image):
    factor = TILE / max(image.shape[:2])
    size = [max(1, round(factor * side)) for side in image.shape[1::-1]]
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return data_uri('jpeg', cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())


# Plots


def _figures(rows, summary):
    """Return [(caption, data URI)] of a group's plots."""
    shown = [row for row in rows if row['true_px']]
    empty = [row['false_positive_share'] for row in rows if not row['true_px']]
    plots = []
    if shown:
        values = {_NAMES[metric]: [row[metric] for row in shown] for metric in OVERLAPS}
        marks = {_NAMES[metric]: value for metric, value in summary.get('paper', {}).items()}
        caption = f'Overlap with the truth, {len(shown)} pictures with vessels.'
        if marks:
            caption += " Red: the paper's medians, on its patients."
        plots.append((caption, _boxes(values, marks)))
    if shown and 'patients' in summary:
        patients = {str(p['patient']): [] for p in summary['patients']}
        phases = {phase: [] for phase in summary['phases']}
        for row in shown:
            patients[str(row['patient'])].append(row['dice'])
            phases[row['phase']].append(row['dice'])
        plots.append(('Dice of each patient.', _boxes(patients)))
        plots.append(('Dice by phase of the injection.', _boxes({k: v for k, v in phases.items() if v})))
    if empty:
        caption = f'Share of the picture taken for vessel where there is none, {len(empty)} pictures in order.'
        plots.append((f'{caption} Dashed: {CLEAN:.1%}.', _false_positives(empty)))
    return plots


def _boxes(values, marks=()):
    """Return a box plot of {name: values in [0, 1]} with its points, and {name: mark} as lines across."""
    figure, axes = make_axes()
    rng = np.random.default_rng(0)
    for at, (name, own) in enumerate(values.items()):
        axes.boxplot(
            own,
            positions=[at],
            widths=0.5,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops={'facecolor': '#dbeafe', 'edgecolor': INK},
            medianprops={'color': INK, 'linewidth': 2},
        )
        spread = rng.uniform(-0.18, 0.18, len(own))
        axes.plot(at + spread, own, '.', color='#2563eb', markersize=3, alpha=0.45, zorder=3)
        if name in marks:
            axes.plot([at - 0.36, at + 0.36], [marks[name]] * 2, color=MARK, linewidth=2.5, zorder=4)
    axes.set_xticks(range(len(values)), values, rotation=35 if len(values) > 6 else 0)
    axes.set_ylim(-0.02, 1.02)
    return svg(figure)


def _false_positives(shares):
    figure, axes = make_axes()
    axes.plot(range(1, len(shares) + 1), 100 * np.sort(shares), 'o', color='#2563eb', markersize=4)
    axes.axhline(100 * CLEAN, color=MARK, linestyle='--', linewidth=1.5)
    axes.set_ylabel('% of the picture')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=min(-0.01, -0.05 * 100 * max(shares)))
    return svg(figure)
