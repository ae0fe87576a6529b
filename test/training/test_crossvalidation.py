import json

import cv2
import numpy as np
import pytest
import yaml

from m2i_ros.evaluation.metrics import dice
from m2i_ros.training.crossvalidation import CrossValidation, split
from m2i_ros.training.segmentation import TrainingSettings
from m2i_ros.training.train import main

NAMES = [f'{number:02d}' for number in range(1, 41)]


def test_every_picture_is_held_out_once_and_those_alike_together():
    groups = [['2', '3'], ['5', '6'], ['9', '12'], ['14', '15'], ['36', '40']]
    folds = split(NAMES, 5, groups, 0)
    assert sorted(name for fold in folds for name in fold) == NAMES
    assert [len(fold) for fold in folds] == [8] * 5
    for one, two in groups:
        assert any({one.zfill(2), two.zfill(2)} <= set(fold) for fold in folds)
    assert folds == split(NAMES, 5, groups, 0) != split(NAMES, 5, groups, 1)


def test_wrong_groups_are_answered_in_words():
    with pytest.raises(ValueError, match="no picture is named '41'"):
        split(NAMES, 5, [['1', '41']], 0)
    with pytest.raises(ValueError, match='in two groups'):
        split(NAMES, 5, [['1', '2'], ['2', '3']], 0)
    with pytest.raises(ValueError, match='between 2 and 40'):
        split(NAMES, 41, [], 0)


@pytest.fixture
def config(tmp_path):
    """A configuration with four real pictures, 64x80, of a dark bar each."""
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for number in range(1, 5):
        mask = np.zeros((64, 80), np.uint8)
        mask[:, 15 * number : 15 * number + 12] = 255
        noise = np.random.default_rng(number).integers(0, 20, mask.shape)
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), (np.where(mask > 0, 60, 180) + noise).astype(np.uint8))
        cv2.imwrite(str(tmp_path / f'masks/{number}.png'), mask)
    stream = {'size': 64, 'batch_size': 4, 'pool': 4, 'reuse': 8, 'real_fraction': 0.5}
    real = [{'images': str(tmp_path / 'images'), 'masks': str(tmp_path / 'masks')}]
    settings = {
        'network': {'width': 8, 'stem': 4, 'norm': 'group'},
        'data': {'streams': [stream], 'real': real, 'cache': str(tmp_path / 'cache')},
        'steps': 2,
        'validate_every': 2,
        'validation_frames': 4,
        'certain': 0.8,
    }
    path = tmp_path / 'tiny.yaml'
    path.write_text(yaml.safe_dump(settings))
    return path


def test_each_picture_is_scored_by_a_network_that_has_not_seen_it(config, tmp_path, capsys):
    out = tmp_path / 'out'
    command = ['crossvalidate', '--config', str(config), '--out', str(out), '--folds', '2', '--groups', '1,4']
    command += ['--accelerator', 'cpu', '--threads', '1']
    assert main(command) == 0
    report = json.loads((out / 'crossvalidation.json').read_text())
    assert {frozenset(fold['held_out']) for fold in report['folds']} == {frozenset('14'), frozenset('23')}
    for fold, told in enumerate(report['folds'], 1):
        card = yaml.safe_load((out / f'fold{fold}' / 'weights.md').read_text().split('---')[1])
        assert card['trained']['settings']['data']['real'][0]['leave_out'] == told['held_out']
        assert card['threshold'] == told['threshold']['simulation'] and card['certain'] == 0.8
    for row in report['images']:
        found, truth = (cv2.imread(str(f / f'{row["name"]}.png'), 0) for f in (out / 'masks', tmp_path / 'masks'))
        assert row['other folds']['dice'] == pytest.approx(dice(found, truth))
        assert set(row['simulation']) == {
            'dice',
            'precision',
            'recall',
            'cldice',
            'tolerant_dice',
            'hd95_px',
            'assd_px',
        }
    assert len(list((out / 'probabilities').iterdir())) == 4

    # Done folds stay done, a lost one is done again, and another plan is refused.
    kept, lost = ((out / f'fold{fold}' / 'weights.pt') for fold in (1, 2))
    before = kept.stat().st_mtime_ns
    lost.with_suffix('.md').unlink()
    (out / 'crossvalidation.json').unlink()
    assert main([*command, '--only', '1']) == 0
    told = capsys.readouterr().out
    assert 'fold 1 of 2 is done' in told and 'fold 2 must be trained before' in told
    assert not (out / 'crossvalidation.json').exists()
    assert main([*command, '--only', '2']) == 0
    assert kept.stat().st_mtime_ns == before
    assert json.loads((out / 'crossvalidation.json').read_text()) == report
    assert main([*command, '--steps', '3']) == 1
    assert 'other settings' in capsys.readouterr().err
    assert main([*command, '--only', '3']) == 1
    assert 'the folds are 1 to 2' in capsys.readouterr().err


def test_the_pictures_held_out_are_not_trained_on(config, tmp_path):
    validation = CrossValidation(TrainingSettings.read(config), tmp_path / 'out', 2)
    for fold in range(2):
        real = validation.training(fold, print).settings.data.real
        assert real[0]['leave_out'] == validation.held_out(fold)
