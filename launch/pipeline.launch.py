"""The whole pipeline, on live topics or with a source of its own.

ros2 launch m2i_ros pipeline.launch.py --show-args
"""

import os
import shutil
from datetime import datetime
from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

YES_NO = ['true', 'false', 'True', 'False']

# name: (default, description, choices or None)
ARGUMENTS = {
    'source': (
        'none',
        'Where the pictures come from: none = live topics, nothing is played; phantom = a simulated injection; '
        'images = a folder of pictures; video = an MP4, AVI or GIF file; dicom = X-ray runs (XA, XRF); '
        'case = a recorded case; bag = a recorded bag.',
        ['none', 'phantom', 'images', 'video', 'dicom', 'case', 'bag'],
    ),
    'path': (
        '',
        'What source plays: the folder of images, the video file, the DICOM file, folder or DICOMDIR, the case folder, '
        'the bag; for phantom ANATOMY or ANATOMY:SEED '
        '(iliofemoral:0 if empty).',
        None,
    ),
    'second_plane': (
        '0',
        'Of the phantom: degrees by which a second plane is turned from the first; 0: one plane.',
        None,
    ),
    'model': (
        '',
        'The vessel model to register: a mesh, an .npz from prepare_model, or a case folder. Empty: the one of the '
        'phantom or the case, or that of params_file.',
        None,
    ),
    'params_file': ('', 'YAML file of parameters, see config/pipeline.yaml. Launch arguments go before it.', None),
    'composed': ('true', 'true: one process; false: segmentation and registration in a process each.', YES_NO),
    'namespace': ('', 'Namespace of all nodes and topics.', None),
    'use_sim_time': ('false', 'Take time from /clock; a bag that is played brings it.', YES_NO),
    'image_transport': ('raw', 'What the pipeline listens to: image, or image/compressed.', ['raw', 'compressed']),
    'record': (
        'auto',
        'Folder for the report: figures, overlay video, contact sheet, bag. auto: m2i_record/TIME with a source, '
        'nothing on live topics. off: nothing.',
        None,
    ),
    'loop': ('false', 'Play the source again and again.', YES_NO),
    'rviz': ('false', 'Show model, centreline and overlay in RViz.', YES_NO),
    'log_level': ('info', 'Least severity that is logged.', ['debug', 'info', 'warn', 'error', 'fatal']),
}


def generate_launch_description():
    """Return the description: the arguments, then what they ask for."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, (default, description, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context):
    """Return the actions that the arguments ask for. Raises RuntimeError, with what to do, where they cannot be met."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    source, path, model = given['source'], given['path'], given['model']
    playing = {
        'source': source,
        'loop': is_true(given['loop']),
        'image_transport': given['image_transport'],
        'wait_for': 'monitor_node',
    }

    if source == 'phantom':
        anatomy, _, seed = (path or 'iliofemoral').partition(':')
        if not (seed or '0').isdigit():
            raise RuntimeError(f'path:={path}: must be ANATOMY or ANATOMY:SEED, as iliofemoral:0')
        playing.update(anatomy=anatomy, seed=int(seed or 0))
        playing['second.angle_deg'] = degrees('second_plane', given['second_plane'])
        model = model or f'phantom:{anatomy}:{seed or 0}'
    elif source != 'none':
        if not path:
            raise RuntimeError(f'source:={source} needs path:=PATH, the file or folder that holds the {source}')
        playing['path'] = existing('path', path)
        if source == 'case':
            model = model or playing['path']
        if source == 'bag':
            playing['bag.clock'] = is_true(given['use_sim_time'])
    elif path:
        raise RuntimeError(f'path:={path} is for source:=phantom, images, video, dicom, case or bag: which one is it?')

    common = {'use_sim_time': is_true(given['use_sim_time'])}
    files = [existing('params_file', given['params_file'])] if given['params_file'] else []
    if model:
        common['model.path'] = model if model.startswith('phantom:') else existing('model', model)
    pipeline = {**common, 'image_transport': given['image_transport']}

    def node(executable, parameters):
        return Node(
            package='m2i_ros',
            executable=executable,
            namespace=given['namespace'],
            output='screen',
            parameters=[*files, parameters],
            ros_arguments=['--log-level', given['log_level']],
        )

    executables = ['pipeline_node'] if is_true(given['composed']) else ['segmentation_node', 'registration_node']
    nodes = [node(executable, pipeline) for executable in executables]
    record = given['record']
    if record == 'auto':
        record = 'off' if source == 'none' else f'm2i_record/{datetime.now():%Y%m%d_%H%M%S}'
    record = '' if record == 'off' else record
    if source != 'none' or record:
        record = record and str(Path(record).expanduser().absolute())
        # An empty text does not survive the way through a parameter file: left out, it is the default.
        nodes.append(node('monitor_node', {**common, **({'record': record} if record else {})}))
    if source != 'none':
        nodes.append(node('source_node', {**common, **playing}))

    actions = [*transport(), *nodes]
    # None of them is dispensable; monitor_node ends when its report is written.
    for needed in nodes:
        end = EmitEvent(event=Shutdown(reason='a node has ended'))
        actions.append(RegisterEventHandler(OnProcessExit(target_action=needed, on_exit=[end])))
    if is_true(given['rviz']):
        actions.append(rviz(given['namespace'], common))
    return actions


def transport():
    """Return the actions that give Fast DDS room for pictures (config/fastdds.xml), unless a profile is named."""
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # up to Jazzy, since Kilted
    if any(name in os.environ for name in names):
        return []
    profiles = Path(__file__).resolve().parents[1] / 'config' / 'fastdds.xml'
    return [SetEnvironmentVariable(name, str(profiles)) for name in names]


def rviz(namespace, parameters):
    """Return the action that starts RViz. Raises RuntimeError where it is not installed."""
    if not shutil.which('rviz2'):
        raise RuntimeError('rviz:=true: rviz2 is not installed here (apt install ros-$ROS_DISTRO-rviz2)')
    config = Path(__file__).resolve().parents[1] / 'config' / 'm2i.rviz'
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=namespace,
        arguments=['-d', str(config)],
        parameters=[parameters],
        output='screen',
    )


def existing(argument, path):
    """Return the absolute path. Raises RuntimeError where nothing is there."""
    found = Path(path).expanduser().absolute()
    if not found.exists():
        raise RuntimeError(f'{argument}:={path}: there is no {found}')
    return str(found)


def degrees(argument, text):
    """Return the number. Raises RuntimeError where it is none."""
    try:
        return float(text)
    except ValueError as error:
        raise RuntimeError(f'{argument}:={text}: must be a number of degrees, as 90') from error


def is_true(text):
    """Return the truth of a launch argument."""
    return text.lower() == 'true'
