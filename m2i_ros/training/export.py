"""From a training's checkpoint to weights that a `Segmenter` loads: NAME.onnx, NAME.pt and the card NAME.md."""

import io
import json
import warnings
from pathlib import Path

import torch
import yaml
from torch import nn

from m2i_ros.segmentation.network import DeepResidualUNet
from m2i_ros.segmentation.weights import CERTAIN, find, sha256

# Of a checkpoint older than its training's first validation.
UNCALIBRATED = 0.5


def export(checkpoint, name, folder, text='', threshold=None):
    """Write weights from a checkpoint of `SegmentationTraining` and return their `Weights`.

    text: Markdown for the card: what the weights were trained on, what they were measured to do, where they fall short.
    threshold: replaces the one calibrated in training, at the last validation before the checkpoint; the card holds
        that validation's scores and step.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    state = torch.load(checkpoint, weights_only=True, map_location='cpu')
    network = DeepResidualUNet(**state['settings']['network'])
    network.load_state_dict(state['average'])
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({'network': network.config, 'state_dict': network.state_dict()}, folder / f'{name}.pt')
    (folder / f'{name}.onnx').write_bytes(to_onnx(network))
    # Of the weights that had this name before: engines would run them in place of these.
    (folder / f'{name}.int8.onnx').unlink(missing_ok=True)
    front = {
        'license': 'Apache-2.0',
        'network': network.config,
        'multiple': network.multiple,
        'threshold': threshold or state['validation'].get('threshold', UNCALIBRATED),
        'certain': state['settings'].get('certain', CERTAIN),  # checkpoints from before do not say
        **state.get('shown', {}),  # checkpoints from before do not say, as their cards did not
        'sha256': {kind: sha256(folder / f'{name}.{kind}') for kind in ('onnx', 'pt')},
        'trained': {'steps': state['step'], 'validation': state['validation'], 'settings': state['settings']},
    }
    # YAML's safe dialect knows no tuples, JSON neither.
    front = json.loads(json.dumps(front))
    card = f'---\n{yaml.safe_dump(front, sort_keys=False)}---\n# {name}\n\n{text.strip()}\n'
    (folder / f'{name}.md').write_text(card, encoding='utf-8')
    return find(folder / name)


def to_onnx(network):
    """Return the bytes of an ONNX model: image (1, pictures, H, W) -> probability (1, 1, H, W), any H and W of its
    multiples."""
    side = 2 * network.multiple
    free = {2: 'height', 3: 'width'}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs another package and yields the same graph.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(
            nn.Sequential(network, nn.Sigmoid()).eval(),
            torch.zeros(1, network.config['pictures'], side, side),
            file,
            dynamo=False,
            opset_version=17,
            input_names=['image'],
            output_names=['probability'],
            dynamic_axes={'image': free, 'probability': free},
        )
    return file.getvalue()
