"""Contrast runs along vessels, sinks, mixes and spills as its parameters say."""

import numpy as np
import pytest

from m2i_ros.simulation import contrast
from m2i_ros.simulation.tubes import draw_tubes

SHAPE = (80, 80)


def test_a_bolus_has_a_front_a_tail_and_edges_as_wide_as_the_mixing():
    travel = np.linspace(0, 0.5, 501)
    full = contrast.bolus(travel, front=0.3, length=0.2, mixing=0.005)
    assert full[[200, 50, 400]] == pytest.approx([1, 0, 0], abs=1e-3)
    assert full[[300, 100]] == pytest.approx([0.5, 0.5], abs=1e-3)
    # A logistic edge goes from 73% to 27% within two mixing lengths.
    assert full[295] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-3)
    assert (contrast.bolus(travel, 1.0, np.inf, 0.0) == 1).all()


def test_without_swirls_the_contrast_is_as_it_was_and_with_them_it_varies_in_the_vessel_only():
    path = np.zeros(SHAPE, np.float32)
    path[30:50] = 2.0
    rng = np.random.default_rng(0)
    assert np.array_equal(contrast.swirled(rng, path, 8.0, 0.0), path)
    mixed = contrast.swirled(rng, path, 8.0, 0.2)
    assert not mixed[:30].any() and not mixed[50:].any()
    assert mixed[30:50].mean() == pytest.approx(2.0, rel=0.1)
    assert 0.05 < mixed[30:50].std() / 2 < 0.25


def test_heavy_contrast_lies_inside_the_lumen_on_the_side_gravity_points_to():
    pixels = np.stack([np.linspace(5, 75, 71), np.full(71, 40.0)], axis=1)
    radii = np.full(71, 10.0)
    segments = np.stack([np.arange(70), np.arange(1, 71)], axis=1)
    assert np.array_equal(contrast.layered(pixels, radii, (0, 1), 1.0)[0], pixels)
    low = draw_tubes(*contrast.layered(pixels, radii, (0.0, 1.0), 0.6), np.ones(70), segments, SHAPE)[1]
    lumen = draw_tubes(pixels, radii, np.ones(70), segments, SHAPE)[1]
    assert (low[:, 40] <= lumen[:, 40] + 1e-6).all()
    rows = np.flatnonzero(low[:, 40] > 0.5)
    assert rows.min() == pytest.approx(38, abs=1) and rows.max() == pytest.approx(50, abs=1)


def test_a_puff_stays_near_the_tip():
    cloud = contrast.puff(np.random.default_rng(1), SHAPE, (20, 60), 5.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    assert cloud.min() >= 0 and cloud.max() > 0.3
    assert cloud[np.hypot(x - 20, y - 60) < 12].sum() > 0.8 * cloud.sum()
