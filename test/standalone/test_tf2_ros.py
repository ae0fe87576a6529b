"""tf2_ros, genuine or stand-in: chains of transforms, interpolation, what is refused, and the way over DDS."""

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

rclpy = pytest.importorskip('rclpy')
tf2_ros = pytest.importorskip('tf2_ros')

from geometry_msgs.msg import TransformStamped  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.time import Time  # noqa: E402

LATEST = Time()


def stamped(parent, child, seconds, translation=(0, 0, 0), rotation=None):
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp = Time(nanoseconds=round(seconds * 1e9)).to_msg()
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = map(float, translation)
    q.x, q.y, q.z, q.w = map(float, (rotation or Rotation.identity()).as_quat())
    return message


def matrix(message):
    t, q = message.transform.translation, message.transform.rotation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = t.x, t.y, t.z
    return T


@pytest.fixture
def buffer():
    return tf2_ros.Buffer()


@pytest.fixture
def random_motions():
    rng = np.random.default_rng(3)
    return [(rng.normal(size=3), Rotation.random(random_state=seed)) for seed in range(4)]


def test_a_chain_through_the_common_ancestor_is_the_product(buffer, random_motions):
    # world -> a -> tip, and world -> b -> eye
    links = [('world', 'a'), ('a', 'tip'), ('world', 'b'), ('b', 'eye')]
    for (parent, child), (translation, rotation) in zip(links, random_motions):
        buffer.set_transform(stamped(parent, child, 1.0, translation, rotation), 'test')
    world_a, a_tip, world_b, b_eye = (matrix(stamped('', '', 0, *motion)) for motion in random_motions)
    found = buffer.lookup_transform('eye', 'tip', LATEST)
    assert (found.header.frame_id, found.child_frame_id) == ('eye', 'tip')
    assert np.allclose(matrix(found), np.linalg.inv(world_b @ b_eye) @ world_a @ a_tip)


def test_between_two_stamps_motion_is_interpolated(buffer, random_motions):
    (t0, r0), (t1, r1) = random_motions[:2]
    buffer.set_transform(stamped('world', 'tip', 1.0, t0, r0), 'test')
    buffer.set_transform(stamped('world', 'tip', 2.0, t1, r1), 'test')
    found = matrix(buffer.lookup_transform('world', 'tip', Time(nanoseconds=1_250_000_000)))
    assert np.allclose(found[:3, 3], 0.75 * t0 + 0.25 * t1)
    assert np.allclose(found[:3, :3], Slerp([0, 1], Rotation.concatenate([r0, r1]))(0.25).as_matrix())


def test_the_latest_time_is_the_one_that_all_links_have(buffer):
    for seconds in (1.0, 3.0):
        buffer.set_transform(stamped('world', 'a', seconds, (seconds, 0, 0)), 'test')
    for seconds in (1.0, 2.0):
        buffer.set_transform(stamped('a', 'tip', seconds), 'test')
    found = buffer.lookup_transform('world', 'tip', LATEST)
    assert Time.from_msg(found.header.stamp).nanoseconds == 2_000_000_000
    assert found.transform.translation.x == pytest.approx(2.0)


def test_a_static_transform_holds_for_all_times(buffer):
    buffer.set_transform_static(stamped('world', 'table', 0, (1, 2, 3)), 'test')
    found = buffer.lookup_transform('world', 'table', Time(seconds=1234))
    assert found.transform.translation.z == 3.0


def test_each_failure_has_its_exception(buffer):
    buffer.set_transform(stamped('world', 'tip', 1.0), 'test')
    buffer.set_transform(stamped('island', 'tree', 1.0), 'test')
    with pytest.raises(tf2_ros.LookupException):
        buffer.lookup_transform('world', 'nobody', LATEST)
    with pytest.raises(tf2_ros.ConnectivityException):
        buffer.lookup_transform('world', 'tree', LATEST)
    for seconds in (0.5, 1.5):
        with pytest.raises(tf2_ros.ExtrapolationException):
            buffer.lookup_transform('world', 'tip', Time(nanoseconds=round(seconds * 1e9)))
    assert not buffer.can_transform('world', 'nobody', LATEST)
    assert buffer.can_transform('world', 'tip', LATEST)


def test_what_is_older_than_the_cache_is_forgotten():
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=2))
    for seconds in range(6):
        buffer.set_transform(stamped('world', 'tip', 1.0 + seconds), 'test')
    assert buffer.can_transform('world', 'tip', Time(seconds=5))
    assert not buffer.can_transform('world', 'tip', Time(seconds=2))


@pytest.fixture
def node():
    ours = not rclpy.ok()  # the tests of nodes keep their graph until the end
    if ours:
        rclpy.init()
    node = rclpy.create_node('test_tf2_ros')
    yield node
    node.destroy_node()
    if ours:
        rclpy.try_shutdown()


@pytest.mark.launch
def test_what_is_broadcast_arrives_at_a_listener(node):
    buffer = tf2_ros.Buffer()
    listener = tf2_ros.TransformListener(buffer, node)
    static = tf2_ros.StaticTransformBroadcaster(node)
    static.sendTransform([stamped('world', 'table', 0, (1, 0, 0))])
    broadcaster = tf2_ros.TransformBroadcaster(node)
    end = time.monotonic() + 30
    while not buffer.can_transform('world', 'tip', LATEST):
        assert time.monotonic() < end, 'no transform came'
        broadcaster.sendTransform(stamped('table', 'tip', 1.0, (0, 1, 0)))
        rclpy.spin_once(node, timeout_sec=0.1)
    found = buffer.lookup_transform('world', 'tip', LATEST).transform.translation
    assert (found.x, found.y) == (1.0, 1.0)
    listener.unregister()
