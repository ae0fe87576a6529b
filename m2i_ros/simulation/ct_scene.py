"""Views of a patient's CT for training: what surrounds the vessels, and its own vessels filled with contrast."""

import cv2
import numpy as np

from m2i_ros.geometry import Camera, CArm, rigid
from m2i_ros.simulation import contrast, xray
from m2i_ros.simulation.background import Scene

# Spread of the C-arm's angles, degrees, LAO/RAO and cranial/caudal, and the furthest.
_ANGLES_DEG, _FURTHEST_DEG = (28, 12), 60
# Contrast in the blood, as a share of what is injected: an aorta's.
_DILUTION = (0.04, 0.9)
# Metres of path through a lumen below which it is a voxel's blurred border.
_BORDER = 0.002
# Voxels are wider than pixels: so many times as wide pixels are drawn, and smoothed between.
_COARSER = 2


def ct_scene(rng, patient, shape, spacing):
    """Return the `Scene` of a view of a `CTPatient`, the path (H, W), metres, through its lumen, and which
    rows, (H, 1) bool, the CT tells of.

    The patient is stretched a little along each axis and, one time in two, its own mirror image; the view is centred
    near a point of the vessels. spacing: of a pixel at the isocentre, metres.
    """
    height, width = (-(-side // _COARSER) for side in shape)
    arm = CArm(*np.deg2rad(np.clip(rng.normal(0, _ANGLES_DEG), -_FURTHEST_DEG, _FURTHEST_DEG)))
    pixel = _COARSER * spacing * arm.source_to_detector / arm.source_to_isocentre
    camera = Camera.from_detector(width, height, arm.source_to_detector, pixel, bool(rng.integers(2)))
    stretch = np.diag([*(rng.normal(1, 0.08, 3) * (rng.choice([-1, 1]), 1, 1)), 1.0])
    focus = patient.focus(rng, shape[0] * spacing) + rng.normal(0, 0.12 * shape[0] * spacing, 3)
    T_image_patient = arm.T_image_isocentre @ rigid(rng.normal(0, 0.08, 3)) @ stretch @ rigid(translation=-focus)
    *paths, known = patient.path_lengths(T_image_patient, camera)
    tissue, bone, lumen = (cv2.resize(path, shape[::-1], interpolation=cv2.INTER_LINEAR) for path in paths)
    nothing = np.zeros(shape, np.float32)
    # Patients are thinner and thicker, their bones weaker and stronger.
    scene = Scene(rng.uniform(0.8, 1.25) * tissue, rng.uniform(0.7, 1.3) * bone, nothing, nothing.copy())
    return scene, lumen, np.repeat(known, _COARSER, axis=0)[: shape[0]]


def own_vessels(rng, lumen, iodine_mg_ml):
    """Return contrast in a CT's vessels (H, W), metres x mg/ml, and where it is (H, W) bool; None without contrast.

    lumen: (H, W) path, metres. iodine_mg_ml: of what is injected.
    """
    if not iodine_mg_ml:
        return np.zeros_like(lumen), None
    vessel = lumen * iodine_mg_ml * np.exp(rng.uniform(*np.log(_DILUTION)))
    if rng.uniform() < 0.3:
        # The contrast has come so far.
        height, width = lumen.shape
        y, x = np.mgrid[:height, :width] / max(lumen.shape) - 0.5
        angle, soft = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.4), rng.uniform(0.02, 0.15)
        front = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.35, 0.35)) / soft
        vessel = vessel / (1 + np.exp(-np.clip(front, -30, 30)))
    if rng.uniform() < 0.5:
        vessel = contrast.swirled(rng, vessel, rng.uniform(6, 40), rng.uniform(0.02, 0.3))
    vessel = np.minimum(vessel, iodine_mg_ml * lumen).astype(np.float32)
    return vessel, xray.shows_contrast(vessel) & (lumen > _BORDER)
