import subprocess
import sys

import numpy as np
import pytest

from m2i_ros.evaluation.metrics import dice
from m2i_ros.segmentation import Segmenter, engines, weights
from m2i_ros.segmentation.weights import WeightsError
from m2i_ros.simulation import Phantom


@pytest.mark.parametrize('name', ['openvino', 'onnxruntime'])
@pytest.mark.parametrize('shape', [(64, 64), (96, 160)])
def test_an_engine_agrees_with_torch(exported, name, shape):
    pytest.importorskip(name)
    image = np.random.default_rng(1).random((1, 1, *shape), dtype=np.float32)
    found = weights.find(exported)
    _, reference = engines.make_engine('torch', found, 1)
    _, engine = engines.make_engine(name, found, 1)
    assert np.abs(engine(image) - reference(image)).max() < 1e-4


def test_auto_takes_integers_where_the_weights_have_them(exported):
    pytest.importorskip('openvino')
    assert engines.make_engine('auto', weights.find('default'), 1)[0] == 'openvino_int8'
    assert engines.make_engine('auto', weights.find(exported), 1)[0] == 'openvino'
    with pytest.raises(WeightsError, match=r'small\.int8\.onnx is missing.*train quantize'):
        engines.make_engine('openvino_int8', weights.find(exported), 1)


def test_the_shipped_weights_find_the_same_vessels_in_integers():
    phantom = Phantom('iliofemoral', 500_100, 512, 512)
    frame = phantom[60]
    assert frame.contrast > 0.9
    plain, rounded = (
        Segmenter('default', engine, polarity='dark').segment(frame.image).mask
        for engine in ('openvino', 'openvino_int8')
    )
    assert dice(rounded, frame.mask) > dice(plain, frame.mask) - 0.01
    assert dice(rounded, plain) > 0.97


def test_the_shipped_weights_give_the_same_probability_on_every_engine():
    image = np.random.default_rng(2).random((1, weights.find('default').pictures, 64, 96), dtype=np.float32)
    found = weights.find('default')
    _, reference = engines.make_engine('torch', found, 1)
    name, engine = engines.make_engine('openvino', found, 1)
    assert np.abs(engine(image) - reference(image)).max() < 1e-3


def test_an_engine_follows_a_change_of_the_picture_size(exported):
    _, engine = engines.make_engine('auto', weights.find(exported), 1)
    first = np.zeros((1, 1, 64, 64), np.float32)
    before = engine(first)
    assert engine(np.zeros((1, 1, 32, 96), np.float32)).shape == (32, 96)
    np.testing.assert_array_equal(engine(first), before)


def test_sizes_that_come_again_are_not_compiled_again_and_old_ones_are_let_go(exported, monkeypatch):
    pytest.importorskip('openvino')
    _, engine = engines.make_engine('openvino', weights.find(exported), 1)
    compiled, compile_for = [], engine._compiled
    monkeypatch.setattr(engine, '_compiled', lambda shape: compiled.append(shape[2]) or compile_for(shape))

    def show(*sides):
        for side in sides:
            engine(np.zeros((1, 1, side, 32), np.float32))

    show(64, 32, 64, 32, 96, 128, 64)
    assert compiled == [64, 32, 96, 128]
    show(160, 64, 32)  # of five, the one that was not asked for for longest has gone
    assert compiled == [64, 32, 96, 128, 160, 32] and len(engine._requests) == engines._SIZES


def test_the_answer_of_an_engine_outlives_the_next_one(exported):
    _, engine = engines.make_engine('auto', weights.find(exported), 1)
    rng = np.random.default_rng(0)
    first = engine(rng.random((1, 1, 32, 32), dtype=np.float32))
    copy = first.copy()
    engine(rng.random((1, 1, 32, 32), dtype=np.float32))
    np.testing.assert_array_equal(first, copy)


def test_signals_are_handled_after_engines_have_come_and_gone(exported):
    # OpenVINO gives signal handlers a stack of its own, and may take away one that another of its cores left in use.
    pytest.importorskip('openvino')
    code = f"""
import signal, subprocess, sys
import numpy as np
from m2i_ros.segmentation import engines, weights
kept = [engines.make_engine("openvino", weights.find({str(exported)!r}), 1)[1] for _ in range(3)]
for engine in kept:
    engine(np.zeros((1, 1, 32, 32), np.float32))
del engine
while kept:
    kept.pop(0)
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
for _ in range(20):
    subprocess.run([sys.executable, "-S", "-c", ""])
print(len(seen))
"""
    done = subprocess.run([sys.executable, '-X', 'faulthandler', '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, f'{done.returncode}: {done.stderr}'
    assert int(done.stdout) > 0


def test_an_unknown_engine_is_refused_with_the_known_ones(exported):
    with pytest.raises(ValueError, match='auto, openvino_int8, openvino, onnxruntime, torch'):
        engines.make_engine('tensorflow', weights.find(exported), 1)


def test_an_engine_that_is_not_installed_is_said_to_be_so(exported, monkeypatch):
    monkeypatch.setattr(engines, 'find_spec', lambda name: name == 'torch')
    with pytest.raises(ValueError, match=r'openvino.*not installed.*auto, torch'):
        engines.make_engine('openvino', weights.find(exported), 1)
    assert engines.make_engine('auto', weights.find(exported), 1)[0] == 'torch'


def test_no_engine_at_all_is_said_with_what_to_install(exported, monkeypatch):
    monkeypatch.setattr(engines, 'find_spec', lambda name: False)
    with pytest.raises(ValueError, match='pip install'):
        engines.make_engine('auto', weights.find(exported), 1)


def test_a_missing_network_file_is_named(exported, tmp_path):
    (tmp_path / 'lonely.md').write_text(exported.with_suffix('.md').read_text())
    with pytest.raises(WeightsError, match='lonely.onnx is missing'):
        engines.make_engine('openvino', weights.find(tmp_path / 'lonely'), 1)
