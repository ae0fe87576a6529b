"""The ros2 command, genuine or stand-in, beside a node that talks."""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(shutil.which('ros2') is None, reason='no ros2 command: run standalone/run pytest'),
]

TALKER = """
import rclpy
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Float32MultiArray
from std_srvs.srv import SetBool
rclpy.init()
node = rclpy.create_node('talker')
node.declare_parameter('gain', 1.5)
publisher = node.create_publisher(Float32MultiArray, 'numbers', qos_profile_sensor_data)
node.create_timer(0.05, lambda: publisher.publish(Float32MultiArray(data=[1.0, 2.5])))
def on_set(request, response):
    response.success, response.message = request.data, 'as you like'
    return response
node.create_service(SetBool, '~/enable', on_set)
node.create_subscription(Float32MultiArray, 'heard', lambda message: print('heard', list(message.data), flush=True), 1)
print('ready', flush=True)
rclpy.spin(node)
"""


@pytest.fixture(scope='module')
def talker():
    process = subprocess.Popen([sys.executable, '-c', TALKER], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def ros2(*arguments):
    done = subprocess.run(['ros2', *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ('command', 'entry'),
    [
        (('topic', 'list', '-t'), '/numbers [std_msgs/msg/Float32MultiArray]'),
        (('node', 'list'), '/talker'),
        (('service', 'list'), '/talker/enable'),
    ],
)
def test_lists_show_what_is_there(talker, command, entry):
    for _ in range(5):  # on a busy machine a list may be printed before everything is discovered
        output = ros2(*command)[1]
        if entry in output:
            return
    raise AssertionError(output)


def test_echo_prints_a_message_of_a_best_effort_topic(talker):
    code, output = ros2('topic', 'echo', '/numbers', '--once')
    assert code == 0
    assert 'data' in output and '2.5' in output and output.rstrip().endswith('---')


def test_pub_sends_one_message(talker):
    code, _ = ros2('topic', 'pub', '--once', '/heard', 'std_msgs/msg/Float32MultiArray', '{data: [3.0, 4.0]}')
    assert code == 0
    assert talker.stdout.readline() == 'heard [3.0, 4.0]\n'


def test_hz_measures(talker):
    process = subprocess.Popen(
        ['ros2', 'topic', 'hz', '/numbers'],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )
    rates = []
    while not rates:
        line = process.stdout.readline()
        assert line, 'ros2 topic hz ended'
        rates = [float(line.split()[-1])] if line.startswith('average rate:') else []
    process.terminate()
    process.wait()
    process.stdout.close()
    assert 2 < rates[0] < 60  # 20 Hz, on a machine that may be busy


def test_services_and_parameters_answer(talker):
    code, output = ros2('service', 'call', '/talker/enable', 'std_srvs/srv/SetBool', '{data: true}')
    assert (code, 'as you like' in output) == (0, True)
    assert 'gain' in ros2('param', 'list', '/talker')[1]
    assert ros2('param', 'set', '/talker', 'gain', '2.5')[0] == 0
    assert '2.5' in ros2('param', 'get', '/talker', 'gain')[1]
    code, output = ros2('param', 'set', '/talker', 'gain', 'much')
    assert 'gain' in output or 'fail' in output.lower()


def test_packages_are_found():
    assert 'm2i_ros evaluate' in ros2('pkg', 'executables', 'm2i_ros')[1]
    assert ros2('pkg', 'prefix', 'no_such_package')[0] != 0


def test_run_starts_an_executable_and_hands_on_its_exit_code():
    code, output = ros2('run', 'm2i_ros', 'no_such_executable')
    assert code != 0
    assert 'no_such_executable' in output or 'No executable found' in output
