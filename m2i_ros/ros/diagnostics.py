"""What a node tells about itself and about a registration: DiagnosticStatus messages and throttled complaints."""

import math
import os
import time
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from m2i_ros.ros.stamps import decimal


def status(level, name, message, values):
    """Return a DiagnosticStatus; values: {key: value}, floats written with 4 significant digits."""
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, values=pairs)


def registration_status(registration, stamp, latency, drops, contrast=''):
    """Return the `registration/status` of one frame.

    registration: `Registration`. stamp: the image's builtin_interfaces/Time. drops: frames overwritten by newer ones.
    latency: seconds, {'total', 'segmentation', 'registration'}, where known. contrast: the value of the `Contrast`, ''
    where no frame was looked at yet.
    """
    values = {
        'state': registration.state.value,
        'accepted': registration.accepted,
        'confidence': registration.probability,
        'reason': registration.reason,
        'recall': registration.recall,
        'precision': registration.precision,
        'residual_mm': registration.residual_mm,
        'views': registration.views,
        'second': registration.second,
        'second_age_s': registration.second_age,
        'latency_ms': 1e3 * latency.get('total', math.nan),
        'segmentation_ms': 1e3 * latency.get('segmentation', math.nan),
        'registration_ms': 1e3 * latency.get('registration', math.nan),
        'drops': drops,
        'stamp': decimal(stamp),
    }
    if contrast:
        values['contrast'] = contrast
    state = registration.state
    return status(bytes([state.severity]), 'registration', registration.reason or state.value, values)


class Health:
    """Rate and latency of the last frames, and this process's memory and CPU time.

    `frame` may be called on another thread than `values`.
    """

    def __init__(self, window=150):
        self._frames = deque(maxlen=window)  # (monotonic seconds when done, latency in seconds)
        self._cpu = (time.monotonic(), time.process_time())
        self.count = 0

    def frame(self, latency):
        """Note a frame that was just finished, `latency` seconds after it came in."""
        self._frames.append((time.monotonic(), latency))
        self.count += 1

    def values(self):
        """Return {key: value} for a DiagnosticStatus: rate in Hz over the last 5 s, latency in ms, memory, CPU."""
        now, cpu = time.monotonic(), time.process_time()
        frames = list(self._frames)
        recent = [done for done, _ in frames if done > now - 5.0]
        latency = [seconds for _, seconds in frames] or [math.nan]
        percent = 100 * (cpu - self._cpu[1]) / max(now - self._cpu[0], 1e-9)
        self._cpu = (now, cpu)
        return {
            'frames': self.count,
            'rate_hz': (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0,
            'latency_p50_ms': 1e3 * float(np.percentile(latency, 50)),
            'latency_p99_ms': 1e3 * float(np.percentile(latency, 99)),
            'memory_mb': _resident_mb(),
            'cpu_percent': percent,
        }


def diagnostic_array(stamp, statuses):
    """Return a DiagnosticArray."""
    message = DiagnosticArray(status=statuses)
    message.header.stamp = stamp
    return message


class Complaints:
    """Warnings and errors of a node, each at most once in `period` seconds while it lasts.

    rclpy throttles by the place in the code; here many sorts pass one place, so they are told apart by `key`.
    """

    def __init__(self, logger, period=5.0):
        self._logger = logger
        self._period = period
        self._last = {}

    def warn(self, key, message):
        """Log a warning, unless this key's was logged just now."""
        if self._due(key):
            self._logger.warning(message)

    def error(self, key, message):
        """Log an error, unless this key's was logged just now."""
        if self._due(key):
            self._logger.error(message)

    def _due(self, key):
        now = time.monotonic()
        due = now - self._last.get(key, -math.inf) >= self._period
        if due:
            self._last[key] = now
        return due


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _resident_mb():
    try:
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
    except OSError:  # not Linux
        return math.nan
