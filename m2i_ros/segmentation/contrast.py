"""How far an injection is: none, filling, filled or washing out."""

import enum
import math

import cv2
import numpy as np


class Contrast(enum.Enum):
    """The state of the contrast agent in the picture."""

    NONE = 'none'
    FILLING = 'filling'
    FILLED = 'filled'
    WASHING_OUT = 'washing_out'

    @property
    def steady(self):
        """Whether contrast stays where it is, so that its edges are walls: neither comes nor goes."""
        return self is Contrast.FILLED


# Shares of the valid picture: vessel area above the ground level with which contrast is there, and below which it is
# gone; area of a stream's first frame that is taken for vessels filled already.
COMES, GONE, FIRST = 0.006, 0.003, 0.015
# Of the peak: lost, where it washes out, or is gone; gained a second, where it still fills.
WASHED, LEFT, GROWTH = 0.25, 0.15, 0.4
# Seconds: smoothing of the area; that growth or loss must last; memory of the ground level and of the peak; pause after
# which the next frame is the first of another run.
SMOOTHING, LASTING, MEMORY, PAUSE = 0.15, 0.3, 4.0, 3.0


class ContrastEstimator:
    """Follows the vessel area of one run and tells the `Contrast`: `update(vessels, stamp)`.

    The area counts above a ground level, which is what the segmentation finds where there is no contrast. A state
    changes once the area has left its range for `LASTING` seconds; contrast that comes is told sooner. A stamp that
    goes back and a pause start a new run. The same masks and stamps get the same answers.
    """

    def __init__(self):
        self.reset()

    def reset(self):
        """Forget the run."""
        self._stamp = None
        self.state = Contrast.NONE

    def update(self, vessels, stamp):
        """Return the `Contrast` in the next frame. vessels: `VesselMask`. stamp: seconds."""
        area = _area(vessels)
        if self._stamp is None or not 0 <= stamp - self._stamp <= PAUSE:
            self._begin(area, stamp)
            return self.state
        elapsed, self._stamp = stamp - self._stamp, stamp
        before = self._area
        self._area += (area - self._area) * -math.expm1(-elapsed / SMOOTHING)
        # Growth in peaks a second, smoothed over twice the time: a frame's jitter is no growth.
        if elapsed > 0:
            growth = (self._area - before) / elapsed
            self._growth += (growth - self._growth) * -math.expm1(-elapsed / (2 * SMOOTHING))
        self._step(elapsed)
        return self.state

    def _begin(self, area, stamp):
        self._stamp, self._area, self._growth, self._since = stamp, area, 0.0, 0.0
        filled = area > FIRST
        self.state = Contrast.FILLED if filled else Contrast.NONE
        self._ground = 0.0 if filled else area
        self._peak = area - self._ground

    def _step(self, elapsed):
        forgotten = -math.expm1(-elapsed / MEMORY)
        if self.state is Contrast.NONE:
            self._ground += (self._area - self._ground) * (1 if self._area < self._ground else forgotten)
        above = self._area - self._ground
        if self.state is Contrast.NONE:
            self._peak = above
            wanted = Contrast.FILLING if above > COMES else Contrast.NONE
        else:
            self._peak = max(above, self._peak + (above - self._peak) * forgotten)
            wanted = self._wanted(above, self._growth / max(self._peak, 1e-9))
        self._since = 0.0 if wanted is self.state else self._since + elapsed
        if wanted is not self.state and (self.state is Contrast.NONE or self._since >= LASTING):
            self.state, self._since = wanted, 0.0

    def _wanted(self, above, growth):
        if above < max(GONE, LEFT * self._peak):
            return Contrast.NONE
        if growth > GROWTH:
            return Contrast.FILLING
        if above < (1 - WASHED) * self._peak or growth < -GROWTH:
            return Contrast.WASHING_OUT
        return Contrast.WASHING_OUT if self.state is Contrast.WASHING_OUT and growth < 0 else Contrast.FILLED


def _area(vessels):
    """Return the share of the valid picture that is vessel, what is certain counting full and what is even, nothing."""
    valid = cv2.countNonZero(vessels.valid.view(np.uint8))
    area = cv2.countNonZero(vessels.mask)
    if vessels.probability is not None and area:
        area *= max(0.0, 2 * cv2.mean(vessels.probability, vessels.mask)[0] - 1)
    return area / max(valid, 1)
