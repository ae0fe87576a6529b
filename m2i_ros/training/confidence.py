"""`train confidence`: learns what a registration's evidence says of its error, from simulated patients."""

import json
import math
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from m2i_ros.recording.report import write_json
from m2i_ros.registration.confidence import Confidence, Evidence
from m2i_ros.simulation.patients import CALIBRATION

LIMITS_MM = np.array([0.5, 1.0, 2.0, 5.0])  # the distribution of the error is fitted at these
RIDGE = 0.3  # on the weights of features scaled to deviation 1, against as many trials: keeps them small and stable
RIGHT_MM = 2.0


def add_arguments(parser):
    """Add the job's own arguments to a parser."""
    parser.add_argument(
        '--trials',
        type=Path,
        nargs='+',
        required=True,
        help='JSON files of `benchmark registration --of calibration`; the more masks, frames and starts the better',
    )
    parser.add_argument('--out', type=Path, required=True, help='where the table goes: registration/confidence.json')


def run(arguments):
    """Fit the table, write it and print it; return 0. Raises ValueError for trials of patients kept for figures."""
    rows, commands = [], []
    for path in arguments.trials:
        report = json.loads(path.read_text(encoding='utf-8'))
        commands.append(report['command'])
        rows += report['trials'] + report['tracked']
    rows = [row for row in rows if row.get('evidence') is not None]
    strangers = sorted({row['seed'] for row in rows} - set(CALIBRATION))
    if strangers:
        raise ValueError(f'patients {strangers[:5]} are kept for figures: make the trials with --of calibration')
    evidence = [Evidence(**{k: math.inf if v is None else v for k, v in row['evidence'].items()}) for row in rows]
    errors = np.array([math.inf if row['mpd_mm'] is None else row['mpd_mm'] for row in rows])
    table = {
        'commands': commands,
        'patients': len({(row['anatomy'], row['seed']) for row in rows}),
        'poses': len(rows),
        'wrong': int((errors > RIGHT_MM).sum()),
        **fit(evidence, errors),
    }
    write_json(arguments.out, table)
    print(json.dumps(table, indent=2))
    return 0


def fit(evidence, errors_mm):
    """Return {'intercept', 'sharpness', 'weights', 'typical'} of a `Confidence`, maximum likelihood.

    evidence: N `Evidence`. errors_mm: (N,) the poses' mPD. For each limit of `LIMITS_MM` a pose is below or not; all
    limits share the weights (proportional odds, McCullagh 1980). Weights are kept from being negative.
    """
    X = np.array([Confidence.features(e) for e in evidence])
    errors_mm = np.asarray(errors_mm, dtype=float)
    mean, spread = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-9)
    Z = (X - mean) / spread
    below = errors_mm[:, None] < LIMITS_MM
    log_limits = np.log(LIMITS_MM)

    def loss(p):
        score = p[0] + p[1] * log_limits - (Z @ p[2:])[:, None]
        likelihood = (np.logaddexp(0, score) - below * score).sum() / len(LIMITS_MM)
        slope = (1 / (1 + np.exp(-np.clip(score, -50, 50))) - below) / len(LIMITS_MM)
        gradient = np.concatenate([[slope.sum(), (slope * log_limits).sum()], -Z.T @ slope.sum(axis=1)])
        gradient[2:] += 2 * RIDGE * p[2:]
        return likelihood + RIDGE * (p[2:] ** 2).sum(), gradient

    start = np.concatenate([[0, 1], np.full(X.shape[1], 0.1)])
    bounds = [(None, None), (0, None)] + [(0, None)] * X.shape[1]
    p = minimize(loss, start, jac=True, bounds=bounds, method='L-BFGS-B').x
    weights = p[2:] / spread
    right = errors_mm < RIGHT_MM
    return {
        'intercept': float(p[0] + weights @ mean),
        'sharpness': float(p[1]),
        'weights': weights.tolist(),
        'typical': np.median(X[right] if right.any() else X, axis=0).tolist(),
    }
