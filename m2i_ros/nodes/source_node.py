"""source_node: plays the X-ray system. Publishes a phantom, pictures, a video, DICOM runs, a recorded case or a bag."""

import array
import itertools
import logging
import sys
import threading
import time

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from tf2_ros import TransformBroadcaster

from m2i_ros.geometry import inverse
from m2i_ros.ros.camera_info import fill_camera_info
from m2i_ros.ros.diagnostics import status
from m2i_ros.ros.frame_node import run
from m2i_ros.ros.images import fill_image
from m2i_ros.ros.parameters import BAG, MODEL, SOURCE, Parameters
from m2i_ros.ros.qos import LATCHED, RELIABLE
from m2i_ros.ros.stamps import decimal
from m2i_ros.ros.transforms import fill_pose, fill_transform
from m2i_ros.sources import SourceError, open_model, open_source, start_by_view
from m2i_ros.sources.look_ahead import look_ahead

SETTLED = 1.0  # seconds without a new listener after which all are taken to be there
PREPARED = 450  # frames of a source in real time that are made before the first is sent, at most; 240 MB at 512x512
ACKNOWLEDGED = Duration(seconds=1)  # for how long to wait that an initial pose is received
ASK_AGAIN = 5.0  # seconds between two complaints that nobody listens
PROGRESS = 5.0  # seconds between two lines that say how far it is


class SourceNode(Node):
    """Publishes image, camera_info and initialpose, the truth where it is known, and how far it is (source/status).

    Where the source knows how C-arm and table stand, their TF too: frames.table -> frames.isocentre -> frame_id. Of a
    second plane second/image, second/camera_info, and TF frame_id -> second.frame_id.
    Services: ~/pause (SetBool), ~/step (Trigger): one frame more while it pauses.
    """

    def __init__(self):
        super().__init__('source_node')
        self.parameters = Parameters(self, SOURCE + MODEL)
        self._forward_warnings()
        self._source = self._open()
        self._patient = getattr(self._source, 'patient', {})
        for name, value in self._patient.items():
            self.get_logger().info(f'{name}: {value}')
        stepped = self.parameters['stepped']
        self._stepped = stepped == 'always' or (stepped == 'auto' and not self._source.realtime)
        self._compressed = self.parameters['image_transport'] == 'compressed'
        self._image_topic = 'image/compressed' if self._compressed else 'image'
        image = CompressedImage if self._compressed else Image
        self._image = self.create_publisher(image, self._image_topic, RELIABLE)
        self._camera_info = self.create_publisher(CameraInfo, 'camera_info', RELIABLE)
        if getattr(self._source, 'second', None):
            self._second_image = self.create_publisher(image, f'second/{self._image_topic}', RELIABLE)
            self._second_camera_info = self.create_publisher(CameraInfo, 'second/camera_info', RELIABLE)
        self._initial_pose = self.create_publisher(PoseWithCovarianceStamped, 'initialpose', LATCHED)
        self._true_mask = self.create_publisher(Image, 'truth/mask', RELIABLE)
        self._true_pose = self.create_publisher(PoseStamped, 'truth/pose', RELIABLE)
        # Deep enough that no frame's name is lost to a reader that is busy for a second.
        several = QoSProfile(depth=30, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._status = self.create_publisher(DiagnosticStatus, 'source/status', several)
        self._broadcaster = TransformBroadcaster(self)
        self._pausing = threading.Condition()
        self._paused, self._steps = False, 0
        self.create_service(SetBool, '~/pause', self._pause)
        self.create_service(Trigger, '~/step', self._step)
        clock = self.parameters['source'] == 'bag' and self.parameters['bag.clock']
        self._sim_clock = self.create_publisher(Clock, '/clock', RELIABLE) if clock else None
        self._answered = threading.Condition()
        self._answers = {}  # topic: the last stamp answered, (sec, nanosec)
        if self._stepped:
            self.create_subscription(Image, 'vessel/mask', self._take_mask, RELIABLE)
            self.create_subscription(DiagnosticStatus, 'registration/status', self._take_status, RELIABLE)
        self._progress = {'frame': 0, 'unanswered': 0, 'late': 0, 'name': '', 'stamp': ''}
        self._last_stamp = self._last_second = 0
        self._stop = threading.Event()
        self.context.on_shutdown(self._stop.set)
        self._player = threading.Thread(target=self._play, name='player', daemon=True)
        self._player.start()

    def close(self):
        """End the player."""
        self._stop.set()
        self._player.join()

    def _open(self):
        kind = self.parameters['source']
        self.get_logger().info(f'opening source {kind} {self.parameters["path"]}'.rstrip())
        settings = {}
        if kind == 'phantom':
            names = ('anatomy', 'seed', 'width', 'height', 'duration', 'mirrored')
            settings = {name: self.parameters[name] for name in names}
            settings['second_angle_deg'] = self.parameters['second.angle_deg']
        elif kind == 'dicom':
            settings = {**self.parameters.group('dicom'), 'keep_patient_tags': self.parameters['keep_patient_tags']}
            settings['start'] = start_by_view(settings.pop('isocentre'), self._read_model)
        elif kind == 'bag':
            settings = {row.name.removeprefix('bag.'): self.parameters[row.name] for row in BAG}
        return open_source(kind, self.parameters['path'], self.parameters['frame_rate'], **settings)

    def _read_model(self):
        model = self.parameters.group('model')
        return open_model(model['path'], model['units'], model['axes']) if model['path'] else None

    def _forward_warnings(self):
        """Let the warnings of the sources, which know nothing of ROS, appear in the log."""
        node_log = self.get_logger()

        class Forward(logging.Handler):
            def emit(self, record):
                node_log.warning(record.getMessage())

        logging.getLogger('m2i_ros.sources').addHandler(Forward())

    # The player, on its own thread

    def _play(self):
        try:
            for turn in itertools.count(1):
                # Made while the others start, so that it does not cost the pipeline the time that is measured.
                frames = look_ahead(self._source, PREPARED if self._source.realtime else 2)
                first = next(frames, None)
                if first is None:
                    raise SourceError(f'{self.parameters["path"]}: not one picture can be read')
                if turn == 1 and not self._wait_for_listeners():
                    return
                self._play_once(itertools.chain([first], frames))
                if self._stop.is_set():
                    return
                if not self.parameters['loop']:
                    break
                self.get_logger().info(f'played {turn} times, once more')
            self._tell('finished')
            self.get_logger().info(f'finished: {self._progress["frame"]} frames sent')
        except ValueError as error:  # SourceError, ModelError
            self.get_logger().error(str(error))
            self._tell('failed', DiagnosticStatus.ERROR)
        except Exception:
            # Told to stop while a picture was on its way: the graph is gone before the player knows.
            if self.context.ok():
                raise

    def _wait_for_listeners(self):
        """Wait until somebody takes the pictures and somebody finds vessels; return False where told to stop."""
        begun = time.monotonic()
        complained = seen_since = begun
        last_seen = None
        self._tell('waiting')
        while not self._stop.wait(0.1):
            now = time.monotonic()
            seen, missing = self._listeners()
            if seen != last_seen:
                last_seen, seen_since = seen, now
            if not missing:
                if now - seen_since >= SETTLED:
                    return True
                continue
            if now - begun > self.parameters['start_timeout']:
                raise SourceError(
                    f'{missing} after {now - begun:.0f} s: is the pipeline up, in this namespace and domain?'
                )
            if now - complained > ASK_AGAIN:
                complained = now
                self.get_logger().info(f'waiting for the pipeline: {missing} yet')
        return False

    def _listeners(self):
        """Return who takes part, to be compared with who did before, and what is missing, in words."""
        takers = {info.node_name for info in self.get_subscriptions_info_by_topic(self._image.topic_name)}
        finders = self.count_publishers('vessel/mask')
        others = self.count_subscribers('/tf')  # who listens to a second plane does so once that is there
        awaited = self.parameters['wait_for']
        missing = ''
        if not takers - {awaited}:
            missing = f'nobody subscribes to {self._image.topic_name}'
        elif not finders:
            missing = f'nobody publishes {self.resolve_topic_name("vessel/mask")}'
        elif awaited and awaited not in takers:
            missing = f'{awaited} does not subscribe to {self._image.topic_name}'
        return (takers, finders, others), missing

    def _play_once(self, frames):
        recorded = self.parameters['source'] == 'bag'
        rate = self.parameters['bag.rate'] if recorded else 1.0
        period = 1.0 / self._source.frame_rate
        if self._source.initial_pose is not None:
            self._send_initial_pose(self.get_clock().now().nanoseconds, self._source.initial_pose)
        # Never back, never twice, also where the clock stands still between two turns.
        earliest = self._last_stamp + round(1e9 * period) if self._last_stamp else 0
        origin = max(self._source.origin if recorded else self.get_clock().now().nanoseconds, earliest)
        start = told = time.monotonic()
        for number, frame in enumerate(frames, start=1):
            paused = self._wait_while_paused()
            if not self._stepped:
                # Real time goes on while a picture stands still; the stamps of a recording do not.
                start += paused
                origin += 0 if recorded else round(1e9 * paused)
                late = time.monotonic() - (start + frame.stamp / rate)
                if late < 0:
                    self._stop.wait(-late)
                elif late > period / rate:
                    # The machine is too slow: the X-ray system pauses, rather than date its pictures back.
                    start += late
                    origin += 0 if recorded else round(1e9 * late)
                    self._progress['late'] += 1
            if self._stop.is_set():
                return
            self._last_stamp = origin + round(1e9 * frame.stamp)
            self._send(frame)
            if time.monotonic() - told > PROGRESS:
                told = time.monotonic()
                self.get_logger().info(f'frame {number} of {len(self._source)}, {number / (told - start):.1f} a second')
            if self._stepped:
                self._wait_for_answer()

    def _send(self, frame):
        header = self._header(self._last_stamp)
        self._progress['frame'] += 1
        self._progress['name'] = frame.name
        self._progress['stamp'] = decimal(header.stamp)
        self._tell('playing')
        second = None if frame.second is None else self._second_header(frame)
        self._send_view(frame, header, second)
        if self._sim_clock:
            self._sim_clock.publish(Clock(clock=header.stamp))
        if frame.initial_pose is not None:
            self._send_initial_pose(self._last_stamp, frame.initial_pose, frame.initial_covariance)
        if second is not None:
            if frame.second.camera is not None:
                self._second_camera_info.publish(fill_camera_info(CameraInfo(), second, frame.second.camera))
            self._send_image(self._second_image, second, frame.second.image)
        if frame.camera is not None:
            self._camera_info.publish(fill_camera_info(CameraInfo(), header, frame.camera))
        self._send_image(self._image, header, frame.image)
        if frame.T_image_model is not None:
            pose = PoseStamped(header=header)
            fill_pose(pose.pose, frame.T_image_model)
            self._true_pose.publish(pose)
        if frame.mask is not None:
            self._true_mask.publish(fill_image(Image(), header, frame.mask))

    def _send_image(self, publisher, header, image):
        if self._compressed:
            _, png = cv2.imencode('.png', image, (cv2.IMWRITE_PNG_COMPRESSION, 1))
            publisher.publish(CompressedImage(header=header, format='png', data=array.array('B', png.tobytes())))
        else:
            publisher.publish(fill_image(Image(), header, image))

    def _second_header(self, frame):
        """Return the header of a frame's second picture, or None where that was sent already."""
        stamp = self._last_stamp + round(1e9 * frame.second.stamp) - round(1e9 * frame.stamp)
        if stamp == self._last_second:
            return None
        self._last_second = stamp
        recorded = self.parameters['source'] == 'bag'
        frame_id = self._source.second_frame_id if recorded else self.parameters['second.frame_id']
        return Header(stamp=Time(nanoseconds=stamp).to_msg(), frame_id=frame_id)

    def _send_view(self, frame, header, second):
        """Send how C-arm, table and, with its header, the second plane stand, as far as that is known."""
        transforms = []
        if frame.c_arm is not None:
            isocentre = self.parameters['frames.isocentre']
            if frame.table is not None:
                table = self.parameters['frames.table']
                transforms.append(self._transform(header.stamp, table, isocentre, frame.T_table_isocentre))
            T = inverse(frame.c_arm.T_image_isocentre)
            transforms.append(self._transform(header.stamp, isocentre, header.frame_id, T))
        if second is not None and frame.second.T_second_image is not None:
            T = inverse(frame.second.T_second_image)
            transforms.append(self._transform(second.stamp, header.frame_id, second.frame_id, T))
        if transforms:
            self._broadcaster.sendTransform(transforms)
            if self._stepped:  # before the pictures that it is about
                self._broadcaster.pub_tf.wait_for_all_acked(ACKNOWLEDGED)

    @staticmethod
    def _transform(stamp, parent, child, T_parent_child):
        transform = TransformStamped(header=Header(stamp=stamp, frame_id=parent), child_frame_id=child)
        fill_transform(transform.transform, T_parent_child)
        return transform

    def _send_initial_pose(self, stamp, T_image_model, covariance=None):
        pose = PoseWithCovarianceStamped(header=self._header(stamp))
        fill_pose(pose.pose.pose, T_image_model)
        if covariance is not None:
            pose.pose.covariance = covariance.ravel().tolist()
        self._initial_pose.publish(pose)
        if self._stepped:  # before the picture that is to start from it
            self._initial_pose.wait_for_all_acked(ACKNOWLEDGED)

    def _header(self, stamp):
        frame_id = self._source.frame_id if self.parameters['source'] == 'bag' else self.parameters['frame_id']
        return Header(stamp=Time(nanoseconds=stamp).to_msg(), frame_id=frame_id)

    def _wait_for_answer(self):
        """Wait until the last frame was worked on, so that none is overwritten by its successor."""
        # The status comes last, and for a frame that was refused as well; without a registration the mask must do.
        topic = 'registration/status' if self.count_publishers('registration/status') else 'vessel/mask'
        stamp = self._progress['stamp']
        deadline = time.monotonic() + self.parameters['step_timeout']
        with self._answered:
            while self._answers.get(topic) != stamp and not self._stop.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    self._progress['unanswered'] += 1
                    name = self._progress['name'] or self._progress['frame']
                    self.get_logger().warning(
                        f'no {self.resolve_topic_name(topic)} for frame {name} within '
                        f'{self.parameters["step_timeout"]:g} s: going on without'
                    )
                    return
                self._answered.wait(min(left, 0.2))

    def _wait_while_paused(self):
        """Return how many seconds it paused before the next frame may go: 0 where it does not pause."""
        with self._pausing:
            if not self._paused:
                return 0.0
            begun = time.monotonic()
            while self._paused and not self._steps and not self._stop.is_set():
                self._pausing.wait(0.2)
            self._steps = max(0, self._steps - 1)
            return time.monotonic() - begun

    def _pause(self, request, response):
        with self._pausing:
            self._paused, self._steps = request.data, 0
            self._pausing.notify()
        response.success = True
        response.message = 'pauses: ~/step sends one frame' if request.data else 'goes on'
        return response

    def _step(self, request, response):
        with self._pausing:
            response.success = self._paused
            response.message = 'one frame' if self._paused else 'it does not pause: call ~/pause first'
            self._steps += self._paused
            self._pausing.notify()
        return response

    def _take_mask(self, message):
        self._take('vessel/mask', decimal(message.header.stamp))

    def _take_status(self, message):
        self._take('registration/status', {pair.key: pair.value for pair in message.values}.get('stamp'))

    def _take(self, topic, stamp):
        with self._answered:
            self._answers[topic] = stamp
            self._answered.notify()

    def _tell(self, message, level=DiagnosticStatus.OK):
        values = {
            'source': self.parameters['source'],
            'path': self.parameters['path'],
            'of': len(self._source),
            'frame_rate': float(self._source.frame_rate),
            'stepped': self._stepped,
            'skipped': len(self._source.skipped),
            **self._progress,
            **self._patient,
        }
        self._status.publish(status(level, 'source', message, values))


def main(argv=None):
    """Run the node; return the exit code."""
    return run(SourceNode, argv)


if __name__ == '__main__':
    sys.exit(main())
