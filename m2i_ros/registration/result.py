"""What the registration knows after one frame."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from m2i_ros.registration.confidence import Evidence

if TYPE_CHECKING:
    from m2i_ros.registration.deformation import Bend


class State(Enum):
    """States of a registration (docs/architecture.md)."""

    WAITING = 'waiting'  # no model or no camera
    SEARCHING = 'searching'  # no believed pose yet
    TRACKING = 'tracking'  # believed on this frame
    HOLDING = 'holding'  # contrast gone: last pose, growing covariance
    LOST = 'lost'  # no longer believed

    @property
    def severity(self):
        """How bad it is, as diagnostic_msgs counts: 0 OK, 1 WARN, 2 ERROR."""
        return {'tracking': 0, 'lost': 2}.get(self.value, 1)


@dataclass(frozen=True)
class Registration:
    """The model's pose in one frame and how far it is believed.

    state: after this frame. accepted: the pose is believed: only then it may reach a controller. reason: in words, why
    not (or why only held), empty while TRACKING.
    T_image_model: (4, 4), metres, or None where there is no estimate.
    covariance: (6, 6) of xi = (x, y, z, rotation about the fixed axes x, y, z) as `geometry.perturb` applies it with
    the pivot at the model origin's position, metres and radians; None with T_image_model.
    probability: that the projected error is below `accept_mm`, in [0, 1]; see `confidence`.
    recall, precision: of the projected model against the mask, inside the valid region; NaN without an estimate.
    residual_mm: root mean square distance between mask and model contours where they match (within 3 px), at the
    model's depth; NaN likewise. evidence: what the probability was made of; None where the pose was not fitted now.
    views: that the pose rests upon. second: in words, why a second view that was there was not used; else empty.
    second_age: seconds since a second view of before the C-arm turned, where the pose rests upon one; else NaN.
    bend: of the centreline, where the settings ask for it and the pose was fitted now and is accepted; else None.
    """

    state: State
    accepted: bool = False
    reason: str = ''
    T_image_model: np.ndarray | None = None
    covariance: np.ndarray | None = None
    probability: float = 0.0
    recall: float = float('nan')
    precision: float = float('nan')
    residual_mm: float = float('nan')
    evidence: Evidence | None = None
    views: int = 1
    second: str = ''
    second_age: float = float('nan')
    bend: 'Bend | None' = None

    def centreline(self, model):
        """Return the `Centreline` of a `VesselModel` as this frame shows it: bent where there is a `bend`."""
        return model.centreline if self.bend is None else self.bend.apply(model.centreline)
