"""How pictures come to a screen: curves, local equalisation, letters and lines."""

import numpy as np
import pytest

from m2i_ros.simulation import TrainingSamples, screen
from m2i_ros.simulation import samples as module

PLAIN = {'exponent': 1.0, 'equalisation': None, 'marks': None}


@pytest.fixture
def picture():
    """Light and dark halves, noise, and in each half a line that is hardly darker than what is about it."""
    rng = np.random.default_rng(0)
    plane = np.full((128, 128), 0.8, np.float32)
    plane[:, 64:] = 0.3
    plane[:, 30:33] -= 0.03
    plane[:, 94:97] -= 0.03
    return np.clip(plane + rng.normal(0, 0.002, plane.shape), 0, 1).astype(np.float32)


def test_a_picture_shown_plainly_is_as_it_was(picture):
    assert np.array_equal(screen.show(picture, PLAIN), picture)


@pytest.mark.parametrize('exponent', [0.4, 2.5])
def test_an_exponent_keeps_black_white_and_the_order_of_greys(exponent):
    greys = np.linspace(0, 1, 33, dtype=np.float32)[None]
    shown = screen.show(greys, {**PLAIN, 'exponent': exponent})
    assert shown[0, 0] == 0 and shown[0, -1] == 1 and (np.diff(shown) > 0).all()
    assert (shown[0, 16] < 0.5) == (exponent > 1)


def test_equalisation_brings_out_what_hardly_differs_from_its_surroundings(picture):
    def contrast(plane):
        return [plane[:, a - 8 : a - 2].mean() - plane[:, a : a + 3].mean() for a in (30, 94)]

    shown = screen.show(picture, {**PLAIN, 'equalisation': (4.0, 4)})
    assert shown.min() >= 0 and shown.max() <= 1
    assert min(np.array(contrast(shown)) / contrast(picture)) > 1.5


def test_marks_cover_a_little_of_a_picture_and_leave_the_rest(picture, monkeypatch):
    monkeypatch.setattr(screen, 'MARKED', 1.0)
    shares = []
    for seed in range(20):
        marks = screen.draw_looks(np.random.default_rng(seed), picture.shape)['marks']
        drawn = np.isfinite(marks)
        shares.append(drawn.mean())
        shown = screen.show(picture, {**PLAIN, 'marks': marks})
        assert np.array_equal(shown[~drawn], picture[~drawn]) and np.array_equal(shown[drawn], marks[drawn])
    assert 0 < min(shares) and max(shares) < 0.2


def test_all_looks_can_be_left_out(monkeypatch):
    for share in ('BENT', 'EQUALISED', 'MARKED'):
        monkeypatch.setattr(screen, share, 0.0)
    assert all(screen.draw_looks(np.random.default_rng(seed), (64, 64)) == PLAIN for seed in range(50))


def test_wide_vessels_are_at_times_of_one_grey_with_all_that_is_darker(monkeypatch):
    """Windowed for what is bright, a wide vessel of a subtracted picture is black as a whole."""
    monkeypatch.setattr(module, 'SUBTRACTED', 1.0)
    monkeypatch.setattr(module, 'NOISELESS', 0.0)

    def flat(share):
        monkeypatch.setattr(module, 'BLACK_SUBTRACTED', (share, 0.4))
        found = []
        samples = TrainingSamples(size=128, seed=2, batch_size=16, bright=0)
        for _ in range(4):
            for image, mask, _ in zip(*next(samples)):
                if mask.mean() > 0.08:
                    vessel = image[mask > 0]
                    found.append(float((vessel - vessel.mode().values).abs().lt(0.01).float().mean()))
        assert len(found) > 8
        return np.mean(np.array(found) > 0.6)

    assert flat(1.0) > flat(0.0) + 0.2
