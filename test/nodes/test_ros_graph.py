"""What the tests of nodes stand on: a graph that goes on receiving."""

import sys

import pytest
from std_msgs.msg import Header


@pytest.fixture
def threads_in_turns():
    """Threads give way to each other all the time, so that what rarely meets does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_publishers_and_subscriptions_go_while_messages_come(graph, threads_in_turns):
    received = graph.collect(Header, 'numbers')
    numbers = graph.publisher(Header, 'numbers')
    for number in range(50):
        numbers.publish(Header(frame_id=str(number)))
        graph.destroy(graph.publisher(Header, 'numbers'), graph.collect(Header, 'numbers').subscription)
    graph.wait(lambda: len(received) == 50, 'all messages')
    assert [message.frame_id for message in received] == [str(number) for number in range(50)]
    graph.destroy(numbers)
    graph.stop_collecting(received)
