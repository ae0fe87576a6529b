"""What a segmentation is scored on: pictures in folders, simulated patients nobody was trained on, and CTs."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from m2i_ros.geometry import Camera, CArm, rigid
from m2i_ros.simulation.patients import CALIBRATION, EVALUATION, OF
from m2i_ros.sources.images import SUFFIXES, natural_order, read_grey

# The C-arm's angles of simulated views lie within these, either way: degrees, LAO/RAO and cranial/caudal.
ANGLES_DEG = (35.0, 15.0)
PHASES = ('before', 'filling', 'filled', 'washing out')
# Contrast in the frames of a CT's view, as shares of the first's, and the detector's side, metres.
CT_SHARES = (0.0, 1.0, 0.6, 0.3)
_CT_DETECTOR = 0.3
# Share of a picture that a CT must tell of.
_LEAST_KNOWN = 0.2
# Seconds that the contrast takes to come everywhere, and to go.
_FILLING, _WASHING_OUT = 2.5, 3.0


class EvaluationError(ValueError):
    """Input that cannot be scored; the message says what is missing and where."""


@dataclass(frozen=True)
class Picture:
    """A picture and its truth: image (H, W), any grey type; truth (H, W) bool.

    spacing_mm: of a pixel where the vessels are; NaN where it is unknown. about: what else is known, for the report.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    spacing_mm: float = np.nan
    about: dict = field(default_factory=dict)


@dataclass(frozen=True)
class StoredPicture:
    """A picture and its true mask in files."""

    image: Path
    mask: Path
    spacing_mm: float

    @property
    def name(self):
        return self.image.stem

    def pictures(self, names=None):
        """Yield the `Picture`. Raises EvaluationError where the mask does not fit it."""
        image, truth = read_grey(self.image), read_grey(self.mask) > 127
        if truth.shape != image.shape:
            raise EvaluationError(
                f'{self.mask}: mask is {truth.shape[1]}x{truth.shape[0]}, its picture {image.shape[1]}x{image.shape[0]}'
            )
        yield Picture(self.name, image, truth, self.spacing_mm)


def stored_pictures(images, masks, spacing_mm=np.nan):
    """Return [StoredPicture] of two folders, by name. Raises EvaluationError for what has no partner."""
    found = []
    for folder in (images, masks):
        if not folder.is_dir():
            raise EvaluationError(f'{folder}: is not a folder')
        files = sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES), key=natural_order)
        if not files:
            raise EvaluationError(f'{folder}: holds no picture ({", ".join(SUFFIXES)})')
        by_name = {p.stem: p for p in files}
        if len(by_name) < len(files):
            raise EvaluationError(f'{folder}: two pictures have one name and differ by their suffix only')
        found.append(by_name)
    for one, two, folder in ((*found, masks), (*found[::-1], images)):
        alone = [name for name in one if name not in two]
        if alone:
            raise EvaluationError(
                f'{folder}: no file is named {alone[0]}.*' + (f', nor {len(alone) - 1} others' if alone[1:] else '')
            )
    return [StoredPicture(path, found[1][name], spacing_mm) for name, path in found[0].items()]


@dataclass(frozen=True)
class SimulatedView:
    """Frames of an injection into a simulated patient, seen under one of the C-arm's angles.

    patient: number in EVALUATION or CALIBRATION. view: the angles, the moments and the noise are drawn anew for each.
    frames: how many, the same number (or one more) of each of PHASES. size: of the picture's sides, pixels.
    """

    anatomy: str
    patient: int
    view: int
    frames: int
    size: int

    def __post_init__(self):
        if not any(self.patient in kept for kept in OF.values()):
            raise EvaluationError(
                f'patient {self.patient}: only those from {CALIBRATION[0]} to {EVALUATION[-1]} are kept from training'
            )

    @property
    def name(self):
        return f'{self.anatomy}_{self.patient}_view{self.view}'

    def pictures(self, names=None):
        """Yield a `Picture` for each frame, or for those named."""
        from m2i_ros.simulation import Phantom  # torch: not where stored pictures are scored

        rng = np.random.default_rng((self.patient, 2, self.view))
        angles = rng.uniform(-1, 1, 2) * ANGLES_DEG
        c_arm = CArm(*np.radians(angles))
        phantom = Phantom(self.anatomy, self.patient, self.size, self.size, c_arm=c_arm, mirrored=bool(rng.integers(2)))
        spacing_mm = 1e3 * c_arm.source_to_isocentre / abs(phantom.camera.fx)
        for phase, index in self._moments(rng, phantom):
            name = f'{self.name}_frame{index:04d}'
            if names is not None and name not in names:
                continue
            frame = phantom[index]
            about = {
                'anatomy': self.anatomy,
                'patient': self.patient,
                'view': self.view,
                'primary_deg': round(float(angles[0]), 1),
                'secondary_deg': round(float(angles[1]), 1),
                'stamp_s': frame.stamp,
                'phase': phase,
                'contrast': frame.contrast,
            }
            yield Picture(name, frame.image, frame.mask > 0, spacing_mm, about)

    def _moments(self, rng, phantom):
        """Return [(phase, index of the frame)] in the phantom's first injection, at random within each phase."""
        start = phantom.injections[0]
        end = start + phantom.plateau
        moments = []
        spans = ((0, start), (start, start + _FILLING), (start + _FILLING, end), (end, end + _WASHING_OUT))
        for number, (phase, span) in enumerate(zip(PHASES, spans)):
            indices = np.arange(*np.ceil(np.array(span) * phantom.frame_rate).astype(int))
            count = (self.frames + len(PHASES) - 1 - number) // len(PHASES)
            if count > len(indices):
                raise EvaluationError(
                    f'{self.frames} frames a view: {count} of the phase {phase!r}, which has {len(indices)}'
                )
            moments += [(phase, int(i)) for i in np.sort(rng.permutation(indices)[:count])]
        return moments


def simulated_views(anatomies, patients, views, frames, size, of='evaluation'):
    """Return [SimulatedView] of so many patients of each anatomy, so many views of each; `of` is a name in OF."""
    return [
        SimulatedView(anatomy, patient, view, frames, size)
        for anatomy in anatomies
        for patient in OF[of][:patients]
        for view in range(views)
    ]


@dataclass(frozen=True)
class CTView:
    """Frames drawn through a CT, seen under one of the C-arm's angles: first without contrast, then with ever less.

    ct, labels, lumen: see `CTPatient`, of files. view: the angles, the place, how the picture is shown and the noise
    are drawn anew for each. iodine_mg_ml: of the first frame with contrast; the others have the shares in CT_SHARES of
    it. size: of the picture's sides, pixels. Only the picture as a whole moves from frame to frame, half a pixel or so.
    What the CT does not tell, for it ends before, is black, as behind a collimator.
    """

    ct: Path
    labels: Path
    lumen: tuple
    view: int
    iodine_mg_ml: float
    size: int

    @property
    def name(self):
        return f'ct_view{self.view}'

    def pictures(self, names=None):
        """Yield a `Picture` for each frame, or for those named. Raises ModelError for files that are no such CT, and
        EvaluationError for a CT too short to be seen."""
        import torch

        from m2i_ros.simulation import xray

        patient = _ct_patient(self.ct, self.labels, self.lumen)
        rng = np.random.default_rng((7, self.view))
        angles = rng.uniform(-1, 1, 2) * ANGLES_DEG
        c_arm = CArm(*np.radians(angles))
        camera = Camera.from_detector(self.size, self.size, c_arm.source_to_detector, _CT_DETECTOR / self.size)
        spacing_mm = 1e3 * c_arm.source_to_isocentre / camera.fx
        focus = patient.focus(rng, 1e-3 * spacing_mm * self.size)
        T_image_patient = c_arm.T_image_isocentre @ rigid(translation=-focus)
        tissue, bone, lumen, known = patient.path_lengths(T_image_patient, camera)
        if known.mean() < _LEAST_KNOWN:
            raise EvaluationError(f'{self.ct}: too short from feet to head for a picture: give a CT of 20 cm or more')
        known = np.broadcast_to(known, lumen.shape)
        settings = xray.XRaySettings(tone=rng.uniform(0, 1), photons=8000.0, latitude=(0.1, 0.05))
        rays = xray.beams(*(torch.from_numpy(p)[None] for p in (tissue, bone, np.zeros_like(bone))), settings.tube_kv)
        line = xray.line_integral(rays)
        dose = xray.exposure_control(line)
        toned = xray.tone(xray.transmit(line + dose, settings), settings)
        ends = xray.limits(toned, settings, torch.from_numpy(known.copy())[None])
        noise = torch.Generator().manual_seed(self.view)
        for number, share in enumerate(CT_SHARES):
            name = f'{self.name}_frame{number}'
            iodine = torch.from_numpy(lumen * np.float32(share * self.iodine_mg_ml))[None]
            grain, shift = torch.randn(line.shape, generator=noise), rng.normal(0, 0.5, 2)
            if names is not None and name not in names:
                continue
            signal = xray.transmit(xray.line_integral(rays, iodine) + dose, settings)
            moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
            signal, truth = (
                cv2.warpAffine(plane, moved, line.shape[:0:-1], borderMode=cv2.BORDER_REFLECT)
                for plane in (signal[0].numpy(), share * lumen)
            )
            exposure = xray.expose(torch.from_numpy(signal)[None], settings, grain)
            grey = xray.display(xray.tone(exposure, settings), ends, settings)[0].numpy()
            about = {
                'view': self.view,
                'primary_deg': round(float(angles[0]), 1),
                'secondary_deg': round(float(angles[1]), 1),
                'iodine_mg_ml': share * self.iodine_mg_ml,
            }
            image = np.rint(grey * known * 255).astype(np.uint8)
            yield Picture(name, image, xray.shows_contrast(truth * self.iodine_mg_ml) & known, spacing_mm, about)


@lru_cache(1)
def _ct_patient(ct, labels, lumen):
    from m2i_ros.model.volumes import read_volume
    from m2i_ros.simulation.ct import CTPatient

    return CTPatient(read_volume(ct), read_volume(labels), lumen)


def ct_views(ct, labels, label, views, iodine_mg_ml, size):
    """Return [CTView] of so many views through a CT. label: those that contrast fills; None: all."""
    return [CTView(ct, labels, tuple(label or ()), view, iodine_mg_ml, size) for view in range(views)]


def save_mask(folder, name, mask):
    """Write a mask (H, W) uint8 as NAME.png into a folder, which is made; nothing where the folder is None."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(folder / f'{name}.png'), mask):
        raise EvaluationError(f'{folder / name}.png: cannot be written')
