"""What the matching network brings to a search: the same starts with and without it, on simulated patients.

python -m m2i_ros.evaluation.ablation --json ablation.json
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from m2i_ros.evaluation.metrics import pose_errors
from m2i_ros.geometry import Camera, CArm, apply, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.recording.report import write_json
from m2i_ros.registration import Registrar, RegistrationSettings
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.matching import Matcher
from m2i_ros.registration.planar import KINDS, match_in_plane
from m2i_ros.registration.view import view_of
from m2i_ros.segmentation import VesselMask
from m2i_ros.simulation import make_anatomy
from m2i_ros.simulation.mask_faults import damaged

# Degrees, mm in plane, mm in depth.
BANDS = {'near': (5, 10, 20), 'mid': (10, 20, 50), 'far': (25, 40, 100), 'beyond': (40, 60, 150)}
# What a search is told of how far off its start may be; where nothing stands here, what it takes for granted.
TOLD = {'beyond': {'prior_rotation': np.radians(16), 'prior_in_plane': 0.06, 'prior_depth': 0.09}}
RIGHT_MM = 2.0  # mPD below which a pose is right
FIRST_PATIENT = 1_000_000  # no training draws patients by number
# (starts, whether the network moves the best of them). One start: the pose that is wrong, and no other.
VARIANTS = {
    'search, 64 starts': (64, False),
    'search, 16 starts': (16, False),
    'search, 8 starts': (8, False),
    'search, 1 start': (1, False),
    'network, 64 starts': (64, True),
    'network, 16 starts': (16, True),
    'network, 8 starts': (8, True),
    'network, 1 start': (1, True),
}


def main(argv=None):
    """Run the ablation; return 0, or 130 where it was stopped."""
    parser = argparse.ArgumentParser(prog='ablation', description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path, required=True, help='where the figures go, after each patient')
    parser.add_argument('--anatomies', nargs='+', default=['iliofemoral', 'aortic_root', 'aortic_arch'])
    parser.add_argument('--patients', type=int, default=4, help='of each anatomy (default: %(default)s)')
    parser.add_argument('--first', type=int, default=FIRST_PATIENT, help='the first one (default: %(default)s)')
    parser.add_argument('--views', type=int, default=1, help='of each patient (default: %(default)s)')
    parser.add_argument('--size', type=int, default=512, help='side of the picture, pixels (default: %(default)s)')
    parser.add_argument('--weights', default='default', help='matching weights (default: %(default)s)')
    parser.add_argument('--variants', nargs='+', default=list(VARIANTS), choices=VARIANTS, help='default: all')
    arguments = parser.parse_args(argv)
    rows = []
    views = range(arguments.views)
    cases = [(a, arguments.first + i, v) for i in range(arguments.patients) for a in arguments.anatomies for v in views]
    try:
        for anatomy, patient, view in track(cases, 'registering', console=Console(stderr=True)):
            rows += trials(anatomy, patient, arguments.size, arguments.weights, arguments.variants, view)
            write_json(arguments.json, {'job': 'ablation', 'summary': summarise(rows), 'trials': rows})
    except KeyboardInterrupt:
        print('ablation: stopped', file=sys.stderr)
        return 130
    _print(summarise(rows))
    return 0


def trials(anatomy, patient, size, weights='default', chosen=tuple(VARIANTS), number=0):
    """Return a dict for each mask, band and variant of one patient, in view `number` of its own."""
    rng = np.random.default_rng((patient, 5, number) if number else (patient, 5))
    model = make_anatomy(anatomy, patient)
    c_arm = CArm(np.radians(rng.uniform(-40, 40)), np.radians(rng.uniform(-25, 25)))
    low, high = model.vertices.min(axis=0), model.vertices.max(axis=0)
    T = c_arm.T_image_isocentre @ rigid(translation=-(low + rng.uniform(0.4, 0.6, 3) * (high - low)))
    camera = Camera.from_detector(size, size, c_arm.source_to_detector, 0.3 / size, mirrored=bool(patient % 2))
    true = silhouette(model, T, camera)
    masks = {'true': VesselMask(true, np.ones(true.shape, bool)), 'damaged': damaged(true, rng)}
    surface, matcher = ContourSurface.from_model(model), Matcher(weights)
    rows = []
    for mask, vessels in masks.items():
        for band in BANDS:
            start = _start(rng, T, model, BANDS[band])
            own = {'anatomy': anatomy, 'patient': patient, 'view': number, 'mask': mask, 'band': band}
            offset = pose_errors(start, T, model, camera)
            rows.append({**own, 'variant': 'start', **_figures(offset, 0.0)})
            for variant in chosen:
                starts, network = VARIANTS[variant]
                matching = weights if network else 'none'
                # Without the early ends of a search: all variants go all the way.
                settings = RegistrationSettings(
                    min_overlap=0.0, min_vessel_fraction=0.0, starts=starts, matching=matching, **TOLD.get(band, {})
                )
                registrar = Registrar(model, settings)
                registrar.set_initial_pose(start)
                began = time.process_time()
                result = registrar.register(vessels, camera, 0.0)
                ms = 1e3 * (time.process_time() - began)
                rows.append(
                    {**own, 'variant': variant, **_figures(pose_errors(result.T_image_model, T, model, camera), ms)}
                )
                rows[-1]['accepted'] = bool(result.accepted)
            view = view_of(vessels, camera)
            began = time.process_time()
            moved, _ = matcher(view.reduced(0.25), surface, start[None], times=4)
            ms = 1e3 * (time.process_time() - began)
            rows.append(
                {**own, 'variant': 'network alone, 4 times', **_figures(pose_errors(moved[0], T, model, camera), ms)}
            )
            for kind in KINDS:
                began = time.process_time()
                match = match_in_plane(surface, start, view, kind)
                ms = 1e3 * (time.process_time() - began)
                scores = {'recall': match.recall, 'precision': match.precision}
                rows.append({**own, 'variant': f'planar, {kind}', 'ms': ms, **scores})
    return rows


def _figures(errors, ms):
    return {'mpd_mm': errors['mpd_mm'], 'depth_mm': errors['depth_mm'], 'ms': ms}


def _start(rng, T_truth, model, band):
    """Return the true pose put wrong by exactly a band's rotation, shift in plane and in depth, each in a random
    direction."""
    rotation, in_plane, depth = band
    turn, slide = rng.normal(size=3), rng.uniform(0, 2 * np.pi)
    shift = 1e-3 * np.array([in_plane * np.cos(slide), in_plane * np.sin(slide), depth * rng.choice([-1, 1])])
    xi = np.concatenate([shift, np.radians(rotation) * turn / np.linalg.norm(turn)])
    return perturb(T_truth, xi, apply(T_truth, model.centroid))


def summarise(rows):
    """Return a dict for each mask, variant and band: trials, share right (mPD < 2 mm), accepted, and medians."""
    out = []
    for mask, variant, band in dict.fromkeys((row['mask'], row['variant'], row['band']) for row in rows):
        own = [row for row in rows if (row['mask'], row['variant'], row['band']) == (mask, variant, band)]
        summary = {'mask': mask, 'variant': variant, 'band': band, 'n': len(own)}
        if 'mpd_mm' in own[0]:
            summary['right'] = float(np.mean([row['mpd_mm'] < RIGHT_MM for row in own]))
        for name in ('mpd_mm', 'depth_mm', 'recall', 'precision', 'ms'):
            if name in own[0]:
                summary[name] = float(np.median([row[name] for row in own]))
        out.append(summary)
    return out


def _print(summary):
    for mask in dict.fromkeys(row['mask'] for row in summary):
        table = Table(
            title=f'{mask} masks: right (mPD < {RIGHT_MM:g} mm), median mPD mm, ms of CPU; or Recall / Precision'
        )
        table.add_column('variant')
        for band in BANDS:
            table.add_column(band, justify='right')
        for variant in dict.fromkeys(row['variant'] for row in summary):
            cells = {row['band']: _cell(row) for row in summary if (row['mask'], row['variant']) == (mask, variant)}
            table.add_row(variant, *(cells[band] for band in BANDS))
        Console(width=120).print(table)


def _cell(row):
    if 'recall' in row:
        return f'{row["recall"]:.2f} / {row["precision"]:.2f}'
    return f'{100 * row["right"]:.0f}% {row["mpd_mm"]:.2f} {row["ms"]:.0f}'


if __name__ == '__main__':
    sys.exit(main())
