"""`benchmark` puts starts wrong by what it says, counts what it says, and goes on where it was stopped."""

import json
import math

import numpy as np
import pytest

from m2i_ros.evaluation import benchmark
from m2i_ros.evaluation.benchmark import BANDS, main, summarise
from m2i_ros.geometry import apply, inverse, rigid, rotation_angle
from m2i_ros.segmentation import WeightsError
from m2i_ros.segmentation.weights import Weights
from m2i_ros.simulation import make_anatomy


@pytest.mark.parametrize('band', BANDS)
def test_a_start_is_off_by_its_bands_rotation_and_shifts(band):
    model = make_anatomy('aortic_root', 0)
    truth = rigid((0.3, 1.0, -0.2), (0.1, 0.4, 0.9))
    rotation, in_plane, depth = BANDS[band]
    for seed in range(5):
        start = benchmark._start(np.random.default_rng(seed), truth, model, BANDS[band])
        assert np.degrees(rotation_angle(start @ inverse(truth))) == pytest.approx(rotation)
        shift = 1e3 * (apply(start, model.centroid) - apply(truth, model.centroid))
        assert (np.hypot(*shift[:2]), abs(shift[2])) == (pytest.approx(in_plane), pytest.approx(depth))


def trial(mpd, accepted, band='near', anatomy='iliofemoral', seed=0):
    row = dict(anatomy=anatomy, seed=seed, band=band, mpd_mm=mpd, mtre_mm=2 * mpd, accepted=accepted)
    return {**row, 'search_ms': 100.0, 'track_ms': 20.0 if accepted else math.nan}


def test_the_summary_counts_what_its_words_say():
    rows = [trial(0.5, True), trial(1.5, True), trial(3.0, True), trial(0.5, False), trial(math.inf, False)]
    near, far = summarise([*rows, trial(9.0, False, 'far')])
    assert near['n'] == 5 and near['band'] == 'near'
    assert near['mpd_within_2_mm'] == pytest.approx(0.6) and near['accepted'] == pytest.approx(0.6)
    assert near['accepted_wrong'] == pytest.approx(1 / 3) and near['refused_right'] == pytest.approx(0.2)
    assert [near[f'mtre_within_{mm}_mm'] for mm in (2, 5, 10)] == pytest.approx([0.4, 0.6, 0.8])
    assert near['track_ms'] == 20.0
    assert math.isnan(far['accepted_wrong']) and math.isnan(far['track_ms']) and far['mpd_within_2_mm'] == 0


def test_a_stopped_run_goes_on_where_it_was_and_refuses_other_settings(tmp_path, monkeypatch, capsys):
    registered = []

    def register(anatomy, seed, size, segmenter):
        if len(registered) == 2:
            registered.append('stop')
            raise KeyboardInterrupt
        registered.append(seed)
        return [trial(0.5, True, band, anatomy, seed) for band in BANDS]

    monkeypatch.setattr(benchmark, '_register_patient', register)
    run = ['registration', '--anatomies', 'iliofemoral', '--patients', '4', '--json', str(tmp_path / 'b.json')]
    assert main(run) == 130
    assert len(json.loads((tmp_path / 'b.json').read_text())['trials']) == 6
    assert main([*run, '--resume']) == 0
    assert registered == [1000, 1001, 'stop', 1002, 1003]
    assert json.loads((tmp_path / 'b.json').read_text())['summary'][0]['n'] == 4
    assert main([*run, '--resume', '--size', '256']) == 2
    assert 'other settings' in capsys.readouterr().err


def test_a_simulated_patient_is_registered(tmp_path):
    run = ['registration', '--anatomies', 'aortic_root', '--patients', '1', '--size', '128']
    assert main([*run, '--json', str(tmp_path / 'b.json')]) == 0
    report = json.loads((tmp_path / 'b.json').read_text())
    assert [row['band'] for row in report['trials']] == list(BANDS)
    near = report['trials'][0]
    assert near['mpd_mm'] < 2 < 10 < near['start_mtre_mm'] and near['mask_dice'] == 1.0


def test_an_engine_that_is_not_there_is_told_and_missing_weights_stop(tmp_path, monkeypatch, capsys):
    def segmenter(engine, **_):
        if engine == 'torch':
            raise WeightsError('weights x not found')
        raise ValueError(f'engine {engine!r} is not installed')

    monkeypatch.setattr(benchmark, 'Segmenter', segmenter)
    run = ['segmentation', '--sizes', '64', '--json', str(tmp_path / 'b.json'), '--engines']
    assert main([*run, 'onnxruntime']) == 0
    row = json.loads((tmp_path / 'b.json').read_text())['engines'][0]
    assert row['median_ms'] is None and 'not installed' in row['problem']
    assert main([*run, 'torch']) == 2
    assert 'weights x not found' in capsys.readouterr().err


def test_networks_are_timed_side_by_side_with_what_they_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, 'PAPER_NETWORK', {'width': 8, 'stem': 1, 'norm': 'batch'})
    run = ['networks', '--engines', 'torch', '--size', '64', '--rounds', '3', '--json', str(tmp_path / 'b.json')]
    assert main(run) == 0
    report = json.loads((tmp_path / 'b.json').read_text())
    own, paper = report['engines']
    assert paper['network'] == 'R64' and paper['times_faster'] == 1.0 and own['engine'] == 'torch'
    assert own['times_faster'] == pytest.approx(paper['median_ms'] / own['median_ms'])


def test_the_papers_network_costs_what_its_layers_add_up_to(tmp_path):
    weights = Weights('R64', tmp_path, tmp_path, benchmark.PAPER_NETWORK, 8, 0.5)
    count, gflop = 0, 0.0
    # (inputs, outputs, kernel, side of the output) of every convolution, at 64x64.
    units = [(1, 64, 64), (64, 128, 32), (128, 256, 16), (256, 512, 8), (768, 256, 16), (384, 128, 32), (192, 64, 64)]
    layers = [(64, 1, 1, 64)]
    for inputs, outputs, side in units:
        layers += [(inputs, outputs, 3, side), (outputs, outputs, 3, side), (inputs, outputs, 1, side)]
    for inputs, outputs, kernel, side in layers:
        count += inputs * outputs * kernel**2 + outputs
        gflop += 2e-9 * inputs * outputs * kernel**2 * side**2
    norms = sum(2 * inputs for inputs, _, _ in units[1:]) + sum(2 * outputs for _, outputs, _ in units)
    assert benchmark.cost(weights, 64) == {'parameters': count + norms, 'gflop': pytest.approx(gflop)}
