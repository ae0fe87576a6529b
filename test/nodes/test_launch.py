"""pipeline.launch.py comes up, frames flow, and it ends clean; wrong arguments fail at once with the right ones."""

import json
import shutil

import cv2
import numpy as np
import pytest
from ros_graph import Driver, Process, stamps
from sensor_msgs.msg import Image

from m2i_ros.geometry import CArm, inverse
from m2i_ros.recording import BagWriter
from m2i_ros.recording.bag_reader import BagReader
from m2i_ros.recording.messages import Messages
from m2i_ros.sources import SourceFrame
from m2i_ros.sources.bag import BagSource

pytestmark = [
    pytest.mark.launch,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not shutil.which('ros2'), reason='the ros2 command is needed (or ./standalone/run pytest)'),
]


@pytest.fixture
def launch(graph, tmp_path):
    """Start `ros2 launch m2i_ros pipeline.launch.py ARGUMENTS` in an empty folder; file: another launch file."""
    started = []

    def launch(*arguments, file='pipeline.launch.py'):
        process = Process('ros2', 'launch', 'm2i_ros', file, *arguments, cwd=tmp_path)
        started.append(process)
        return process

    yield launch
    for process in started:
        process.stop(60)


def test_all_arguments_are_described(launch):
    process = launch('--show-args')
    assert process.wait() == 0
    for argument in (
        'source path model params_file composed namespace use_sim_time image_transport record loop rviz log_level'
    ).split():
        assert f"'{argument}':" in process.output
    for word in ('none', 'phantom', 'images', 'case', 'bag', 'compressed', 'default'):
        assert word in process.output


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['source:=fantom'], ['fantom', 'none', 'phantom', 'images', 'case']),
        (['composed:=perhaps'], ['perhaps', 'true', 'false']),
        (['image_transport:=pigeon'], ['pigeon', 'raw', 'compressed']),
        (['source:=images'], ['path:=PATH']),
        (['source:=images', 'path:=nowhere'], ['path:=nowhere', 'there is no']),
        (['path:=somewhere'], ['source:=phantom']),
        (['source:=phantom', 'path:=iliofemoral:x'], ['ANATOMY:SEED']),
        (['model:=gone.stl'], ['model:=gone.stl', 'there is no']),
        (['params_file:=gone.yaml'], ['params_file:=gone.yaml', 'there is no']),
    ],
)
def test_a_wrong_argument_fails_at_once_and_names_the_right_ones(launch, arguments, words):
    process = launch(*arguments)
    assert process.wait() != 0
    for word in words:
        assert word in process.output
    assert 'ready: listening' not in process.output


@pytest.mark.skipif(bool(shutil.which('rviz2')), reason='rviz2 is installed here')
def test_rviz_that_is_not_installed_is_told(launch):
    process = launch('rviz:=true')
    assert process.wait() != 0
    assert 'rviz2 is not installed' in process.output


def test_the_phantom_plays_once_is_reported_and_the_launch_ends_by_itself(launch, tmp_path):
    (tmp_path / 'small.yaml').write_text(
        '/**:\n  ros__parameters:\n    duration: 2.0\n    width: 256\n    height: 256\n    frame_rate: 5.0\n'
    )
    process = launch('source:=phantom', 'params_file:=small.yaml', 'record:=report')
    assert process.wait(300) == 0, process.output
    report = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert report
    assert (tmp_path / 'report' / 'contact_sheet.png').stat().st_size > 0
    assert any((tmp_path / 'report' / 'bag').iterdir())
    assert 'Traceback' not in process.output


def test_two_planes_are_registered_by_two_processes_recorded_and_replayed(launch, tmp_path):
    parameters = 'duration: 4.0\n    width: 256\n    height: 256\n    frame_rate: 5.0\n    stepped: always\n'
    (tmp_path / 'small.yaml').write_text(f'/**:\n  ros__parameters:\n    {parameters}')
    given = ('source:=phantom', 'second_plane:=90', 'composed:=false', 'params_file:=small.yaml', 'record:=report')
    process = launch(*given)
    assert process.wait(300) == 0, process.output
    assert 'Traceback' not in process.output
    with BagReader(tmp_path / 'report' / 'bag') as reader:
        found = {topic: list(reader.messages([topic])) for topic in reader.topics if topic.startswith('/second/')}
        seen = {p.value for _, _, m in reader.messages(['/registration/status']) for p in m.values if p.key == 'views'}
    assert set(found) == {'/second/image', '/second/camera_info', '/second/vessel/mask'}
    assert len(found['/second/image']) == 20 and len(found['/second/vessel/mask']) >= 19
    assert '2' in seen, 'once contrast is there'
    frames = list(BagSource(tmp_path / 'report' / 'bag'))
    assert len(frames) == 20 and all(frame.second.camera == frame.camera for frame in frames)
    T = CArm(np.radians(90)).T_image_isocentre @ inverse(CArm().T_image_isocentre)
    assert all(np.allclose(frame.second.T_second_image, T, atol=1e-9) for frame in frames)


def test_without_recording_it_sums_up_and_leaves_nothing_behind(launch, tmp_path):
    parameters = 'duration: 1.0\n    width: 256\n    height: 256\n    frame_rate: 5.0\n    mirrored: false\n'
    (tmp_path / 'small.yaml').write_text('/**:\n  ros__parameters:\n    ' + parameters)
    process = launch('source:=phantom', 'params_file:=small.yaml', 'record:=off')
    assert process.wait(300) == 0, process.output
    assert 'Session summary' in process.output
    assert [path.name for path in tmp_path.iterdir()] == ['small.yaml']


def test_pictures_of_a_folder_each_get_a_mask(launch, tmp_path, patient):
    (tmp_path / 'pictures').mkdir()
    names = ['a1.png', 'a2.png', 'a10.png']
    for name, frame in zip(names, patient.frames):
        cv2.imwrite(str(tmp_path / 'pictures' / name), frame.image)
    process = launch('source:=images', 'path:=pictures', 'record:=report')
    assert process.wait(300) == 0, process.output
    for name in names:
        mask = cv2.imread(str(tmp_path / 'report' / 'masks' / name), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (256, 256)
        assert set(mask.ravel().tolist()) <= {0, 255}


@pytest.mark.parametrize('composed', ['true', 'false'])
def test_on_live_topics_it_plays_nothing_and_masks_flow_in_its_namespace(launch, graph, patient, composed):
    process = launch(f'composed:={composed}', 'namespace:=theatre')
    process.says('ready: listening to /theatre/image', 120, 1 if composed == 'true' else 2)
    nodes = {name for name in graph.node.get_node_names() if name != 'test'}
    expected = {'pipeline_node'} if composed == 'true' else {'segmentation_node', 'registration_node'}
    graph.wait(lambda: expected <= set(graph.node.get_node_names()), f'{expected}, not {nodes}')
    masks = graph.collect(Image, '/theatre/vessel/mask')
    publisher = graph.publisher(Image, '/theatre/image', len(expected))
    sent = []

    def arrived():
        # Best effort: pictures go on until one has come through.
        sent.append(10**9 * (600 + len(sent)))
        Driver.send_image(publisher, sent[-1], patient.frames[0].image)
        return masks

    graph.wait(arrived, 'a mask', 60)
    assert set(stamps(masks)) <= set(sent)
    assert process.stop(60) == 0, process.output
    assert 'Traceback' not in process.output
    graph.destroy(publisher)
    graph.stop_collecting(masks)


def test_a_bag_is_a_test_in_other_peoples_ci(launch, tmp_path, patient, model_file):
    with BagWriter(tmp_path / 'recorded') as bag:
        messages = Messages(bag.types)
        for index, frame in enumerate(patient.frames[:6]):
            start = None if index else patient.initial_pose
            given = SourceFrame(frame.image, frame.stamp, camera=patient.camera, mask=frame.mask, initial_pose=start)
            stamp = 10**18 + round(1e9 * frame.stamp)
            for topic, kind, message in messages.of_frame(given, stamp):
                bag.write(topic, kind, stamp, message)
    given = ['bag:=recorded', f'model:={model_file}']
    (tmp_path / 'good.yaml').write_text('frames: 6\nmasks: 6\ndice.median: [0.5, null]\n')
    good = launch(*given, 'expected:=good.yaml', file='replay_test.launch.py')
    assert good.wait(300) == 0, good.output
    (tmp_path / 'bad.yaml').write_text('frames: 6\nmpd_mm.median: [null, 1.0]\n')
    bad = launch(*given, 'expected:=bad.yaml', 'record:=second', file='replay_test.launch.py')
    assert bad.wait(300) == 1, bad.output
    assert 'mpd_mm.median is None, expected  to 1.0' in bad.output, 'without truth there is no error in mm'
    again = launch(*given, 'expected:=good.yaml', file='replay_test.launch.py')
    assert again.wait(60) == 1 and 'holds a report already' in again.output
