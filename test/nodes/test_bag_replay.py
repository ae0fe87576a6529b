"""A bag played through the nodes over DDS gives what `replay` gives without a graph."""

import sys

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import QoSProfile
from ros_graph import Process, reliable, stamps
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from m2i_ros.geometry import inverse
from m2i_ros.recording import BagWriter
from m2i_ros.recording.bag_reader import BagReader
from m2i_ros.recording.messages import Messages
from m2i_ros.replay import main
from m2i_ros.ros.images import grey_from_image
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.sources import SourceFrame
from m2i_ros.sources.source_frame import SecondPicture

pytestmark = [pytest.mark.launch, pytest.mark.timeout(300)]

BEGUN = 1_795_388_611_123_456_789  # ns; an X-ray system's clock


def record(path, patient, other=None):
    """Write the frames as an X-ray system of one or two planes; in mid-run somebody gives a pose to start from."""
    with BagWriter(path) as writer:
        messages = Messages(writer.types, 'c_arm', second_frame_id='lateral')
        for index, frame in enumerate(patient.frames):
            start = patient.initial_pose if index in (0, 8) else None
            stamp = BEGUN + round(1e9 * frame.stamp)
            second = None
            if other:  # 5 ms later
                T = other.c_arm.T_image_isocentre @ inverse(patient.c_arm.T_image_isocentre)
                second = SecondPicture(other[index].image, frame.stamp + 0.005, other.camera, T)
            given = SourceFrame(frame.image, frame.stamp, camera=patient.camera, initial_pose=start, second=second)
            for topic, kind, message in messages.of_frame(given, stamp):
                writer.write(topic if topic == '/tf' else f'/theatre{topic}', kind, stamp, message)
    return path


def replay(bag, model_file, path):
    assert main([str(bag), '--output', str(path), '--model', str(model_file)]) == 0
    return path


@pytest.fixture(scope='module')
def bag(patient, tmp_path_factory):
    return record(tmp_path_factory.mktemp('recorded') / 'bag', patient)


@pytest.fixture(scope='module')
def replayed(bag, model_file, tmp_path_factory):
    """What `replay` makes of the bag."""
    return replay(bag, model_file, tmp_path_factory.mktemp('replayed') / 'bag')


@pytest.fixture
def play(graph, bag):
    """Start source_node with the bag; it is stopped at the test's end."""
    processes = []

    def play(**parameters):
        options = [
            word for k, v in {'source': 'bag', 'path': bag, **parameters}.items() for word in ('-p', f'{k}:={v}')
        ]
        processes.append(Process(sys.executable, '-m', 'm2i_ros.nodes.source_node', '--ros-args', *options))
        return processes[-1]

    yield play
    for process in processes:
        process.stop()


def read(path, topic):
    with BagReader(path) as reader:
        return [message for _, _, message in reader.messages([topic])]


def motions(messages):
    """Return {stamp: (7,) position and quaternion} of the model's in TFMessages."""
    out = {}
    transforms = [transform for message in messages for transform in message.transforms]
    for transform in (each for each in transforms if each.child_frame_id == 'vessel_model'):
        t, q = transform.transform.translation, transform.transform.rotation
        sign = np.sign(q.w) or 1.0
        out[nanoseconds(transform.header.stamp)] = np.array([t.x, t.y, t.z, *(sign * v for v in (q.x, q.y, q.z, q.w))])
    return out


def assert_motions(transforms, poses):
    """Assert that the motions of TFMessages are poses, as `motions` has them, in their order."""
    live = motions(transforms)
    assert list(live) == list(poses)
    for stamp, pose in poses.items():
        np.testing.assert_allclose(live[stamp], pose, rtol=0, atol=1e-9)


def test_the_graph_and_the_replay_agree_on_every_mask_and_transform(
    graph, start_one, play, replayed, model_file, patient
):
    start_one('pipeline_node', **{'model.path': model_file}, **reliable('/image', '/camera_info'))
    masks = graph.collect(Image, 'vessel/mask')
    transforms = graph.collect(TFMessage, '/tf')
    source = play()
    source.says('finished: 15 frames sent', 120)
    expected = read(replayed, '/vessel/mask')
    poses = motions(read(replayed, '/tf'))
    graph.wait(lambda: len(masks) >= len(expected), 'a mask for every picture')
    graph.wait(lambda: len(transforms) >= len(poses), 'every transform')
    assert stamps(masks) == stamps(expected) == [BEGUN + round(1e9 * frame.stamp) for frame in patient.frames]
    for live, replayed in zip(masks, expected):
        assert live.header.frame_id == replayed.header.frame_id == 'c_arm'
        assert np.array_equal(grey_from_image(live), grey_from_image(replayed))
    live = motions(transforms)
    assert len(poses) > 5 and list(live) == list(poses)
    for stamp, pose in poses.items():
        np.testing.assert_allclose(live[stamp], pose, rtol=0, atol=1e-9)
    for messages in (masks, transforms):
        graph.stop_collecting(messages)


def test_the_graph_and_the_replay_agree_on_pairs_of_frames_in_one_process_and_in_two(
    graph, start_one, play, model_file, patient, other, tmp_path
):
    bag = record(tmp_path / 'bag', patient, other)
    replayed = replay(bag, model_file, tmp_path / 'replayed')
    poses, seconds = motions(read(replayed, '/tf')), read(replayed, '/second/vessel/mask')
    told = [{pair.key: pair.value for pair in message.values} for message in read(replayed, '/registration/status')]
    assert len(poses) > 10 and len(seconds) == 15
    assert sum(each['views'] == '2' for each in told) > 10
    topics = [plane + name for plane in ('/', '/second/') for name in ('image', 'camera_info', 'vessel/mask')]
    parameters = {'second.patience': 1.0, **reliable(*topics)}
    for nodes in (['pipeline_node'], ['segmentation_node', 'registration_node']):
        started = [start_one(nodes[-1], **{'model.path': model_file}, **parameters)]
        started += [start_one(node, **parameters) for node in nodes[:-1]]
        masks, transforms = graph.collect(Image, 'second/vessel/mask'), graph.collect(TFMessage, '/tf')
        play(path=bag).says('finished: 15 frames sent', 120)
        graph.wait(lambda: len(motions(transforms)) >= len(poses), 'every transform')  # noqa: B023  called in its turn
        graph.wait(lambda: len(masks) >= len(seconds), 'every mask')  # noqa: B023
        assert stamps(masks) == stamps(seconds) == [BEGUN + 5_000_000 + round(1e9 * f.stamp) for f in patient.frames]
        assert all(np.array_equal(grey_from_image(a), grey_from_image(b)) for a, b in zip(masks, seconds, strict=True))
        assert_motions(transforms, poses)
        for messages in (masks, transforms):
            graph.stop_collecting(messages)
        assert not any(process.stop() for process in started)


def test_another_player_gives_the_pipeline_the_same_bag(graph, start_one, bag, replayed, model_file, patient):
    """As `ros2 bag play` does it: the recorded bytes, with the recorded quality of service, in the recorded order."""
    start_one('pipeline_node', **{'model.path': model_file}, **reliable('/image', '/camera_info'))
    masks = graph.collect(Image, 'vessel/mask')
    transforms = graph.collect(TFMessage, '/tf')
    kinds = {kind.__name__: kind for kind in (Image, CameraInfo, PoseWithCovarianceStamped)}
    with AnyReader([bag]) as reader:
        publishers = {}
        for connection in reader.connections:
            kind = kinds[connection.msgtype.rpartition('/')[2]]
            recorded = connection.ext.offered_qos_profiles[0]
            qos = QoSProfile(depth=recorded.depth)  # reliable and volatile, as it says
            assert (recorded.reliability.name, recorded.durability.name) == ('RELIABLE', 'VOLATILE')
            topic = connection.topic.removeprefix('/theatre/')
            publishers[connection.topic] = graph.node.create_publisher(kind, topic, qos)
        graph.wait(lambda: all(p.get_subscription_count() for p in publishers.values()), 'that the pipeline listens')
        for connection, _, data in reader.messages():
            publishers[connection.topic].publish(bytes(data))
            if connection.msgtype.endswith('/Image'):
                sent = len(masks) + 1
                graph.wait(lambda: len(masks) >= sent, 'its mask')  # noqa: B023  called before the next turn
    expected, poses = read(replayed, '/vessel/mask'), motions(read(replayed, '/tf'))
    graph.wait(lambda: len(transforms) >= len(poses), 'every transform')
    assert stamps(masks) == stamps(expected) and len(masks) == len(patient.frames)
    assert all(np.array_equal(grey_from_image(live), grey_from_image(other)) for live, other in zip(masks, expected))
    assert_motions(transforms, poses)
    for messages in (masks, transforms):
        graph.stop_collecting(messages)
    graph.destroy(*publishers.values())


def test_a_bag_in_its_own_time_brings_the_clock_and_its_stamps(graph, play, patient):
    images = graph.collect(Image, 'image')
    infos = graph.collect(CameraInfo, 'camera_info')
    clock = graph.collect(Clock, '/clock')
    starts = graph.collect(PoseWithCovarianceStamped, 'initialpose', latched=True)
    masks = graph.node.create_publisher(Image, 'vessel/mask', 10)
    settings = {'bag.clock': True, 'bag.rate': 4.0, 'bag.start': 0.3, 'bag.duration': 0.4}
    play(stepped='never', **settings).says(r'finished: (\d+) frames sent')
    sent = [BEGUN + round(1e9 * f.stamp) for f in patient.frames if 0.3 <= f.stamp < 0.7]
    graph.wait(lambda: len(images) == len(infos) == len(clock) == len(sent), 'all pictures')
    assert stamps(images) == stamps(infos) == [nanoseconds(c.clock) for c in clock] == sent
    graph.wait(lambda: starts, 'the pose that lies in this part')
    assert nanoseconds(starts[-1].header.stamp) == BEGUN + round(1e9 * patient.frames[8].stamp)
    for messages in (images, infos, clock, starts):
        graph.stop_collecting(messages)
    graph.destroy(masks)


def test_a_bag_played_again_does_not_go_back_in_time(graph, play):
    images = graph.collect(Image, 'image')
    masks = graph.node.create_publisher(Image, 'vessel/mask', 10)
    play(stepped='never', loop=True, **{'bag.duration': 0.2, 'bag.rate': 20.0})
    graph.wait(lambda: len(images) >= 10, 'three rounds')
    sent = stamps(images)
    assert sent[0] == BEGUN and all(a < b for a, b in zip(sent, sent[1:]))
    graph.stop_collecting(images)
    graph.destroy(masks)


def test_a_bag_that_is_none_is_said_at_once(play, tmp_path):
    (tmp_path / 'empty').mkdir()
    source = play(path=tmp_path / 'empty')
    assert source.wait(30) == 1
    assert 'holds no file that ends in .mcap, .db3' in source.output
