"""What is learned from a track of how the vessels move, and when it is believed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.geometry import apply, rigid
from m2i_ros.registration.motion import Motion

POINT = np.array([0.01, -0.02, 0.03])
T_START = rigid((0.3, -0.2, 0.5), (0.02, 0.01, 0.75))
RATE = 15


def way(t, breath, beat):
    """Return the true displacement (2,) in the picture's plane, metres: neither motion is a sine."""
    heart = max(0.0, np.sin(2 * np.pi * beat * t)) ** 2
    return np.array([0.001, 0.006]) * np.cos(np.pi * breath * t) ** 4 + np.array([-0.002, 0.004]) * heart


def pose(shift):
    return rigid(translation=(*shift, 0.0)) @ T_START


def tracked(where, seconds, noise, seed=0):
    """Return a `Motion` that has seen so many seconds of `where(t)`, and the stamp and place (2,) of the last pose."""
    rng, motion = np.random.default_rng(seed), Motion()
    for i in range(round(seconds * RATE)):
        place = where(i / RATE) + rng.normal(0, noise, 2)
        motion.add(i / RATE, pose(place), POINT)
    return motion, i / RATE, place


@settings(max_examples=8, deadline=None)
@given(st.floats(0.2, 0.35), st.floats(0.9, 1.6), st.integers(0, 99))
def test_breath_and_beat_are_foretold_for_half_a_second(breath, beat, seed):
    motion, last, place = tracked(lambda t: way(t, breath, beat), 10, 1e-4, seed)
    for later in np.arange(1, 8) / RATE:
        shift, deviation = motion.predict(last + later)
        error = np.linalg.norm(place + shift - way(last + later, breath, beat))
        assert error < 0.0015
        assert error < 3.5 * deviation


def test_nothing_is_foretold_before_it_was_tried():
    assert Motion().predict(1.0) is None
    motion, last, _ = tracked(lambda t: way(t, 0.25, 1.2), 2.5, 1e-4)
    assert motion.predict(last + 0.1) is None


def test_what_wanders_without_a_period_is_not_foretold_or_not_surely():
    steps = np.random.default_rng(1).normal(0, 0.002, (200, 2)).cumsum(axis=0)
    motion, last, place = tracked(lambda t: steps[round(t * RATE)], 10, 0.0)
    predicted = motion.predict(last + 0.5)
    assert predicted is None or predicted[1] > 0.003, 'a random walk is 5 mm away after half a second'


def test_the_longer_ahead_the_less_sure():
    motion, last, _ = tracked(lambda t: way(t, 0.25, 1.2), 10, 1e-4)
    deviations = [motion.predict(last + later)[1] for later in (0.1, 1.0, 2.0, 4.0)]
    assert (np.diff(deviations) > 0).all()


@pytest.mark.parametrize('turn', [(0.0, 0.0, 0.8), (0.2, 0.1, -0.8)])
def test_a_moved_image_frame_takes_the_track_along(turn):
    seen = rigid(turn, (0.05, 0.0, 0.02))
    own, moved = Motion(), Motion()
    for i in range(10 * RATE):
        T = pose(way(i / RATE, 0.25, 1.2))
        own.add(i / RATE, T, POINT)
        # Seen from the new place from the eighth second on, which is told once.
        if i == 8 * RATE:
            moved.carry(seen)
        moved.add(i / RATE, seen @ T if i >= 8 * RATE else T, POINT)
    later = (10 * RATE + 3) / RATE
    last = pose(way(i / RATE, 0.25, 1.2))
    truth = apply(seen @ pose(way(later, 0.25, 1.2)), POINT)
    there = apply(seen @ last, POINT)
    expected = (truth[:2] / truth[2] - there[:2] / there[2]) * there[2]
    shift, _ = moved.predict(later)
    assert np.linalg.norm(shift - expected) < 0.001
    assert np.linalg.norm(own.predict(later)[0] - expected) > 0.001, 'as if the frame had stayed it would be wrong'
