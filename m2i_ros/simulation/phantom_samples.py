"""Endless frames of injections into simulated patients, with their masks, for training a segmentation network."""

from dataclasses import replace

import numpy as np

from m2i_ros.geometry import CArm, apply
from m2i_ros.simulation.patients import TRAINING, training_stream
from m2i_ros.simulation.phantom import Phantom
from m2i_ros.simulation.tubes import draw_tubes
from m2i_ros.simulation.vessels import open_segments
from m2i_ros.simulation.visibility import drawn_coronary

# For each anatomy: its weight among the patients, and the spread of the C-arm's angles, degrees.
_HABITS = {
    'iliofemoral': (0.38, (22, 10)),
    'aortic_root': (0.32, (25, 12)),
    'aortic_arch': (0.15, (28, 10)),
    'coronary': (0.15, (35, 20)),
}
# Frames of an injection, and injections into a patient, before the next one's turn: making a patient takes longest.
FRAMES, INJECTIONS = 6, 2
_START, _PLATEAU, _RATE = 0.5, 3.0, 15.0


class PhantomSamples:
    """An endless iterator of (image, mask, reference), (S, S) uint8, mask 0 or 255, of frames as `Phantom` makes them.

    Patients, angles, dose, dilution and display are drawn for each injection; the moments spread over all of it, one in
    seven before the contrast comes; the reference is another one of those. Coronary arteries are labelled as wide as
    people draw them, as in `TrainingSamples`. size: S, pixels. seed: the same seed gives the same samples.
    """

    def __init__(self, size=512, seed=0):
        self.size = size
        self._rng = np.random.default_rng((*training_stream(seed), 1))
        self._frames = iter(())

    def __iter__(self):
        return self

    def __next__(self):
        while (frame := next(self._frames, None)) is None:
            self._frames = self._patient()
        return frame

    def _patient(self):
        rng = self._rng
        weights = np.array([weight for weight, _ in _HABITS.values()])
        anatomy = rng.choice(list(_HABITS), p=weights / weights.sum())
        patient = int(rng.choice(TRAINING))
        for _ in range(INJECTIONS):
            settings = self._settings(anatomy)
            phantom = self._injection(anatomy, patient, settings)
            for moment in rng.permutation(len(phantom))[:FRAMES]:
                frame, before = phantom[moment], phantom[rng.integers(_START * _RATE)]
                mask = _as_drawn(frame, phantom, settings.blur) if anatomy == 'coronary' else frame.mask
                yield frame.image, mask, before.image

    def _settings(self, anatomy):
        rng, usual = self._rng, Phantom.usual_settings(anatomy)
        return replace(
            usual,
            iodine_mg_ml=usual.iodine_mg_ml * np.exp(rng.uniform(np.log(0.4), np.log(1.5))),
            photons=usual.photons * np.exp(rng.normal(0, 0.7)),
            tone=rng.uniform(0, 1) ** 1.5,
            edge_gain=rng.choice([0.0, rng.uniform(0, 1.0)]),
            latitude=(rng.uniform(0.1, 0.6), rng.uniform(0, 0.2)),
        )

    def _injection(self, anatomy, patient, settings):
        rng = self._rng
        return Phantom(
            anatomy,
            patient,
            self.size,
            self.size,
            frame_rate=_RATE,
            duration=_START + _PLATEAU + 3.5,
            injections=(_START,),
            plateau=_PLATEAU,
            c_arm=CArm(*np.radians(rng.normal(0, _HABITS[anatomy][1]))),
            detector=rng.uniform(0.2, 0.4),
            settings=settings,
            collimator=rng.choice([1.5, rng.uniform(0.7, 1.1)]),
        )


def _as_drawn(frame, phantom, blur):
    """Return a frame's mask (H, W) uint8 without the borders of its vessels, which people leave out."""
    tree, camera = phantom.model.centreline, phantom.camera
    points = apply(frame.T_image_model, tree.points)
    radii = drawn_coronary(tree.radii * camera.fy / points[:, 2], blur)
    segments, lengths = open_segments(tree)
    drawn = draw_tubes(camera.project(points), radii, lengths, segments, frame.mask.shape)[1]
    return np.where(drawn > 0.5, frame.mask, np.uint8(0))
