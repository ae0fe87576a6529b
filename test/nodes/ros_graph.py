"""What tests of nodes need: a graph, processes, an X-ray system. Waiting is on events only."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from m2i_ros.geometry import inverse
from m2i_ros.ros.camera_info import fill_camera_info
from m2i_ros.ros.images import fill_image
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.ros.transforms import fill_pose, fill_transform

TOP = Path(__file__).parents[2]
SECOND = 10**9


class Graph:
    """The test's own node, spun by a thread; `wait` wakes up with every message."""

    def __init__(self):
        self._news = threading.Condition()
        rclpy.init()
        self.node = rclpy.create_node('test')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

        def spin():
            try:
                self._executor.spin()
            except ExternalShutdownException:
                pass

        self._thread = threading.Thread(target=spin, daemon=True)
        self._thread.start()

    def close(self):
        rclpy.try_shutdown()
        self._thread.join(10)
        self.node.destroy_node()

    def collect(self, kind, topic, latched=False):
        """Return a list that fills with the messages of a topic, received reliably."""
        messages = Messages()
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE

        def take(message):
            with self._news:
                messages.append(message)
                self._news.notify_all()

        messages.subscription = self.node.create_subscription(
            kind, topic, take, QoSProfile(depth=500, durability=durability)
        )
        return messages

    def stop_collecting(self, messages):
        """Unsubscribe."""
        self.destroy(messages.subscription)

    def destroy(self, *entities):
        """Leave the graph with publishers, subscriptions and clients of `node`.

        The thread that spins does it, between two waits: one that goes while it prepares to wait would end it.
        """
        ways = {
            Publisher: self.node.destroy_publisher,
            Subscription: self.node.destroy_subscription,
            Client: self.node.destroy_client,
        }
        tasks = [self._executor.create_task(ways[type(entity)], entity) for entity in entities]
        self.wait(lambda: all(task.done() for task in tasks), 'publishers and subscriptions to go')
        assert all(task.result() for task in tasks)

    def publisher(self, kind, topic, listeners=1):
        """Return a reliable publisher that `listeners` subscriptions are matched with."""
        publisher = self.node.create_publisher(kind, topic, QoSProfile(depth=500))
        self.wait(lambda: publisher.get_subscription_count() >= listeners, f'a subscriber of {topic}')
        return publisher

    def call(self, kind, service, request, timeout=30):
        """Return the response of a service."""
        client = self.node.create_client(kind, service)
        try:
            assert client.wait_for_service(timeout), f'no service {service}'
            future = client.call_async(request)
            self.wait(future.done, f'the response of {service}', timeout)
            return future.result()
        finally:
            self.destroy(client)

    def set_parameter(self, node, name, value):
        """Return the node's answer (`successful`, `reason`) to a live change of a parameter."""
        request = SetParametersAtomically.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParametersAtomically, f'{node}/set_parameters_atomically', request).result

    def wait(self, condition, what, timeout=30):
        """Return the condition's value once it is true. Fails, naming what was waited for, after `timeout` seconds."""
        end = time.monotonic() + timeout
        with self._news:
            while not (value := condition()):
                assert self._thread.is_alive(), f'the thread that receives has ended; waited for {what}'
                assert time.monotonic() < end, f'waited {timeout} s for {what}'
                self._news.wait(0.05)  # matching endpoints and responses come without news
            return value


class Messages(list):
    """What was received on one topic."""

    subscription = None


class Process:
    """A command that runs, with what it printed."""

    def __init__(self, *command, cwd=TOP):
        self.lines = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': '1', 'OMP_NUM_THREADS': '1'},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self):
        return ''.join(self.lines)

    @property
    def running(self):
        return self._process.poll() is None

    def says(self, pattern, timeout=60, count=1):
        """Wait until the output matches `pattern`, `count` times."""
        end = time.monotonic() + timeout
        with self._news:
            while len(re.findall(pattern, self.output)) < count:
                ended = not self.running and not self._reader.is_alive()
                assert not ended and time.monotonic() < end, f'waited for "{pattern}" in:\n{self.output}'
                self._news.wait(0.1)

    def wait(self, timeout=60):
        """Return the exit code once the command has ended."""
        code = self._process.wait(timeout)
        self._reader.join(10)
        return code

    def stop(self, timeout=20):
        """Interrupt it as Ctrl-C does; return its exit code."""
        if self.running:
            self._process.send_signal(signal.SIGINT)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise

    def _read(self):
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def reliable(*topics):
    """Return parameters with which a node loses no message of these topics."""
    return {'depth': 500, **{f'qos_overrides.{topic}.subscription.reliability': 'reliable' for topic in topics}}


class Driver:
    """What an X-ray system would publish: `image`, `camera_info` and, by hand, `initialpose`."""

    def __init__(self, graph, registers=True, masks=False):
        """registers, masks: whether the node under test listens to what a registration needs, and to masks."""
        self.image = graph.publisher(Image, 'image')
        self.mask = graph.publisher(Image, 'vessel/mask') if masks else None
        if registers:
            self.camera_info = graph.publisher(CameraInfo, 'camera_info')
            self.initial_pose = graph.publisher(PoseWithCovarianceStamped, 'initialpose')
        self.publishers = [each for each in vars(self).values() if each is not None]

    def close(self, graph):
        """Leave the graph."""
        graph.destroy(*self.publishers)

    @staticmethod
    def header(stamp, frame_id='xray'):
        """Return a header; stamp: nanoseconds."""
        return Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=frame_id)

    def send(self, stamp, pixels, camera=None, mask=None, frame_id='xray', **changes):
        """Publish a picture, before it its camera_info and after it its mask, where given."""
        header = self.header(stamp, frame_id)
        if camera is not None:
            self.camera_info.publish(fill_camera_info(CameraInfo(), header, camera))
        self.send_image(self.image, stamp, pixels, frame_id, **changes)
        if mask is not None:
            self.mask.publish(fill_image(Image(), header, mask))

    @staticmethod
    def send_image(publisher, stamp, pixels, frame_id='xray', **changes):
        """Publish a picture, with some fields of its message changed."""
        message = fill_image(Image(), Driver.header(stamp, frame_id), pixels)
        for name, value in changes.items():
            setattr(message, name, value)
        publisher.publish(message)

    def send_initial_pose(self, T, frame_id='xray'):
        """Publish where a search may start, without a covariance."""
        message = PoseWithCovarianceStamped(header=self.header(0, frame_id))
        fill_pose(message.pose.pose, T)
        self.initial_pose.publish(message)


def stamps(messages):
    """Return the stamps of messages with a header, nanoseconds, in the order received."""
    return [nanoseconds(message.header.stamp) for message in messages]


def values(status):
    """Return {key: value} of a DiagnosticStatus; `stamp` as nanoseconds."""
    found = {pair.key: pair.value for pair in status.values}
    if 'stamp' in found:
        found['stamp'] = int(found['stamp'].replace('.', ''))
    return found


class BiPlane:
    """Publishes pairs, one after another, and knows what was answered."""

    def __init__(self, graph, patient, other, listeners=1):
        """listeners: how many nodes there are."""
        self.graph, self.patient, self.other = graph, patient, other
        self.first = Driver(graph)
        self.image = graph.publisher(Image, 'second/image', listeners)
        self.camera_info = graph.publisher(CameraInfo, 'second/camera_info', listeners)
        self.publishers = [self.image, self.camera_info]
        graph.wait(lambda: self.first.image.get_subscription_count() >= listeners, 'that all nodes listen')
        self.statuses = graph.collect(DiagnosticStatus, 'registration/status')
        self.poses = graph.collect(PoseWithCovarianceStamped, 'registration/pose')
        self.masks = graph.collect(Image, 'second/vessel/mask')
        self.now = 100 * SECOND

    def close(self):
        """Leave the graph."""
        self.first.close(self.graph)
        self.graph.destroy(*self.publishers)
        for messages in (self.statuses, self.poses, self.masks):
            self.graph.stop_collecting(messages)

    def send_geometry(self):
        """Publish how the planes stand, on /tf_static."""
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.publishers.append(self.graph.node.create_publisher(TFMessage, '/tf_static', latched))
        sent = []
        for name, phantom in (('xray', self.patient), ('lateral', self.other)):
            message = TransformStamped(header=Driver.header(0, 'isocentre'), child_frame_id=name)
            fill_transform(message.transform, inverse(phantom.c_arm.T_image_isocentre))
            sent.append(message)
        self.publishers[-1].publish(TFMessage(transforms=sent))

    def send(self, later=0, frame_id='lateral', camera=None, second=True, index=None, timeout=30):
        """Publish a pair, the second picture `later` nanoseconds after the first; return {key: value} of the status.

        timeout: seconds to wait for that. camera: another one of the second plane, or False: none is published.
        """
        self.now += SECOND // 15
        stamp = self.now
        index = len(self.statuses) % len(self.patient.frames) if index is None else index

        def send_second():
            header = Driver.header(stamp + later, frame_id)
            if camera is not False:
                self.camera_info.publish(fill_camera_info(CameraInfo(), header, camera or self.other.camera))
            Driver.send_image(self.image, stamp + later, self.other[index].image, frame_id)

        if second and later <= 0:
            send_second()
        self.first.send(stamp, self.patient.frames[index].image, self.patient.camera)
        if second and later > 0:
            send_second()

        def told():
            return next((own for own in map(values, self.statuses) if own['stamp'] == stamp), None)

        return self.graph.wait(told, 'the status of a frame', timeout)

    def until(self, views, tries=30, says='', **how):
        """Send pairs until a pose rests upon so many views, and the status says why not upon two; return the status.

        The first pairs may be lost: nodes that have found the test's topics may not have found each other's.
        """
        told = None
        for _ in range(tries):
            try:
                told = self.send(**how, timeout=5)
            except AssertionError:
                continue
            if told['accepted'] == 'true' and told['views'] == str(views) and says in told['second']:
                return told
        raise AssertionError(f'no accepted pose of {views} views in {tries} frames: {told}')
