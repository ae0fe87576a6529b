"""What is written into a picture is taken out of it, and nothing else is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2i_ros.segmentation.letters import without_letters

REAL = Path(__file__).parents[3] / 'shared' / 'real' / 'coronary_angiograms' / 'images'


def scene(side=512, noise=3.0, seed=0):
    """A chest of sorts, (side, side) uint8: light and dark parts, a dark vessel, a bright rib, noise."""
    y, x = np.mgrid[:side, :side] / side
    grey = 150 + 60 * np.sin(4 * x) * np.cos(3 * y)
    grey -= 70 * (np.abs(x - 0.5 - 0.1 * np.sin(6 * y)) < 0.01)
    grey += 25 * (np.abs(y - 0.3 - 0.2 * x) < 0.02)
    rng = np.random.default_rng(seed)
    return np.clip(cv2.GaussianBlur(grey, (0, 0), 1) + rng.normal(0, noise, grey.shape), 0, 235).astype(np.uint8)


def written(picture, white=255):
    out = picture.copy()
    scale = picture.shape[0] / 512
    for row in (20, 45, 490):
        at, thick = (5, int(row * scale)), max(1, round(scale))
        cv2.putText(out, 'LAO 20 75 kV', at, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, white, thick, cv2.LINE_AA)
    return out


@pytest.mark.parametrize('side', [256, 512, 1024])
@pytest.mark.parametrize(('dtype', 'factor'), [(np.uint8, 1), (np.uint16, 16), (np.float32, 1 / 255)])
def test_letters_are_filled_with_what_lies_about_them(side, dtype, factor):
    plain = scene(side)
    marked = written(plain)
    strokes = marked.astype(int) - plain > 60
    assert strokes.sum() > 100
    clean = without_letters((marked * float(factor)).astype(dtype)) / factor
    assert np.abs(clean - plain)[strokes].mean() < 0.2 * np.abs(marked - plain.astype(float))[strokes].mean()
    far = cv2.dilate((marked != plain).astype(np.uint8), np.ones((5, 5))) == 0
    np.testing.assert_allclose(clean[far], plain[far], atol=1e-3)


@given(noise=st.floats(0, 30), seed=st.integers(0, 99))
def test_noise_is_not_taken_for_letters(noise, seed):
    plain = scene(128, noise, seed)
    assert (without_letters(plain) != plain).mean() < 0.005


def test_a_flat_picture_and_one_full_of_strokes_stay_as_they_are():
    flat = np.full((64, 64), 9, np.uint16)
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::4] = 255
    for picture in (flat, stripes):
        assert without_letters(picture) is picture


@pytest.mark.skipif(not REAL.is_dir(), reason=f'no angiograms in {REAL}')
def test_real_angiograms_without_letters_stay_as_they_are():
    for path in REAL.glob('*.png'):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert (without_letters(picture) != picture).mean() < 0.003, path.name
