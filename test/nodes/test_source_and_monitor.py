"""source_node and monitor_node over DDS, with the test itself as the pipeline between them."""

import json
import sys
import time

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from rclpy.qos import QoSProfile
from ros_graph import Process, stamps, values
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from xa_files import write_xa

from m2i_ros.geometry import CArm, apply
from m2i_ros.model import load_model
from m2i_ros.recording.bag_reader import BagReader
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.images import fill_image, grey_from_compressed, grey_from_image
from m2i_ros.ros.stamps import decimal
from m2i_ros.ros.transforms import fill_transform, motion_from_pose, motion_from_transform

pytestmark = pytest.mark.launch


class Answering:
    """A pipeline: dark is vessel, and the pose is the true one, 1 mm to the side."""

    def __init__(self, graph, silent_on=()):
        self._graph, node = graph, graph.node
        self.received = []
        self._silent_on = silent_on
        qos = QoSProfile(depth=100)
        self._mask = node.create_publisher(Image, 'vessel/mask', qos)
        self._overlay = node.create_publisher(Image, 'vessel/overlay', qos)
        self._status = node.create_publisher(DiagnosticStatus, 'registration/status', qos)
        self._tf = node.create_publisher(TFMessage, '/tf', qos)
        self._subscriptions = [
            node.create_subscription(Image, 'image', self._take, qos),
            node.create_subscription(PoseStamped, 'truth/pose', self._take_pose, qos),
        ]

    def close(self):
        publishers = self._mask, self._overlay, self._status, self._tf
        self._graph.destroy(*publishers, *self._subscriptions)

    def _take(self, message):
        self.received.append(message)
        if len(self.received) in self._silent_on:
            return
        grey = grey_from_image(message)
        mask = np.where(grey < 100, 255, 0).astype(np.uint8)
        self._mask.publish(fill_image(Image(), message.header, mask))
        told = {'state': 'tracking', 'confidence': '0.9', 'latency_ms': '3', 'stamp': decimal(message.header.stamp)}
        pairs = [KeyValue(key=key, value=value) for key, value in told.items()]
        self._status.publish(DiagnosticStatus(name='registration', values=pairs))
        overlay = cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR)
        self._overlay.publish(fill_image(Image(), message.header, overlay))

    def _take_pose(self, message):
        T = motion_from_pose(message.pose)
        T[0, 3] += 0.001
        transform = TransformStamped(header=message.header, child_frame_id='vessel_model')
        fill_transform(transform.transform, T)
        self._tf.publish(TFMessage(transforms=[transform]))


@pytest.fixture
def answering(graph):
    """Start an `Answering` with given settings; it ends with the test."""
    there = []

    def make(**settings):
        there.append(Answering(graph, **settings))
        return there[-1]

    yield make
    for one in there:
        one.close()


@pytest.fixture
def run():
    """Start a node as `run('source_node', path='...')`; what still runs at the test's end is stopped."""
    processes = []

    def run(name, **parameters):
        options = [word for key, value in parameters.items() for word in ('-p', f'{key.replace("__", ".")}:={value}')]
        processes.append(Process(sys.executable, '-m', f'm2i_ros.nodes.{name}', '--ros-args', *options))
        return processes[-1]

    yield run
    for process in processes:
        process.stop()


@pytest.fixture
def pictures(tmp_path):
    """A folder of five pictures of two sizes, darker from one to the next."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for number in range(5):
        shape = (96, 128) if number < 3 else (128, 96)
        picture = np.full(shape, 200, np.uint8)
        picture[20:60, 30 : 40 + 5 * number] = 50
        cv2.imwrite(str(folder / f'p{number}.png'), picture)
    return folder


def test_every_picture_of_a_folder_is_answered_recorded_and_reported(graph, answering, run, pictures, tmp_path):
    pipeline = answering()
    record = tmp_path / 'record'
    monitor = run('monitor_node', record=record)
    source = run('source_node', source='images', path=pictures, wait_for='monitor_node')
    assert monitor.wait(60) == 0, monitor.output
    assert source.running, 'its last word stays to be read'
    assert 'Session summary' in monitor.output

    assert len(pipeline.received) == 5
    report = json.loads((record / 'report.json').read_text())
    assert (report['frames'], report['masks'], report['dropped']) == (5, 5, 0)
    assert report['source']['message'] == 'finished' and report['latency_from'] == 'receipt of the image'
    for number in range(5):
        mask = cv2.imread(str(record / 'masks' / f'p{number}.png'), cv2.IMREAD_UNCHANGED)
        picture = cv2.imread(str(pictures / f'p{number}.png'), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask, np.where(picture < 100, 255, 0))
    assert cv2.VideoCapture(str(record / 'overlay.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert cv2.imread(str(record / 'contact_sheet.png')) is not None
    assert len((record / 'frames.csv').read_text().splitlines()) == 6

    recorded = {}
    with AnyReader([record / 'bag']) as reader:
        for connection, _, data in reader.messages():
            recorded.setdefault(connection.topic, []).append(reader.deserialize(data, connection.msgtype))
    assert stamps(recorded['/image']) == stamps(pipeline.received) == stamps(recorded['/vessel/mask'])
    assert np.array_equal(recorded['/image'][4].data, np.frombuffer(pipeline.received[4].data, np.uint8))
    assert len(recorded['/registration/status']) == 5
    assert '/vessel/overlay' not in recorded, 'it is the video'
    assert '/rosout' in recorded, 'what is not known beforehand is found'
    with BagReader(record / 'bag') as reader:
        noted = reader.custom
    assert set(noted) == {'engine', 'weights', 'weights_hash', 'model', 'model_hash', 'parameters'}
    assert json.loads(noted['parameters'])['/test']['use_sim_time'] is False, 'of the node that answers'


def test_a_frame_without_answer_does_not_stop_the_source(graph, answering, run, pictures):
    pipeline = answering(silent_on=(2,))
    status = graph.collect(DiagnosticStatus, 'source/status', latched=True)
    source = run('source_node', source='images', path=pictures, step_timeout=0.5)
    source.says('finished: 5 frames sent')
    assert 'for frame p1 within 0.5 s' in source.output
    assert len(pipeline.received) == 5
    graph.wait(lambda: status and status[-1].message == 'finished', 'the last status')
    told = values(status[-1])
    assert told['unanswered'] == '1' and told['frame'] == '5' and told['of'] == '5'
    graph.stop_collecting(status)


def test_stamps_go_on_from_round_to_round(graph, answering, run, pictures):
    pipeline = answering()
    run('source_node', source='images', path=pictures, loop=True, frame_rate=100.0)
    graph.wait(lambda: len(pipeline.received) >= 23, 'five rounds', 60)
    sent = stamps(pipeline.received)
    assert all(a < b for a, b in zip(sent, sent[1:])), 'never equal, never back'
    assert sent[1] - sent[0] == 10_000_000


def test_pictures_can_be_sent_compressed(graph, run, pictures):
    received = graph.collect(CompressedImage, 'image/compressed')
    masks = graph.node.create_publisher(Image, 'vessel/mask', 10)
    run('source_node', source='images', path=pictures, image_transport='compressed', stepped='never')
    graph.wait(lambda: len(received) == 5, 'five pictures')
    picture = cv2.imread(str(pictures / 'p4.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(grey_from_compressed(received[4]), picture)
    graph.stop_collecting(received)
    graph.destroy(masks)


@pytest.mark.timeout(300)  # a phantom is made three times
def test_a_phantom_comes_in_real_time_with_its_truth(graph, answering, run, model_file, tmp_path):
    pipeline = answering()
    poses = graph.collect(PoseStamped, 'truth/pose')
    masks = graph.collect(Image, 'truth/mask')
    infos = graph.collect(CameraInfo, 'camera_info')
    starts = graph.collect(PoseWithCovarianceStamped, 'initialpose')
    monitor = run('monitor_node', record=tmp_path / 'record', model__path=model_file)
    size = dict(width=256, height=256, duration=2.0)
    source = run('source_node', source='phantom', seed=0, mirrored=True, wait_for='monitor_node', **size)
    source.says('finished: 30 frames sent', timeout=110)
    assert monitor.wait(60) == 0, monitor.output

    from m2i_ros.simulation import Phantom

    phantom = Phantom('iliofemoral', 0, 256, 256, duration=2.0, mirrored=True)
    graph.wait(lambda: len(poses) == len(masks) == len(infos) == 30, 'the truth of every frame')
    sent = stamps(pipeline.received)
    assert sent == stamps(poses) == stamps(masks) == stamps(infos)
    for index in (0, 29):
        truth = phantom[index]
        assert np.allclose(motion_from_pose(poses[index].pose), truth.T_image_model, atol=1e-9)
        assert np.array_equal(grey_from_image(masks[index]), truth.mask)
        assert np.array_equal(grey_from_image(pipeline.received[index]), truth.image)
    camera = camera_from_info(infos[0])
    assert camera == phantom.camera and camera.fx < 0
    assert np.allclose(motion_from_pose(starts[0].pose.pose), phantom.initial_pose, atol=1e-9)
    if 'came late' not in monitor.output:
        assert np.ptp(np.diff(sent)) <= 1, 'evenly, to the nanosecond'
    report = json.loads((tmp_path / 'record' / 'report.json').read_text())
    assert report['frames'] == 30 and report['latency_from'] == 'image stamp'
    assert report['mtre_mm']['median'] == pytest.approx(1.0, abs=1e-6) and report['mtre_mm']['n'] == 30
    for messages in (poses, masks, infos, starts):
        graph.stop_collecting(messages)


def test_interrupted_it_still_reports(graph, answering, run, pictures, tmp_path):
    pipeline = answering()
    monitor = run('monitor_node', record=tmp_path / 'record')
    source = run('source_node', source='images', path=pictures, loop=True, wait_for='monitor_node')
    graph.wait(lambda: len(pipeline.received) >= 10, 'two rounds', 60)
    monitor.says('fps')
    begun = time.monotonic()
    assert monitor.stop() == 0, monitor.output
    assert time.monotonic() - begun < 20
    assert source.stop() == 0, source.output
    assert json.loads((tmp_path / 'record' / 'report.json').read_text())['frames'] > 0
    with AnyReader([tmp_path / 'record' / 'bag']) as reader:
        assert reader.message_count > 0


def test_a_folder_that_cannot_be_recorded_into_is_said_and_the_session_goes_on(answering, run, pictures, tmp_path):
    answering()
    (tmp_path / 'file').write_text('')
    monitor = run('monitor_node', record=tmp_path / 'file' / 'record')
    run('source_node', source='images', path=pictures, wait_for='monitor_node')
    assert monitor.wait(60) == 0
    assert 'Going on without recording' in monitor.output and '5 in, 5 masks out' in monitor.output


def test_a_dicom_run_comes_with_its_camera_the_c_arm_and_the_true_times(graph, answering, run, model_file, tmp_path):
    pipeline = answering()
    infos = graph.collect(CameraInfo, 'camera_info')
    starts = graph.collect(PoseWithCovarianceStamped, 'initialpose')
    transforms = graph.collect(TFMessage, '/tf')
    status = graph.collect(DiagnosticStatus, 'source/status', latched=True)
    frames = np.stack([np.full((64, 96), 150 + 10 * number, np.uint8) for number in range(4)])
    path = write_xa(
        tmp_path / 'run.dcm',
        frames,
        'JPEGLosslessProcess14_1',
        PatientName='PLANTED^NAME',
        PatientID='PLANTED',
        StudyDescription='PLANTED',
        ImageComments='PLANTED',
        FrameTime=None,
        FrameTimeVector=[0, 100.0, 50.0, 200.0],
        PositionerPrimaryAngleIncrement=[0.0, 2.0, 4.0, 6.0],
        TableLongitudinalIncrement=[0.0, 10.0, 20.0, 30.0],
    )
    record = tmp_path / 'record'
    monitor = run('monitor_node', record=record)
    given = {'model__path': model_file, 'dicom__isocentre': 'centroid', 'wait_for': 'monitor_node'}
    source = run('source_node', source='dicom', path=path, **given)
    source.says('finished: 4 frames sent')
    graph.wait(lambda: len(pipeline.received) == len(transforms) == len(infos) == 4, 'four frames with their TF')
    sent = stamps(pipeline.received)
    assert [b - a for a, b in zip(sent, sent[1:])] == [100_000_000, 50_000_000, 200_000_000]
    assert all(np.array_equal(grey_from_image(m), frame) for m, frame in zip(pipeline.received, frames))
    camera = camera_from_info(infos[0])
    assert (camera.fx, camera.fy) == pytest.approx((-2750, 2750)) and stamps(infos) == sent

    for index, message in enumerate(transforms):
        table, c_arm = message.transforms
        assert (table.header.frame_id, table.child_frame_id) == ('table', 'isocentre')
        assert (c_arm.header.frame_id, c_arm.child_frame_id) == ('isocentre', 'xray')
        assert stamps([table, c_arm]) == [sent[index]] * 2
        # The tube stands 0.75 m from the isocentre, opposite the detector: LAO 30 and more, caudal 20.
        lao, caudal = np.radians(30 + 2 * index), np.radians(20)
        towards_detector = np.array([np.sin(lao) * np.cos(caudal), -np.cos(lao) * np.cos(caudal), -np.sin(caudal)])
        tube = motion_from_transform(c_arm.transform)[:3, 3]
        assert np.allclose(tube, -0.75 * towards_detector, atol=1e-9)
        moved = motion_from_transform(table.transform)
        assert np.allclose(apply(moved, np.array([0.01 * index, 0, 0])), 0, atol=1e-9), 'the patient goes with it'

    graph.wait(lambda: starts, 'the start')
    T = motion_from_pose(starts[0].pose.pose)
    assert np.allclose(apply(T, load_model(model_file).centroid), [0, 0, 0.75], atol=1e-9)
    assert np.allclose(T[:3, :3], CArm(np.radians(30), np.radians(-20)).T_image_isocentre[:3, :3], atol=1e-9)
    graph.wait(lambda: status and status[-1].message == 'finished', 'the last status')
    assert monitor.wait(60) == 0, monitor.output
    assert 'PLANTED' not in source.output + repr(status) + monitor.output
    written = {file.name: file.read_bytes() for file in record.rglob('*') if file.is_file()}
    assert {'report.json', 'frames.csv', 'overlay.mp4', 'contact_sheet.png', 'metadata.yaml', 'bag.mcap'} <= set(
        written
    )
    with AnyReader([record / 'bag']) as reader:  # its file is compressed
        assert {'/image', '/source/status', '/rosout'} <= {connection.topic for connection in reader.connections}
        written['messages'] = b''.join(bytes(data) for *_, data in reader.messages())
    assert not [name for name, data in written.items() if b'PLANTED' in data]
    assert source.output.count('assumed:') == 1
    for messages in (infos, starts, transforms, status):
        graph.stop_collecting(messages)


def test_it_pauses_and_steps(graph, answering, run, pictures):
    pipeline = answering()
    run('source_node', source='images', path=pictures, loop=True, frame_rate=100.0)
    graph.wait(lambda: len(pipeline.received) > 2, 'that it plays', 60)
    assert not graph.call(Trigger, 'source_node/step', Trigger.Request()).success, 'while it plays there is no step'
    assert graph.call(SetBool, 'source_node/pause', SetBool.Request(data=True)).success
    # One frame may be on its way when the service answers.
    stands = len(pipeline.received) + 1
    assert graph.call(Trigger, 'source_node/step', Trigger.Request()).success
    assert graph.call(Trigger, 'source_node/step', Trigger.Request()).success
    graph.wait(lambda: len(pipeline.received) >= stands + 1, 'two steps')
    stood = len(pipeline.received)
    assert stood <= stands + 2
    assert graph.call(SetBool, 'source_node/pause', SetBool.Request(data=False)).success
    graph.wait(lambda: len(pipeline.received) > stood + 5, 'that it goes on')
    sent = stamps(pipeline.received)
    assert all(a < b for a, b in zip(sent, sent[1:]))


@pytest.mark.parametrize(
    'parameters, words',
    [
        (dict(source='case', path='/nowhere'), '/nowhere: not found'),
        (dict(source='images'), 'needs a path'),
        (dict(source='film'), 'must be one of phantom, images, video, dicom, case, bag'),
        (dict(source='images', path='/tmp', frame_rate=-1.0), 'frame_rate'),
        (dict(source='dicom', path='/nowhere.dcm'), '/nowhere.dcm: not found'),
        (dict(source='dicom', path='/tmp', dicom__angles_deg='thirty'), 'dicom.angles_deg'),
        (dict(source='video', path='/nowhere.mp4'), '/nowhere.mp4: not found'),
    ],
)
def test_a_source_that_cannot_be_ends_at_once_and_says_why(run, parameters, words):
    source = run('source_node', **parameters)
    assert source.wait(30) == 1
    assert words in source.output


def test_a_source_that_nobody_listens_to_gives_up_with_a_reason(graph, run, pictures):
    status = graph.collect(DiagnosticStatus, 'source/status', latched=True)
    source = run('source_node', source='images', path=pictures, start_timeout=1.0)
    source.says('nobody subscribes to /image after')
    graph.wait(lambda: status and status[-1].message == 'failed', 'the last status')
    assert status[-1].level == DiagnosticStatus.ERROR
    graph.stop_collecting(status)
