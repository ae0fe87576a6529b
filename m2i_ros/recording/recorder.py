"""Writes bag, video, masks and figures on a thread of its own, so that no message waits for the disk."""

import csv
import os
import threading
from collections import deque
from pathlib import Path

import cv2

from m2i_ros.recording.bag import BagWriter, UnknownTypeError

MAX_WAITING_BYTES = 192 * 2**20
COLUMNS = ('stamp', 'name', 'state', 'confidence', 'latency_ms', 'dice', 'mpd_mm')  # of frames.csv; stamp in ns


class RecordingError(OSError):
    """The recording folder cannot be written; the message says which and why."""


class Recorder:
    """The folder of one session: `bag/`, `masks/`, `overlay.mp4`, `frames.csv`.

    folder: made if missing; must not hold a bag yet.
    warn: called with a line of text for what cannot be recorded.

    What the disk cannot take in time is dropped and counted in `dropped`. After a failure (a full disk) nothing more is
    written, `failure` says why, what was written stays readable, and the session goes on. Raises RecordingError where
    the folder cannot be used at all.
    """

    def __init__(self, folder, warn=print):
        self.folder = Path(folder)
        self.dropped = 0
        self.failure = ''
        self._warn = warn
        self._unknown = set()
        self._video = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._bag = BagWriter(self.folder / 'bag')
            self._figures = open(self.folder / 'frames.csv', 'w', newline='', encoding='utf-8')  # noqa: SIM115
        except Exception as error:  # rosbags has error types of its own
            raise RecordingError(f'{self.folder}: cannot record: {error}') from error
        self._rows = csv.writer(self._figures)
        self._rows.writerow(COLUMNS)
        self._jobs = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name='recorder', daemon=True)
        self._thread.start()

    def message(self, topic, message_type, stamp_ns, data, transient_local=False):
        """Queue one serialised message (bytes) for the bag."""
        self._put(
            len(data),
            self._write_message,
            topic,
            message_type,
            stamp_ns,
            data,
            transient_local,
        )

    def describe(self, key, text):
        """Queue a note about the recording for the bag's metadata."""
        self._put(0, self._bag.describe, key, text)

    def overlay(self, picture, frame_rate):
        """Queue one picture, (H, W, 3) uint8 BGR, for the video; the first one's size and rate are the video's."""
        self._put(picture.nbytes, self._write_overlay, picture, frame_rate)

    def mask(self, name, mask):
        """Queue one mask, (H, W) uint8, for masks/NAME.png."""
        self._put(mask.nbytes, self._write_mask, name, mask)

    def moment(self, moment):
        """Queue the figures of one frame (`Moment`) for frames.csv."""
        self._put(0, self._write_moment, [getattr(moment, column) for column in COLUMNS])

    def close(self):
        """Write what waits, then close the files."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _put(self, size, *job):
        with self._changed:
            if self.failure or self._closing:
                return
            # By bytes, not by number: a status weighs nothing, a probability map a megabyte.
            if self._waiting_bytes + size > MAX_WAITING_BYTES:
                self.dropped += 1
                return
            self._jobs.append((size, job))
            self._waiting_bytes += size
            self._changed.notify()

    def _work(self):
        # Whoever records stands behind those who work on pictures: what waits is bounded above.
        if hasattr(os, 'setpriority'):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while True:
            with self._changed:
                while not self._jobs and not self._closing:
                    self._changed.wait()
                if not self._jobs:
                    break
                size, (function, *arguments) = self._jobs.popleft()
                self._waiting_bytes -= size
            self._guarded(function, *arguments)
        self._guarded(self._bag.close)
        self._guarded(self._figures.close)
        if self._video is not None:
            self._video.release()

    def _guarded(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:  # whatever fails here must not end the session
            if not self.failure:
                self.failure = f'{self.folder}: recording stopped: {error}'
                self._warn(self.failure)
            with self._changed:
                self._jobs.clear()
                self._waiting_bytes = 0

    def _write_message(self, topic, message_type, stamp_ns, data, transient_local):
        try:
            self._bag.write(topic, message_type, stamp_ns, data, transient_local)
        except UnknownTypeError as error:
            if topic not in self._unknown:
                self._unknown.add(topic)
                self._warn(str(error))

    def _write_moment(self, row):
        self._rows.writerow(['' if value != value else value for value in row])  # NaN: no figure

    def _write_overlay(self, picture, frame_rate):
        if self._video is None:
            size = (picture.shape[1], picture.shape[0])
            fourcc = cv2.VideoWriter_fourcc(*'mp4v')
            self._video = cv2.VideoWriter(str(self.folder / 'overlay.mp4'), fourcc, frame_rate, size)
            self._video_size = size
            if not self._video.isOpened():
                raise OSError('overlay.mp4 cannot be written: this OpenCV has no MPEG-4 encoder')
        height, width = picture.shape[:2]
        if (width, height) != self._video_size:
            picture = cv2.resize(picture, self._video_size, interpolation=cv2.INTER_AREA)
        self._video.write(picture)

    def _write_mask(self, name, mask):
        folder = self.folder / 'masks'
        folder.mkdir(exist_ok=True)
        path = folder / f'{name}.png'
        if not cv2.imwrite(str(path), mask):
            raise OSError(f'{path} cannot be written')
