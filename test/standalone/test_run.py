"""standalone/run, once its environment is there (it is wherever these tests were started by it)."""

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
RUN = TOP / 'standalone' / 'run'
DISTRO = os.environ.get('ROS_DISTRO', 'jazzy')

pytestmark = pytest.mark.skipif(
    not (TOP / 'standalone' / '.env' / DISTRO / 'package.stamp').exists(), reason='not started by standalone/run'
)


def run(*command, cwd=TOP, **environment):
    done = subprocess.run(
        [RUN, *command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_runs_where_it_was_called_and_its_exit_code_comes_back(tmp_path):
    assert run('pwd', cwd=tmp_path) == (0, f'{tmp_path}\n', '')
    assert run('sh', '-c', 'exit 7')[0] == 7


def test_a_second_run_prepares_nothing():
    stamps = sorted((TOP / 'standalone' / '.env' / DISTRO).glob('*.stamp'))
    before = [stamp.stat().st_mtime_ns for stamp in stamps]
    assert run('true')[2] == ''
    assert [stamp.stat().st_mtime_ns for stamp in stamps] == before


def test_packages_are_those_of_the_environment():
    code, output, _ = run(
        'python', '-c', 'import m2i_ros, rclpy, tf2_ros; print(m2i_ros.__file__, rclpy.__file__)', cwd='/'
    )
    assert code == 0
    assert str(TOP) in output.split()[0] and '.env' in output.split()[1]


def test_a_foreign_ros_is_left_out_and_said():
    code, output, told = run('printenv', 'AMENT_PREFIX_PATH', AMENT_PREFIX_PATH='/opt/ros/other')
    assert (code, '/opt/ros' in output, '/opt/ros/other' in told) == (0, False, True)


@pytest.mark.parametrize(
    ('command', 'environment', 'told'), [((), {}, 'usage'), (('true',), {'ROS_DISTRO': 'foxy'}, 'kilted')]
)
def test_what_cannot_be_is_said(command, environment, told):
    code, _, output = run(*command, **environment)
    assert (code, told in output) == (1, True)


def test_every_requirement_is_pinned():
    for path in (TOP / 'standalone').glob('*.txt'):
        for line in path.read_text().splitlines():
            requirement = line.split('#')[0].strip()
            assert not requirement or '==' in requirement, f'{path.name}: {requirement}'
