"""From a fluoroscopy picture to its vessels."""

import cv2
import numpy as np

from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.engines import make_engine
from m2i_ros.segmentation.vessel_mask import VesselMask
from m2i_ros.segmentation.weights import find, sha256

# Pictures larger than this are segmented reduced to it: the shipped weights know pictures of this size, and a network
# on larger ones is slower than fluoroscopy.
LARGEST_SIDE = 512
# Islands below this share of the picture (26 pixels of 512x512) are noise.
SMALLEST_ISLAND = 1e-4


def normalise_grey(image, valid):
    """Return (H, W) float32: grey values so that the darkest 1% and brightest 1% inside `valid` become 0 and 1.

    Outside `valid` the value is 0.5. Training and inference both go through here. Polarity is left as it is: the
    weights know contrast shown dark, as is the custom, best.
    """
    sample, inside = image[::3, ::3], valid[::3, ::3]
    low, high = np.percentile(sample[inside] if inside.any() else sample, (1, 99))
    scaled = image.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(1 / max(high - low, 1e-6))
    np.clip(scaled, -0.25, 1.25, out=scaled)
    scaled[~valid] = 0.5
    return scaled


class Segmenter:
    """Finds the vessels of one frame: `segment(image) -> VesselMask`.

    weights: 'default', the name of shipped weights, or a path (see `weights.find`).
    engine: 'auto', 'openvino', 'onnxruntime' or 'torch'. threads: CPU threads of the engine.
    threshold: probability from which a pixel is vessel; None: the one calibrated with the weights. May be set later.
    largest_side: pixels; larger pictures go through the network reduced to it. The mask has the picture's own size.
    Raises WeightsError and ValueError for weights, engines and thresholds that are not there, naming those that are.
    """

    def __init__(self, weights='default', engine='auto', threads=2, threshold=None, largest_side=LARGEST_SIDE):
        self._weights = find(weights)
        self._engine_name, self._engine = make_engine(engine, self._weights, threads)
        self._hash = sha256(self._engine.path)
        self.threshold = threshold
        self.largest_side = largest_side

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
        """dict: engine, weights (their name), hash (SHA-256 of the file in use), threshold."""
        return {
            'engine': self._engine_name,
            'weights': self._weights.name,
            'hash': self._hash,
            'threshold': self._threshold,
        }

    def segment(self, image):
        """Return the `VesselMask` of a grey picture, (H, W) uint8, uint16 or float32, finite, at least 32x32."""
        valid = valid_area(image)
        probability = self._probability(normalise_grey(image, valid))
        probability[~valid] = 0
        mask = (probability >= self._threshold).view(np.uint8)
        return VesselMask(_without_islands(mask), valid, probability)

    def _probability(self, picture):
        height, width = picture.shape
        scale = min(1.0, self.largest_side / max(height, width))
        if scale < 1:
            size = (max(32, round(width * scale)), max(32, round(height * scale)))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        rows, columns = picture.shape
        below, right = (-side % self._weights.multiple for side in (rows, columns))
        if below or right:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        probability = self._engine(picture[None, None])[:rows, :columns]
        if scale < 1:
            return cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(probability)


def _without_islands(mask):
    """(H, W) uint8, 0 or 1, to 0 or 255 without its smallest 8-connected islands."""
    # Areas by hand, of vessel pixels only: OpenCV's own statistics take three times as long.
    _, labels = cv2.connectedComponents(mask, connectivity=8)
    areas = np.bincount(labels[mask.view(bool)], minlength=1)
    return np.where(areas >= SMALLEST_ISLAND * mask.size, 255, 0).astype(np.uint8).take(labels)
