import pytest

from m2i_ros.segmentation import weights
from m2i_ros.segmentation.weights import WeightsError


@pytest.mark.parametrize('name', ['default', *weights.shipped()])
def test_weights_are_shipped_small_and_unaltered(name):
    found = weights.find(name)
    for kind in weights.SUFFIXES:
        path = found.file(kind)
        if kind == 'int8' and name not in ('default', weights.DEFAULT):
            continue  # only the default is worth it
        assert path.stat().st_size < 10e6
        assert weights.sha256(path) in found.card.read_text()


def test_weights_are_found_by_any_of_their_files(exported):
    for suffix in ('', '.onnx', '.int8.onnx', '.pt', '.md'):
        found = weights.find(str(exported) + suffix)
        assert (found.name, found.threshold, found.multiple) == ('small', 0.35, 16)


def test_unknown_weights_are_refused_with_the_shipped_ones():
    with pytest.raises(WeightsError, match=r'imaginary.*default, ' + weights.DEFAULT):
        weights.find('imaginary')


def test_a_card_that_is_none_is_refused_by_name(tmp_path):
    (tmp_path / 'bad.md').write_text('# Just text\n')
    with pytest.raises(WeightsError, match=r'bad\.md'):
        weights.find(tmp_path / 'bad')
