"""The pictures before the contrast, which those that follow are compared with, as subtraction angiography does."""

from collections import deque

import cv2
import numpy as np

# A picture shows no contrast where less than this share of it is found to be vessel.
EMPTY = 0.005
# Of so many such pictures in a row the first is kept, so that contrast that only begins to come is in none of them;
# and so many are kept, over a breath.
IN_A_ROW, KEPT = 8, 8
# Side of the reduced pictures that are compared, in pixels, and the correlation below which a scene is another one.
SIDE, SAME_SCENE = 128, 0.5
# A scene that has moved as a whole is followed: pixels of the picture from which it is worth it, and the share of all
# that must speak for it (of the phase correlation).
LEAST_SHIFT, SURE = 1.0, 0.1


class References:
    """Follows a stream of pictures and tells which earlier one shows the same without contrast: `nearest(image)`.

    The nearest is the one that breath and beat have left most alike (re-masking), moved as a whole to where the scene
    is now (pixel shift). A stream's first picture counts at once, if it is empty. Where none is known to be empty, the
    scene's first picture tells at least what has come since: `first(image)`. The same pictures since `reset` get the
    same answers.
    """

    def __init__(self):
        self._kept = deque(maxlen=KEPT)
        self.reset()

    def reset(self):
        """Forget the stream."""
        self._kept.clear()
        self._row, self._begun, self._scene = 0, False, None

    def nearest(self, image):
        """Return the reference (H, W), of the picture's own type, that is most like it; None where there is none.

        What a moved reference does not show is as in the picture: nothing changed there.
        """
        if not self._kept:
            return None
        small = _reduced(image)
        best = max(self._kept, key=lambda kept: _likeness(kept, image, small))
        return _moved(best, image, small) if _likeness(best, image, small) > SAME_SCENE else None

    def first(self, image):
        """Return the first picture (H, W) of the scene that the picture shows, as `nearest` does; None where the
        picture is the first itself."""
        small = _reduced(image)
        if self._scene is None or _likeness(self._scene, image, small) <= SAME_SCENE:
            self._scene = image.copy(), small
            return None
        return _moved(self._scene, image, small)

    def add(self, image, vessels):
        """Take note of the stream's next picture (H, W) and of the `VesselMask` found in it."""
        first, self._begun = not self._begun, True
        if np.count_nonzero(vessels.mask) >= EMPTY * max(1, np.count_nonzero(vessels.valid)):
            self._row = 0
            return
        if not self._row:
            self._candidate = image.copy()
        self._row += 1
        if first or self._row == IN_A_ROW:
            self._kept.append((self._candidate, _reduced(self._candidate)))
            self._row = 0


def _likeness(kept, image, small):
    """Return the correlation of a kept (picture, reduced) with a picture and its reduced one; -1 for other formats."""
    picture, other = kept
    return (small * other).mean() if picture.shape == image.shape and picture.dtype == image.dtype else -1.0


def _moved(kept, image, small):
    """Return a kept picture, moved as a whole to where the scene is in another picture."""
    picture, other = kept
    window = cv2.createHanningWindow(small.shape[::-1], cv2.CV_32F)
    # On a copy: it works in its arguments' own memory.
    shift, sure = cv2.phaseCorrelate(other.copy(), small, window)
    shift = np.array(shift) * image.shape[1] / small.shape[1]
    if sure < SURE or np.hypot(*shift) < LEAST_SHIFT:
        return picture
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    return cv2.warpAffine(picture, matrix, image.shape[::-1], dst=image.copy(), borderMode=cv2.BORDER_TRANSPARENT)


def _reduced(image):
    scale = min(1.0, SIDE / max(image.shape))
    size = [max(1, round(length * scale)) for length in image.shape[::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return (small - small.mean()) / max(small.std(), 1e-6)
