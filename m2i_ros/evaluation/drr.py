"""An intensity method, as a baseline: digitally reconstructed radiographs (DRRs) of the model onto the picture.

`nanodrr` (MIT licence, PyTorch) renders and differentiates them; it is what the author of DiffDRR (Gopalakrishnan and
Golland 2022) made of that. An optional extra: `pip install nanodrr`.
"""

import cv2
import numpy as np
import torch
from nanodrr.data import Subject
from nanodrr.metrics import GradientNormalizedCrossCorrelation2d, NormalizedCrossCorrelation2d
from nanodrr.registration import Registration
from torchio import ScalarImage

from m2i_ros.geometry import apply, inverse
from m2i_ros.model.lumen import fill_lumen

# Pixels of the picture's longer side; at each so many steps of Adam, at first of so many radians and millimetres.
STAGES = ((32, 150, 0.03, 5.0), (64, 100, 0.01, 2.0), (128, 40, 0.004, 0.7))
SAMPLES = 48  # along each ray
CELLS = 8_000_000  # of the volume, at most
OPAQUE = 0.15  # attenuation per millimetre of contrast: what a mask would need in order to be a radiograph


def match(case, T_start):
    """Return the pose (4, 4) to which a `trials.Case` leads from T_start (4, 4), by gradients of the similarity.

    The fixed image is the subtracted picture, or where there is none the mask, and the DRR then is 1 minus the
    transmission, which saturates as a mask does. The similarity: normalised cross correlation of the images plus that
    of their gradients. Adam about the volume's middle, from coarse to fine; the most similar pose of all steps.
    """
    subject, T = lumen(case.model), T_start
    masked = case.subtracted is None
    fixed = case.vessels.mask.astype(np.float32) / 255 if masked else case.subtracted
    whole, edges = NormalizedCrossCorrelation2d(), GradientNormalizedCrossCorrelation2d()
    for pixels, steps, radians, millimetres in STAGES:
        camera = case.camera.scaled(pixels / max(fixed.shape))
        moving = _registration(subject, T, camera)
        small = cv2.resize(fixed, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        target = torch.from_numpy(small)[None, None]
        rotation, translation = moving.parameters()
        groups = [{'params': rotation, 'lr': radians}, {'params': translation, 'lr': millimetres}]
        optimiser = torch.optim.Adam(groups)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        best = -np.inf
        for _ in range(steps):
            drr = moving(n_samples=SAMPLES)
            image = 1 - torch.exp(-OPAQUE * drr) if masked else drr
            similarity = (whole(image, target) + edges(image, target)).sum()
            if similarity.item() > best:
                best, T = similarity.item(), _pose(moving)
            optimiser.zero_grad()
            (-similarity).backward()
            optimiser.step()
            slower.step()
    return T


def render(model, T_image_model, camera):
    """Return the DRR (H, W) float32 of a closed `VesselModel`: millimetres of lumen along each pixel's ray."""
    with torch.no_grad():
        return _registration(lumen(model), T_image_model, camera)(n_samples=4 * SAMPLES)[0, 0].numpy()


def lumen(model):
    """Return the `nanodrr` subject of a closed `VesselModel`: 1 inside, 0 outside, in millimetres of its axes."""
    inside, corner, step = fill_lumen(model.vertices, model.faces)
    n = int(np.ceil(np.cbrt(inside.size / CELLS)))  # merged along each axis, each cell by its share inside
    shares = np.pad(inside, [(0, -size % n) for size in inside.shape])
    x, y, z = (size // n for size in shares.shape)
    shares = shares.reshape(x, n, y, n, z, n).mean(axis=(1, 3, 5), dtype=np.float32)
    T_model_cell = np.diag(1e3 * n * step * np.ones(4))
    T_model_cell[:, 3] = *(1e3 * (corner + 0.5 * n * step)), 1
    volume = ScalarImage(tensor=torch.from_numpy(shares)[None], affine=T_model_cell)
    return Subject.from_images(volume, convert_to_mu=False)


def _registration(subject, T_image_model, camera):
    """Return the `nanodrr` module that renders a subject under a pose, from which it may be moved."""
    T = T_image_model.copy()
    T[:3, 3] *= 1e3
    K = camera.K
    K[:2, 2] += 0.5  # there pixels are counted from their corners
    behind = 2 * apply(T, subject.isocenter.numpy())[2]  # where the rays end: anywhere behind the model
    matrices = [torch.tensor(np.linalg.inv(M), dtype=torch.float32)[None] for M in (T, K)]
    return Registration(subject, *matrices, torch.tensor([behind], dtype=torch.float32), camera.height, camera.width)


def _pose(registration):
    """Return T_image_model (4, 4) of a `nanodrr` module."""
    T_model_image = registration.pose[0].detach().double().numpy()
    u, _, v = np.linalg.svd(T_model_image[:3, :3])  # single precision leaves it not quite rigid
    T_model_image[:3, :3] = u @ v
    T = inverse(T_model_image)
    T[:3, 3] *= 1e-3
    return T
