"""From a fluoroscopy picture to its vessels."""

import cv2
import numpy as np

from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.engines import make_engine
from m2i_ros.segmentation.letters import without_letters
from m2i_ros.segmentation.polarity import POLARITIES, Polarity, inverted
from m2i_ros.segmentation.reference import References
from m2i_ros.segmentation.vessel_mask import VesselMask
from m2i_ros.segmentation.weights import find, sha256

# Pictures larger than this are segmented reduced to it: the shipped weights know pictures of this size, and a network
# on larger ones is slower than fluoroscopy.
LARGEST_SIDE = 512
# Smaller ones are enlarged towards that size, at most so much: their vessels are thinner than those the weights know.
ENLARGEMENT = 1.5
# And they are softer than what these know: what a blur of so many of their own pixels takes from a picture enlarged by
# half is added to it (unsharp masking), and less of it to one enlarged less.
SOFTNESS = 2.0
# Noise would be sharpened, too: where it is more than the first, as a share of the grey scale, less is added, from the
# second on nothing. Pictures of small size that were never resampled are noisy.
NOISE = (0.006, 0.012)
# Of a long picture reduced to the largest side, the other side keeps at least the STRIPth part of it.
STRIP = 4
_ROUGH = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# Islands are vessel where their certain part (`Weights.certain`) is no smaller than this area at the isocentre; where
# the size of a pixel is not known, than this share of the picture (26 pixels of 512x512), which is the same where a
# detector of 0.3 m is seen. What is found in frames without contrast is rarely certain anywhere (docs/training_log.md).
SMALLEST_MM2 = 4.4
SMALLEST_SHARE = 1e-4
# What changed since the reference is shown to the network so many times as strong as the picture, and up to a limit.
CHANGE_GAIN, CHANGE_LIMIT = 3.0, 1.5
# The grey values of a picture that is mostly dark, as one linear in the signal is, are bent: medians, as shares of the
# grey scale, and what they are brought to; by no exponent below the last.
DARK, BROUGHT_TO, LEAST_EXPONENT = (0.15, 0.27), (0.35, 0.27), 0.4
# Where more than the second of a picture is black as a whole, within the first, the window has cut its depth off: its
# rim is made lighter, falling off inwards over this share of the longest side; less where what lies about it is no
# lighter than the second of STEP, and not at all below the first: dark tissue fades into black.
BLACK, BLACK_SHARE, RIM_REACH, STEP = 0.01, 0.02, 0.03, (0.25, 0.5)
# By how much lighter, where the middle half of the other grey values is spread over so much of the grey scale: little
# in a subtracted picture, where what is black is vessel.
RIM, SPREAD = (0.3, 0.16), (0.18, 0.26)
# Probability of what is vessel without doubt, when polarities are compared; and how far a piece of it must reach, as a
# share of the picture's side: discs between vertebrae look like pieces of vessel where contrast is taken to be bright.
NO_DOUBT, REACHING = 0.8, 0.3
# Where less than this share of a picture is vessel, a picture of half the size may say of islands that they are; but
# only from this mean probability on, by the picture itself.
LITTLE, POSSIBLE = 0.01, 0.2


def network_input(image, valid, pictures=1, reference=None, evened=True):
    """Return what the network sees of a picture, (pictures, H, W) float32.

    evened: whether what is black as a whole gets some depth, and mostly dark pictures without a reference are bent.

    First the grey values so that the darkest 1% and brightest 1% inside `valid` become 0 and 1, and 0.5 outside. Then,
    where the network takes two, what has changed since `reference`, (H, W) of the same type, enlarged; all 0 without
    one. Training and inference both go through here. The weights know contrast shown dark, as is the custom: other
    pictures come here inverted.
    """
    sample, inside = image[::3, ::3], valid[::3, ::3]
    inside = inside if inside.any() else np.ones_like(inside)
    low, median, high = np.percentile(sample[inside], (1, 50, 99))
    scale = 1 / max(high - low, 1e-6)
    middle = (median - low) * scale
    if evened and reference is None and 0 < middle < DARK[-1]:
        exponent = max(LEAST_EXPONENT, np.log(np.interp(middle, DARK, BROUGHT_TO)) / np.log(middle))
        image = _bent(image, low, high, exponent)
    seen = np.zeros((pictures, *image.shape), np.float32)
    np.subtract(image, np.float32(low), out=seen[0], dtype=np.float32, casting='unsafe')
    seen[0] *= np.float32(scale)
    np.clip(seen[0], -0.25, 1.25, out=seen[0])
    if evened:
        _deepen(seen[0], valid)
    seen[0, ~valid] = 0.5
    if pictures == 2 and reference is not None:
        change = seen[1]
        np.subtract(image, reference, out=change, dtype=np.float32, casting='unsafe')
        # Exposure differs from picture to picture; where nothing moved is most of it.
        change -= np.median(change[::3, ::3][inside])
        change *= np.float32(CHANGE_GAIN * scale)
        np.clip(change, -CHANGE_LIMIT, CHANGE_LIMIT, out=change)
        change[~valid] = 0
    return seen


def _bent(picture, low, high, exponent):
    """Return a picture, float32, with another curve of grey values between, and a little above, two that stay."""
    share = (picture.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.float32(low) + np.float32(high - low) * np.clip(share, 0, 1.25) ** np.float32(exponent)


def _deepen(seen, valid):
    """Give what is black as a whole, in a picture (H, W) of 0 to 1, a tube's profile: darkest along its middle."""
    black = (seen <= seen.min() + BLACK) & valid
    if np.count_nonzero(black) < BLACK_SHARE * np.count_nonzero(valid):
        return
    rest = seen[::3, ::3][(~black & valid)[::3, ::3]]
    if not rest.size:
        return
    lower, upper = np.percentile(rest, (25, 75))
    height, reach = np.interp(upper - lower, SPREAD, RIM), RIM_REACH * max(seen.shape)
    beside, about = (~black & valid).astype(np.float32), (2 * round(reach) + 1,) * 2
    light = cv2.blur(seen * beside, about) / np.maximum(cv2.blur(beside, about), 1e-3)
    # What lies beside the point of the rim that is nearest.
    from_rim, rim = cv2.distanceTransformWithLabels(
        black.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    at_rim = np.zeros(rim.max() + 1, np.float32)
    at_rim[rim[~black]] = np.interp(light[~black], STEP, (0, height))
    seen[black] += at_rim[rim[black]] * np.exp(-from_rim[black] / np.float32(reach))


def at_network_size(picture, largest_side=LARGEST_SIDE, sharp=True):
    """Return a picture, (H, W), reduced or enlarged to the size at which it goes through the network.

    Larger ones are reduced to `largest_side`, smaller ones enlarged by at most `ENLARGEMENT` and, if they are to be
    `sharp` (grey values; masks are not), sharpened.
    """
    height, width = picture.shape
    longest, shortest = max(height, width), min(height, width)
    if longest > largest_side:
        # A strip is left wide enough to show what its vessels are.
        scale = max(largest_side / longest, min(1.0, largest_side / STRIP / shortest))
    else:
        scale = max(1.0, min(ENLARGEMENT, min(LARGEST_SIDE, largest_side) / longest))
    if scale == 1:
        return picture
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    if scale < 1:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    if not sharp:
        return enlarged
    gain = (scale - 1) / (ENLARGEMENT - 1) * np.interp(_noise(picture), NOISE, (1, 0))
    if gain == 0:
        return enlarged
    blurred = cv2.GaussianBlur(enlarged, (0, 0), SOFTNESS * scale)
    return cv2.addWeighted(enlarged, 1 + gain, blurred, -gain, 0)


def _noise(picture):
    """Return the standard deviation of a picture's noise as a share of its grey scale (Immerkaer, Computer Vision and
    Image Understanding 1996;64:300, by the median), flat areas aside."""
    picture = picture.astype(np.float32)
    rough = np.abs(cv2.filter2D(picture, -1, _ROUGH))
    rough = rough[rough > 0]
    low, high = np.percentile(picture[::3, ::3], (1, 99))
    return np.median(rough) / (6 * 0.6745) / max(high - low, 1e-6) if len(rough) else 0.0


class Segmenter:
    """Finds the vessels of one frame: `segment(image) -> VesselMask`.

    weights: 'default', the name of shipped weights, or a path (see `weights.find`).
    engine: 'auto' or one of `engines.ENGINES`. threads: CPU threads of the engine.
    threshold: probability from which a pixel is vessel; None: the one calibrated with the weights. May be set later.
    largest_side: pixels; larger pictures go through the network reduced to it, smaller ones enlarged, at most by half
        and to 512. The mask has the picture's own size.
    polarity: how contrast is shown, 'dark', 'bright', or 'auto': found out, see `Polarity`. May be set later.
    reference: whether weights for two pictures are shown what changed since an earlier picture without contrast, where
        the stream has one (see `References`); else such weights look at the picture in half its size as well. May be
        set later.
    pixel_mm: what one pixel sees at the isocentre, millimetres; None: not known. May be set at any time.
    Raises WeightsError and ValueError for weights, engines and thresholds that are not there, naming those that are.

    Pictures are taken for one stream, in their order: `reset` between those that do not belong together.
    """

    def __init__(
        self,
        weights='default',
        engine='auto',
        threads=2,
        threshold=None,
        largest_side=LARGEST_SIDE,
        polarity='auto',
        reference=True,
    ):
        self._weights = find(weights)
        self._engine_name, self._engine = make_engine(engine, self._weights, threads)
        self._hash = sha256(self._engine.path)
        self.threshold = threshold
        self.largest_side = largest_side
        self.pixel_mm = None
        self._stream = Polarity(self._amount)
        self._bright = False
        # Of the stream, and of the other plane's.
        self._references, self._beside = (References() for _ in range(2))
        self.reference = reference
        self.polarity = polarity

    def warm_up(self):
        """Let the engine compile what it runs, for the most frequent size of picture; else its first one waits."""
        self._vessels(np.zeros((LARGEST_SIDE, LARGEST_SIDE), np.uint8), False)

    def reset(self):
        """Forget the stream so far: the next picture is the first of another."""
        for state in (self._stream, self._references, self._beside):
            state.reset()
        self._first = None

    @property
    def polarity(self):
        return self._polarity

    @polarity.setter
    def polarity(self, value):
        if value not in POLARITIES:
            raise ValueError(f'polarity {value!r} is unknown: use one of {", ".join(POLARITIES)}')
        self._polarity = value
        self.reset()

    @property
    def reference(self):
        return self._reference

    @reference.setter
    def reference(self, value):
        self._reference = bool(value)
        self._compared = self._reference and self._weights.pictures == 2
        for state in (self._references, self._beside):
            state.reset()

    @property
    def threshold(self):
        return self._threshold

    @threshold.setter
    def threshold(self, value):
        value = self._weights.threshold if value is None else float(value)
        if not 0 < value < 1:
            raise ValueError(f'threshold {value}: a probability between 0 and 1 (both excluded) is needed')
        self._threshold = value

    @property
    def info(self):
        """dict: engine, weights (their name), hash (SHA-256 of the file in use), threshold, polarity (the last
        picture's), reference (whether pictures are compared with one)."""
        return {
            'engine': self._engine_name,
            'weights': self._weights.name,
            'hash': self._hash,
            'threshold': self._threshold,
            'polarity': 'bright' if self._bright else 'dark',
            'reference': self._compared,
        }

    def segment(self, image):
        """Return the `VesselMask` of a grey picture, (H, W) uint8, uint16 or float32, finite, at least 32x32."""
        before = self._bright
        self._bright = self._stream.bright(image) if self._polarity == 'auto' else self._polarity == 'bright'
        if self._first is None:
            self._first = image.copy()
        elif self._bright != before and self._compared:
            # How contrast is shown was found out late: the first picture may be without any, after all.
            self._references.reset()
            self._references.first(self._first)
            self._references.add(self._first, self._mask(*self._vessels(self._first, self._bright)))
        return self._segment(image, self._references)

    def segment_beside(self, image):
        """Return the `VesselMask` of a picture that is not of the stream: another plane of the same X-ray system.

        Contrast is taken to be shown as in the stream's last picture.
        """
        return self._segment(image, self._beside)

    def _segment(self, image, references):
        if not self._compared:
            return self._mask(*self._vessels(image, self._bright))
        reference = references.nearest(image)
        first = references.first(image) if reference is None else None
        vessels = self._mask(*self._vessels(image, self._bright, reference, first))
        references.add(image, vessels)
        return vessels

    def _mask(self, probability, valid):
        return VesselMask(self._islands(probability), valid, probability)

    def _islands(self, probability):
        """Return (H, W) uint8, 255 where there is vessel by a probability (H, W)."""
        mask = (probability >= self._threshold).view(np.uint8)
        certain = probability >= max(self._weights.certain, self._threshold)
        return _without_islands(mask, certain, self._smallest_island(mask.size))

    def _vessels(self, image, bright, reference=None, first=None):
        """Return probability (H, W) and valid area (H, W) of a picture in which contrast is bright, or dark.

        first: where there is no reference, an earlier picture that may show contrast (see `References.first`).
        """
        dark, reference, first = (
            None if picture is None else without_letters(inverted(picture) if bright else picture)
            for picture in (image, reference, first)
        )
        valid = valid_area(dark)
        if bright:  # a shutter drawn black, whatever the polarity
            valid &= valid_area(image)
        seen = network_input(dark, valid, self._weights.pictures, reference, self._weights.evened)
        probability = self._probability(seen)
        probability[~valid] = 0
        if self._weights.pictures == 2 and reference is None:
            # Where nothing tells what has changed, wide vessels before uneven tissue are missed at times that stand out
            # in a smaller picture. The mean of both looks counts there; and where next to nothing is found, the smaller
            # picture alone, if the large one holds a vessel there for possible.
            smaller = self._probability(seen, smaller=2)
            self._raise(probability, (probability + smaller) / 2, valid)
            if np.count_nonzero(self._islands(probability)) < LITTLE * probability.size:
                self._raise(probability, smaller, valid, missed=0.5, likely=POSSIBLE)
            if first is not None:
                # What has come since the first picture is vessel, whatever was in that one.
                seen = network_input(dark, valid, self._weights.pictures, first, self._weights.evened)
                self._raise(probability, self._probability(seen), valid, missed=0.5)
        return probability, valid

    def _amount(self, image, bright, before):
        """Return the number of pixels that are vessel without doubt, in pieces that reach far."""
        certain = self._vessels(image, bright, before if self._compared else None)[0] > NO_DOUBT
        _, _, pieces, _ = cv2.connectedComponentsWithStats(certain.view(np.uint8), connectivity=8)
        _, _, width, height, area = pieces[1:].T
        return int(area[np.hypot(width, height) >= REACHING * np.sqrt(image.size)].sum())

    def _smallest_island(self, pixels):
        if self.pixel_mm is None:
            return SMALLEST_SHARE * pixels
        return SMALLEST_MM2 / self.pixel_mm**2

    def _raise(self, probability, other, valid, missed=0.0, likely=0.0):
        """Raise the probability (H, W) to another look's in the islands of this that are certain by themselves.

        missed: share of an island that must not be found yet. Where most of it is, it is the one vessel, and what it
        adds is what has moved. likely: with `missed`, the mean probability that an island must have already.
        """
        other[~valid] = 0
        islands = self._islands(other)
        if missed:
            number, labels = cv2.connectedComponents(islands, connectivity=8)
            if number == 1:
                return
            pixels = np.bincount(labels.ravel())
            doubted = np.bincount(labels.ravel(), probability.ravel() >= self._threshold) / pixels > 1 - missed
            if likely:
                doubted |= np.bincount(labels.ravel(), probability.ravel()) / pixels < likely
            islands[doubted[labels]] = 0
        np.maximum(probability, other, out=probability, where=islands > 0)

    def _probability(self, seen, smaller=1):
        """Return the probability (H, W) of what the network sees of a picture, (pictures, H, W), so much smaller."""
        height, width = seen.shape[1:]
        seen = np.stack([at_network_size(picture, self.largest_side, self._weights.sharpen) for picture in seen])
        if smaller > 1:
            size = [max(1, side // smaller) for side in seen.shape[:0:-1]]
            seen = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in seen])
        rows, columns = seen.shape[1:]
        below, right = (-side % self._weights.multiple for side in (rows, columns))
        if below or right:
            seen = np.pad(seen, ((0, 0), (0, below), (0, right)), mode='reflect')
        probability = self._engine(seen[None])[:rows, :columns]
        if probability.shape != (height, width):
            return cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(probability)


def _without_islands(mask, certain, smallest):
    """(H, W) uint8, 0 or 1, to 0 or 255 without its 8-connected islands of fewer than `smallest` certain pixels.

    certain: (H, W) bool, within the mask.
    """
    # Areas by hand, of certain pixels only: OpenCV's own statistics take three times as long.
    number, labels = cv2.connectedComponents(mask, connectivity=8)
    areas = np.bincount(labels[certain], minlength=number)
    return np.where(areas >= max(smallest, 1), 255, 0).astype(np.uint8).take(labels)
