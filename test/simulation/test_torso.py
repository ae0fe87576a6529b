import numpy as np
import pytest

from m2i_ros.simulation.torso import _parts, _through, torso


def sampled(across, along, turn, parts, step=2e-4):
    """Water and lung on the rays by asking at points along them what lies there: the last part that holds the point."""
    depth = np.arange(-0.4, 0.4, step) + step / 2
    x = across[..., None] * np.cos(turn) - depth * np.sin(turn)
    y = across[..., None] * np.sin(turn) + depth * np.cos(turn)
    inside = [
        ((x - p[0]) / p[3]) ** 2 + ((y - p[1]) / p[4]) ** 2 + ((along[..., None] - p[2]) / p[5]) ** 2 < 1 for p in parts
    ]
    water, lung = np.zeros_like(x), np.zeros_like(x)
    for part, held in zip(parts, inside, strict=True):
        water[held], lung[held] = part[6], part[7]
    for held in (water, lung):
        held[~inside[0]] = 0
    return water.sum(-1) * step, lung.sum(-1) * step


@pytest.mark.parametrize('seed', range(4))
def test_rays_are_as_long_in_each_part_as_points_along_them_say(seed):
    rng = np.random.default_rng(seed)
    parts, _ = _parts(rng)
    across, along = rng.uniform(-0.25, 0.25, (2, 12, 12)).astype(np.float32)
    turn = rng.uniform(-np.pi, np.pi)
    found = _through(across, along, np.cos(turn), np.sin(turn), parts)
    for value, expected in zip(found, sampled(across, along, turn, parts), strict=True):
        np.testing.assert_allclose(value, expected, atol=2e-3)


def test_a_sphere_inside_a_body_takes_its_place_along_its_chord():
    parts = np.array([(0, 0, 0, 0.2, 0.1, 10, 1.0, 0), (0.05, 0, 0, 0.03, 0.03, 0.03, 0.25, 1)])
    across = np.array([[0.0, 0.05, 0.05 + 0.018]], np.float32)
    water, lung = _through(across, np.zeros_like(across), 1.0, 0.0, parts)
    body = 0.2 * np.sqrt(1 - (across / 0.2) ** 2)
    chord = np.array([[0, 0.06, 2 * 0.024]])
    np.testing.assert_allclose(lung, chord, atol=1e-6)
    np.testing.assert_allclose(water, body - 0.75 * chord, atol=1e-6)


@pytest.mark.parametrize('shape', [(64, 64), (97, 128)])
def test_a_torso_is_a_scene_of_plausible_thickness_and_lungs_shine(shape):
    share = []
    for seed in range(20):
        scene = torso(np.random.default_rng(seed), shape, 0.3 / shape[1])
        for part in (scene.tissue, scene.bone, scene.metal, scene.iodine):
            assert part.shape == shape and part.dtype == np.float32 and np.isfinite(part).all()
        assert 0.01 <= scene.tissue.min() and scene.tissue.max() < 0.55
        assert 0 <= scene.bone.min() < scene.bone.max() < 0.08
        share.append(np.quantile(scene.tissue, 0.9) / np.quantile(scene.tissue, 0.1))
    assert np.median(share) > 2


def test_the_same_numbers_make_the_same_torso():
    one, other = (torso(np.random.default_rng(3), (64, 64), 4e-3) for _ in range(2))
    np.testing.assert_array_equal(one.tissue, other.tissue)
    np.testing.assert_array_equal(one.bone, other.bone)
