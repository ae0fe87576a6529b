"""`ros2 launch`, genuine or stand-in: arguments, output, and how everything ends."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.launch,
    pytest.mark.skipif(shutil.which('ros2') is None, reason='no ros2 command: run standalone/run pytest'),
]

HEADER = """
import sys
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, LogInfo, OpaqueFunction
from launch.actions import RegisterEventHandler, SetEnvironmentVariable
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.events import Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node

def python(code, **kwargs):
    return ExecuteProcess(cmd=[sys.executable, '-u', '-c', code], output='screen', **kwargs)

WAIT_FOR_SIGINT = '''
import signal, sys
told = []
signal.signal(signal.SIGINT, lambda *_: told.append(1))
print('ready')
while not told: signal.pause()
print('told', len(told), 'times')
'''

STUBBORN = '''
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready')
while True: signal.pause()
'''

def generate_launch_description():
    return LaunchDescription(describe())
"""


@pytest.fixture
def start(tmp_path):
    """Starts `ros2 launch` on a file whose describe() has the given body; ends it, should the test not."""
    started = []

    def start(body, *arguments, **environment):
        path = tmp_path / 'test.launch.py'
        path.write_text(HEADER + '\ndef describe():\n' + textwrap.indent(textwrap.dedent(body), '    '))
        process = subprocess.Popen(
            ['ros2', 'launch', str(path), *arguments],
            env={**os.environ, 'ROS_LOG_DIR': str(tmp_path / 'log'), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture
def launch(start):
    """Launches to the end; returns exit code and output."""

    def launch(body, *arguments, **environment):
        process = start(body, *arguments, **environment)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    return launch


def read_until(process, text):
    """Returns what `process` prints, up to and with the line that holds `text`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return ''.join(lines)
    raise AssertionError(f'{text!r} never came in: {"".join(lines)}')


ARGUMENTS = """
return [
    DeclareLaunchArgument('colour', default_value='red', choices=['red', 'blue'], description='What to paint.'),
    DeclareLaunchArgument('name', description='Whose it is.'),
    LogInfo(msg=[LaunchConfiguration('name'), ' likes ', LaunchConfiguration('colour')]),
]
"""


def test_show_args_tells_description_choices_and_default(launch):
    code, output = launch(ARGUMENTS, '--show-args')
    assert code == 0
    assert "'colour':\n        What to paint. Valid choices are: ['red', 'blue']\n        (default: 'red')" in output
    assert "'name':\n        Whose it is.\n" in output
    assert 'likes' not in output


def test_arguments_arrive_and_defaults_fill_in(launch):
    code, output = launch(ARGUMENTS, 'name:=Ann')
    assert (code, 'Ann likes red' in output) == (0, True)


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['name:=Ann', 'colour:=green'], "['red', 'blue']"),
        ([], '"name" was not provided'),
        (['name=Ann'], "malformed launch argument 'name=Ann'"),
    ],
)
def test_a_wrong_argument_fails_at_once_and_says_why(launch, arguments, told):
    code, output = launch(ARGUMENTS, *arguments)
    assert (code, told in output) == (1, True)


def test_lines_carry_the_name_and_number_of_their_process(launch):
    code, output = launch("""
        return [
            python('print("one")', name='first'),
            python('import sys; print("two", file=sys.stderr)', name='second'),
        ]
    """)
    assert code == 0
    assert '[first-1] one' in output
    assert '[second-2] two' in output
    assert '[INFO] [first-1]: process has finished cleanly' in output


def test_conditions_environment_and_paths(launch):
    code, output = launch(
        """
        from launch.substitutions import TextSubstitution
        return [
            DeclareLaunchArgument('loud', default_value='false'),
            SetEnvironmentVariable('CARGO', 'nuts'),
            python('import os; print(os.environ["CARGO"])', condition=UnlessCondition(LaunchConfiguration('loud'))),
            python('print("never")', condition=IfCondition(LaunchConfiguration('loud'))),
            LogInfo(msg=PathJoinSubstitution([EnvironmentVariable('PLACE'), 'b', TextSubstitution(text='c')])),
        ]
        """,
        PLACE='/a',
    )
    assert code == 0
    assert 'nuts' in output and '/a/b/c' in output and 'never' not in output


def test_the_end_of_one_process_ends_all_and_a_process_that_died_is_named(launch):
    code, output = launch("""
        last = python('import sys; sys.exit(3)', name='last')
        end = EmitEvent(event=Shutdown(reason='last has ended'))
        return [
            python(WAIT_FOR_SIGINT, name='waiting'),
            RegisterEventHandler(OnProcessExit(
                target_action=last,
                on_exit=lambda event, context: [LogInfo(msg=f'code {event.returncode}'), end])),
            RegisterEventHandler(OnShutdown(on_shutdown=[LogInfo(msg='good night')])),
            last,
        ]
    """)
    assert code == 0
    assert 'code 3' in output and 'good night' in output
    assert '[ERROR] [last-2]: process has died' in output
    assert "sending signal 'SIGINT' to process[waiting-1]" in output


def test_sigint_reaches_each_process_once_and_the_end_is_clean(start):
    process = start("return [python(WAIT_FOR_SIGINT, name='waiting')]")
    read_until(process, '[waiting-1] ready')
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert '[waiting-1] told 1 times' in output
    assert 'process has finished cleanly' in output
    assert process.returncode == 0


def test_a_process_that_will_not_end_is_killed(start):
    process = start(
        "return [python(STUBBORN, name='mule')]",
        'sigterm_timeout:=0.2',
        'sigkill_timeout:=0.2',
    )
    read_until(process, '[mule-1] ready')
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert "escalating to 'SIGTERM'" in output and "escalating to 'SIGKILL'" in output
    assert 'exit code -9' in output


def test_an_exception_in_a_function_ends_what_runs_already(launch):
    code, output = launch("""
        def fail(context):
            raise RuntimeError('no such model: have you looked?')
        return [python('import time; time.sleep(50)'), OpaqueFunction(function=fail)]
    """)
    assert (code, 'no such model: have you looked?' in output) == (1, True)
    assert 'process has died' in output


NODE = """
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node('unnamed', automatically_declare_parameters_from_overrides=True)
publisher = node.create_publisher(String, 'out', 1)
print('I am', node.get_fully_qualified_name(), 'on', publisher.topic_name)
for name in ('from_file', 'flag', 'gain', 'text', 'both'):
    print(name, '=', repr(node.get_parameter(name).value))
"""


def test_a_node_gets_its_name_parameters_and_remappings(launch, tmp_path):
    script, parameters = tmp_path / 'node.py', tmp_path / 'parameters.yaml'
    script.write_text(NODE)
    parameters.write_text('/**:\n  ros__parameters:\n    from_file: 7\n    both: 1\n')
    code, output = launch(f"""
        from launch_ros.parameter_descriptions import ParameterValue
        return [
            DeclareLaunchArgument('flag', default_value='true'),
            Node(executable={sys.executable!r}, arguments=['-u', {str(script)!r}], name='eye', namespace='left',
                 output='screen', remappings=[('out', '/seen')], ros_arguments=['--log-level', 'warn'],
                 parameters=[{str(parameters)!r}, {{
                     'flag': LaunchConfiguration('flag'), 'gain': 2.5, 'both': 2,
                     'text': ParameterValue('12', value_type=str)}}]),
        ]
    """)
    assert code == 0
    assert 'I am /left/eye on /seen' in output
    for line in ('from_file = 7', 'flag = True', 'gain = 2.5', "text = '12'", 'both = 2'):
        assert line in output


def test_what_the_stand_in_lacks_is_refused_by_name(launch):
    import launch as package

    if not hasattr(package, 'refusal'):
        pytest.skip('the genuine launch lacks nothing')
    code, output = launch("""
        from launch.actions import GroupAction
        return []
    """)
    assert (code, 'launch.actions.GroupAction' in output, 'install ROS 2' in output) == (1, True, True)
    code, output = launch('return [Node(package="p", executable="e", respawn=True)]')
    assert (code, 'Node(respawn=...)' in output) == (1, True)
