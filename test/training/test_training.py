import csv

import numpy as np
import pytest
import torch
import yaml

from m2i_ros.segmentation import Segmenter
from m2i_ros.training.segmentation import SegmentationTraining, TrainingSettings
from m2i_ros.training.train import main

TINY = {
    'network': {'width': 8, 'stem': 4, 'norm': 'group'},
    'data': {'size': 64, 'batch_size': 4, 'pool': 8, 'reuse': 8},
    'learning_rate': 0.01,
    'warmup': 2,
    'decay': 0.0,
    'steps': 16,
    'validate_every': 8,
    'validation_frames': 8,
}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(configuration file, folder of a whole training, its log)."""
    folder = tmp_path_factory.mktemp('training')
    config = folder / 'tiny.yaml'
    config.write_text(yaml.safe_dump(TINY))
    assert main(['segmentation', '--config', str(config), '--out', str(folder / 'run'), '--threads', '1']) == 0
    return config, folder / 'run', read_log(folder / 'run')


def read_log(folder):
    with (folder / 'log.csv').open() as file:
        return list(csv.DictReader(file))


def test_the_loss_falls(trained):
    loss = [float(row['loss']) for row in trained[2]]
    assert len(loss) == 16
    assert np.mean(loss[-4:]) < 0.9 * np.mean(loss[:4])


def test_a_training_resumed_goes_on_as_if_never_stopped(trained, tmp_path):
    config, _, whole = trained
    settings = TrainingSettings.read(config)

    class Stop(Exception):
        pass

    def stop(entry):
        if entry['step'] == 12:
            raise Stop

    torch.set_num_threads(1)
    with pytest.raises(Stop):
        SegmentationTraining(settings, tmp_path, report=stop).run()
    with (tmp_path / 'log.csv').open('a') as log:
        log.write('13,9.9,,,\r\n')  # A step after the checkpoint, lost and to be done again.
    resumed = SegmentationTraining(settings, tmp_path, resume=True)
    assert resumed.step == 12
    resumed.run()
    log = read_log(tmp_path)
    assert [row['step'] for row in log] == [row['step'] for row in whole]
    np.testing.assert_allclose([float(r['loss']) for r in log], [float(r['loss']) for r in whole], atol=2e-5)


def test_an_exported_training_segments(trained, tmp_path):
    text = tmp_path / 'card.md'
    text.write_text('Learned little.')
    command = ['export', '--checkpoint', str(trained[1] / 'best.pt'), '--name', 'tiny', '--folder', str(tmp_path)]
    assert main([*command, '--card', str(text)]) == 0
    segmenter = Segmenter(tmp_path / 'tiny', threads=1)
    assert 0 < segmenter.threshold < 1
    assert segmenter.segment(np.zeros((70, 90), np.uint8)).mask.shape == (70, 90)
    assert 'Learned little.' in (tmp_path / 'tiny.md').read_text()


def test_a_training_starts_from_given_weights_with_a_fresh_optimizer(trained, tmp_path):
    config, run, _ = trained
    assert main(['export', '--checkpoint', str(run / 'best.pt'), '--name', 'tiny', '--folder', str(tmp_path)]) == 0
    average = torch.load(run / 'best.pt', weights_only=True)['average']
    for source in (run / 'best.pt', tmp_path / 'tiny'):
        settings = TrainingSettings.read(config, initial_weights=str(source), seed=3)
        training = SegmentationTraining(settings, tmp_path / 'run')
        assert training.step == 0 and not training.optimizer.state
        for name, value in training.network.state_dict().items():
            assert torch.equal(value, average[name])
    wrong = TrainingSettings.read(config, initial_weights='default')
    with pytest.raises(ValueError, match='give network:'):
        SegmentationTraining(wrong, tmp_path / 'run')


def test_wrong_use_is_answered_in_words(trained, tmp_path, capsys):
    config, run, _ = trained
    command = ['segmentation', '--config', str(config), '--out', str(tmp_path)]
    assert main([*command, '--resume']) == 1
    assert 'nothing to resume' in capsys.readouterr().err
    wrong = tmp_path / 'wrong.yaml'
    wrong.write_text('learning_speed: 3')
    assert main(['segmentation', '--config', str(wrong), '--out', str(tmp_path)]) == 1
    assert 'learning_speed' in capsys.readouterr().err
    other = tmp_path / 'other.yaml'
    other.write_text(yaml.safe_dump({**TINY, 'network': {'width': 16, 'stem': 4, 'norm': 'group'}}))
    assert main(['segmentation', '--config', str(other), '--out', str(run), '--resume']) == 1
    assert 'holds the network' in capsys.readouterr().err


def test_the_configuration_that_is_shipped_is_readable():
    from pathlib import Path

    config = Path(__file__).parents[2] / 'config' / 'train_segmentation.yaml'
    assert TrainingSettings.read(config, steps=3).steps == 3
