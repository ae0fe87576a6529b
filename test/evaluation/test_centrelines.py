"""The figure for a centreline says what is wrong with it."""

from dataclasses import replace

import numpy as np
import pytest

from m2i_ros.evaluation.centrelines import agreement
from m2i_ros.model import Centreline

ALONG = np.arange(101) * 1e-3


def straight(offset=0.0, twig=0):
    """A line of 100 mm along z with radius 3 mm, and a twig to the side of so many millimetres."""
    points = np.column_stack([np.full(101, offset), np.zeros(101), ALONG])
    side = np.column_stack([offset + ALONG[1 : twig + 1], np.zeros(twig), np.full(twig, 0.05)])
    edges = [(i, i + 1) for i in range(100)] + [(50 if i == 0 else 100 + i, 101 + i) for i in range(twig)]
    return Centreline(
        points=np.vstack([points, side]),
        radii=np.full(101 + twig, 3e-3),
        branch=np.repeat([0, 1], [101, twig]).astype(np.int32),
        arc_length=np.concatenate([ALONG, ALONG[:twig]]),
        edges=np.array(edges, np.int32),
    )


def test_the_same_line_agrees_and_one_beside_it_does_not():
    same, near, far = (agreement(straight(offset), straight()) for offset in (0, 0.9e-3, 1.1e-3))
    for row in (same, near):
        assert row['true_within'] == row['found_within'] == pytest.approx(1)
        assert row['spurious'] == row['missed_ends'] == 0
    assert far['true_within'] == far['found_within'] == 0 and far['spurious_share'] == pytest.approx(1)


def test_a_twig_is_spurious_where_found_and_missed_where_not():
    extra, missing = agreement(straight(twig=25), straight()), agreement(straight(), straight(twig=25))
    assert extra['spurious'] == 1 and extra['spurious_share'] == pytest.approx(0.2)
    assert extra['true_within'] == pytest.approx(1) and extra['found_within'] == pytest.approx(0.8, abs=0.02)
    assert missing['missed_ends'] == 1 and missing['spurious'] == 0
    assert missing['true_within'] == pytest.approx(0.8, abs=0.02)


def test_half_a_line_is_half_of_the_truth():
    whole = straight()
    half = replace(
        whole,
        points=whole.points[:51],
        radii=whole.radii[:51],
        branch=whole.branch[:51],
        arc_length=ALONG[:51],
        edges=whole.edges[:50],
    )
    row = agreement(half, whole)
    assert row['true_within'] == pytest.approx(0.5, abs=0.02) and row['found_within'] == pytest.approx(1)
    assert row['missed_ends'] == 1


def test_what_a_thin_vessel_does_inside_a_wide_one_is_told_apart():
    # A twig of 25 mm, half as wide, starts on the middle of the wide line: 3 of its millimetres lie in its lumen.
    true = straight(twig=25)
    true = replace(true, radii=np.where(true.branch == 1, 1.5e-3, 3e-3))
    found = straight(twig=25)
    inside = (found.branch == 1) & (found.points[:, 0] < 3e-3)
    bent = replace(found, points=found.points + np.outer(inside, (0, 0, 2e-3)))
    row = agreement(bent, true)
    assert row['ostium_within'] == pytest.approx(1, abs=0.01)
    # Half a millimetre at either end of the three is near the bent line's.
    assert row['true_within'] == pytest.approx(1 - 2 / 125, abs=0.005)
    assert row['lumen_within'] == pytest.approx(row['true_within'], abs=0.002)
    # What lies beyond the ostium counts in both.
    assert agreement(straight(), true)['ostium_within'] == pytest.approx(100 / 122, abs=0.01)
    # One as wide as the other is not inside it.
    alike = agreement(straight(), straight(twig=25))
    assert alike['ostium_within'] == alike['true_within'] == alike['lumen_within']


def test_by_the_lumens_radius_a_thin_vessel_inside_a_wide_one_counts_as_far_as_a_third_of_that():
    # 6 mm of the twig lie inside the wide vessel. A millimetre off, that is too far by the twig's own radius, and by
    # the lumen's, which falls towards the wall, from 3 mm on. It takes a millimetre to get so far off.
    true = straight(twig=25)
    true = replace(true, radii=np.where(true.branch == 1, 1.5e-3, 6e-3))
    inside = (true.branch == 1) & (true.points[:, 0] < 6e-3)
    row = agreement(replace(true, points=true.points + np.outer(inside, (0, 0, 1e-3))), true)
    assert row['lumen_within'] == pytest.approx(1 - 2.7 / 125, abs=0.004)
    assert row['lumen_within'] - row['true_within'] == pytest.approx(2.4 / 125, abs=0.004)
