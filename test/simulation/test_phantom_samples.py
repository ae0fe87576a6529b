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


def test_a_frame_is_a_picture_a_mask_and_a_reference(frames):
    for image, mask, reference in frames:
        assert image.shape == mask.shape == reference.shape == (96, 96)
        assert image.dtype == mask.dtype == reference.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}


def test_most_frames_show_vessels(frames):
    assert 0.5 < np.mean([mask.any() for _, mask, _ in frames]) <= 1


def test_patients_are_those_kept_for_training(frames, patients):
    assert len(patients) == 3 and len(set(patients)) == 2
    assert all(patient in TRAINING for patient in patients)
    assert not set(TRAINING) & (set(EVALUATION) | set(CALIBRATION))


def test_a_seed_gives_the_same_frames_and_another_one_others(frames):
    again, other = next(PhantomSamples(96, seed=5)), next(PhantomSamples(96, seed=6))
    assert all(map(np.array_equal, frames[0], again))
    assert not np.array_equal(frames[0][0], other[0])


def test_the_reference_shows_the_same_without_contrast(frames):
    for image, mask, reference in frames:
        if mask.any():
            change = image.astype(int) - reference
            assert np.median(change[mask > 0]) < np.median(change[mask == 0])


def test_coronary_arteries_are_labelled_narrower_than_their_lumen(monkeypatch):
    lumens = []

    class Noted(phantom_samples.Phantom):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            lumens.append(frame.mask)
            return frame

    monkeypatch.setattr(phantom_samples, 'Phantom', Noted)
    monkeypatch.setattr(phantom_samples, '_HABITS', {'coronary': phantom_samples._HABITS['coronary']})
    labels = [mask for _, mask, _ in islice(PhantomSamples(256, seed=1), phantom_samples.FRAMES)]
    shares = []
    # Each frame is followed by its reference.
    for label, lumen in zip(labels, lumens[::2], strict=True):
        assert not (label[lumen == 0]).any()
        if np.count_nonzero(lumen) > 1000:
            shares.append(np.count_nonzero(label) / np.count_nonzero(lumen))
    # Two thirds of the contrast lie within 0.75 of the radius of a round vessel.
    assert len(shares) > 2 and 0.6 < np.median(shares) < 0.9
