"""Frames made before they are due."""

import queue
import threading


def look_ahead(source, depth=8):
    """Yield what `source` yields, made by a thread of its own up to `depth` frames ahead.

    The first frame comes once `depth` of them are made, or all. What the source raises is raised here, in its place.
    The thread ends with the generator.
    """
    waiting = queue.Queue(depth)
    stopped = threading.Event()
    filled = threading.Event()
    end = object()

    def put(item):
        if waiting.full() or item is end or isinstance(item, Exception):
            filled.set()
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                pass

    def make():
        try:
            for frame in source:
                put(frame)
                if stopped.is_set():
                    return
            put(end)
        except Exception as error:  # noqa: BLE001  handed over to the consumer
            put(error)

    thread = threading.Thread(target=make, name='look_ahead', daemon=True)
    thread.start()
    try:
        filled.wait()
        while (item := waiting.get()) is not end:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()  # a thread still at work in compiled code when Python ends would abort the process
