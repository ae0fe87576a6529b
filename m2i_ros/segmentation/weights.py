"""Trained weights on disk: a network for engines, its parameters for training, and the card that says what they are.

Files of one name: NAME.onnx (picture to probability), NAME.int8.onnx (the same in integers of 8 bits, where that costs
next to nothing), NAME.pt (state dict and configuration, for torch) and NAME.md (model card; its YAML front matter is
read by the program).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent / 'weights'
DEFAULT = 'fluoroscopy'
# Of weights whose card does not say how certain an island must be.
CERTAIN = 0.99
# The longest first: what ends on .int8.onnx ends on .onnx as well.
SUFFIXES = {'int8': '.int8.onnx', 'onnx': '.onnx', 'pt': '.pt'}


class WeightsError(ValueError):
    """Weights that are not there or cannot be used; the message says which ones are."""


@dataclass(frozen=True)
class Weights:
    """Weights and what is known of them.

    name: file name without extension. card: path of the model card; the other files lie beside it, see `file`.
    network: {width, stem, norm, pictures} of the `DeepResidualUNet`. multiple: picture sides must be multiples of it.
    threshold: probability from which a pixel is vessel, calibrated in training.
    sharpen: whether they know pictures that were enlarged as sharpened, see `segmenter.at_network_size`; cards that do
        not say so are of weights from before.
    evened: whether what they see is evened, see `segmenter.network_input`; not, where the card does not say so.
    certain: probability that an island must have somewhere to be vessel, see `segmenter.SMALLEST_SHARE`.
    """

    name: str
    card: Path
    network: dict
    multiple: int
    threshold: float
    sharpen: bool = False
    evened: bool = False
    certain: float = CERTAIN

    @property
    def pictures(self):
        """How many pictures the network sees: 1, or 2 with what changed since the reference."""
        return self.network.get('pictures', 1)

    def file(self, kind):
        """Path of the file of a kind, 'onnx', 'int8' or 'pt'; it may be missing from disk."""
        return self.card.with_name(self.name + SUFFIXES[kind])


def shipped():
    """Names of the weights in the package, the default first."""
    return sorted((path.stem for path in FOLDER.glob('*.md')), key=lambda name: (name != DEFAULT, name))


def find(weights='default'):
    """Return the `Weights` of a shipped name, 'default', or a path to one of the files (any extension, or none).

    Raises WeightsError naming the weights there are.
    """
    text = str(weights)
    stem = FOLDER / DEFAULT if text == 'default' else FOLDER / text
    if text not in shipped() and text != 'default':
        path = Path(text).expanduser()
        ending = next((ending for ending in (*SUFFIXES.values(), '.md') if path.name.endswith(ending)), '')
        stem = path.with_name(path.name.removesuffix(ending))
    card = stem.with_name(stem.name + '.md')
    if not card.is_file():
        raise WeightsError(
            f'weights {text!r} not found ({card} is missing): use one of {", ".join(["default", *shipped()])}, '
            f'or the path of weights written by `train export`'
        )
    return _read(stem, card)


def _read(stem, card):
    parts = card.read_text(encoding='utf-8').split('---\n', 2)
    try:
        front = yaml.safe_load(parts[1])
        return Weights(
            name=stem.name,
            card=card,
            network=dict(front['network']),
            multiple=int(front['multiple']),
            threshold=float(front['threshold']),
            sharpen=bool(front.get('sharpen', False)),
            evened=bool(front.get('evened', False)),
            certain=float(front.get('certain', CERTAIN)),
        )
    except (IndexError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise WeightsError(f'{card}: not the card of exported weights ({error!r}): export them anew') from error


def sha256(path):
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
