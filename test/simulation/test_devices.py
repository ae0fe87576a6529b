"""Devices are as thick, as long and as far from the axis as asked for."""

import numpy as np
import pytest

from m2i_ros.simulation import background, devices

SHAPE = (100, 120)


def test_wires_weigh_as_much_as_round_wires_of_their_thickness():
    curves = [np.stack([np.linspace(10, 110, 101), np.full(101, y)], axis=1) for y in (30.0, 70.0)]
    path = devices.wires(curves, (3.0, 1.5), (1e-3, 4e-4), SHAPE)
    # A column through a wire r thick, d deep at its axis: pi r d / 2.
    columns = path[:50, 60].sum(), path[50:, 60].sum()
    assert columns == pytest.approx((np.pi * 3 * 1e-3 / 2, np.pi * 1.5 * 4e-4 / 2), rel=0.05)
    assert path[45:55].max() == 0
    assert not devices.wires([], 1.0, 1.0, SHAPE).any()


def test_a_stents_struts_lie_on_its_tube():
    axis = np.stack([np.linspace(10, 110, 300), np.full(300, 50.0)], axis=1)
    curves = devices.stent(axis, np.full(300, 8.0), 30.0, strands=5)
    aside = np.abs(np.stack(curves)[:, :, 1] - 50)
    assert len(curves) == 10 and aside.max() == pytest.approx(8, abs=0.1)
    # Seen from the side, half of a helix lies beyond 0.71 of the radius.
    assert (aside > 8 * np.sqrt(0.5)).mean() == pytest.approx(0.5, abs=0.05)


def test_calcium_lies_along_the_wall():
    pixels = np.stack([np.linspace(0, 119, 120), np.full(120, 50.0)], axis=1)
    branch = np.repeat([0, 1], 60)
    curves, radii, depths = devices.plaques(
        np.random.default_rng(3), pixels, np.full(120, 10.0), branch, 0.5e-3, count=40
    )
    assert len(curves) == len(radii) == len(depths) > 20
    for curve in curves:
        aside = np.abs(curve[:, 1] - 50)
        assert 6 <= aside.min() and aside.max() <= 10.5
        assert (curve[:, 0] < 60).all() or (curve[:, 0] >= 60).all()
    assert depths.max() < 4.1e-3


def test_meanders_start_where_asked_and_are_as_long_as_asked():
    starts = np.array([[10.0, 20.0], [50.0, 60.0]])
    curves = devices.meanders(np.random.default_rng(0), starts, [0.0, np.pi / 2], [40.0, 20.0], 0.0)
    assert np.allclose(curves[:, -1], [[50, 20], [50, 80]])
    wild = devices.meanders(np.random.default_rng(0), starts, [0.0, 0.0], [40.0, 20.0], 1.5)
    steps = np.linalg.norm(np.diff(wild, axis=1), axis=2)
    assert np.allclose(steps.sum(axis=1), [38, 19])


@pytest.mark.parametrize('place', [background.chest, background.abdomen, background.strange])
def test_scenes_are_physical_and_devices_only_add_metal(place):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene = place(rng, SHAPE, 1e-3)
        for part in (scene.tissue, scene.bone, scene.metal, scene.iodine):
            assert part.shape == SHAPE and part.dtype == np.float32 and np.isfinite(part).all()
        assert scene.tissue.min() > 0 and scene.tissue.max() < 0.6
        assert scene.bone.min() >= 0 and scene.bone.max() < 0.12 and not scene.metal.any()
        devices.strewn(rng, SHAPE, 1e-3, scene, 3.0)
        assert scene.metal.min() >= 0 and 0 < scene.metal.max() < 0.02 and scene.iodine.min() >= 0
