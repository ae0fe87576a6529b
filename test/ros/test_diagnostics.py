"""What a node tells about itself is what happened, and not too often."""

import numpy as np
import pytest

pytest.importorskip('diagnostic_msgs', reason='diagnostics are ROS messages')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402

from m2i_ros.geometry import rigid  # noqa: E402
from m2i_ros.registration.result import Registration, State  # noqa: E402
from m2i_ros.ros import diagnostics  # noqa: E402


@pytest.fixture
def clock(monkeypatch):
    """Monotonic time in the test's hand: `clock.now`."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(diagnostics.time, 'monotonic', lambda: Clock.now)
    return Clock


class Stamp:
    sec, nanosec = 12, 34500


def test_the_status_of_a_registration_holds_every_figure():
    registration = Registration(State.TRACKING, True, '', rigid(), np.eye(6), 0.875, 0.9, 0.8, 0.25)
    told = diagnostics.registration_status(registration, Stamp, {'total': 0.05, 'segmentation': 0.02}, 3)
    assert told.level == DiagnosticStatus.OK
    assert {pair.key: pair.value for pair in told.values} == {
        'state': 'tracking',
        'accepted': 'true',
        'confidence': '0.875',
        'reason': '',
        'recall': '0.9',
        'precision': '0.8',
        'residual_mm': '0.25',
        'views': '1',
        'second': '',
        'second_age_s': 'nan',
        'latency_ms': '50',
        'segmentation_ms': '20',
        'registration_ms': 'nan',
        'drops': '3',
        'stamp': '12.000034500',
    }


@pytest.mark.parametrize(
    ('state', 'level'),
    [
        (State.TRACKING, DiagnosticStatus.OK),
        (State.HOLDING, DiagnosticStatus.WARN),
        (State.SEARCHING, DiagnosticStatus.WARN),
        (State.WAITING, DiagnosticStatus.WARN),
        (State.LOST, DiagnosticStatus.ERROR),
    ],
)
def test_the_level_follows_the_state_and_the_message_is_the_reason(state, level):
    told = diagnostics.registration_status(Registration(state, reason='so it is'), Stamp, {}, 0)
    assert (told.level, told.message) == (level, 'so it is')


def test_rate_and_latency_are_those_of_the_last_frames(clock):
    health = diagnostics.Health()
    for number in range(31):
        health.frame(0.1 if number == 30 else 0.02)
        clock.now += 0.1
    told = health.values()
    assert told['rate_hz'] == pytest.approx(10)
    assert told['latency_p50_ms'] == pytest.approx(20)
    assert told['latency_p99_ms'] > 50
    clock.now += 10
    assert health.values()['rate_hz'] == 0
    assert told['memory_mb'] > 10


def test_a_complaint_is_repeated_only_after_a_while_but_another_is_heard_at_once(clock):
    class Logger:
        def __init__(self):
            self.heard = []
            self.warning = self.error = self.heard.append

    logger = Logger()
    complaints = diagnostics.Complaints(logger, period=5.0)
    for _ in range(10):
        complaints.warn('a', 'first')
        complaints.error('b', 'second')
        clock.now += 0.4
    assert logger.heard == ['first', 'second']
    clock.now += 1.1
    complaints.warn('a', 'again')
    assert logger.heard == ['first', 'second', 'again']
