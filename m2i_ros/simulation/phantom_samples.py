"""Endless frames of injections into simulated patients, with their masks, for training a segmentation network."""

from dataclasses import replace

import numpy as np

from m2i_ros.geometry import CArm
from m2i_ros.simulation.patients import TRAINING, training_stream
from m2i_ros.simulation.phantom import Phantom

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
    seven before the contrast comes; the reference is another one of those. size: S, pixels. seed: the same seed gives
    the same samples.
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
            phantom = self._injection(anatomy, patient)
            for moment in rng.permutation(len(phantom))[:FRAMES]:
                frame, before = phantom[moment], phantom[rng.integers(_START * _RATE)]
                yield frame.image, frame.mask, before.image

    def _injection(self, anatomy, patient):
        rng = self._rng
        usual = Phantom.usual_settings(anatomy)
        settings = replace(
            usual,
            iodine_mg_ml=usual.iodine_mg_ml * np.exp(rng.uniform(np.log(0.4), np.log(1.5))),
            photons=usual.photons * np.exp(rng.normal(0, 0.7)),
            tone=rng.uniform(0, 1) ** 1.5,
            edge_gain=rng.choice([0.0, rng.uniform(0, 1.0)]),
            latitude=(rng.uniform(0.1, 0.6), rng.uniform(0, 0.2)),
        )
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
