"""An image and its mask find each other by their stamp."""

from m2i_ros.ros.pairing import StampPairs


def test_halves_meet_in_either_order():
    pairs = StampPairs(3)
    assert pairs.add('image', 1, 'i1') is None
    assert pairs.add('image', 2, 'i2') is None
    assert pairs.add('mask', 1, 'm1') == {'image': 'i1', 'mask': 'm1'}
    assert pairs.add('mask', 3, 'm3') is None
    assert pairs.add('image', 3, 'i3') == {'image': 'i3', 'mask': 'm3'}
    assert pairs.add('mask', 2, 'm2') == {'image': 'i2', 'mask': 'm2'}
    assert pairs.unmatched == 0


def test_what_waits_too_long_is_forgotten_and_counted():
    pairs = StampPairs(3)
    for stamp in range(10):
        assert pairs.add('image', stamp, stamp) is None
    assert pairs.unmatched == 7
    assert pairs.add('mask', 6, 'late') is None
    assert pairs.add('mask', 9, 'm9') == {'image': 9, 'mask': 'm9'}
    assert pairs.unmatched == 0


def test_a_half_sent_twice_replaces_itself():
    pairs = StampPairs(3)
    pairs.add('image', 1, 'first')
    assert pairs.add('image', 1, 'second') is None
    assert pairs.add('mask', 1, 'm')['image'] == 'second'
