"""A folder of pictures as a source."""

import logging
import re
from pathlib import Path

import cv2
import numpy as np

from m2i_ros.sources.source_frame import SourceError, SourceFrame

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.pgm', '.webp')

log = logging.getLogger(__name__)


def natural_order(path):
    """Return a sort key under which frame_2 comes before frame_10."""
    return [(0, int(part), '') if part.isdigit() else (1, 0, part.lower()) for part in re.split(r'(\d+)', path.name)]


def read_grey(path):
    """Return the picture in a file as (H, W) uint8, uint16 or float32; colours become grey.

    Raises SourceError for a file that is missing or is no picture OpenCV can read.
    """
    try:
        # Not cv2.imread: it knows no file names beyond the locale's encoding, and it does not say why it failed.
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        raise SourceError(f'{path}: cannot be read: {error}') from error
    if image is None:
        raise SourceError(f'{path}: is not a picture, or is damaged: remove it or save it again as PNG')
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    if image.dtype not in (np.uint8, np.uint16):
        image = image.astype(np.float32)
    return image


class ImageFolder:
    """The pictures of a folder, in natural order, at `frame_rate`; sizes may differ from picture to picture.

    A file that cannot be read is skipped with a warning, and its path kept in `skipped`.
    Raises SourceError for a folder that is missing or holds no picture.
    """

    realtime = False
    model = camera = initial_pose = None

    def __init__(self, path, frame_rate=15.0):
        self.path = Path(path)
        if not self.path.is_dir():
            raise SourceError(f'{path}: is not a folder: give the folder that holds the pictures')
        self._files = sorted((p for p in self.path.iterdir() if p.suffix.lower() in SUFFIXES), key=natural_order)
        if not self._files:
            raise SourceError(f'{path}: holds no picture: files that end in {", ".join(SUFFIXES)} are looked for')
        if frame_rate <= 0:
            raise SourceError(f'frame rate {frame_rate}: must be above 0 frames per second')
        self.frame_rate = frame_rate
        self.skipped = []

    def __len__(self):
        """Return the number of files that look like pictures by their name."""
        return len(self._files)

    def __iter__(self):
        """Yield a `SourceFrame` a readable picture."""
        self.skipped = []
        for index, path in enumerate(self._files):
            try:
                image = read_grey(path)
            except SourceError as error:
                self.skipped.append(path)
                log.warning('%s (skipped, %d so far)', error, len(self.skipped))
                continue
            yield SourceFrame(image, index / self.frame_rate, path.stem)
