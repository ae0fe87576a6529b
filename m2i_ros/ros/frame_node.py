"""The node that pictures come in to: what pipeline_node, segmentation_node and registration_node share."""

import signal
import time
import traceback

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from m2i_ros.pipeline import FrameError
from m2i_ros.ros.diagnostics import Complaints, Health, diagnostic_array, status
from m2i_ros.ros.images import grey_from_compressed, grey_from_image
from m2i_ros.ros.mailbox import Mailbox
from m2i_ros.ros.pairing import NearestPairs
from m2i_ros.ros.parameters import INPUT, PAIRS, Parameters
from m2i_ros.ros.qos import RELIABLE, newest, overridable
from m2i_ros.ros.stamps import decimal, nanoseconds

_SILENCE = 5.0  # seconds without a picture after which the node says so


class FrameNode(Node):
    """Receives pictures, of a second plane too where there is one, has the newest worked on by one thread, watches its
    own health.

    name, rows: the node's name and the rows of its parameters besides `INPUT` and `PAIRS`.

    A subclass builds its parts in its constructor, calls `listen` last, and provides
    - `process(messages, second, arrived)`: work on what was received, on the worker's thread: messages of the first
      plane, the image first, and those of the second one that belong to them, or None. arrived: monotonic seconds. A
      FrameError is told, throttled.
    - `topics`: its parts. Each has `changed(names)` for live parameters, `refused(header, reason)` for a frame that was
      not processed, `reset()` to forget what it keeps between frames, `rewound()` for stamps that went back, and
      `values()` for the diagnostics.
    """

    topics = ()

    def __init__(self, name, rows, check=None):
        super().__init__(name)
        self.complaints = Complaints(self.get_logger())
        self.health = Health()
        self.parameters = Parameters(self, INPUT + rows + PAIRS, check, self._changed)
        self._pairs = NearestPairs(self._tolerance(), self.parameters['second.patience'])
        # Steady: simulated time may stand still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._patience = self.create_timer(self._pairs.patience, self._end_of_patience, clock=steady)
        self._patience.cancel()
        self.mailbox = Mailbox(self._work, self._failed, self.parameters['depth'])
        self.enabled = True
        self._last_stamp = None
        self._received = 0
        self._silent = False
        self._failure = ''

    def listen(self):
        """Start to receive. Called when everything is ready to take frames."""
        self._last_arrival = time.monotonic()
        # In this order: where both have come, the second is there when the first asks for it.
        self.second_topic = self.listen_to_images('second/image', self.receive_second)
        self.image_topic = self.listen_to_images('image', self.receive)
        self.create_service(SetBool, '~/enable', self._enable)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        # Steady: with use_sim_time and no /clock, this is what tells that nothing moves.
        self.create_timer(1.0, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f'ready: listening to {self.image_topic}')

    def receive(self, message):
        """Take an image message; on the executor's thread."""
        self.put((message,), time.monotonic())

    def receive_second(self, message):
        """Take an image message of the second plane; on the executor's thread."""
        self.put_second((message,))

    def put(self, messages, arrived):
        """Hand messages, the image first, to the worker, with those of the second plane where these come in time.

        arrived: monotonic seconds.
        """
        stamp = nanoseconds(messages[0].header.stamp)
        self._send(self._pairs.first(stamp, (messages, arrived), time.monotonic()))
        if self._pairs.waits:
            self._patience.reset()

    def put_second(self, messages):
        """Take messages of the second plane, the image first."""
        self._send(self._pairs.second(nanoseconds(messages[0].header.stamp), messages, time.monotonic()))

    def grey(self, message):
        """Return the grey picture of an image message. Raises FrameError."""
        return grey_from_compressed(message) if isinstance(message, CompressedImage) else grey_from_image(message)

    def close(self):
        """End the worker."""
        self.mailbox.close()

    def listen_to_images(self, name, take):
        """Have `take` called with the pictures of a topic, as `image_transport` says; return its resolved name."""
        compressed = self.parameters['image_transport'] == 'compressed'
        # From the resolved name, as image_transport does it: remapping `image` takes its compressed topic along.
        topic = self.resolve_topic_name(name) + ('/compressed' if compressed else '')
        self.create_subscription(
            CompressedImage if compressed else Image,
            topic,
            take,
            newest(self.parameters['depth']),
            qos_overriding_options=overridable(),
        )
        return topic

    def _tolerance(self):
        return round(1e9 * self.parameters['second.tolerance'])

    def _end_of_patience(self):
        self._patience.cancel()
        self._send(self._pairs.overdue(time.monotonic() + 1e-3))

    def _send(self, ready):
        for (messages, arrived), second in ready:
            self._last_arrival = time.monotonic()
            self._received += 1
            self.mailbox.put((messages, second, arrived))

    def _work(self, item):
        messages, second, arrived = item
        if not self.enabled:
            return
        header = messages[0].header
        stamp, last = header.stamp, self._last_stamp
        self._last_stamp = stamp
        if last == stamp:
            self.complaints.warn(
                'stamp',
                f'image stamp {decimal(stamp)} came twice, the second is ignored: does the driver stamp its images?',
            )
            return
        if last and nanoseconds(stamp) < nanoseconds(last):
            self.complaints.warn(
                'stamp',
                f'image stamps went back from {decimal(last)} to {decimal(stamp)}: a recording that starts again, or '
                f'two publishers on {self.image_topic}?',
            )
            for topics in self.topics:
                topics.rewound()
        try:
            self.process(messages, second, arrived)
        except FrameError as error:
            self.complaints.warn('frame', f'{self.image_topic}: {error}')
            for topics in self.topics:
                topics.refused(header, str(error))
            return
        self._failure = ''
        self.health.frame(time.monotonic() - arrived)

    def _failed(self, error):
        if not self.context.ok():
            return  # told to stop in mid-frame: there is nobody left to publish to
        # The state between frames may be half changed.
        self._reset()
        self._failure = f'{type(error).__name__}: {error}'
        self.complaints.error('worker', 'a frame failed:\n' + ''.join(traceback.format_exception(error)))

    def _reset(self):
        for topics in self.topics:
            topics.reset()

    def _changed(self, names):
        self._pairs.tolerance = self._tolerance()
        with self.mailbox.lock:
            for topics in self.topics:
                topics.changed(names)

    def _enable(self, request, response):
        with self.mailbox.lock:
            self.enabled = request.data
            self._reset()
        response.success = True
        response.message = 'enabled' if request.data else 'disabled: no frame is processed'
        return response

    def _watch(self):
        silent = time.monotonic() - self._last_arrival
        level, message = DiagnosticStatus.OK, 'running'
        if self._failure:
            level, message = DiagnosticStatus.ERROR, self._failure
        elif not self.enabled:
            level, message = DiagnosticStatus.WARN, 'disabled'
        elif silent > _SILENCE:
            publishers = self.count_publishers(self.image_topic)
            level, message = (
                DiagnosticStatus.STALE,
                f'no image on {self.image_topic} for {silent:.0f} s, {publishers} publishers',
            )
            # Once: fluoroscopy is off most of the time.
            if not self._silent:
                self.get_logger().warning(message)
        self._silent = silent > _SILENCE
        values = {'received': self._received, 'drops': self.mailbox.dropped, **self.health.values()}
        for topics in self.topics:
            values.update(topics.values())
        state = status(level, self.get_fully_qualified_name().lstrip('/'), message, values)
        self._diagnostics.publish(diagnostic_array(self.get_clock().now().to_msg(), [state]))


def told_to_stop(error):
    """Return whether an exception only means Ctrl-C: in the middle of taking a message rclpy may turn it into any."""
    cause = error
    while cause and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None or not rclpy.ok()


def run(make_node, args=None):
    """Run the node that `make_node()` returns until it is told to stop; return the exit code.

    0 after SIGINT, SIGTERM or a shutdown; 1 where the node cannot start, with the reason logged.
    """
    rclpy.init(args=args)
    node = None
    try:
        node = make_node()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        if told_to_stop(error):
            pass
        elif node is None and isinstance(error, ValueError):
            rclpy.logging.get_logger('m2i_ros').fatal(str(error))
            return 1
        else:
            raise
    finally:
        # A second Ctrl-C must not cut the tidying short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
