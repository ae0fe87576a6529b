"""Image formation follows the physics it names, and every effect can be switched off."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m2i_ros.simulation import xray

NEUTRAL = xray.XRaySettings(
    tube_kv=0.0,
    photons=float('inf'),
    scatter=0.0,
    glare=0.0,
    blur=0.0,
    electronic_noise=0.0,
    vignetting=0.0,
    tone=1.0,
    edge_gain=0.0,
    smoothing=0.0,
)


@pytest.fixture
def line():
    """Line integrals of two pictures: a ramp, and a step."""
    ramp = torch.linspace(0, 3, 64).expand(64, 64)
    step = torch.where(torch.arange(64) < 32, 0.5, 2.0).expand(64, 64)
    return torch.stack([ramp, step]).contiguous()


def test_with_all_effects_off_the_signal_is_beer_lamberts(line):
    assert torch.allclose(xray.transmit(line, NEUTRAL), torch.exp(-line))


def test_a_vessel_full_of_contrast_attenuates_as_the_tables_say():
    # At 50 keV. 4 mm of 300 mg/ml iodine: 12.32 cm2/g x 0.3 g/cm3 x 0.4 cm = 1.48. Bone takes the place of tissue.
    tissue = torch.full((1, 1, 1), 0.1)
    rays = xray.beams(tissue, 0.1 * tissue, 0 * tissue, NEUTRAL.tube_kv)
    bare = xray.line_integral(rays)
    assert float(bare) == pytest.approx(2.269 + 0.01 * (81.4 - 22.69), rel=1e-3)
    assert float(xray.line_integral(rays, torch.full((1, 1, 1), 0.004 * 300)) - bare) == pytest.approx(1.478, abs=0.002)
    # 0.1 mm of iron: 1.958 cm2/g x 7.9 g/cm3 x 0.01 cm.
    steel = xray.line_integral(rays, metal=torch.full((1, 1, 1), 1e-4)) - bare
    assert float(steel) == pytest.approx(0.1547, rel=1e-3)


def test_a_beam_of_many_energies_hardens_on_its_way():
    """Each further centimetre takes away less, and contrast shows less behind a thick patient and at a high voltage."""
    depth = torch.linspace(0, 0.3, 31)[None, None]
    none = torch.zeros_like(depth)

    def lines(kv, iodine=None):
        return xray.line_integral(xray.beams(depth, none, none, kv), iodine)[0, 0]

    assert torch.allclose(torch.diff(lines(0.0)), torch.full((30,), 0.2269), atol=1e-4)
    soft = lines(70.0)
    assert soft[0] == pytest.approx(0, abs=1e-6) and (torch.diff(torch.diff(soft)) < 0).all()
    shown = {kv: lines(kv, torch.full_like(depth, 0.5)) - lines(kv) for kv in (70.0, 110.0)}
    assert shown[70.0][30] < 0.95 * shown[70.0][0] and (shown[110.0] < shown[70.0]).all()
    assert float(xray.spectrum(90.0).sum()) == pytest.approx(1)


def test_quantum_noise_has_poissons_variance():
    signal = torch.full((1, 300, 300), 0.2)
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(0))
    exposure = xray.expose(signal, replace(NEUTRAL, photons=4000.0), noise)
    assert float(exposure.mean()) == pytest.approx(0.2, rel=1e-3)
    assert float(exposure.var()) == pytest.approx(0.2 / 4000, rel=0.02)
    assert torch.equal(xray.expose(signal, NEUTRAL, noise), signal)


def test_scatter_fills_shadows_and_keeps_the_mean(line):
    clear, veiled = xray.transmit(line, NEUTRAL), xray.transmit(line, replace(NEUTRAL, scatter=0.4))
    contrast = [(s[1, :, :20].mean() - s[1, :, 44:].mean()) / s[1].mean() for s in (clear, veiled)]
    assert contrast[1] < 0.85 * contrast[0]
    assert float(veiled[1].mean()) == pytest.approx(float(clear[1].mean()), rel=0.03)


def test_blur_spreads_a_point_as_a_gaussian_of_its_width():
    point = torch.zeros(2, 65, 65)
    point[:, 32, 32] = 1
    out = xray.blur(point, torch.tensor([1.0, 2.5]).reshape(2, 1, 1))
    x = torch.arange(65) - 32.0
    for picture, sigma in zip(out, (1.0, 2.5), strict=True):
        assert float(picture.sum()) == pytest.approx(1, abs=1e-4)
        assert float((picture.sum(0) * x**2).sum()) ** 0.5 == pytest.approx(sigma, rel=0.02)
    assert torch.equal(xray.blur(point, 0.0), point)


def test_a_batch_with_settings_of_its_own_equals_pictures_one_by_one(line):
    def pack(*values):
        return torch.tensor(values).reshape(-1, 1, 1)

    batch = replace(
        NEUTRAL,
        blur=pack(0.7, 1.9),
        scatter=pack(0.1, 0.5),
        tone=pack(0.3, 0.9),
        edge_gain=pack(0.0, 1.0),
        edge_blur=pack(1.0, 3.0),
    )
    together = xray.tone(xray.transmit(line, batch), batch)
    for i in range(2):
        alone = replace(
            NEUTRAL, **{k: float(getattr(batch, k)[i]) for k in ('blur', 'scatter', 'tone', 'edge_gain', 'edge_blur')}
        )
        assert torch.allclose(together[i : i + 1], xray.tone(xray.transmit(line[i : i + 1], alone), alone), atol=1e-5)


def test_the_window_maps_its_quantiles_to_its_greys(line):
    settings = replace(NEUTRAL, window=(0.1, 0.9), grey=(0.2, 0.8))
    toned = xray.tone(xray.transmit(line, settings), settings)
    grey = xray.display(toned, xray.limits(toned, settings), settings)
    assert float(grey.min()) == pytest.approx(0.2) and float(grey.max()) == pytest.approx(0.8)
    ramp = grey[0, 0]
    assert 3 < (ramp < 0.2001).sum() < 10 and 3 < (ramp > 0.7999).sum() < 10
    assert (torch.diff(ramp) <= 0).all()


def test_the_window_looks_inside_the_collimator_only(line):
    inside = torch.zeros(line.shape, dtype=torch.bool)
    inside[:, :, :16] = True
    settings = replace(NEUTRAL, window=(0.0, 1.0))
    toned = xray.tone(xray.transmit(line, settings), settings)
    low, high = xray.limits(toned, settings, inside)
    assert float(high[0]) == pytest.approx(float(toned[0, 0, 0]))
    assert float(low[0]) > float(toned[0, 0, 20])


def test_exposure_control_gives_every_patient_the_same_dose_behind():
    lines = torch.stack([torch.full((8, 8), 1.0), torch.full((8, 8), 6.0)])
    behind = lines + xray.exposure_control(lines, 1.5)
    assert torch.allclose(behind, torch.full_like(lines, 1.5))


def test_photons_follow_the_dose_and_the_pixels_area():
    # RQA 5: 30174 photons a square millimetre and microgray.
    assert xray.photons(1e-6, 1e-3) == pytest.approx(30174)
    assert xray.photons(2e-7, 0.3e-3) == pytest.approx(0.2 * 0.09 * 30174)


def test_glare_lifts_the_dark_by_its_share_of_the_mean(line):
    clear = xray.transmit(line, NEUTRAL)
    veiled = xray.transmit(line, replace(NEUTRAL, glare=0.1))
    assert torch.allclose(veiled, 0.9 * clear + 0.1 * clear.mean((1, 2), keepdim=True))


def test_flattening_takes_away_slow_changes_and_leaves_fine_ones(line):
    slow = torch.linspace(0, 1, 128).expand(1, 128, 128).clone()
    fine = slow.clone()
    fine[:, 60:63, :] += 0.3
    flat, marked = (xray.process(x, replace(NEUTRAL, flattening=0.8)) for x in (slow, fine))
    assert float(flat[0, 64, 100] - flat[0, 64, 28]) < 0.35 * float(slow[0, 64, 100] - slow[0, 64, 28])
    assert float((marked - flat)[0, 61, 64]) == pytest.approx(0.3, abs=0.05)


def test_an_opening_too_small_to_be_looked_into_has_a_window_all_the_same(line):
    inside = torch.zeros(line.shape, dtype=torch.bool)
    inside[0, 1:3, 1:3] = True
    assert all(torch.isfinite(end).all() for end in xray.limits(line, NEUTRAL, inside))


def test_a_picture_without_contrast_is_not_blown_up_to_the_whole_window():
    faint = torch.linspace(0, 0.01, 64).expand(1, 64, 64)
    low, high = xray.limits(faint, replace(NEUTRAL, least_width=0.5))
    assert float(high - low) == pytest.approx(0.5) and float((low + high) / 2) == pytest.approx(0.005, abs=1e-3)


def test_an_image_intensifier_spreads_the_corners_and_leaves_the_middle():
    corners = np.array([[49.5, 49.5], [99.0, 49.5], [99.0, 99.0], [0.0, 0.0]])
    assert np.allclose(xray.distort(corners, (100, 100)), corners)
    moved = xray.distort(corners, (100, 100), pincushion=0.1)
    assert np.allclose(moved[0], corners[0])
    assert np.allclose(moved[2] - 49.5, 1.1 * 49.5) and np.allclose(moved[1] - 49.5, [1.05 * 49.5, 0])
    turned = xray.distort(corners, (100, 100), twist=np.pi / 2) - 49.5
    assert np.allclose(turned[2], [-49.5, 49.5])


def test_motion_smears_along_its_path_and_lag_leaves_a_ghost():
    assert np.array_equal(xray.motion_kernel((0, 0))[1], [0, 1, 0])
    kernel = xray.motion_kernel((0, 6))
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1) and (kernel * x**2).sum() == pytest.approx(0)
    assert (kernel * y**2).sum() == pytest.approx(6**2 / 12, rel=0.35)
    ghost = xray.motion_kernel((0, 0), lag=0.3, step=(4, 0))
    middle = len(ghost) // 2
    assert ghost[middle, middle] == pytest.approx(0.7) and ghost[middle, middle - 4] == pytest.approx(0.3)


def test_compression_rounds_blocks_and_step_zero_does_nothing():
    image = torch.rand((2, 20, 24), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(xray.compress(image, 0.0), image, atol=1e-5)
    out = xray.compress(image, torch.tensor([0.1, 20.0]).reshape(2, 1, 1))
    assert out.shape == image.shape
    assert (out[0] - image[0]).abs().max() < 0.02 < (out[1] - image[1]).abs().mean()
    means = out[1, :16].unflatten(1, (-1, 8)).unflatten(0, (-1, 8)).mean((1, 3)) * 255 / 20
    assert torch.allclose(means, means.round(), atol=0.2)
