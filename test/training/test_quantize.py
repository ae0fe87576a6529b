import shutil

import numpy as np
import pytest
import torch
import yaml

from m2i_ros.evaluation.pictures import Picture
from m2i_ros.segmentation import weights
from m2i_ros.segmentation.engines import make_engine
from m2i_ros.segmentation.network import DeepResidualUNet
from m2i_ros.training import quantize as module
from m2i_ros.training.export import export, to_onnx
from m2i_ros.training.quantize import quantize


class Disc:
    """A view of two frames: one with a dark disc, found by grey value alone, and one without vessels."""

    name = 'disc'

    def pictures(self):
        rows, columns = np.mgrid[:64, :64]
        disc = (rows - 32) ** 2 + (columns - 30) ** 2 < 150
        noise = np.random.default_rng(1).integers(0, 20, (64, 64))
        yield Picture('filled', np.where(disc, 40 + noise, 200 + noise).astype(np.uint8), disc)
        yield Picture('empty', (200 + noise).astype(np.uint8), np.zeros_like(disc))


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Weights that call dark pixels vessels, and a quantiser that knows the disc alone."""
    torch.manual_seed(1)
    network = DeepResidualUNet(width=4, stem=2, norm='group')
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    pictures = list(Disc().pictures())
    image = torch.stack([torch.from_numpy(p.image / 255.0).float()[None] for p in pictures])
    target = torch.stack([torch.from_numpy(p.truth).float()[None] for p in pictures])
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(image), target).backward()
        optimizer.step()
    state = {'step': 60, 'validation': {}, 'settings': {'network': network.config}, 'average': network.state_dict()}
    torch.save(state, tmp_path / 'checkpoint.pt')
    monkeypatch.setattr(module, 'simulated_views', lambda *_: [Disc()])
    monkeypatch.setattr(
        module, 'simulated_pairs', lambda *_, **__: [(p.image, p.truth.astype(np.uint8) * 255) for p in pictures]
    )
    return export(tmp_path / 'checkpoint.pt', 'disc', tmp_path)


def test_rounded_weights_lie_beside_the_others_and_the_card_says_what_they_cost(trained):
    cost = quantize(trained.card, ['iliofemoral'], 1)
    assert cost['frames'] == 1 and min(cost['dice']) > 0.9
    front = yaml.safe_load(trained.card.read_text().split('---\n')[1])
    assert front['int8'] == cost
    assert front['sha256']['int8'] == weights.sha256(trained.file('int8'))
    name, engine = make_engine('auto', weights.find(trained.card), 1)
    assert name == 'openvino_int8'
    assert engine(np.zeros((1, 1, 64, 96), np.float32)).shape == (64, 96)


def test_what_costs_too_much_is_not_written(trained, monkeypatch):
    # As if rounding had left nothing of what was learned.
    worthless = to_onnx(DeepResidualUNet(width=4, stem=2, norm='group'))
    monkeypatch.setattr(module, '_rounded', lambda *_: worthless)
    before = trained.card.read_bytes()
    with pytest.raises(ValueError, match='8 bits cost .* disc stays float32'):
        quantize(trained.card, ['iliofemoral'], 1)
    assert not trained.file('int8').exists()
    assert trained.card.read_bytes() == before


def test_weights_exported_anew_are_not_run_as_the_ones_before(trained, tmp_path):
    quantize(trained.card, ['iliofemoral'], 1)
    export(tmp_path / 'checkpoint.pt', 'disc', tmp_path)
    assert make_engine('auto', weights.find(trained.card), 1)[0] == 'openvino'


def test_the_weights_asked_for_are_left_as_they_were(trained, tmp_path):
    before = {kind: trained.file(kind).read_bytes() for kind in ('onnx', 'pt')}
    quantize(trained.card, ['iliofemoral'], 1)
    assert {kind: trained.file(kind).read_bytes() for kind in before} == before
    shutil.copy(trained.file('int8'), tmp_path / 'first')
    quantize(trained.card, ['iliofemoral'], 1)
    assert trained.file('int8').read_bytes() == (tmp_path / 'first').read_bytes()
