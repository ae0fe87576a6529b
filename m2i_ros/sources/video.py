"""A video file as a source."""

import logging
from pathlib import Path

import cv2

from m2i_ros.sources.source_frame import SourceError, SourceFrame

SUFFIXES = ('.mp4', '.avi', '.gif', '.mov', '.mkv', '.webm', '.m4v')
USUAL_RATE = 15.0

log = logging.getLogger(__name__)


class VideoFile:
    """The frames of a video file (what OpenCV's ffmpeg reads: MP4, AVI, GIF, ...), grey.

    frame_rate: above 0, instead of what the file says. Raises SourceError for a file that is missing or no video.
    """

    realtime = False
    model = camera = initial_pose = None

    def __init__(self, path, frame_rate=0.0):
        self.path = Path(path)
        if not self.path.is_file():
            raise SourceError(f'{path}: not found: give a video file ({", ".join(SUFFIXES)})')
        video = self._open()
        stated = video.get(cv2.CAP_PROP_FPS)
        self.frame_rate = frame_rate or (stated if 0.01 <= stated <= 1000 else USUAL_RATE)
        self._length = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        video.release()
        self.skipped = []

    def __len__(self):
        """Return the number of frames, as the file's header states it."""
        return self._length

    def __iter__(self):
        """Yield the frames as `SourceFrame`, named STEM_000000 and so on."""
        video, index = self._open(), 0
        while True:
            there, picture = video.read()
            if not there:
                break
            grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
            yield SourceFrame(grey, index / self.frame_rate, f'{self.path.stem}_{index:06d}')
            index += 1
        video.release()
        # What the header states is an estimate in some containers; a cut-off file is short by more than one.
        missing = range(index, self._length) if self._length > index + 1 else ()
        self.skipped = [f'{self.path} frame {number + 1}' for number in missing]
        if missing:
            log.warning('%s: is cut off: %d of %d frames can be read', self.path, index, self._length)
        if index == 0:
            raise SourceError(f'{self.path}: no frame can be decoded: convert it to MP4 or to pictures')

    def _open(self):
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened():
            raise SourceError(f'{self.path}: is no video that can be read: convert it to MP4 or to pictures')
        return video
