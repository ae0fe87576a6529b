"""Whether a picture shows contrast dark, as is the custom, or bright."""

import cv2
import numpy as np

from m2i_ros.segmentation.collimator import valid_area

POLARITIES = ('auto', 'dark', 'bright')

# Sides of the reduced pictures, in pixels: of the first one of a scene, and of the frames that follow.
FIRST_SIDE, NEXT_SIDE = 256, 128
# Scales at which dark and bright structures are compared: (times halved, side of the neighbourhood in pixels).
FIRST_SCALES = ((0, 7), (0, 13), (1, 7), (1, 13), (2, 7))
NEXT_SCALES = ((0, 9), (1, 11))
# Natural logarithm of dark to bright from which the one or the other is meant, and frames in a row that must say so.
FIRST_SURE, NEXT_SURE, NEXT_FRAMES = 0.4, 0.5, 3
# The same for what was taken for bright, where vessels are not asked, and where they say so as well: one frame is
# enough then.
DARK_SURE, WITNESSED = 1.2, 1.0
# Asking the vessels costs time: after a no the next question waits for twice as many frames, up to so many.
LONGEST_WAIT = 48
# Change below this is noise; in standard deviations of the picture.
LEAST_CHANGE = 0.02
# Share of the picture that must be more vessel shown bright than it is shown dark, for the rarer to be believed.
LEAST_VESSEL = 0.005
# The same of a scene's first picture whose structures do not say so: an aorta is wider than these, and ribs deceive.
PLAIN_VESSEL = 0.02
# Share of the way that the remembered extremes go towards each frame: what moved some 100 frames ago is forgotten.
FORGETTING = 0.01
# Correlation of two frames: of one scene above the first, of one picture displayed the other way below the second.
SAME_SCENE, INVERTED = 0.3, -0.5


def inverted(image):
    """Return the picture, (H, W) of unsigned integers or floats, with dark for bright."""
    return ~image if np.issubdtype(image.dtype, np.integer) else -image


class Polarity:
    """Tells of each picture of a stream whether contrast is bright in it: `bright(image)`.

    vessels: called with a picture, whether contrast is bright in it, and an earlier picture that it is compared with,
    or None; returns how much vessel is found so. Asked of a scene's first picture, and when everything else speaks for
    a change.

    The first picture of a scene is judged by its structures of a vessel's width: more dark ones or more bright ones;
    and by the vessels found in it either way, of which much more must be bright where the structures do not say so.
    Ribs deceive there, so the frames that follow count more: what comes and goes is contrast and metal, and leaves its
    place darker than the surroundings when it is there (shown dark) or when it is not (shown bright). What has come
    since the scene's first picture must look like bright vessels then, unless that one showed dark vessels itself.
    Without a clear sign all stays as it was: dark, in the beginning. The same pictures since `reset` get the same
    answers.
    """

    def __init__(self, vessels):
        self._vessels = vessels
        self.reset()

    def reset(self):
        """Forget the stream."""
        self._bright = False
        # Excess of bright vessels in the picture that was last taken to show contrast bright, and whether that one was
        # compared with the scene's first.
        self._believed, self._compared = 0.0, False
        self._last = self._scene = None

    def bright(self, image):
        """Return whether contrast is bright in the stream's next picture."""
        small = cv2.GaussianBlur(_reduced(image, NEXT_SIDE), (0, 0), 1.0)
        small = (small - small.mean()) / max(small.std(), 1e-6)
        known = self._scene is not None and (self._scene.shape, self._scene.dtype) == (image.shape, image.dtype)
        likeness = (small * self._last).mean() if known else 0.0
        if INVERTED < likeness < SAME_SCENE:
            self._begin(image, small)
        elif likeness <= INVERTED:
            self._bright = not self._bright
            self._scene = inverted(self._scene)
            self._watch(small)
        else:
            self._follow(image, small)
        self._last = small
        return self._bright

    def _begin(self, image, small):
        self._watch(small)
        self._scene, self._wait = image.copy(), NEXT_FRAMES
        sign = _first_sign(image)
        if self._bright and abs(sign) <= FIRST_SURE:
            self._compared = False
            self._believed = self._excess(image)
            self._bright = self._believed > -LEAST_VESSEL
        else:
            self._bright = self._bright_by_vessels(image, least=LEAST_VESSEL if sign < -FIRST_SURE else PLAIN_VESSEL)

    def _watch(self, small):
        self._darkest, self._brightest, self._contrary = small.copy(), small.copy(), 0

    def _follow(self, image, small):
        for extreme, end in ((self._darkest, np.minimum), (self._brightest, np.maximum)):
            extreme += np.float32(FORGETTING) * (small - extreme)
            end(extreme, small, out=extreme)
        sign = _next_sign(self._darkest, self._brightest)
        # Gas, lung and bone that passed for bright vessels are there still; bright contrast would have come on top.
        if self._bright and sign > WITNESSED and self._excess(image) < max(0, self._believed - LEAST_VESSEL):
            self._bright, self._contrary = False, 0
            return
        self._contrary = self._contrary + 1 if (sign > DARK_SURE if self._bright else sign < -NEXT_SURE) else 0
        if self._contrary < (NEXT_FRAMES if self._bright else self._wait):
            return
        self._contrary = 0
        if self._bright:
            self._bright = False  # the custom needs no second witness
        elif self._bright_since_the_first(image):
            self._bright = True
        else:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            self._watch(small)  # it was something else: look anew

    def _bright_since_the_first(self, image):
        """Return whether what has come since the scene's first picture is vessel, and bright.

        Dark contrast that goes looks so, too, in what has changed: then the first picture itself shows dark vessels.
        """
        if not self._bright_by_vessels(image, compared=True):
            return False
        return self._vessels(self._scene, False, None) <= LEAST_VESSEL * image.size or self._bright_by_vessels(image)

    def _bright_by_vessels(self, image, compared=False, least=LEAST_VESSEL):
        """Return whether more vessel is found in a picture, by so much of it, when it is taken to show it bright."""
        self._compared = compared
        before = self._scene if compared else None
        bright = self._vessels(image, True, before)
        if bright <= least * image.size:
            return False  # whatever there is when it is taken to show it dark: asking takes time
        self._believed = (bright - self._vessels(image, False, before)) / image.size
        return bool(self._believed > least)

    def _excess(self, image):
        """Return how much more vessel is found so than when it is taken to show contrast dark, as a share."""
        before = self._scene if self._compared else None
        return (self._vessels(image, True, before) - self._vessels(image, False, before)) / image.size


def _reduced(image, side):
    scale = min(1.0, side / max(image.shape))
    size = [max(1, round(length * scale)) for length in image.shape[::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _halved(picture, times):
    for _ in range(times):
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return picture


def _hats(picture, side):
    """Return how much darker, and how much brighter, each place is than what lies around it."""
    square = np.ones((side, side), np.uint8)  # separable: half the time of a disc
    return cv2.morphologyEx(picture, cv2.MORPH_BLACKHAT, square), cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, square)


def _first_sign(image):
    """Return the mean logarithm, over scales, of dark to bright structures of a picture."""
    valid = _reduced((valid_area(image) & valid_area(inverted(image))).view(np.uint8), FIRST_SIDE) == 1
    picture = _reduced(image, FIRST_SIDE)
    low, middle, high = np.percentile(picture[valid] if valid.any() else picture, (1, 50, 99))
    picture = np.clip((picture - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    picture[~valid] = (middle - low) / max(high - low, 1e-6)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.0)
    signs = []
    for halved, side in FIRST_SCALES:
        dark, bright = (np.mean(hat**3) for hat in _hats(_halved(picture, halved), side))
        signs.append(np.log((dark + 1e-9) / (bright + 1e-9)))
    return np.mean(signs)


def _next_sign(darkest, brightest):
    """Return the logarithm of dark to bright where a stream changed; 0 where it hardly did."""
    change, dark, bright = 0.0, 0.0, 0.0
    for halved, side in NEXT_SCALES:
        low, high = _halved(darkest, halved), _halved(brightest, halved)
        changed = _hats(high - low, side)[1] ** 2
        change = max(change, np.sqrt(changed.mean()))
        dark += (changed * _hats(low, side)[0]).mean()
        bright += (changed * _hats(high, side)[1]).mean()
    return np.log((dark + 1e-9) / (bright + 1e-9)) if change > LEAST_CHANGE else 0.0
