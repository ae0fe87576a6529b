"""The matching network learns from pairs made of models alone, stops and goes on, and its weights serve a `Matcher`."""

import csv
from dataclasses import fields

import numpy as np
import pytest
import torch
import yaml

from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.matching import SIDE, Matcher
from m2i_ros.simulation import make_anatomy
from m2i_ros.training.matching import (
    LOSSES,
    MatchingSettings,
    MatchingTraining,
    export,
    losses,
    simulated_surfaces,
)
from m2i_ros.training.matching_data import Batch, batches, scene, turned
from m2i_ros.training.matching_network import MatchingNetwork, exp_so3, project, solve
from m2i_ros.training.train import main

TINY = {'batch_size': 8, 'starts': 8, 'steps': 12, 'learning_rate': 0.003}


@pytest.fixture(scope='module')
def surface():
    return ContourSurface.from_model(make_anatomy('aortic_root', 0))


@pytest.fixture(scope='module')
def rows(surface):
    return scene(surface, np.random.default_rng(1), 8)


def collated(rows):
    return Batch(*(np.stack(part).astype(np.float32) for part in zip(*rows)))


def under_truth(rows, motion):
    """Return how much of the moved model lies on the true silhouette."""
    b = collated(rows)
    q, window, truth = (torch.from_numpy(a) for a in (b.points, b.window, b.truth))
    p = project(q, torch.from_numpy(b.theta * np.float32(motion)), window)[0]
    on = torch.nn.functional.grid_sample(truth[:, None], p[:, None], align_corners=False)[:, 0, 0]
    inside = (torch.from_numpy(b.share) > 0.5) & (p.abs().amax(-1) < 1 - 2 / SIDE)
    return on[inside].mean().item()


def test_the_labelled_motion_brings_the_model_onto_the_true_silhouette(rows):
    assert under_truth(rows, 1.0) > max(0.95, 0.02 + under_truth(rows, 0.0))


@pytest.mark.parametrize('flags', list(np.ndindex(2, 2, 2)))
def test_a_pair_seen_in_a_mirror_is_as_good(rows, flags):
    mirrored = [turned(row, *flags) for row in rows]
    assert under_truth(mirrored, 1.0) == pytest.approx(under_truth(rows, 1.0), abs=1e-4)


def test_cells_that_know_where_they_belong_solve_for_the_label(rows):
    b = collated(rows)
    share, q, window, theta = (torch.from_numpy(a) for a in (b.share, b.points, b.window, b.theta))
    out = torch.full((len(rows), 5, share.shape[1]), 100.0)
    out[:, 3] = 0
    out[:, :2] = (project(q, theta, window)[0] - project(q, torch.zeros_like(theta), window)[0]).transpose(1, 2)
    estimate, _ = solve(out, share, q, window)
    p, goal = (project(q, t, window)[0] for t in (estimate, theta))
    assert (p - goal)[share > 0.5].norm(dim=-1).max() < 0.01
    turn = exp_so3(estimate[:, 3:]).transpose(1, 2) @ exp_so3(theta[:, 3:])
    assert torch.allclose(turn, torch.eye(3).expand_as(turn), atol=0.05)


def test_every_loss_teaches_the_network(surface):
    batch = next(batches([surface], np.random.default_rng(0), 4, starts=4, pool=1))
    network = MatchingNetwork()
    terms, _ = losses(network, batch)
    assert set(terms) == set(LOSSES)
    for name, term in terms.items():
        network.zero_grad()
        term.backward(retain_graph=True)
        assert network.head.weight.grad.abs().sum() > 0, name


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('matching')
    config = folder / 'tiny.yaml'
    config.write_text(yaml.safe_dump(TINY))
    command = ['matching', '--config', str(config), '--out', str(folder / 'run'), '--model', 'phantom:aortic_root:0']
    assert main([*command, '--minutes', '1']) == 0
    return folder


def test_one_patients_training_leaves_weights_that_a_matcher_takes(trained, surface):
    with (trained / 'run' / 'log.csv').open() as file:
        log = list(csv.DictReader(file))
    assert len(log) == 12 and all(np.isfinite(float(row['loss'])) for row in log)
    image = scene(surface, np.random.default_rng(2), 1)[0][0]
    network = MatchingNetwork()
    network.load_state_dict(torch.load(trained / 'run' / 'checkpoint.pt', weights_only=True)['network'])
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(image)[None]).numpy()
    assert np.allclose(Matcher(trained / 'run' / 'matching.onnx')._network(image[None]), expected, atol=1e-3)
    assert 'phantom:aortic_root:0' in (trained / 'run' / 'matching.md').read_text()


def test_a_stopped_training_goes_on_from_its_checkpoint(trained, surface, tmp_path):
    s = MatchingSettings(**TINY)
    training = MatchingTraining(s, [surface], tmp_path, report=lambda entry: entry['step'] == 3 and training.stop())
    assert training.run() == 'stopped'
    resumed = MatchingTraining(s, [surface], tmp_path, resume=True)
    assert resumed.step == 3
    for one, two in zip(training.network.parameters(), resumed.network.parameters()):
        assert torch.equal(one, two)
    export(tmp_path / 'checkpoint.pt', tmp_path / 'weights' / 'w.onnx')
    assert Matcher(tmp_path / 'weights' / 'w.onnx')


@pytest.mark.parametrize(
    ('entries', 'message'), [({'paitents': 3}, 'paitents'), ({'steps': 0}, 'steps'), ({'loss': {'dice': 1}}, 'dice')]
)
def test_settings_that_are_wrong_are_told(tmp_path, entries, message):
    (tmp_path / 'c.yaml').write_text(yaml.safe_dump(entries))
    with pytest.raises(ValueError, match=message):
        MatchingSettings.read(tmp_path / 'c.yaml')


def test_the_configuration_in_the_package_is_the_default():
    from pathlib import Path

    file = Path(__file__).parents[2] / 'config' / 'train_matching.yaml'
    read = MatchingSettings.read(file)
    assert {**vars(read), 'anatomies': tuple(read.anatomies)} == vars(MatchingSettings())


def test_surfaces_are_found_again_as_they_were_kept(tmp_path):
    settings = MatchingSettings(anatomies=('aortic_root',), patients=1, cache=str(tmp_path))
    (made,), (kept,) = simulated_surfaces(settings), simulated_surfaces(settings)
    assert len(list(tmp_path.iterdir())) == 1
    for part in fields(ContourSurface):
        np.testing.assert_array_equal(getattr(kept, part.name), getattr(made, part.name))


def test_surfaces_kept_by_an_earlier_version_are_made_again(tmp_path):
    settings = MatchingSettings(anatomies=('aortic_root',), patients=1, cache=str(tmp_path))
    (made,) = simulated_surfaces(settings)
    (file,) = tmp_path.iterdir()
    with np.load(file) as data:
        parts = dict(data)
    parts.popitem()
    np.savez(file, **parts)
    (again,) = simulated_surfaces(settings)
    for part in fields(ContourSurface):
        np.testing.assert_array_equal(getattr(again, part.name), getattr(made, part.name))
