"""What can be set about a registration."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RegistrationSettings:
    """Settings of a `Registrar`: metres, radians and seconds, but for `accept_mm`.

    accept_mm: millimetres at the model's depth: the probability of a pose is that its projected error is below.
    accept_probability: a pose is accepted where its probability is at least this. At 0.8 fewer than 0.5% of simulated
    starts are wrong by more than 5 mm yet accepted, and on whole masks fewer than 5% right to 2 mm yet refused
    (README).
    max_hold: seconds without contrast for which the last pose is held: given out while the motion seen before lets it
    be believed.
    max_doubt: seconds for which a track survives frames whose evidence is refused (nothing is given out meanwhile).
    max_keep: seconds for which a picture that a C-arm took before it turned is kept as a second view of the frames
    after, where its motion is known; 0: none is. keep_angle: radians by which it must have turned.
    search_interval: seconds from a search that found nothing believable to the next: a search takes the time of several
    frames, and without contrast it finds nothing again and again.
    starts: poses tried in a search, from each place to start from.
    min_vessel_fraction: share of the valid picture that must be vessel before a search is worth its time.
    min_overlap: overlap of the best start with the vessels (`starts.best_shifts`) below which a search ends early:
    without contrast what is found are edges here and there, and refining starts on them takes time for nothing.
    min_contrast: share of the projected model that must be vessel to track it; below, contrast counts as gone.
    max_filling: relative growth of the vessel area per second above which contrast counts as still filling in; the
    search waits for it to slow down.
    prior_rotation, prior_in_plane, prior_depth: standard deviations of an initial pose given without a covariance,
    about the model's centroid; radians and metres.
    drift_rotation, drift_in_plane, drift_depth: how far the anatomy moves unseen: a random walk's standard deviation
    after one second; radians and metres. It predicts the next frame.
    matching: 'none', or the weights of the network that moves the best starts of a search before they are refined:
    'default' or the path of an .onnx file. Read once, when the `Registrar` is made.
    deformation: whether the centreline of a believed pose is bent to the vessels seen; see `deformation`. The pose and
    its probability stay those of the rigid model.

    Raises ValueError naming the setting, its value and the range.
    """

    accept_mm: float = 1.0
    accept_probability: float = 0.8
    max_hold: float = 1.0
    max_doubt: float = 0.5
    max_keep: float = 60.0
    keep_angle: float = math.radians(20)
    search_interval: float = 0.3
    starts: int = 64
    min_vessel_fraction: float = 0.005
    min_overlap: float = 0.35
    min_contrast: float = 0.2
    max_filling: float = 1.0
    prior_rotation: float = math.radians(10)
    prior_in_plane: float = 0.04
    prior_depth: float = 0.06
    drift_rotation: float = math.radians(3)
    drift_in_plane: float = 0.005
    drift_depth: float = 0.005
    matching: str = 'none'
    deformation: bool = False

    RANGES = {
        'accept_mm': (0.01, 100.0),
        'accept_probability': (0.0, 1.0),
        'max_hold': (0.0, 3600.0),
        'max_doubt': (0.0, 3600.0),
        'max_keep': (0.0, 3600.0),
        'keep_angle': (math.radians(5), math.radians(90)),
        'search_interval': (0.0, 3600.0),
        'starts': (1, 4096),
        'min_vessel_fraction': (0.0, 1.0),
        'min_overlap': (0.0, 1.0),
        'min_contrast': (0.0, 1.0),
        'max_filling': (0.0, 1000.0),
        'prior_rotation': (1e-3, math.pi),
        'prior_in_plane': (1e-4, 1.0),
        'prior_depth': (1e-4, 1.0),
        'drift_rotation': (1e-4, math.pi),
        'drift_in_plane': (1e-5, 1.0),
        'drift_depth': (1e-5, 1.0),
    }

    def __post_init__(self):
        for name, (low, high) in self.RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN fails too
                raise ValueError(f'{name} = {value}: must be from {low} to {high}')
        if self.starts != int(self.starts):
            raise ValueError(f'starts = {self.starts}: must be a whole number')
