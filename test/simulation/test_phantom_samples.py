"""Whole injections as training frames: whose they are, and that they repeat."""

from itertools import islice

import numpy as np
import pytest

from m2i_ros.simulation import PhantomSamples, phantom_samples
from m2i_ros.simulation.patients import CALIBRATION, EVALUATION, TRAINING


@pytest.fixture(scope='module')
def patients():
    """The patients that the frames below were taken of, in turn."""
    return []


@pytest.fixture(scope='module')
def frames(patients):
    class Noted(phantom_samples.Phantom):
        def __init__(self, anatomy, seed, *others, **more):
            patients.append(seed)
            super().__init__(anatomy, seed, *others, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom_samples, 'Phantom', Noted)
        return list(islice(PhantomSamples(96, seed=5), 3 * phantom_samples.FRAMES))


def test_a_frame_is_a_picture_and_a_mask(frames):
    for image, mask in frames:
        assert image.shape == mask.shape == (96, 96)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}


def test_most_frames_show_vessels(frames):
    assert 0.5 < np.mean([mask.any() for _, mask in frames]) <= 1


def test_patients_are_those_kept_for_training(frames, patients):
    assert len(patients) == 3 and len(set(patients)) == 2
    assert all(patient in TRAINING for patient in patients)
    assert not set(TRAINING) & (set(EVALUATION) | set(CALIBRATION))


def test_a_seed_gives_the_same_frames_and_another_one_others(frames):
    again, other = next(PhantomSamples(96, seed=5)), next(PhantomSamples(96, seed=6))
    assert np.array_equal(frames[0][0], again[0]) and np.array_equal(frames[0][1], again[1])
    assert not np.array_equal(frames[0][0], other[0])
