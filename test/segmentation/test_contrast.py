import numpy as np
import pytest

from m2i_ros.geometry import Camera
from m2i_ros.pipeline import Frame, Pipeline
from m2i_ros.segmentation import Contrast, ContrastEstimator, VesselMask

NONE, FILLING, FILLED, WASHING_OUT = Contrast
RATE = 15.0


def vessels(share, probability=None):
    """A mask of which `share` is vessel."""
    mask = np.zeros((100, 100), np.uint8)
    mask.ravel()[: round(share * mask.size)] = 255
    sure = None if probability is None else np.full(mask.shape, probability, np.float32)
    return VesselMask(mask, np.ones(mask.shape, bool), sure)


def follow(shares, rate=RATE, start=0.0, estimator=None, probability=None):
    estimator = estimator or ContrastEstimator()
    return [estimator.update(vessels(s, probability), start + i / rate) for i, s in enumerate(shares)]


def told(states):
    """The states in their order, each once."""
    return [s for i, s in enumerate(states) if i == 0 or s is not states[i - 1]]


def injection(rate=RATE, ground=0.0, peak=0.1, seed=None):
    """Shares over 11 s: nothing, 1 s of filling from 2 s on, full until 7 s, 1.5 s of wash-out."""
    t = np.arange(0, 11, 1 / rate)
    share = ground + peak * np.clip(np.minimum(t - 2, (8.5 - t) / 1.5), 0, 1)
    if seed is not None:
        share = share * np.random.default_rng(seed).normal(1, 0.06, len(t))
    return t, share


def test_only_filled_vessels_are_steady():
    assert [state.steady for state in Contrast] == [False, False, True, False]


@pytest.mark.parametrize('rate', [5.0, 15.0, 30.0])
@pytest.mark.parametrize('ground', [0.0, 0.02])
@pytest.mark.parametrize('peak', [0.02, 0.15])
def test_an_injection_passes_through_its_states_in_time(rate, ground, peak):
    t, shares = injection(rate, ground, peak)
    states = follow(shares, rate)
    if ground > 0.015:  # it may be vessels: only their going tells
        shares = shares[t >= 0]
        states = follow(np.concatenate([np.zeros(3), shares - ground]), rate)[3:]
    assert told(states) == [NONE, FILLING, FILLED, WASHING_OUT, NONE]
    at = [t[states.index(state)] for state in (FILLING, FILLED, WASHING_OUT)]
    gone = t[len(states) - states[::-1].index(WASHING_OUT)]
    for moment, expected in zip([*at, gone], (2.0, 3.0, 7.0, 8.5)):
        assert expected - 0.5 <= moment <= expected + 1.0


@pytest.mark.parametrize('seed', range(5))
def test_a_jitter_of_the_area_changes_no_state(seed):
    _, shares = injection(ground=0.0, seed=seed)
    assert told(follow(shares)) == [NONE, FILLING, FILLED, WASHING_OUT, NONE]


def test_breathing_in_a_filled_tree_is_no_wash_out():
    t = np.arange(0, 12, 1 / RATE)
    shares = 0.1 * np.clip(t - 1, 0, 1) * (1 + 0.1 * np.sin(2 * np.pi * t / 4))
    assert told(follow(shares)) == [NONE, FILLING, FILLED]


def test_what_is_always_found_is_no_contrast():
    shares = np.random.default_rng(0).normal(0.01, 0.001, 200)
    assert told(follow(shares)) == [NONE]


def test_what_is_hardly_vessel_is_no_contrast():
    _, shares = injection()
    assert told(follow(shares, probability=0.51)) == [NONE]
    assert FILLED in follow(shares, probability=0.95)


def test_a_run_that_starts_full_is_filled():
    assert told(follow(np.full(30, 0.08))) == [FILLED]


def test_the_same_masks_get_the_same_answers_after_a_reset_a_step_back_and_a_pause():
    _, shares = injection()
    estimator = ContrastEstimator()
    first = follow(shares, estimator=estimator)
    assert follow(shares, start=-1.0, estimator=estimator) == first
    assert follow(shares, start=100.0, estimator=estimator) == first
    estimator.reset()
    assert follow(shares, start=120.0, estimator=estimator) == first


def test_two_frames_of_one_stamp_are_no_growth():
    estimator = ContrastEstimator()
    assert [estimator.update(vessels(s), 1.0) for s in (0.0, 0.1, 0.1)] == [NONE] * 3


def test_outside_the_collimator_counts_neither_way():
    valid = np.zeros((100, 100), bool)
    valid[:20] = True
    mask = np.zeros(valid.shape, np.uint8)
    mask[0, :40] = 255  # 2% of the inside, 0.4% of the picture
    assert ContrastEstimator().update(VesselMask(mask, valid), 0.0) is FILLED


@pytest.mark.parametrize('anatomy', ['iliofemoral', 'aortic_root'])
def test_a_phantom_s_injection_is_followed_by_its_true_masks(anatomy):
    simulation = pytest.importorskip('m2i_ros.simulation')
    phantom = simulation.Phantom(anatomy, 7, 96, 96, frame_rate=7.5, duration=11.0, injections=(1.0,))
    frames = [phantom[i] for i in range(len(phantom))]
    estimator = ContrastEstimator()
    states = []
    for frame in frames:
        valid = np.ones(frame.mask.shape, bool)
        states.append(estimator.update(VesselMask(frame.mask, valid), frame.stamp))
    assert told(states) == [NONE, FILLING, FILLED, WASHING_OUT, NONE]
    area = np.array([np.count_nonzero(frame.mask) for frame in frames])
    filled = area[[s is FILLED for s in states]]
    assert np.median(filled) > 0.95 * area.max()
    assert area[[s is NONE for s in states]].max() < 0.1 * area.max()


def test_the_pipeline_hands_the_registrar_the_state_and_the_segmenter_the_size_of_a_pixel():
    seen = []

    class Segmenter:
        def segment(self, image):
            seen.append(self.pixel_mm)
            return vessels(0.1 * image.max())

    class Registrar:
        def register(self, vessels, camera, stamp):
            seen.append(vessels.contrast)

    pipeline = Pipeline(Segmenter(), Registrar())
    camera = Camera.from_detector(100, 100, 1.1, 0.3e-3, mirrored=True)
    pipeline.process(Frame(np.zeros((100, 100), np.float32), 0.0))
    pipeline.process(Frame(np.ones((100, 100), np.float32), 0.5, camera))
    # 0.3 mm at the detector are 0.75 / 1.1 of that at the isocentre.
    assert seen == [None, NONE, pytest.approx(0.3 * 0.75 / 1.1), FILLING]
