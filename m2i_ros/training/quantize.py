"""Weights in integers of 8 bits: NAME.int8.onnx beside NAME.onnx, where that costs next to nothing.

The values that go into a convolution, and its weights, are rounded to 8 and 7 bits (7: sums of two products fit into 16
bits, on processors without instructions for more); everything else stays float32. Every processor rounds alike.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from m2i_ros.evaluation.metrics import cldice, dice
from m2i_ros.evaluation.pictures import simulated_views
from m2i_ros.segmentation import Segmenter
from m2i_ros.segmentation.weights import find, sha256
from m2i_ros.training.data import collate, simulated_pairs

# What rounding may cost in the mean Dice or clDice.
COST = 0.005
SIZE = 512
# Convolutions that stay float32, by what is in their names: the first sees the picture, the last makes the probability,
# and the shortcuts carry what all later units see.
KEPT = ('/encoder.0/conv1/', '/shortcut/', '/head/')


def quantize(weights, anatomies, patients, frames=24, report=lambda line: None):
    """Write NAME.int8.onnx beside the weights, note in their card what it costs, and return that.

    weights: name or path, see `weights.find`. anatomies, patients: so many simulated ones of each, kept from training
    and from all figures, are segmented with and without rounding. frames: simulated frames from which the range of
    values in the network is taken. report: called with lines of progress.

    Returns {frames, dice, cldice}, the latter two [float32, int8], means over frames with vessels. Raises ValueError,
    and writes nothing, where rounding costs `COST` or more in either.
    """
    found = find(weights)
    report(f'ranges from {frames} simulated frames')
    pairs = simulated_pairs(frames, SIZE, [found.multiple, 5], phantoms=0.5)
    rounded = _rounded(found.file('onnx'), collate(pairs, found.pictures)[0].numpy())
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / found.card.name
        trial.write_bytes(found.card.read_bytes())
        for kind, content in (('onnx', found.file('onnx').read_bytes()), ('int8', rounded)):
            find(trial).file(kind).write_bytes(content)
        cost = compare(trial, simulated_views(anatomies, patients, 1, 8, SIZE, 'calibration'), report)
    for name in ('dice', 'cldice'):
        before, after = cost[name]
        if before - after >= COST:
            raise ValueError(f'8 bits cost {before - after:.4f} {name}, {COST} or more: {found.name} stays float32')
    found.file('int8').write_bytes(rounded)
    _note(found, cost)
    return cost


def compare(weights, views, report=lambda line: None):
    """Return {frames, dice, cldice} of weights with both files: means over the frames of views that show vessels."""
    segmenters = [Segmenter(weights, engine, polarity='dark') for engine in ('openvino', 'openvino_int8')]
    scores = []
    for view in views:
        for segmenter in segmenters:
            segmenter.reset()
        for picture in view.pictures():
            if picture.truth.any():
                masks = [segmenter.segment(picture.image).mask for segmenter in segmenters]
                scores.append([[metric(mask, picture.truth) for mask in masks] for metric in (dice, cldice)])
        report(f'{view.name}: {len(scores)} frames with vessels so far')
    means = np.mean(scores, axis=0).round(4).tolist()
    return {'frames': len(scores), 'dice': means[0], 'cldice': means[1]}


class _Pictures(CalibrationDataReader):
    def __init__(self, pictures):
        self._left = iter(pictures)

    def get_next(self):
        picture = next(self._left, None)
        return None if picture is None else {'image': picture[None]}


def _rounded(path, pictures):
    """Return the bytes of an ONNX model with rounding; pictures (N, 1, H, W) float32 tell the ranges of values."""
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder) / 'plain.onnx', Path(folder) / 'int8.onnx'
        quant_pre_process(path, plain, skip_optimization=True, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(plain).graph.node if node.op_type == 'Conv']
        quantize_static(
            plain,
            made,
            _Pictures(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=['Conv'],
            nodes_to_exclude=[name for name in convolutions if any(kept in name for kept in KEPT)],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={'OpTypesToExcludeOutputQuantization': ['Conv']},
        )
        return made.read_bytes()


def _note(weights, cost):
    _, front, text = weights.card.read_text(encoding='utf-8').split('---\n', 2)
    front = yaml.safe_load(front)
    front['sha256']['int8'] = sha256(weights.file('int8'))
    front['int8'] = cost
    weights.card.write_text(f'---\n{yaml.safe_dump(front, sort_keys=False)}---\n{text}', encoding='utf-8')
