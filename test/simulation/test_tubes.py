"""Tubes drawn from their axis have the chords of cylinders, and curves go through their waypoints."""

import numpy as np
import pytest

from m2i_ros.simulation.tubes import draw_tubes, smooth_curve


def _straight(start, end, count):
    pixels = np.linspace(start, end, count)
    segments = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
    return pixels, segments


@pytest.mark.parametrize('slant', [0.0, 40.0, 70.0])
@pytest.mark.parametrize('angle', [0.0, 31.0])
def test_a_straight_tube_has_the_chords_of_an_oblique_cylinder(slant, angle):
    radius, pixel = 9.0, 1e-3
    way = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    pixels, segments = _straight(64 - 60 * way, 64 + 60 * way, 40)
    lengths = np.full(len(segments), 120 / 39 * pixel / np.cos(np.deg2rad(slant)))
    path, _ = draw_tubes(pixels, np.full(40, radius), lengths, segments, (129, 129))
    y, x = np.mgrid[:129, :129] - 64
    across = np.abs(-way[1] * x + way[0] * y)
    along = np.abs(way[0] * x + way[1] * y)
    truth = 2 * pixel * np.sqrt(np.maximum(0, radius**2 - across**2)) / np.cos(np.deg2rad(slant))
    middle = (along < 40) & (across < radius - 1.5)
    assert np.abs(path / np.maximum(truth, 1e-9) - 1)[middle].max() < 0.06
    assert path[(along < 40)].sum() == pytest.approx(truth[along < 40].sum(), rel=0.02)
    assert not path[across > radius + 1].any()


def test_the_cover_is_as_wide_as_the_tube():
    pixels, segments = _straight((5.0, 20.3), (95.0, 20.3), 10)
    for radius in (1.0, 3.7, 12.0):
        _, cover = draw_tubes(pixels, np.full(10, radius), np.zeros(9), segments, (41, 101))
        assert cover[:, 50].sum() == pytest.approx(2 * radius, abs=0.4)


def test_a_tube_thinner_than_a_pixel_keeps_its_area():
    pixels, segments = _straight((5.0, 20.0), (95.0, 20.0), 10)
    sums = [
        draw_tubes(pixels, np.full(10, r), np.full(9, 1.0), segments, (41, 101))[0].sum() / r**2 for r in (0.2, 3.0)
    ]
    assert sums[0] == pytest.approx(sums[1], rel=0.1)


def test_tubes_that_cross_add_up():
    pixels = np.array([[5.0, 30.0], [55.0, 30.0], [30.0, 5.0], [30.0, 55.0]])
    one, _ = draw_tubes(pixels, np.full(4, 4.0), [0.05], [[0, 1]], (61, 61))
    two, _ = draw_tubes(pixels, np.full(4, 4.0), [0.05], [[2, 3]], (61, 61))
    both, _ = draw_tubes(pixels, np.full(4, 4.0), [0.05, 0.05], [[0, 1], [2, 3]], (61, 61))
    assert np.allclose(both, one + two)


def test_what_lies_outside_the_picture_leaves_no_trace():
    pixels, segments = _straight((-90.0, -40.0), (-20.0, 400.0), 12)
    path, cover = draw_tubes(pixels, np.full(12, 6.0), np.ones(11), segments, (64, 64))
    assert not path.any() and not cover.any()


def test_a_smooth_curve_goes_through_its_waypoints():
    waypoints = np.array([[0.0, 0, 0], [10, 4, 1], [14, 20, -3], [30, 22, 5]])
    curve = smooth_curve(waypoints, 1.0)
    assert curve.shape[1] == 3
    for p in waypoints:
        assert np.linalg.norm(curve - p, axis=1).min() < 1e-9
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).max() < 2.5
