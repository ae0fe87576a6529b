"""The newest item wins, drops are counted, and a failure ends nothing."""

import threading

from m2i_ros.ros.mailbox import Mailbox


class Worker:
    """Works on an item when the test lets it."""

    def __init__(self, capacity=1):
        self.begun, self.go, self.done, self.failures = threading.Semaphore(0), threading.Semaphore(0), [], []
        self.mailbox = Mailbox(self.work, self.failures.append, capacity)

    def work(self, item):
        self.begun.release()
        assert self.go.acquire(timeout=10)
        if isinstance(item, Exception):
            raise item
        self.done.append(item)

    def let(self, count):
        for _ in range(count):
            self.go.release()


def test_while_the_worker_is_busy_the_newest_item_wins_and_drops_are_counted():
    worker = Worker()
    worker.mailbox.put(0)
    assert worker.begun.acquire(timeout=10)  # 0 is in work
    for item in (1, 2, 3):
        worker.mailbox.put(item)
    worker.let(2)
    assert worker.begun.acquire(timeout=10)
    assert worker.mailbox.close()
    assert worker.done == [0, 3]
    assert worker.mailbox.dropped == 2


def test_within_its_capacity_nothing_is_dropped_and_order_is_kept():
    worker = Worker(capacity=10)
    for item in range(8):
        worker.mailbox.put(item)
    worker.let(8)
    for _ in range(8):
        assert worker.begun.acquire(timeout=10)
    assert worker.mailbox.close()
    assert worker.done == list(range(8))
    assert worker.mailbox.dropped == 0


def test_a_failure_is_reported_and_the_next_item_is_worked_on():
    worker = Worker(capacity=2)
    error = RuntimeError('boom')
    worker.mailbox.put(error)
    worker.mailbox.put('next')
    worker.let(2)
    for _ in range(2):
        assert worker.begun.acquire(timeout=10)
    assert worker.mailbox.close()
    assert (worker.failures, worker.done) == ([error], ['next'])


def test_the_lock_keeps_the_worker_off_between_two_items():
    worker = Worker()
    with worker.mailbox.lock:
        worker.mailbox.put('item')
        assert not worker.begun.acquire(timeout=0.2)
    assert worker.begun.acquire(timeout=10)
    worker.let(1)
    assert worker.mailbox.close()


def test_closing_forgets_what_waits():
    worker = Worker(capacity=5)
    for item in range(3):
        worker.mailbox.put(item)
    assert worker.begun.acquire(timeout=10)
    closing = threading.Thread(target=worker.mailbox.close)
    closing.start()
    worker.let(1)
    closing.join(10)
    assert worker.done == [0]
