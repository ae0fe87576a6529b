"""The table that `train confidence` makes: the law behind the errors, and only from patients it may learn from."""

import json

import numpy as np
import pytest

from m2i_ros.registration.confidence import Confidence, Evidence
from m2i_ros.simulation.patients import CALIBRATION, EVALUATION
from m2i_ros.training.confidence import fit
from m2i_ros.training.train import main


def draw(count, rng):
    """Return evidence, and errors of a log-logistic law: log error = 0.8 log predicted + 3 unexplained + noise."""
    evidence = [Evidence(*rng.uniform(0.05, 1.5, 2), *rng.uniform(0, 1, 3)) for _ in range(count)]
    u = rng.uniform(size=count)
    location = [0.8 * np.log(e.predicted_mm) + 3 * e.model_unexplained - 1 for e in evidence]
    return evidence, np.exp(location + 0.4 * np.log(u / (1 - u)))


def test_the_law_behind_the_errors_is_found_and_what_says_nothing_weighs_nothing():
    rng = np.random.default_rng(0)
    evidence, errors = draw(4000, rng)
    table = fit(evidence, errors)
    sharpness, weights = table['sharpness'], np.array(table['weights'])
    assert sharpness == pytest.approx(1 / 0.4, rel=0.1)
    assert weights / sharpness == pytest.approx([0.8, 0, 3, 0, 0], abs=0.2)
    # New poses: of those given some probability as many are good.
    evidence, errors = draw(4000, rng)
    confidence = Confidence(*(table[k] for k in ('intercept', 'sharpness', 'weights', 'typical')))
    stated = np.array([confidence(e, 1.0) for e in evidence])
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        inside = (stated >= low) & (stated < high)
        assert stated[inside].mean() == pytest.approx((errors[inside] < 1).mean(), abs=0.05)


def test_what_speaks_for_a_pose_in_a_few_trials_is_not_believed_to():
    rng = np.random.default_rng(1)
    evidence = [Evidence(*rng.uniform(0.1, 1, 2), *rng.uniform(0, 1, 3)) for _ in range(60)]
    table = fit(evidence, [10.0 - 9.9 * e.rival for e in evidence])
    assert min(table['weights']) >= 0


def test_patients_kept_for_figures_are_refused(tmp_path, capsys):
    row = {'anatomy': 'a', 'mpd_mm': 0.5, 'evidence': vars(Evidence(0.1, 0.1, 0.1, 0.1, 0.0))}
    report = {'command': 'benchmark', 'trials': [{**row, 'seed': EVALUATION[0]}], 'tracked': []}
    (tmp_path / 'trials.json').write_text(json.dumps(report))
    run = ['confidence', '--trials', str(tmp_path / 'trials.json'), '--out', str(tmp_path / 'table.json')]
    assert main(run) == 1 and 'kept for figures' in capsys.readouterr().err
    report['trials'] = [{**row, 'seed': CALIBRATION[i], 'mpd_mm': error} for i, error in enumerate((0.5, 3.0, None))]
    (tmp_path / 'trials.json').write_text(json.dumps(report))
    assert main(run) == 0
    table = json.loads((tmp_path / 'table.json').read_text())
    assert table['poses'] == 3 and table['wrong'] == 2 and table['commands'] == ['benchmark']
