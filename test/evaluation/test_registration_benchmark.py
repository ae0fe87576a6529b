"""`benchmark registration` puts starts wrong by what it says, counts what it says, and goes on where it was stopped."""

import json
import math

import numpy as np
import pytest

from m2i_ros.evaluation import registration_benchmark
from m2i_ros.evaluation.baselines import BASELINES
from m2i_ros.evaluation.benchmark import main
from m2i_ros.evaluation.metrics import pose_errors
from m2i_ros.evaluation.registration_benchmark import capture_range, figures, reliability, risk_coverage, summarise
from m2i_ros.evaluation.trials import BANDS, cases, start
from m2i_ros.geometry import apply, inverse, rigid, rotation_angle
from m2i_ros.simulation import make_anatomy
from m2i_ros.simulation.patients import CALIBRATION, EVALUATION


@pytest.mark.parametrize('band', BANDS)
def test_a_start_is_off_by_its_bands_rotation_and_shifts(band):
    model = make_anatomy('aortic_root', 0)
    truth = rigid((0.3, 1.0, -0.2), (0.1, 0.4, 0.9))
    rotation, in_plane, depth = BANDS[band]
    for seed in range(5):
        pose = start(np.random.default_rng(seed), truth, model, BANDS[band])
        assert np.degrees(rotation_angle(pose @ inverse(truth))) == pytest.approx(rotation)
        shift = 1e3 * (apply(pose, model.centroid) - apply(truth, model.centroid))
        assert (np.hypot(*shift[:2]), abs(shift[2])) == (pytest.approx(in_plane), pytest.approx(depth))


def trial(mpd, accepted, probability=0.5, band='near', anatomy='iliofemoral', seed=0):
    row = dict(anatomy=anatomy, seed=seed, band=band, mask='true', method='registrar', start_mtre_mm=20.0)
    row |= dict(mpd_mm=mpd, mtre_mm=2 * mpd, in_plane_mm=mpd, depth_mm=2 * mpd, recall=0.9, precision=0.8)
    row |= dict(accepted=accepted, probability=probability, evidence=None, segmentation_ms=math.nan)
    row['in_ellipsoid'] = {'pose': mpd < 1, 'in_plane': True, 'depth': mpd < 2} if math.isfinite(mpd) else None
    return {**row, 'search_ms': 100.0, 'track_ms': 20.0 if accepted else math.nan}


def test_figures_count_what_their_words_say():
    rows = [trial(0.5, True), trial(1.5, True), trial(6.0, True), trial(0.5, False), trial(math.inf, False)]
    near = figures(rows)
    assert near['n'] == 5 and near['accepted'] == 0.6
    assert near['gross_accepted'] == near['right_refused'] == 0.2
    assert near['at_probability']['0.5'] == {'accepted': 1.0, 'gross_accepted': 0.4, 'right_refused': 0.0}
    assert near['at_probability']['0.65'] == {'accepted': 0.0, 'gross_accepted': 0.0, 'right_refused': 0.6}
    assert near['success_mpd_mm'] == {'2': 0.6, '5': 0.6, '10': 0.8}
    assert near['success_mtre_mm'] == {'2': 0.4, '5': 0.6, '10': 0.6}
    assert near['in_ellipsoid'] == {'pose': 1 / 3, 'in_plane': 1.0, 'depth': 2 / 3}
    assert near['mpd_mm']['median'] == 1.5 and near['accepted_errors']['n'] == 3


def test_risk_and_reliability_follow_the_probability():
    rows = [trial(0.5, True, 0.9), trial(6.0, True, 0.7), trial(3.0, True, 0.3), trial(0.5, True, 0.99)]
    coverage, wrong, gross = np.transpose(risk_coverage(rows))
    assert coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert wrong == pytest.approx([0, 0, 1 / 3, 0.5]) and gross == pytest.approx([0, 0, 1 / 3, 0.25])
    assert reliability(rows) == [[0.3, 0.0, 1], [0.7, 0.0, 1], [0.9, 1.0, 1], [0.99, 1.0, 1]]


def test_the_capture_range_ends_before_the_first_offset_that_fails():
    sweep = {'a': (0, 20, 0), 'b': (0, 40, 0), 'c': (0, 60, 0)}
    assert capture_range(sweep, {'a': 1.0, 'b': 0.95, 'c': 0.9}) == 40
    assert capture_range(sweep, {'a': 0.9, 'b': 1.0, 'c': 1.0}) == 0


def test_a_stopped_run_goes_on_where_it_was_and_refuses_other_settings(tmp_path, monkeypatch, capsys):
    registered = []

    def registered_anew(anatomy, seed, settings, segmenter):
        if len(registered) == 2:
            registered.append('stop')
            raise KeyboardInterrupt
        registered.append(seed)
        return [trial(math.inf if seed == CALIBRATION[0] else 0.5, True, 0.5, b, anatomy, seed) for b in BANDS], []

    monkeypatch.setattr(registration_benchmark, '_registered', registered_anew)
    run = ['registration', '--anatomies', 'iliofemoral', '--patients', '4', '--masks', 'true', '--of', 'calibration']
    run += ['--json', str(tmp_path / 'b.json')]
    assert main(run) == 130
    assert len(json.loads((tmp_path / 'b.json').read_text())['trials']) == 2 * len(BANDS)
    assert main([*run, '--resume']) == 0
    assert registered == [*CALIBRATION[:2], 'stop', *CALIBRATION[2:4]]
    near = json.loads((tmp_path / 'b.json').read_text())['summary']['anatomies']['iliofemoral']['true']['bands']['near']
    assert near['n'] == 4 and near['success_mpd_mm']['2'] == 0.75, 'no pose stays a failure'
    assert main([*run, '--resume', '--size', '256']) == 2
    assert 'other settings' in capsys.readouterr().err


def test_a_simulated_patient_is_registered_and_reported(tmp_path):
    run = ['registration', '--anatomies', 'aortic_root', '--patients', '1', '--size', '128']
    run += ['--masks', 'true', 'damaged', '--json', str(tmp_path / 'b.json'), '--html', str(tmp_path / 'b.html')]
    assert main(run) == 0
    report = json.loads((tmp_path / 'b.json').read_text())
    assert [row['band'] for row in report['trials']] == 2 * list(BANDS)
    assert {row['seed'] for row in report['trials']} == {EVALUATION[0]}
    near = report['trials'][0]
    assert near['mpd_mm'] < 2 < 10 < near['start_mtre_mm'] and near['mask_dice'] == 1.0 and near['recall'] > 0.9
    html = (tmp_path / 'b.html').read_text()
    assert 'aortic root' in html and html.count('data:image/svg+xml') == 3 and 'src="http' not in html
    assert set(summarise(report_rows(report))['anatomies']['aortic_root']) == {'true', 'damaged'}


def test_two_views_have_the_first_ones_starts_and_see_the_depth(tmp_path):
    run = [
        'registration',
        '--anatomies',
        'aortic_root',
        '--patients',
        '1',
        '--size',
        '128',
        '--masks',
        'true',
        '--json',
    ]
    rows = []
    for views in ('1', '2'):
        assert main([*run, str(tmp_path / views), '--views', views]) == 0
        rows.append(json.loads((tmp_path / views).read_text())['trials'][0])
    one, two = rows
    assert one['start_mtre_mm'] == two['start_mtre_mm'] and one['angle_deg'] is None
    assert 60 <= two['angle_deg'] <= 120 and (one['views'], two['views']) == (1, 2)
    assert two['accepted'] and two['mtre_mm'] < min(0.7, one['mtre_mm'])


def report_rows(report):
    return {key: list(map(registration_benchmark._numbers, report[key])) for key in ('trials', 'strangers', 'tracked')}


def test_another_patients_model_is_not_believed(tmp_path, capsys):
    run = ['registration', '--anatomies', 'iliofemoral', 'aortic_root', '--patients', '1', '--masks', 'true']
    run += ['--size', '192', '--strangers', '--json', str(tmp_path / 'b.json'), '--html', str(tmp_path / 'b.html')]
    assert main(run) == 0
    report = json.loads((tmp_path / 'b.json').read_text())
    assert [row['band'] for row in report['strangers']] == 2 * list(BANDS)
    own, strangers = ([row['probability'] for row in report[key]] for key in ('trials', 'strangers'))
    assert max(strangers) < 0.8 < np.median(own)
    summary = report['summary']['strangers']['aortic_root']
    assert (summary['n'], summary['accepted']) == (len(BANDS), 0) and 0 <= summary['most'] == max(strangers[4:])
    assert "another patient's model: 0 of 4 believed" in capsys.readouterr().out
    assert "Another patient's model" in (tmp_path / 'b.html').read_text()


@pytest.mark.parametrize('method', BASELINES)
def test_a_baseline_comes_nearer_than_its_start(method):
    if method == 'drr':
        pytest.importorskip('nanodrr', reason='nanodrr is optional and not installed (python3 -m pip install nanodrr)')
    (case,) = cases('iliofemoral', EVALUATION[1], 128, ['true'], None)
    offset = (0, 10, 0) if method == 'planar' else BANDS['near']  # planar cannot turn the view back
    pose = start(np.random.default_rng(0), case.T_truth, case.model, offset)
    before, after = (
        pose_errors(T, case.T_truth, case.model, case.camera)['mpd_mm'] for T in (pose, BASELINES[method](case, pose))
    )
    assert after < 0.5 * before
