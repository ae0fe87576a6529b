"""X-ray image formation: from path lengths through materials to a grey picture. Batched torch, CPU or GPU."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

# Mass attenuation coefficients of Hubbell and Seltzer (NISTIR 5632, 1995) at these energies times density, per metre:
# water, cortical bone, iron; iodine per metre of 1 mg/ml.
ENERGIES_KEV = (40.0, 50.0, 60.0, 80.0)
_BIN_KEV = (10.0, 10.0, 15.0, 20.0)
WATER = (26.83, 22.69, 20.59, 18.37)
BONE = (127.8, 81.4, 60.4, 42.8)
STEEL = (2867.0, 1547.0, 952.0, 470.0)
IODINE_PER_MG_ML = (2.21, 1.232, 0.758, 0.351)
# A lumen counts as filled where contrast takes away this share of the rays, of 50 keV.
VISIBLE = 0.08
_COPPER = (4356.0, 2341.0, 1427.0, 684.0)
_FILTER = 0.2e-3
# Photons a square metre for an air kerma of 1 Gy, beam RQA 5 (IEC 62220-1:2003, table 2).
PHOTONS_PER_GY = 30174e12


@dataclass(frozen=True)
class XRaySettings:
    """What the X-ray system does to the picture. Each value may be a number or a (B, 1, 1) tensor, one per picture.

    Every effect has a neutral value, given in brackets, that switches it off. docs/simulation.md lists the sources.

    iodine_mg_ml: iodine in undiluted contrast as it fills the vessel [0].
    tube_kv: tube voltage, kV; the beam hardens on its way [0: one energy, 50 keV].
    photons: mean photons a pixel where the line integral is 0; sets the quantum noise [inf].
    scatter: scattered share of the detected signal [0]; scatter_blur: its spread in pixels.
    glare: share of the light that strays inside the detector [0], over the whole picture.
    blur: focal spot, motion and detector, standard deviation in pixels [0].
    electronic_noise: standard deviation as a share of the open-field signal [0].
    vignetting: loss of signal in the corners [0].
    tone: exponent of the grey curve (Box-Cox): 1 linear in the signal, 0 logarithmic.
    flattening: share of the slow changes of grey that dynamic range compression takes away [0].
    edge_gain, edge_blur: unsharp masking: gain [0] and the blur's standard deviation in pixels.
    smoothing: noise filter and resampling, standard deviation in pixels [0].
    window: quantiles of the picture that become `grey`'s values; both clip.
    least_width: the window's width is no less than this, in units of the toned picture (tone 0: of line integral) [0].
    latitude: how much further down and up the window reaches, in shares of its width [(0, 0)].
    grey: display values of the window's ends, in [0, 1].
    """

    iodine_mg_ml: float = 300.0
    tube_kv: float = 80.0
    photons: float = 20000.0
    scatter: float = 0.3
    scatter_blur: float = 24.0
    glare: float = 0.03
    blur: float = 0.8
    electronic_noise: float = 0.001
    vignetting: float = 0.1
    tone: float = 0.2
    flattening: float = 0.0
    edge_gain: float = 0.3
    edge_blur: float = 2.0
    smoothing: float = 0.4
    window: tuple = (0.01, 0.99)
    least_width: float = 0.0
    latitude: tuple = (0.0, 0.0)
    grey: tuple = (0.1, 0.9)

    def to(self, device):
        """Return the settings with every tensor on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved)


def spectrum(tube_kv):
    """Return the shares (4, ...) of the detected signal in the open field at ENERGIES_KEV, for `tube_kv` (...) in kV.

    Kramers' law (Phil Mag 1923;46:836) behind 0.2 mm of copper, in a detector that adds up energy. 0 kV: all at 50 keV.
    """
    kv = torch.as_tensor(tube_kv, dtype=torch.float32)
    energy, width, copper = (
        torch.tensor(v, device=kv.device).reshape(-1, *[1] * kv.dim()) for v in (ENERGIES_KEV, _BIN_KEV, _COPPER)
    )
    shares = (kv - energy).clamp(min=0) * torch.exp(-copper * _FILTER) * width
    shares = torch.where(kv > 0, shares, (energy == 50.0).float())
    return shares / shares.sum(0)


def beams(tissue, bone, metal, tube_kv):
    """Return the signal (4, B, H, W) of each energy behind path lengths (B, H, W) in metres: Beer-Lambert.

    Bone takes the place of tissue, metal comes on top.
    """
    shares = spectrum(tube_kv)
    out = []
    for share, water, bony, steel in zip(shares, WATER, BONE, STEEL, strict=True):
        out.append(share * torch.exp(-water * tissue - (bony - water) * bone - steel * metal))
    return torch.stack(out)


def line_integral(beams, iodine=None, metal=None):
    """Return the line integral (B, H, W) of attenuation that an energy-integrating detector sees.

    beams: (4, B, H, W) from `beams`. iodine: (B, H, W) path length times concentration, metres x mg/ml.
    metal: (B, H, W) metres, more than the beams met before.
    """
    if iodine is None and metal is None:
        return -torch.log(beams.sum(0).clamp(min=1e-9))
    signal = 0
    for beam, contrast, steel in zip(beams, IODINE_PER_MG_ML, STEEL, strict=True):
        through = 0 if iodine is None else contrast * iodine
        if metal is not None:
            through = through + steel * metal
        signal = signal + beam * torch.exp(-through)
    return -torch.log(signal.clamp(min=1e-9))


def shows_contrast(iodine):
    """Return where path lengths through contrast (...), metres x mg/ml, take away so much of the rays that it shows."""
    return iodine > VISIBLE / IODINE_PER_MG_ML[ENERGIES_KEV.index(50.0)]


def exposure_control(line_integral, target=1.5):
    """Return what to add (B, 1, 1) to line integrals (B, H, W) so that each picture's median is `target`.

    A C-arm holds the dose behind the patient, not before: a thick patient gets more, and the picture keeps its noise.
    """
    return target - line_integral[:, ::4, ::4].flatten(1).median(1).values[:, None, None]


def photons(dose, pixel):
    """Return the photons a pixel of side `pixel`, metres at the detector, counts at a dose (air kerma, Gy) there."""
    return dose * pixel**2 * PHOTONS_PER_GY


def distort(pixels, shape, pincushion=0.0, twist=0.0):
    """Return pixel positions (N, 2) as an image intensifier shows them.

    pincushion: displacement at the corners as a share of the half diagonal [0]: the curved input screen.
    twist: rotation in radians from the middle to the corners, growing with the square [0]: the earth's magnetic field.
    Source: Rudin, Bednarek and Wong, Med Phys 1991;18:1145.
    """
    middle = (np.array(shape[::-1]) - 1) / 2
    off = pixels - middle
    square = (off**2).sum(axis=1, keepdims=True) / (middle**2).sum()
    grow, turn = 1 + pincushion * square, twist * square
    x, y = off[:, :1], off[:, 1:]
    return middle + grow * np.concatenate([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], 1)


def motion_kernel(path, lag=0.0, step=(0.0, 0.0)):
    """Return a kernel (K, K) that blurs a picture as motion does.

    path: (2,) pixels moved during the exposure [(0, 0)]. lag: the share of the last frame that stays in this one [0]
    (detector: Siewerdsen and Jaffray, Med Phys 1999;26:1624; recursive noise filter: Aufrichtig and Wilson, IEEE TMI
    1995;14:733). step: (2,) pixels moved since the last frame.
    """
    path, step = np.asarray(path, float), np.asarray(step, float)
    reach = int(np.ceil(np.abs(path).max() / 2 + (np.abs(step).max() if lag else 0))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for t in np.linspace(-0.5, 0.5, 2 * int(np.ceil(np.abs(path).max())) + 1):
        for weight, (x, y) in ((1 - lag, t * path), (lag, t * path - step)):
            if weight:
                i, j = int(np.floor(y)), int(np.floor(x))
                v, u = y - i, x - j
                corner = np.array([[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]])
                kernel[reach + i : reach + i + 2, reach + j : reach + j + 2] += weight * corner
    return kernel / kernel.sum()


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


def wide_blur(image, sigma):
    """Return the pictures blurred by a Gaussian of 4 pixels or more, worked out at an eighth of the resolution."""
    small = F.avg_pool2d(image[:, None], 8, ceil_mode=True, count_include_pad=False)[:, 0]
    small = blur(small, torch.as_tensor(sigma) / 8)
    return F.interpolate(small[:, None], image.shape[-2:], mode='bilinear')[:, 0]


def transmit(line_integral, settings):
    """Return the mean signal (B, H, W) behind the patient, 1 in the open field: primary beam, scatter, glare, blur.

    Scatter: Siewerdsen and Jaffray, Med Phys 2001;28:220. Veiling glare: Seibert et al., Med Phys 1984;11:172.
    """
    signal = torch.exp(-line_integral)
    height, width = signal.shape[-2:]
    y = torch.linspace(-1, 1, height, device=signal.device)[:, None]
    x = torch.linspace(-1, 1, width, device=signal.device)
    signal = signal * (1 - settings.vignetting * (x**2 + y**2) / 2)
    signal = (1 - settings.scatter) * signal + settings.scatter * wide_blur(signal, settings.scatter_blur)
    signal = signal + settings.glare * (signal.mean((1, 2), keepdim=True) - signal)
    return blur(signal, settings.blur)


def expose(signal, settings, noise):
    """Return a noisy exposure of the mean signal (B, H, W).

    noise: (B, H, W) standard normal; quantum noise is Poisson's in its Gaussian limit.
    """
    sigma = (signal / settings.photons + settings.electronic_noise**2) ** 0.5
    return (signal + sigma * noise).clamp(min=1e-4)


def tone(exposure, settings):
    """Return the exposure (B, H, W) after the grey curve and `process`, in no unit yet."""
    return process(curve(exposure, settings), settings)


def curve(exposure, settings):
    """Return the exposure (B, H, W) after the grey curve: from logarithmic to linear."""
    exponent = torch.as_tensor(settings.tone, dtype=exposure.dtype, device=exposure.device).clamp(min=1e-3)
    return (torch.exp(exponent * torch.log(exposure)) - 1) / exponent


def process(x, settings):
    """Return pictures (B, H, W) after flattening, edge enhancement and smoothing.

    Flattening and edges: the multi-scale processing of Vuylsteke and Schoeters (Proc SPIE 1994;2167:551) with one
    slow and one fast scale.
    """
    flattening = torch.as_tensor(settings.flattening)
    if flattening.any():
        slow = wide_blur(x, torch.full((len(x), 1, 1), x.shape[-1] / 12))
        x = x - flattening * (slow - slow.mean((1, 2), keepdim=True))
    x = x + settings.edge_gain * (x - blur(x, settings.edge_blur))
    return blur(x, settings.smoothing)


def limits(toned, settings, inside=None):
    """Return the values (B, 1, 1) of the `window`'s lower and upper end.

    inside: (B, H, W) bool, the collimator's opening; the window looks only there. None: everywhere.
    """
    low, high = _quantiles(toned, settings.window, inside)
    width = torch.maximum(high - low, torch.as_tensor(settings.least_width, dtype=low.dtype, device=low.device))
    slack = (width - (high - low)) / 2
    low, high = low - slack, high + slack
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
        inside = inside | ~inside.any(1, keepdim=True)  # an opening too small to be looked into
        coarse = coarse.masked_fill(~inside, float('inf'))
        count = inside.sum(1).clamp(min=1)
    coarse = coarse.sort(1).values
    out = []
    for share in window:
        share = torch.as_tensor(share, device=x.device).reshape(-1)
        at = (share * (count - 1)).long().clamp(0, coarse.shape[1] - 1)
        out.append(coarse.gather(1, at[:, None])[:, :, None])
    return out


_BLOCK = 8


def compress(image, step):
    """Return pictures (B, H, W) in [0, 1] as lossy JPEG leaves them (ITU-T T.81): 8 x 8 cosine terms are rounded.

    step: (B, 1, 1) or a number, grey levels of 255 that the mean of a block is rounded to; four times that for the
    finest terms. 0: nothing is rounded.
    """
    step = torch.as_tensor(step, dtype=image.dtype, device=image.device)
    k = torch.arange(_BLOCK, dtype=image.dtype, device=image.device)
    cosine = torch.cos(torch.pi * (k + 0.5) * k[:, None] / _BLOCK) * (2 / _BLOCK) ** 0.5
    cosine[0] /= 2**0.5
    height, width = image.shape[-2:]
    padded = F.pad(image[:, None], (0, -width % _BLOCK, 0, -height % _BLOCK), mode='replicate')[:, 0]
    blocks = padded.unflatten(2, (-1, _BLOCK)).unflatten(1, (-1, _BLOCK)).transpose(2, 3)
    terms = cosine @ blocks @ cosine.T
    coarse = step.reshape(-1, 1, 1, 1, 1) * (_BLOCK / 255) * (1 + 1.5 * (k + k[:, None]) / (_BLOCK - 1))
    terms = torch.where(coarse > 0, torch.round(terms / coarse.clamp(min=1e-9)) * coarse, terms)
    blocks = cosine.T @ terms @ cosine
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)[:, :height, :width].clamp(0, 1)
