"""An image and its mask find each other by their stamp."""

from hypothesis import given
from hypothesis import strategies as st

from m2i_ros.ros.pairing import NearestPairs, StampPairs


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


def test_a_companion_within_the_tolerance_goes_along_whichever_comes_first():
    pairs = NearestPairs(20, 0.05)
    assert pairs.second(95, 's95', 0.0) == []
    assert pairs.second(110, 's110', 0.0) == []
    assert pairs.first(100, 'f100', 0.0) == [('f100', 's95')]
    assert pairs.first(200, 'f200', 0.1) == []
    assert pairs.second(170, 'too early', 0.1) == []
    assert pairs.second(205, 's205', 0.1) == [('f200', 's205')]
    assert not pairs.waits


def test_a_second_stream_that_is_silent_late_or_far_off_holds_nothing_up():
    pairs = NearestPairs(20, 0.05, alive=1.0)
    assert pairs.first(100, 'f100', 0.0) == [('f100', None)], 'nothing ever came: it does not wait'
    pairs.second(195, 's195', 0.1)
    assert pairs.first(300, 'f300', 0.2) == []
    assert pairs.overdue(0.24) == []
    assert pairs.overdue(0.26) == [('f300', None)]
    assert pairs.first(400, 'f400', 0.3) == []
    assert pairs.second(450, 'past it', 0.31) == [('f400', None)]
    assert pairs.first(500, 'f500', 0.4) == []
    assert pairs.first(600, 'f600', 0.5) == [('f500', None)], 'the newer one is not held up by the older one'
    assert pairs.first(700, 'f700', 1.4) == [('f600', None), ('f700', None)], 'silent for more than a second'


@given(
    st.lists(st.tuples(st.sampled_from('fs'), st.integers(0, 400), st.floats(0, 0.1)), max_size=40),
    st.integers(0, 50),
)
def test_every_message_goes_once_in_order_and_never_with_one_that_is_too_far(events, tolerance):
    pairs, now, sent, gone = NearestPairs(tolerance, 0.05), 0.0, [], []
    for number, (stream, stamp, later) in enumerate(events):
        now += later
        gone += pairs.overdue(now)
        if stream == 'f':
            sent.append((number, stamp))
            gone += pairs.first(stamp, (number, stamp), now)
        else:
            gone += pairs.second(stamp, (number, stamp), now)
    gone += pairs.overdue(now + 1)
    assert [message for message, _ in gone] == sent
    assert all(other is None or abs(other[1] - message[1]) <= tolerance for message, other in gone)
