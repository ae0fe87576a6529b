"""A mailbox where the newest item wins, and the one thread that works on it."""

import threading
from collections import deque


class Mailbox:
    """Hands items to `work`, one at a time, on a thread of its own.

    While `work` is busy, `capacity` items wait; a further one pushes out the oldest, counted in `dropped`. So latency
    does not grow when frames come faster than they are worked on.

    work: called with each item. failed: called with the exception of a `work` that raised; the thread goes on.
    lock: held while `work` runs: who takes it changes the worker's objects between two items.
    """

    def __init__(self, work, failed, capacity=1):
        self.lock = threading.Lock()
        self.dropped = 0
        self._work = work
        self._failed = failed
        self._items = deque()
        self._capacity = capacity
        self._wake = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name='mailbox', daemon=True)
        self._thread.start()

    def put(self, item):
        """Leave an item. Never blocks on `work`."""
        with self._wake:
            if len(self._items) == self._capacity:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._wake.notify()

    def close(self, timeout=3.0):
        """Let the item in work finish, forget those that wait, and end the thread; returns whether it ended in time."""
        with self._wake:
            self._open = False
            self._items.clear()
            self._wake.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self):
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._items or not self._open)
                if not self._open:
                    return
                item = self._items.popleft()
            with self.lock:
                try:
                    self._work(item)
                except Exception as error:
                    self._failed(error)
