"""X-ray image formation: from path lengths through materials to a grey picture. Batched torch, CPU or GPU."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

# Linear attenuation at an effective 50 keV (about 80 kVp, filtered), per metre: mass attenuation coefficients of
# Hubbell and Seltzer (NISTIR 5632, 1995) times density. Contrast is scaled by its iodine concentration.
WATER = 22.7
BONE = 42.4 * 1.92
STEEL = 196.0 * 7.9
IODINE_PER_MG_ML = 1.232


@dataclass(frozen=True)
class XRaySettings:
    """What the X-ray system does to the picture. Each value may be a number or a (B, 1, 1) tensor, one per picture.

    Every effect has a neutral value, given in brackets, that switches it off.

    iodine_mg_ml: iodine in undiluted contrast as it fills the vessel.
    photons: mean photons a pixel where the line integral is 0; sets the quantum noise [inf].
    scatter: scattered share of the detected signal [0]; scatter_blur: its spread in pixels.
    blur: focal spot, motion and detector, standard deviation in pixels [0].
    electronic_noise: standard deviation as a share of the open-field signal [0].
    vignetting: loss of signal in the corners [0].
    tone: exponent of the grey curve (Box-Cox): 1 linear in the signal, 0 logarithmic.
    edge_gain, edge_blur: unsharp masking: gain [0] and the blur's standard deviation in pixels.
    smoothing: noise filter and resampling, standard deviation in pixels [0].
    window: quantiles of the picture that become `grey`'s values; both clip.
    latitude: how much further down and up the window reaches, in shares of its width [(0, 0)].
    grey: display values of the window's ends, in [0, 1].
    """

    iodine_mg_ml: float = 300.0
    photons: float = 20000.0
    scatter: float = 0.3
    scatter_blur: float = 24.0
    blur: float = 0.8
    electronic_noise: float = 0.001
    vignetting: float = 0.1
    tone: float = 0.2
    edge_gain: float = 0.3
    edge_blur: float = 2.0
    smoothing: float = 0.4
    window: tuple = (0.01, 0.99)
    latitude: tuple = (0.0, 0.0)
    grey: tuple = (0.1, 0.9)

    def to(self, device):
        """Return the settings with every tensor on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved)


def attenuation(tissue, bone, metal):
    """Return the line integral (B, H, W) of attenuation over path lengths (B, H, W) in metres."""
    return WATER * tissue + (BONE - WATER) * bone + STEEL * metal


def exposure_control(line_integral, target=1.5):
    """Return the line integrals (H, W) of one picture shifted so that their median is `target`.

    A C-arm holds the dose behind the patient, not before: a thick patient gets more, and the picture keeps its noise.
    """
    return line_integral - np.float32(np.median(line_integral) - target)


def blur(image, sigma):
    """Return the pictures (B, H, W) blurred by Gaussians of deviation `sigma` pixels, a number or (B, 1, 1)."""
    sigma = torch.as_tensor(sigma, dtype=image.dtype, device=image.device).reshape(-1)
    radius = int(3 * float(sigma.max()) + 0.5)
    if radius == 0:
        return image
    count = len(image)
    x = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (x / sigma.clamp(min=0.05).expand(count)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    out = F.pad(image[None], (radius,) * 4, mode='replicate')
    out = F.conv2d(out, kernel[:, None, None, :], groups=count)
    return F.conv2d(out, kernel[:, None, :, None], groups=count)[0]


def _wide_blur(image, sigma):
    """Blur by a Gaussian so wide that an eighth of the resolution carries it."""
    small = F.avg_pool2d(image[:, None], 8, ceil_mode=True, count_include_pad=False)[:, 0]
    small = blur(small, torch.as_tensor(sigma) / 8)
    return F.interpolate(small[:, None], image.shape[-2:], mode='bilinear')[:, 0]


def transmit(line_integral, settings):
    """Return the mean signal (B, H, W) behind the patient, 1 in the open field: Beer-Lambert, scatter, blur."""
    signal = torch.exp(-line_integral)
    height, width = signal.shape[-2:]
    y = torch.linspace(-1, 1, height, device=signal.device)[:, None]
    x = torch.linspace(-1, 1, width, device=signal.device)
    signal = signal * (1 - settings.vignetting * (x**2 + y**2) / 2)
    signal = (1 - settings.scatter) * signal + settings.scatter * _wide_blur(signal, settings.scatter_blur)
    return blur(signal, settings.blur)


def expose(signal, settings, noise):
    """Return a noisy exposure of the mean signal (B, H, W).

    noise: (B, H, W) standard normal; quantum noise is Poisson's in its Gaussian limit.
    """
    sigma = (signal / settings.photons + settings.electronic_noise**2) ** 0.5
    return (signal + sigma * noise).clamp(min=1e-4)


def tone(exposure, settings):
    """Return the exposure (B, H, W) after the grey curve, edge enhancement and smoothing, in no unit yet."""
    exponent = torch.as_tensor(settings.tone, dtype=exposure.dtype, device=exposure.device).clamp(min=1e-3)
    x = (exposure**exponent - 1) / exponent
    x = x + settings.edge_gain * (x - blur(x, settings.edge_blur))
    return blur(x, settings.smoothing)


def limits(toned, settings, inside=None):
    """Return the values (B, 1, 1) of the `window`'s lower and upper end.

    inside: (B, H, W) bool, the collimator's opening; the window looks only there. None: everywhere.
    """
    low, high = _quantiles(toned, settings.window, inside)
    width = high - low
    return low - settings.latitude[0] * width, high + settings.latitude[1] * width


def display(toned, ends, settings):
    """Return grey pictures (B, H, W) in [0, 1]: the window from `limits` spread over `grey`."""
    low, high = ends
    grey_low, grey_high = settings.grey
    return (grey_low + (grey_high - grey_low) * ((toned - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)).clamp(0, 1)


def _quantiles(x, window, inside):
    coarse = x[:, ::4, ::4].flatten(1)
    count = torch.full((len(x),), coarse.shape[1], device=x.device)
    if inside is not None:
        inside = inside[:, ::4, ::4].flatten(1)
        coarse = coarse.masked_fill(~inside, float('inf'))
        count = inside.sum(1).clamp(min=1)
    coarse = coarse.sort(1).values
    out = []
    for share in window:
        share = torch.as_tensor(share, device=x.device).reshape(-1)
        at = (share * (count - 1)).long().clamp(0, coarse.shape[1] - 1)
        out.append(coarse.gather(1, at[:, None])[:, :, None])
    return out
