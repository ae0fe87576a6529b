"""A ROS graph of its own for the tests of nodes."""

import fcntl
import math
import os
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='these tests run nodes: they need ROS 2 (or ./standalone/run pytest)')
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / 'sources'))  # xa_files

from ros_graph import Graph, Process  # noqa: E402


@pytest.fixture(scope='session')
def graph():
    """A `Graph` in a domain that no other test run on this machine uses."""
    for number in range(100):
        domain = 1 + (os.getpid() + number) % 100
        lock = open(Path(tempfile.gettempdir()) / f'm2i_ros_test_domain_{domain}', 'w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            lock.close()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    graph = Graph()
    yield graph
    graph.close()
    lock.close()


def starter():
    """Yield `start(name, **parameters)`: it returns the `Process` of a node once that is ready. All stop at the end."""
    processes = []

    def start(name, **parameters):
        options = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
        process = Process(sys.executable, '-m', f'm2i_ros.nodes.{name}', '--ros-args', *options)
        processes.append(process)
        process.says('ready: listening')
        return process

    yield start
    codes = [process.stop() for process in processes]
    assert not any(codes), [process.output for process in processes]


@pytest.fixture(scope='module')
def start(graph):
    """Start nodes that live as long as the module's tests."""
    yield from starter()


@pytest.fixture
def start_one(graph):
    """Start nodes that live as long as the test."""
    yield from starter()


@pytest.fixture(scope='session')
def patient():
    """Frames of a small phantom, contrast everywhere: `SimulatedFrame`s, 15 a second; and where a search may start."""
    from m2i_ros.simulation import Phantom

    phantom = Phantom('iliofemoral', 0, 256, 256, duration=1.0, injections=(-3.0,), plateau=60.0)
    phantom.frames = list(phantom)
    return phantom


@pytest.fixture(scope='session')
def other():
    """The same patient and moments in a plane at 90 degrees."""
    from m2i_ros.geometry import CArm
    from m2i_ros.simulation import Phantom

    c_arm = CArm(math.radians(90))
    return Phantom('iliofemoral', 0, 256, 256, duration=1.0, injections=(-3.0,), plateau=60.0, c_arm=c_arm, plane=1)


@pytest.fixture(scope='session')
def model_file(patient, tmp_path_factory):
    """The patient's model as a file."""
    from m2i_ros.model import save_model

    path = tmp_path_factory.mktemp('patient') / 'model.npz'
    save_model(patient.model, path)
    return path
