"""monitor_node: watches a session, tells of it once a second, records it, and sums it up at its end."""

import importlib
import json
import signal
import sys
import threading
import time
from functools import partial

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from m2i_ros.pipeline import FrameError
from m2i_ros.recording import Recorder, RecordingError, Session
from m2i_ros.recording.report import summary_table, write_contact_sheet, write_json
from m2i_ros.ros.camera_info import camera_from_info
from m2i_ros.ros.diagnostics import Complaints
from m2i_ros.ros.frame_node import told_to_stop
from m2i_ros.ros.images import grey_from_compressed, grey_from_image
from m2i_ros.ros.parameters import MODEL, MONITOR, Parameters
from m2i_ros.ros.stamps import nanoseconds
from m2i_ros.ros.transforms import motion_from_pose, motion_from_transform
from m2i_ros.sources import open_model

QUIET = 3.0  # seconds without an answer after which a finished source's last answers are not waited for
GLOBAL_TOPICS = ('/tf', '/tf_static', '/diagnostics', '/rosout')


class MonitorNode(Node):
    """Subscribes to everything, in serialised form; what the figures need is taken apart, the rest only recorded."""

    def __init__(self):
        super().__init__('monitor_node')
        self.done = rclpy.task.Future()
        self.parameters = Parameters(self, MONITOR + MODEL)
        self._complaints = Complaints(self.get_logger())
        self._recorder = self._open_recorder()
        self._session = Session(done=self._record_moment)
        # Beside: reading a model takes seconds, in which source_node must see that this node is there.
        self._loading = threading.Thread(target=self._load_model, daemon=True)
        self._loading.start()
        self._last_answer = time.monotonic()
        # The largest of all, and made of others: a bag without it costs half the time.
        self._in_the_video = self.resolve_topic_name('vessel/overlay')
        self._topics = set()
        self._asked, self._parameter_clients = {}, {}  # node: its parameters; node: who asks it
        for topic, (kind, handler, latched) in self._known_topics().items():
            self._listen(self.resolve_topic_name(topic), kind, handler, latched)
        # Steady, so that the console speaks also where the simulated clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._tell, clock=steady)
        self.create_timer(0.25, self._watch, clock=steady)

    def finish(self):
        """Write what the session leaves, tell the summary; return the exit code."""
        self._session.close()
        report = self._session.report()
        if self._recorder:
            self._describe(report)
            self._recorder.close()
            report['recording'] = {'dropped': self._recorder.dropped, 'failure': self._recorder.failure}
            self._write(report)
        print('\nSession summary\n' + summary_table(report), flush=True)
        if self._recorder:
            lost = f', but {self._recorder.dropped} messages: the disk is too slow' if self._recorder.dropped else ''
            print(
                f'  {self._recorder.failure or "recorded in " + str(self._recorder.folder.resolve())}{lost}', flush=True
            )
        return 1 if self._session.source.get('message') == 'failed' else 0

    def _open_recorder(self):
        folder = self.parameters['record']
        if not folder:
            return None
        try:
            return Recorder(folder, warn=self.get_logger().error)
        except RecordingError as error:
            self.get_logger().error(f'{error}. Going on without recording')
            return None

    def _load_model(self):
        path = self.parameters['model.path']
        if not path:
            return
        try:
            self._session.model = open_model(path, self.parameters['model.units'], self.parameters['model.axes'])
        except (ValueError, OSError) as error:
            self.get_logger().warning(f'no errors in mm: {error}')

    def _describe(self, report):
        """Note in the bag what the session was made with; the parameters as they were when it began."""
        model = self._session.model
        for key in ('engine', 'weights', 'weights_hash'):
            self._recorder.describe(key, report.get(key, ''))
        self._recorder.describe('model', model.name if model else '')
        self._recorder.describe('model_hash', model.hash if model else '')
        self._recorder.describe('parameters', json.dumps(self._asked, sort_keys=True))

    def _ask_for_parameters(self):
        """Ask the nodes that answer for their parameters, once each; they come in `self._asked`."""
        for topic in ('vessel/mask', 'registration/status'):
            for info in self.get_publishers_info_by_topic(self.resolve_topic_name(topic)):
                name = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                if name not in self._parameter_clients:
                    self._parameter_clients[name] = AsyncParameterClient(self, name)
                client = self._parameter_clients[name]
                if name not in self._asked and client.services_are_ready():
                    self._asked[name] = {}
                    client.list_parameters(callback=partial(self._take_names, name))

    def _take_names(self, name, future):
        names = [each for each in future.result().result.names if not each.startswith('qos_overrides')]
        self._parameter_clients[name].get_parameters(names, callback=partial(self._take_values, name, names))

    def _take_values(self, name, names, future):
        values = [parameter_value_to_python(value) for value in future.result().values]
        self._asked[name] = dict(zip(names, values))

    def _write(self, report):
        folder = self._recorder.folder
        try:
            write_json(folder / 'report.json', report)
            write_contact_sheet(folder / 'contact_sheet.png', self._session.sheet_rows())
        except OSError as error:
            self.get_logger().error(f'{folder}: cannot be written: {error}')

    # Topics

    def _known_topics(self):
        """Return {topic: (type, handler or None, latched)} of what is listened to from the start, so none is missed."""
        session = self._session
        topics = {
            'source/status': (DiagnosticStatus, self._take_source_status, True),
            'camera_info': (CameraInfo, self._take_camera_info, False),
            'vessel/mask': (Image, self._take_mask, False),
            'registration/status': (DiagnosticStatus, self._take_status, False),
            'truth/mask': (
                Image,
                lambda m, _: session.true_mask(nanoseconds(m.header.stamp), grey_from_image(m)),
                False,
            ),
            'truth/pose': (
                PoseStamped,
                lambda m, _: session.true_pose(nanoseconds(m.header.stamp), motion_from_pose(m.pose)),
                False,
            ),
            '/tf': (TFMessage, self._take_tf, False),
            '/diagnostics': (DiagnosticArray, self._take_diagnostics, False),
        }
        if self._recorder:  # the pipeline makes some of these only while someone listens
            topics.update(
                {
                    'vessel/overlay': (Image, self._take_overlay, False),
                    'vessel/probability': (Image, None, False),
                    'vessel/centerline': (PointCloud2, None, False),
                    'vessel/model': (MarkerArray, None, True),
                    'registration/pose': (PoseWithCovarianceStamped, None, False),
                    'initialpose': (PoseWithCovarianceStamped, None, False),
                    'second/image': (Image, None, False),
                    'second/image/compressed': (CompressedImage, None, False),
                    'second/camera_info': (CameraInfo, None, False),
                    'second/vessel/mask': (Image, None, False),
                    '/tf_static': (TFMessage, None, True),
                }
            )
        return topics

    def _listen(self, topic, kind, handler=None, latched=False, reliable=True):
        if topic in self._topics:
            return
        self._topics.add(topic)
        qos = QoSProfile(
            depth=30,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        self.create_subscription(kind, topic, partial(self._receive, topic, kind, handler, latched), qos, raw=True)

    def _discover(self):
        """Listen to what else there is in this namespace."""
        pictures = [self.resolve_topic_name(topic) for topic in ('image', 'image/compressed')]  # see _watch
        below = self.get_namespace().rstrip('/') + '/'
        for topic, types in self.get_topic_names_and_types():
            if topic in self._topics or topic in pictures or not (topic.startswith(below) or topic in GLOBAL_TOPICS):
                continue
            publishers = self.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            try:
                package, _, name = types[0].split('/')
                kind = getattr(importlib.import_module(f'{package}.msg'), name)
            except (AttributeError, ImportError):
                self._topics.add(topic)
                self.get_logger().warning(f'{topic}: type {types[0]} is not installed here: not recorded')
                continue
            latched = all(p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers)
            reliable = all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers)
            self._listen(topic, kind, latched=latched, reliable=reliable)

    def _receive(self, topic, kind, handler, latched, data, info):
        arrival = info['received_timestamp'] or time.time_ns()
        if self._recorder and topic != self._in_the_video:
            package, name = kind.__module__.split('.')[0], kind.__name__
            self._recorder.message(topic, f'{package}/msg/{name}', arrival, data, latched)
        if handler is None:
            return
        try:
            handler(deserialize_message(data, kind), arrival)
        except (FrameError, ValueError) as error:
            self._complaints.warn(topic, f'{topic}: {error}')

    def _take_source_status(self, message, _):
        self._last_answer = time.monotonic()
        self._session.source_status(message.message, _values(message))

    def _take_camera_info(self, message, _):
        self._session.camera = camera_from_info(message)

    def _take_image(self, message, arrival):
        try:
            decode = grey_from_image if isinstance(message, Image) else grey_from_compressed
            picture = decode(message)
        except FrameError:  # the pipeline complains of it
            picture = None
        self._session.image(nanoseconds(message.header.stamp), arrival, picture)

    def _take_mask(self, message, arrival):
        self._last_answer = time.monotonic()
        self._session.mask(nanoseconds(message.header.stamp), arrival, grey_from_image(message))

    def _take_overlay(self, message, _):
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        picture = pixels[:, : 3 * message.width].reshape(message.height, message.width, 3)
        self._recorder.overlay(picture, float(self._session.source.get('frame_rate', 15.0)))
        self._session.overlay(nanoseconds(message.header.stamp), picture)

    def _take_status(self, message, arrival):
        self._last_answer = time.monotonic()
        self._session.status(arrival, _values(message))

    def _take_tf(self, message, _):
        for transform in message.transforms:
            if transform.child_frame_id == self.parameters['frames.model']:
                self._session.pose(nanoseconds(transform.header.stamp), motion_from_transform(transform.transform))

    def _take_diagnostics(self, message, _):
        for status in message.status:
            self._session.diagnosis(status.name, _values(status))

    # What is done with it

    def _record_moment(self, moment):
        if not self._recorder:
            return
        self._recorder.moment(moment)
        if moment.name and moment.mask is not None:
            self._recorder.mask(moment.name, moment.mask)

    def _tell(self):
        if not self._session.begun:
            return
        print(self._session.line(time.time_ns()), flush=True)

    def _watch(self):
        # Only now: a source_node that waits for this node takes it as the sign that it will miss no answer.
        if self.count_publishers('vessel/mask') and not self._loading.is_alive():
            self._listen(self.resolve_topic_name('image'), Image, self._take_image)
            self._listen(self.resolve_topic_name('image/compressed'), CompressedImage, self._take_image)
        if self._recorder:
            self._discover()
            self._ask_for_parameters()
        message = self._session.source.get('message')
        quiet = time.monotonic() - self._last_answer > QUIET
        if message == 'failed' or (message == 'finished' and (quiet or self._session.complete())):
            self.done.set_result(True)


def _values(status):
    """Return the {key: value} of a DiagnosticStatus."""
    return {pair.key: pair.value for pair in status.values}


def main(argv=None):
    """Run the node until its source has finished or it is told to stop; return the exit code."""
    rclpy.init(args=argv)
    node, code = None, 0
    try:
        node = MonitorNode()
        rclpy.spin_until_future_complete(node, node.done)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        if not told_to_stop(error):
            if node or not isinstance(error, ValueError):
                raise
            rclpy.logging.get_logger('monitor_node').fatal(str(error))
            code = 1
    finally:
        # A launch passes Ctrl-C on that the terminal has sent already: the second must not cut the report short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node:
            code = node.finish()
            node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == '__main__':
    sys.exit(main())
