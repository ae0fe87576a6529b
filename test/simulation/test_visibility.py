"""What can be seen: contrast against noise, and wide vessels against what lies around."""

import numpy as np
import pytest
import torch

from m2i_ros.simulation.visibility import grain, seen_segments, unevenness

SHAPE = (96, 128)
# Two vessels of 60 points from left to right, at rows 30 and 60.
PIXELS = np.concatenate([np.column_stack([np.arange(30, 90), np.full(60, row)]) for row in (30, 60)]).astype(float)
SEGMENTS = np.array([(i, i + 1) for i in range(119) if i != 59])


def seen(contrast, noise=0.01, clutter=0.0, radius=3.0):
    """Return the share of the upper and of the lower vessel's segments that is seen."""
    if np.isscalar(contrast):
        contrast = np.full(SHAPE, contrast)
    maps = contrast, np.full(SHAPE, noise), np.full(SHAPE, clutter)
    found = seen_segments(
        PIXELS, np.full(len(PIXELS), radius), SEGMENTS, SHAPE, lambda *at: tuple(values[at] for values in maps)
    )
    return np.array([(found[:, 0] < 59).sum(), (found[:, 0] > 59).sum()]) / 59


def test_contrast_well_above_the_noise_is_seen_and_below_it_not():
    assert (seen(0.05) == 1).all()
    assert (seen(0.05, noise=0.2) == 0).all()


def test_no_eye_sees_less_than_a_few_grey_levels_however_clean_the_picture():
    assert (seen(3 / 255, noise=0.0) == 0).all()
    assert (seen(5 / 255, noise=0.0) == 1).all()


def test_rose_counts_the_whole_patch_so_a_wide_vessel_is_seen_at_less_contrast():
    # Radius 1, length 6: 12 pixels; radius 4, length 20: 160. 7 * 0.05 over their roots is 0.101 and 0.028.
    assert (seen(0.09, noise=0.05, radius=1.0) == 0).all() and (seen(0.11, noise=0.05, radius=1.0) == 1).all()
    assert (seen(0.025, noise=0.05, radius=4.0) == 0).all() and (seen(0.03, noise=0.05, radius=4.0) == 1).all()


def test_clutter_hides_a_wide_vessel_and_not_a_thin_one():
    assert (seen(0.05, noise=0.001, clutter=0.1, radius=12.0) == 0).all()
    assert (seen(0.05, noise=0.001, clutter=0.1, radius=2.0) == 1).all()


def test_each_vessel_is_judged_where_it_lies_and_specks_count_for_nothing():
    contrast = np.zeros(SHAPE)
    contrast[20:40] = 0.2
    contrast[50:70, 50:53] = 0.2
    assert seen(contrast).tolist() == [1.0, 0.0]


def test_grain_is_the_noise_s_deviation():
    clean = torch.full((1, 128, 128), 0.5)
    noisy = clean + 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    assert grain(noisy, clean).mean().item() == pytest.approx(0.03, rel=0.05)


def test_a_flat_picture_is_even_and_a_striped_one_is_not():
    assert unevenness(torch.full((1, 128, 128), 0.5)).max().item() < 1e-3
    stripes = (0.5 + 0.1 * torch.sin(torch.arange(128.0) * 2 * np.pi / 20)).expand(1, 128, 128)
    middle = unevenness(stripes)[0, 40:88, 40:88]
    assert middle.mean().item() == pytest.approx(0.1 / 2**0.5, rel=0.15)
