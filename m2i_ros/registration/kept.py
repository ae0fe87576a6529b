"""What one C-arm saw before it turned: kept as a second view of the frames after, and doubted for what moved since."""

from dataclasses import dataclass, replace

import numpy as np

from m2i_ros.geometry import inverse, rigid, rotation_angle
from m2i_ros.registration.motion import MEMORY
from m2i_ros.registration.view import View

KEPT = 4  # views at a time
RESTS = np.radians(0.2), 1e-3  # by which the image frame of a C-arm at rest may seem to move from frame to frame
PAUSE = 0.5  # seconds without pictures after which how the C-arm stands is known, even where TF comes late
UNSEEN = 2e-3  # metres: standard deviation of breath and beat along each axis, where they were not watched
GEOMETRY = 1e-3, np.radians(0.5)  # metres and radians: the same of how well it is known where the C-arm went
SETTLING = 1e-3  # metres: the same of how far a patient who lies still moves within a minute; a random walk


@dataclass(frozen=True, eq=False)
class _Kept:
    """A `View` with T_fixed_image (4, 4) and the stamp that it was taken at; what else it holds: see `_expected`."""

    view: View
    T_fixed_image: np.ndarray
    stamp: float
    shift: np.ndarray
    sway: np.ndarray


class KeptViews:
    """Keeps the last good picture of each way in which a C-arm stood, for the frames after it has turned.

    For each frame `see` is called, then `take` where the frame can be kept. Only pictures of a C-arm at rest are kept
    or completed: where TF is late, a picture of a moving one belongs to another angle than it seems.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        """Forget all: model, patient, table or run are others, or moved untold."""
        self._kept, self._candidate = [], None
        self._T_fixed_image, self._stamp, self._rests, self.since = None, None, False, np.inf

    def see(self, T_fixed_image, stamp, max_age):
        """Take how the image frame stands at a frame: (4, 4), or None where that is not known. stamp: seconds."""
        before, last = self._T_fixed_image, self._stamp
        known = before is not None and T_fixed_image is not None
        same = known and _same(before, T_fixed_image)
        self._rests = same or known and stamp - last > PAUSE
        # Kept once the next frame says that the C-arm stood still: TF may have told too late that it no longer did.
        if self._candidate is not None and same:
            self._keep(self._candidate)
        if not same:
            self.since = stamp
        self._candidate, self._T_fixed_image, self._stamp = None, T_fixed_image, stamp
        self._kept = [kept for kept in self._kept if stamp - kept.stamp <= max_age]

    def take(self, view, stamps, places):
        """Take the view of the last frame seen, which shows the vessels well.

        stamps: (N,) seconds from `since` on, at which its model was seen, at last now. places: (N, 2) metres, where a
        point of it lay in the picture then.
        """
        if self._rests:
            shift, sway = _expected(stamps, places)
            self._candidate = _Kept(view, self._T_fixed_image, self._stamp, shift, sway)

    def second(self, min_angle):
        """Return the `View` that a frame just seen has of before, or None: the one that looks most across.

        min_angle: radians between both central rays, or the one and the other's reverse.
        """
        if not self._rests:
            return None
        sine, kept = max(((self._across(kept), kept) for kept in self._kept), key=lambda p: p[0], default=(0.0, None))
        if sine < np.sin(min_angle):
            return None
        age = self._stamp - kept.stamp
        T = inverse(kept.T_fixed_image) @ self._T_fixed_image
        T_mean = rigid(translation=(*kept.shift, 0.0)) @ T
        sway = kept.sway + (GEOMETRY[0] ** 2 + SETTLING**2 * age / 60) * np.eye(2)
        return replace(kept.view, T_view_image=T_mean, sway=sway, twist=GEOMETRY[1], age=age)

    def _keep(self, candidate):
        """Keep a view instead of one from the same place; of too many, the one goes that looks most alike."""
        self._kept = [kept for kept in self._kept if not _same(kept.T_fixed_image, candidate.T_fixed_image)]
        if len(self._kept) == KEPT:
            self._kept.remove(max(self._kept, key=lambda kept: _cosine(kept.T_fixed_image, candidate.T_fixed_image)))
        self._kept.append(candidate)

    def _across(self, kept):
        return np.sqrt(max(0.0, 1 - _cosine(kept.T_fixed_image, self._T_fixed_image) ** 2))


def _expected(stamps, places):
    """Return by how much, on average, a picture's last place differs from others' (2,), and the covariance (2, 2) of
    the rest.

    Where breath and beat were watched for `MEMORY`, which is two breaths, these are known: the vessels will be
    somewhere about the mean. Where nothing was watched, both moments are unknown, and the last place says nothing.
    """
    known = min(1.0, (stamps[-1] - stamps[0]) / MEMORY)
    rest = places - places.mean(axis=0)
    seen = rest.T @ rest / len(rest)
    return known * rest[-1], known * seen + (1 - known) * 2 * UNSEEN**2 * np.eye(2)


def _cosine(T_a, T_b):
    return float(T_a[:3, 2] @ T_b[:3, 2])


def _same(T_a, T_b):
    between = inverse(T_a) @ T_b
    return rotation_angle(between) < RESTS[0] and np.linalg.norm(between[:3, 3]) < RESTS[1]
