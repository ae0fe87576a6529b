"""Image formation follows the physics it names, and every effect can be switched off."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m2i_ros.simulation import xray

NEUTRAL = xray.XRaySettings(
    photons=float('inf'),
    scatter=0.0,
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
    # 4 mm of 300 mg/ml iodine at 50 keV: 12.32 cm2/g x 0.3 g/cm3 x 0.4 cm = 1.48.
    assert 0.004 * 300 * xray.IODINE_PER_MG_ML == pytest.approx(1.478, abs=0.002)
    tissue = np.full((1, 1, 1), 0.1, np.float32)
    assert xray.attenuation(tissue, 0 * tissue, 0 * tissue) == pytest.approx(2.27)
    # Bone takes the place of tissue; 1 cm of it weighs 42.4 * 1.92 / m.
    assert xray.attenuation(tissue, 0.1 * tissue, 0 * tissue) == pytest.approx(2.27 + 0.01 * (81.4 - 22.7), rel=1e-3)


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
    thin, thick = np.full((8, 8), 1.0, np.float32), np.full((8, 8), 6.0, np.float32)
    assert np.array_equal(xray.exposure_control(thin), xray.exposure_control(thick))
