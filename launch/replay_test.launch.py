"""A recorded bag through the nodes, its figures held against what is expected: exit code 0 where all are met, else 1.

ros2 launch m2i_ros replay_test.launch.py bag:=BAG model:=MODEL expected:=FIGURES.yaml
"""

import importlib.util
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration

from m2i_ros.testing import check_report, read_expected

# name: (default or None where it must be given, description)
ARGUMENTS = {
    'bag': (None, 'The recorded bag: folder or file.'),
    'expected': (None, 'YAML file of figures, as "dice.median: [0.8, null]"; see docs/replay.md.'),
    'record': ('replay_test', 'Folder for the report and its bag: must not hold one yet.'),
}


def generate_launch_description():
    """Return the description: pipeline.launch.py with a bag as its source, and a look at the report at the end."""
    pipeline = pipeline_launch()
    arguments = [
        DeclareLaunchArgument(name, default_value=d, description=text) for name, (d, text) in ARGUMENTS.items()
    ]
    for name, (default, description, choices) in pipeline.ARGUMENTS.items():
        if name not in ('source', 'path', 'record', 'loop'):
            arguments.append(
                DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
            )
    return LaunchDescription([*arguments, OpaqueFunction(function=start, args=[pipeline])])


def pipeline_launch():
    """Return pipeline.launch.py as a module."""
    spec = importlib.util.spec_from_file_location('pipeline_launch', Path(__file__).with_name('pipeline.launch.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(context, pipeline):
    """Return the actions of the pipeline, and the look at its report. Raises ValueError for figures that are none."""
    expected = read_expected(LaunchConfiguration('expected').perform(context))
    record = Path(LaunchConfiguration('record').perform(context)).expanduser().absolute()
    if (record / 'report.json').exists():
        raise RuntimeError(f'record:={record}: holds a report already, which would be taken for that of this run')
    context.launch_configurations.update(
        source='bag', path=LaunchConfiguration('bag').perform(context), record=str(record), loop='false'
    )

    def look(event, _):
        if event.process_name.startswith('monitor_node'):
            try:
                check_report(record / 'report.json', expected)
            except (AssertionError, OSError, ValueError) as error:
                raise RuntimeError(f'replay test failed: {error}') from error

    return [RegisterEventHandler(OnProcessExit(on_exit=look)), *pipeline.start(context)]
