"""Messages of two topics that belong together by their stamps."""

from collections import deque


class StampPairs:
    """Puts together what has the same stamp, in either order of arrival.

    capacity: stamps that wait for their other half; older ones are forgotten.
    unmatched: forgotten ones since the last pair.
    """

    def __init__(self, capacity):
        self.capacity = capacity
        self.unmatched = 0
        self._waiting = {}

    def add(self, kind, stamp, message):
        """Return {kind: message} of both kinds when `message` completes a pair, else None."""
        halves = self._waiting.setdefault(stamp, {})
        halves[kind] = message
        if len(halves) == 2:
            del self._waiting[stamp]
            self.unmatched = 0
            return halves
        if len(self._waiting) > self.capacity:
            del self._waiting[next(iter(self._waiting))]
            self.unmatched += 1
        return None


class NearestPairs:
    """Puts beside each message of one stream the nearest in time of a second one, which need not come.

    tolerance: nanoseconds by which the stamps may differ; may change. patience: seconds that a message waits for its
    companion; it does not where the second stream has been silent for `alive` seconds.

    Each method returns a list of what may go now, [(message, companion or None)], in the order received. Times `now`
    are monotonic seconds.
    """

    def __init__(self, tolerance, patience, alive=1.0):
        self.tolerance, self.patience, self.alive = tolerance, patience, alive
        self._companions = deque(maxlen=8)  # (stamp, message)
        self._waiting = None  # (stamp, message, since)
        self._heard = None

    @property
    def waits(self):
        """Whether a message waits for its companion."""
        return self._waiting is not None

    def first(self, stamp, message, now):
        """Take a message of the first stream: it goes at once with a companion that is there. What waits yet goes."""
        ready = self._release()
        self._waiting = (stamp, message, now)
        silent = self._heard is None or now - self._heard > self.alive
        return ready + (self._release() if silent or self._nearest(stamp) else [])

    def second(self, stamp, message, now):
        """Take a message of the second stream: what waits goes with it, or alone where no other can come."""
        self._heard = now
        self._companions.append((stamp, message))
        return self._release() if self.waits and stamp >= self._waiting[0] - self.tolerance else []

    def overdue(self, now):
        """Let go what has waited long enough."""
        return self._release() if self.waits and now - self._waiting[2] >= self.patience else []

    def _nearest(self, stamp):
        """Return the companion (stamp, message) nearest to a stamp, or None."""
        nearest = min(self._companions, key=lambda own: abs(own[0] - stamp), default=None)
        return nearest if nearest and abs(nearest[0] - stamp) <= self.tolerance else None

    def _release(self):
        if not self.waits:
            return []
        (stamp, message, _), self._waiting = self._waiting, None
        companion = self._nearest(stamp)
        return [(message, companion and companion[1])]
