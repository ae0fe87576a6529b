"""The helper for other people's CI: what is as expected passes, what is not is named."""

import json

import numpy as np
import pytest
from bags import frames, write_bag

import m2i_ros.segmentation
from m2i_ros.segmentation import VesselMask
from m2i_ros.testing import check_replay, check_report, deviations, read_expected


class BrightIsVessel:
    """A segmentation that needs no weights and finds the bags' truth."""

    info = {'engine': 'threshold', 'weights': 'none', 'hash': '0', 'threshold': 0.5}

    def __init__(self, *_):
        pass

    def warm_up(self):
        pass

    def segment(self, image):
        return VesselMask(np.where(image > 127, 255, 0).astype(np.uint8), np.ones(image.shape, bool))


@pytest.fixture
def bag(tmp_path, monkeypatch):
    monkeypatch.setattr(m2i_ros.segmentation, 'Segmenter', BrightIsVessel)
    return write_bag(tmp_path / 'bag', frames(5))


def test_a_bag_with_expected_figures_is_a_test(bag, tmp_path):
    (tmp_path / 'figures.yaml').write_text('frames: 5\ndice.median: [0.9, null]\nengine: threshold\n')
    report = check_replay(bag, tmp_path / 'figures.yaml', tmp_path / 'out')
    assert report['dice']['median'] == 1.0
    check_report(tmp_path / 'out.json', tmp_path / 'figures.yaml')
    check_replay(bag, {'masks': 5}, tmp_path / 'again', reference=tmp_path / 'out')


def test_each_figure_that_is_off_is_named(bag, tmp_path):
    with pytest.raises(AssertionError) as error:
        check_replay(bag, {'frames': 6, 'dice.median': [None, 0.5], 'states.tracking': [0.8, None]}, tmp_path / 'out')
    for words in ('frames is 5, expected 6', 'dice.median is 1.0, expected  to 0.5', 'states.tracking is None'):
        assert words in str(error.value)


def test_another_reference_is_told(bag, tmp_path):
    other = write_bag(tmp_path / 'other', frames(5, 1))
    check_replay(other, {}, tmp_path / 'reference')
    with pytest.raises(AssertionError, match='first difference: frame 0'):
        check_replay(bag, {}, tmp_path / 'out', reference=tmp_path / 'reference')


def test_a_recording_of_which_a_part_could_not_be_read_fails(tmp_path, bag):
    broken = ('/image', 'sensor_msgs/msg/Image', 1_795_388_611_200_000_000, b'\0\1\0\0nonsense')
    path = write_bag(tmp_path / 'broken', frames(5), extra=[broken])
    with pytest.raises(AssertionError, match='1 damaged places'):
        check_replay(path, {'frames': 5}, tmp_path / 'out')


@pytest.mark.parametrize('report', [{}, {'dice': None}, {'dice': {'median': None}}, {'dice': {'median': float('nan')}}])
def test_what_was_not_measured_is_never_as_expected(report):
    assert deviations(report, {'dice.median': [None, None]}) != []


def test_figures_that_are_none_are_refused(tmp_path):
    path = tmp_path / 'figures.yaml'
    for text in ('', '- 1', 'dice: {median: 1}', 'dice: [1]', '[', 'dice:'):
        path.write_text(text)
        with pytest.raises(ValueError, match='figures.yaml'):
            read_expected(path)
    with pytest.raises(ValueError, match='cannot be read'):
        read_expected(tmp_path / 'gone.yaml')
    (tmp_path / 'r.json').write_text(json.dumps({'frames': 4}))
    with pytest.raises(AssertionError, match='frames is 4, expected 5'):
        check_report(tmp_path / 'r.json', {'frames': 5})
