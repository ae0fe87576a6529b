"""What bending the centreline brings and costs, on simulated patients whose vessels a wire or breathing has bent.

python -m m2i_ros.evaluation.deformation --json deformation.json
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial import cKDTree

from m2i_ros.evaluation.trials import BANDS, begin_stream, planes_of, start
from m2i_ros.geometry import apply
from m2i_ros.recording.report import write_json
from m2i_ros.registration import Registrar, RegistrationSettings
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.deformation import DeformableModel
from m2i_ros.registration.view import view_of
from m2i_ros.segmentation import Segmenter, VesselMask
from m2i_ros.simulation.deformation import breathed, straightened
from m2i_ros.simulation.patients import EVALUATION

DEFORMATIONS = {
    'none': lambda model: model,
    'wire 5 mm': lambda model: straightened(model, 5e-3),
    'wire 10 mm': lambda model: straightened(model, 10e-3),
    'breath 5 mm': lambda model: breathed(model, 5e-3),
}
MASKS = ('true', 'found')
_OPACIFIED = 4.0  # seconds into the phantom's sequence: contrast has come everywhere
_TIMES = 5  # a bend is timed so often


def main(argv=None):
    """Run the evaluation; return 0, or 130 where it was stopped."""
    parser = argparse.ArgumentParser(prog='deformation', description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path, required=True, help='where the figures go, after each patient')
    parser.add_argument('--anatomies', nargs='+', default=['iliofemoral', 'aortic_root', 'aortic_arch', 'coronary'])
    parser.add_argument('--patients', type=int, default=3, help='of each anatomy (default: %(default)s)')
    parser.add_argument('--first', type=int, default=EVALUATION.start, help='the first one (default: %(default)s)')
    parser.add_argument('--size', type=int, default=512, help='side of the picture, pixels (default: %(default)s)')
    parser.add_argument('--masks', nargs='+', choices=MASKS, default=list(MASKS), help='default: both')
    arguments = parser.parse_args(argv)
    segmenter = Segmenter() if 'found' in arguments.masks else None
    rows = []
    patients = [(a, arguments.first + i) for i in range(arguments.patients) for a in arguments.anatomies]
    try:
        for anatomy, patient in track(patients, 'registering', console=Console(stderr=True)):
            rows += trials(anatomy, patient, arguments.size, arguments.masks, segmenter)
            write_json(arguments.json, {'job': 'deformation', 'summary': summarise(rows), 'trials': rows})
    except KeyboardInterrupt:
        print('deformation: stopped', file=sys.stderr)
        return 130
    _print(summarise(rows))
    return 0


def trials(anatomy, patient, size, masks=MASKS, segmenter=None):
    """Return a dict for each deformation and mask of one patient: registered by its undeformed model from a start that
    is near, then bent; see `centreline_errors`."""
    (phantom,) = planes_of(anatomy, patient, size)
    model = phantom.model
    settings = RegistrationSettings(deformation=True)
    rows = []
    for deformation, deform in DEFORMATIONS.items():
        phantom.model = deform(model)
        frame = phantom[round(_OPACIFIED * phantom.frame_rate)]
        T_truth = frame.T_image_model
        T_start = start(np.random.default_rng((patient, 81)), T_truth, model, BANDS['near'])
        for mask in masks:
            true = VesselMask(frame.mask, np.ones(frame.mask.shape, bool))
            if mask == 'true':
                vessels = true
            else:
                begin_stream(segmenter, [phantom])
                vessels = segmenter.segment(frame.image)
            registrar = Registrar(model, settings)
            registrar.set_initial_pose(T_start)
            result = registrar.register(vessels, phantom.camera, 0.0)
            row = {'anatomy': anatomy, 'patient': patient, 'deformation': deformation, 'mask': mask}
            row['accepted'], row['probability'] = result.accepted, result.probability
            if result.accepted:
                seen = phantom.model.centreline, T_truth, phantom.camera
                row['rigid_mm'], row['rigid_p95_mm'] = centreline_errors(model.centreline, result.T_image_model, *seen)
                row['bent_mm'], row['bent_p95_mm'] = centreline_errors(
                    result.centreline(model), result.T_image_model, *seen
                )
                row['explained_rigid'], row['explained_bent'] = result.bend.before, result.bend.after
                row['ms'] = _cost(model, vessels, phantom.camera, result.T_image_model)
            rows.append(row)
    return rows


def centreline_errors(line, T, true_line, T_truth, camera):
    """Return how far the true centreline's points in view lie from a projected `Centreline`, mm at the isocentre: mean
    and 95th percentile.

    T, T_truth: T_image_model (4, 4) of the two. Sliding along the vessel does not count: the picture hardly shows it.
    """
    points = apply(T_truth, true_line.points)
    pixels = camera.project(points)
    with np.errstate(invalid='ignore'):
        seen = ((pixels >= 0) & (pixels <= (camera.width - 1, camera.height - 1))).all(axis=1)
    ends = camera.project(apply(T, line.points))[line.edges]
    dense = np.concatenate([(1 - s) * ends[:, 0] + s * ends[:, 1] for s in np.linspace(0, 1, 5)])
    distance, _ = cKDTree(dense).query(pixels[seen])
    mm = 1e3 * distance * np.median(points[seen, 2]) / abs(camera.fx)
    return float(mm.mean()), float(np.percentile(mm, 95))


def _cost(model, vessels, camera, T):
    """Return the milliseconds of processor time of a bend, the median of some; the first may compile."""
    view = view_of(vessels, camera)
    deformable = DeformableModel(model.centreline, ContourSurface.from_model(model))
    times = []
    for _ in range(_TIMES):
        began = time.process_time()
        deformable.bend(view.contour, view.camera, T, 0.0)
        times.append(1e3 * (time.process_time() - began))
    return float(np.median(times))


def summarise(rows):
    """Return a dict for each mask, anatomy and deformation: trials, accepted, and medians over the accepted."""
    out = []
    for key in dict.fromkeys((row['mask'], row['anatomy'], row['deformation']) for row in rows):
        own = [row for row in rows if (row['mask'], row['anatomy'], row['deformation']) == key]
        good = [row for row in own if row['accepted']]
        summary = {**dict(zip(('mask', 'anatomy', 'deformation'), key)), 'n': len(own), 'accepted': len(good)}
        for name in ('rigid_mm', 'bent_mm', 'rigid_p95_mm', 'bent_p95_mm', 'explained_rigid', 'explained_bent', 'ms'):
            summary[name] = float(np.median([row[name] for row in good])) if good else None
        summary['worse'] = sum(row['bent_mm'] > row['rigid_mm'] + 0.05 for row in good)
        out.append(summary)
    return out


def _print(summary):
    for mask in dict.fromkeys(row['mask'] for row in summary):
        table = Table(title=f'{mask} masks: projected centreline, mm at the isocentre: mean (95th percentile), medians')
        for name in ('anatomy', 'deformation', 'accepted', 'rigid', 'bent', 'worse', 'explained %', 'ms'):
            table.add_column(name, justify='left' if name in ('anatomy', 'deformation') else 'right')
        for row in summary:
            if row['mask'] == mask:
                table.add_row(row['anatomy'], row['deformation'], f'{row["accepted"]} of {row["n"]}', *_cells(row))
        Console(width=120).print(table)


def _cells(row):
    if not row['accepted']:
        return [''] * 5
    return (
        f'{row["rigid_mm"]:.2f} ({row["rigid_p95_mm"]:.2f})',
        f'{row["bent_mm"]:.2f} ({row["bent_p95_mm"]:.2f})',
        f'{row["worse"]}',
        f'{100 * row["explained_rigid"]:.0f} to {100 * row["explained_bent"]:.0f}',
        f'{row["ms"]:.0f}',
    )


if __name__ == '__main__':
    sys.exit(main())
