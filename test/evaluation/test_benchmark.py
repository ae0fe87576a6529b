"""`benchmark` times engines and networks, and says what is missing."""

import json

import pytest

from m2i_ros.evaluation import benchmark
from m2i_ros.evaluation.benchmark import main
from m2i_ros.segmentation import WeightsError
from m2i_ros.segmentation.weights import Weights


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
    weights = Weights('R64', tmp_path / 'R64.md', benchmark.PAPER_NETWORK, 8, 0.5)
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
