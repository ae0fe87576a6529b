"""Messages of two topics that belong together by their stamp."""


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
