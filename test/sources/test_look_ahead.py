import threading

import pytest

from m2i_ros.sources.look_ahead import look_ahead


def test_everything_comes_in_order():
    assert list(look_ahead(range(50), depth=3)) == list(range(50))


def test_frames_are_made_ahead_but_not_too_far():
    made, third = [], threading.Event()

    def source():
        for i in range(20):
            made.append(i)
            if i == 3:
                third.set()
            yield i

    frames = look_ahead(source(), depth=2)
    assert next(frames) == 0
    assert third.wait(10), 'frames are made before they are asked for'
    assert len(made) <= 4 + 1, 'two wait, one is in hand, one was taken'
    assert list(frames) == list(range(1, 20))


def test_an_error_of_the_source_comes_in_its_place():
    def source():
        yield 1
        raise ValueError('broken')

    frames = look_ahead(source())
    assert next(frames) == 1
    with pytest.raises(ValueError, match='broken'):
        next(frames)


def test_the_thread_ends_with_its_consumer():
    ended = threading.Event()

    def source():
        try:
            yield from range(10**9)
        finally:
            ended.set()

    frames = look_ahead(source())
    next(frames)
    frames.close()
    assert ended.wait(10)
