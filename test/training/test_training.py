import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from m2i_ros.evaluation.metrics import dice
from m2i_ros.segmentation import Segmenter, valid_area
from m2i_ros.segmentation.segmenter import at_network_size, network_input
from m2i_ros.training import segmentation
from m2i_ros.training.data import TrainingBatches
from m2i_ros.training.export import export
from m2i_ros.training.segmentation import SegmentationTraining, TrainingSettings, load_network
from m2i_ros.training.train import main
from m2i_ros.training.validation import THRESHOLDS

TINY = {
    'seed': 1,  # its eight pictures show wide vessels, so that there is something to learn in a few steps
    'network': {'width': 8, 'stem': 4, 'norm': 'group'},
    'data': {'streams': [{'size': 64, 'batch_size': 8, 'pool': 8, 'reuse': 16}]},
    'validation_size': 96,
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
    assert (
        main(
            [
                'segmentation',
                '--config',
                str(config),
                '--out',
                str(folder / 'run'),
                '--threads',
                '1',
                '--accelerator',
                'cpu',
            ]
        )
        == 0
    )
    return config, folder / 'run', read_log(folder / 'run')


def read_log(folder):
    with (folder / 'log.csv').open() as file:
        return list(csv.DictReader(file))


def test_the_loss_falls_and_more_is_found(trained):
    loss = [float(row['loss']) for row in trained[2]]
    assert len(loss) == 16
    # Pictures shown the wrong way round, other ones in each step, make the loss uneven; validation has the same frames.
    scores = [float(row['score']) for row in trained[2] if row['score']]
    assert np.mean(loss[-4:]) < np.mean(loss[:4]) and scores[1] > scores[0] + 0.05


def test_a_training_resumed_goes_on_as_if_never_stopped(trained, tmp_path):
    config, run, whole = trained
    settings = TrainingSettings.read(config)

    torch.set_num_threads(1)
    stopped = SegmentationTraining(settings, tmp_path, report=lambda entry: entry['step'] == 12 and stopped.stop())
    assert stopped.run() == 'stopped'
    with (tmp_path / 'log.csv').open('a') as log:
        log.write('14,9.9,,,,,,,\r\n')  # A step after the checkpoint, lost and to be done again.
    resumed = SegmentationTraining(settings, tmp_path, resume=True)
    assert resumed.step == 13
    resumed.run()
    log = read_log(tmp_path)
    assert [row['step'] for row in log] == [row['step'] for row in whole]
    np.testing.assert_allclose([float(r['loss']) for r in log], [float(r['loss']) for r in whole], atol=2e-5)
    broken, unbroken = (torch.load(folder / 'checkpoint.pt', weights_only=True) for folder in (tmp_path, run))
    for kind in ('learner', 'average'):
        for name, value in broken[kind].items():
            torch.testing.assert_close(value, unbroken[kind][name], rtol=0, atol=1e-5)


def test_an_exported_training_segments(trained, tmp_path):
    text = tmp_path / 'card.md'
    text.write_text('Learned little.')
    command = ['export', '--checkpoint', str(trained[1] / 'best.pt'), '--name', 'tiny', '--folder', str(tmp_path)]
    assert main([*command, '--card', str(text)]) == 0
    segmenter = Segmenter(tmp_path / 'tiny', engine='torch', threads=1)
    assert 0 < segmenter.threshold < 1
    assert segmenter.segment(np.zeros((70, 90), np.uint8)).mask.shape == (70, 90)
    card = (tmp_path / 'tiny.md').read_text()
    assert 'Learned little.' in card
    best = max((row for row in trained[2] if row['score']), key=lambda row: float(row['score']))
    told = yaml.safe_load(card.split('---')[1])['trained']['validation']
    assert told['step'] == int(best['step'])
    for name in ('score', 'dice', 'cldice', 'threshold'):
        assert told[name] == pytest.approx(float(best[name]), abs=1e-4)


def test_cards_tell_how_training_showed_pictures_and_of_checkpoints_from_before_nothing(trained, tmp_path):
    state = torch.load(trained[1] / 'best.pt', weights_only=True)
    before = tmp_path / 'before.pt'
    torch.save({key: value for key, value in state.items() if key != 'shown'}, before)
    for checkpoint, expected in ((trained[1] / 'best.pt', True), (before, False)):
        weights = export(checkpoint, checkpoint.stem, tmp_path)
        assert (weights.sharpen, weights.evened) == (expected, expected)


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


@pytest.fixture
def here(monkeypatch):
    """Batches made in this process, which saves starting another."""
    monkeypatch.setattr(segmentation, 'training_batches', lambda *settings: iter(TrainingBatches(*settings)))


def test_a_training_ends_where_nothing_gets_better(trained, tmp_path, monkeypatch, here):
    scores = np.zeros((len(THRESHOLDS), 2))
    scores[3] = 0.5, 0.7
    monkeypatch.setattr(segmentation, 'mean_scores', lambda *_: scores)
    settings = TrainingSettings.read(trained[0], validate_every=1, patience=3, learning_rate=0.0)
    training = SegmentationTraining(settings, tmp_path)
    assert training.run() == 'no better'
    assert training.step == 4
    assert training.best == {'score': pytest.approx(0.6), 'step': 1}
    assert training.validation['threshold'] == THRESHOLDS[3]


def test_an_exception_leaves_a_checkpoint(trained, tmp_path, here):
    def fail(entry):
        raise OSError('disk full')

    with pytest.raises(OSError):
        SegmentationTraining(TrainingSettings.read(trained[0]), tmp_path, report=fail).run()
    assert torch.load(tmp_path / 'checkpoint.pt', weights_only=True)['step'] == 1


def test_a_loss_that_is_not_finite_ends_the_training_before_it_spoils_the_weights(trained, tmp_path):
    training = SegmentationTraining(TrainingSettings.read(trained[0]), tmp_path)
    before = [p.clone() for p in training.network.parameters()]
    with pytest.raises(FloatingPointError, match='at step 0: lower learning_rate'):
        training._learn(torch.full((1, 1, 64, 64), float('nan')), torch.zeros(1, 1, 64, 64))
    for p, q in zip(before, training.network.parameters()):
        assert torch.equal(p, q)


def one_step(config, folder, **settings):
    training = SegmentationTraining(TrainingSettings.read(config, **settings), folder)
    generator = torch.Generator().manual_seed(1)
    image, target = torch.rand(2, 1, 64, 64, generator=generator), torch.zeros(2, 1, 64, 64)
    target[..., 20:30, :] = 1
    training._learn(image, target)
    return training


def test_deep_supervision_teaches_the_coarse_levels_and_is_not_exported(trained, tmp_path):
    # Without any other loss, only the coarse heads' teach; the coarsest one reaches neither finer levels nor the head.
    loss = {'dice': 0.0, 'bce': 0.0}
    start = dict(SegmentationTraining(TrainingSettings.read(trained[0]), tmp_path).network.named_parameters())
    training = one_step(trained[0], tmp_path, deep_supervision=0.5, loss=loss, weight_decay=0.0)
    moved = {n for n, p in training.network.named_parameters() if not torch.equal(p, start[n])}
    assert any(name.startswith('decoder.0') for name in moved)
    assert any(name.startswith('decoder.1') for name in moved)
    assert not any(name.startswith(('decoder.2', 'head')) for name in moved)
    training.save('checkpoint.pt')
    plain = one_step(trained[0], tmp_path)
    assert load_network(tmp_path / 'checkpoint.pt').state_dict().keys() == plain.network.state_dict().keys()
    resumed = SegmentationTraining(training.settings, tmp_path, resume=True)
    for a, b in zip(resumed.learner.state_dict().values(), training.learner.state_dict().values()):
        assert torch.equal(a, b)


def test_a_student_alone_with_its_teacher_comes_closer_to_it(trained, tmp_path):
    config, run, _ = trained
    teacher = load_network(run / 'best.pt').eval()
    settings = TrainingSettings.read(
        config, teacher=str(run / 'best.pt'), distillation=1.0, loss={'dice': 0.0}, seed=9, warmup=0
    )
    training = SegmentationTraining(settings, tmp_path)
    image, target = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)), torch.zeros(2, 1, 64, 64)

    def distance():
        with torch.no_grad():
            return (torch.sigmoid(training.network(image)) - torch.sigmoid(teacher(image))).abs().mean().item()

    before = distance()
    for _ in range(10):
        training._learn(image, target)
    assert distance() < 0.8 * before


def test_real_validation_pictures_are_reported_apart(trained, tmp_path, real):
    config, run, _ = trained
    image, truth = real_pair(real)
    image, truth = at_network_size(image), at_network_size(truth, sharp=False)
    settings = TrainingSettings.read(config, initial_weights=str(run / 'best.pt'), validation_real=[real])
    training = SegmentationTraining(settings, tmp_path)
    training._validate()
    without = SegmentationTraining(replace(settings, validation_real=()), tmp_path)
    without._validate()
    assert training.validation['dice'] == without.validation['dice']
    network = load_network(run / 'best.pt').eval()
    # Enlarged to 105 by 135 pixels as in use, then mirrored up to the multiple of 32 that the network takes.
    picture = np.pad(network_input(image, valid_area(image))[0], ((0, 23), (0, 25)), mode='reflect')
    with torch.no_grad():
        probability = torch.sigmoid(network(torch.from_numpy(picture)[None, None]))[0, 0, :105, :135].numpy()
    found = probability >= training.validation['threshold']
    assert training.validation['real_dice'] == pytest.approx(dice(found, truth > 127), abs=1e-3)
    assert 'real_dice' not in without.validation


@pytest.fixture
def real(tmp_path):
    """Folders of six pictures, 70x90, of a dark bar each."""
    rng = np.random.default_rng(0)
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for number in range(1, 7):
        mask = np.zeros((70, 90), np.uint8)
        mask[:, 10 * number : 10 * number + 12] = 255
        image = np.where(mask > 0, 60, 180) + rng.integers(0, 20, mask.shape)
        cv2.imwrite(str(tmp_path / 'images' / f'{number:02d}.png'), image.astype(np.uint8))
        cv2.imwrite(str(tmp_path / 'masks' / f'{number:02d}.png'), mask)
    return {'images': str(tmp_path / 'images'), 'masks': str(tmp_path / 'masks')}


def real_pair(folders):
    for path in sorted(Path(folders['images']).iterdir())[1:]:
        path.unlink()
    return tuple(cv2.imread(f'{folders[kind]}/01.png', cv2.IMREAD_GRAYSCALE) for kind in ('images', 'masks'))


def test_the_configuration_that_is_shipped_is_readable():
    config = Path(__file__).parents[2] / 'config' / 'train_segmentation.yaml'
    assert TrainingSettings.read(config, steps=3).steps == 3
