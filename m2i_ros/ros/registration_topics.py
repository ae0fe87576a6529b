"""The registration as topics: from parameters to a `Registrar`, from its results to TF, pose, status and geometry."""

import time
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_ros import Buffer, ExtrapolationException, TransformBroadcaster, TransformException, TransformListener
from visualization_msgs.msg import MarkerArray

from m2i_ros.geometry import Camera, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.overlay import draw_overlay
from m2i_ros.pipeline import Frame
from m2i_ros.registration import Registrar, RegistrationSettings
from m2i_ros.registration.result import Registration, State
from m2i_ros.registration.start import pose_from_view
from m2i_ros.ros.camera_topic import CameraTopic
from m2i_ros.ros.covariance import covariance_from_list
from m2i_ros.ros.diagnostics import registration_status
from m2i_ros.ros.geometry_messages import centreline_cloud, model_markers
from m2i_ros.ros.images import fill_image
from m2i_ros.ros.parameters import c_arm_of, group
from m2i_ros.ros.qos import LATCHED, RELIABLE
from m2i_ros.ros.stamps import nanoseconds, seconds
from m2i_ros.ros.transforms import fill_pose, fill_transform, motion_from_pose, motion_from_transform
from m2i_ros.segmentation.vessel_mask import VesselMask
from m2i_ros.sources import open_model

_REMEMBERED = 9000  # stamps whose TF was sent: 10 minutes at 15 frames a second
_PATIENCE = (
    2.0  # seconds of WAITING before it is logged: camera_info and initialpose come a moment after the first image
)


def _warm_up(model):
    """Search and track once, on a picture of the model itself: what is compiled when first used is compiled now."""
    camera = Camera.from_detector(128, 128, 1.1, 0.3 / 128)
    T = rigid(translation=(0.0, 0.0, 0.75) - model.centroid)
    mask = silhouette(model, T, camera)
    registrar = Registrar(model)
    registrar.set_initial_pose(T)
    for stamp in np.arange(0.0, 2.0, 0.2):  # long enough for its motion to be learned
        registrar.register(VesselMask(mask, np.ones(mask.shape, bool)), camera, stamp)


def check(values):
    """Raise ValueError where parameters do not go together. values: {name: value}."""
    RegistrationSettings(**group(values, 'registration'))


class RegistrationTopics:
    """The `Registrar` of a node, with all topics and services about the model's pose."""

    def __init__(self, node):
        self._node = node
        self.model, self._model_problem = self._load_model()
        self.registrar = Registrar(self.model, self._settings())
        self._camera = CameraTopic(node, 'camera_info')
        self._initial_pose = None  # a message that came and was not judged yet
        self._frame_id = None
        self._size = None
        self._waiting_since = None
        self._state = State.WAITING
        self._contrast = ''
        self._sent = {}  # stamps whose TF was sent, oldest first
        self._start_from_view()

        self._status = node.create_publisher(DiagnosticStatus, 'registration/status', RELIABLE)
        self._pose = node.create_publisher(PoseWithCovarianceStamped, 'registration/pose', RELIABLE)
        self._centreline = node.create_publisher(PointCloud2, 'vessel/centerline', RELIABLE)
        self._overlay = node.create_publisher(Image, 'vessel/overlay', RELIABLE)
        self._markers = node.create_publisher(MarkerArray, 'vessel/model', LATCHED)
        self._broadcaster = TransformBroadcaster(node)
        self._fixed, self._transforms = node.parameters['frames.fixed'], Buffer()
        if self._fixed:
            self._listener = TransformListener(self._transforms, node)
        if self.model:
            node.get_logger().info('preparing the registration: the first time it is compiled, which takes a while')
            _warm_up(self.model)
            self._markers.publish(model_markers(self.model, node.parameters['frames.model']))

        node.create_subscription(PoseWithCovarianceStamped, 'initialpose', self._take_initial_pose, RELIABLE)
        node.create_service(Trigger, '~/reset', self._reset_service)
        # As tf2's buffers do: a clock that jumps back starts a new run, in which old stamps may come again.
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jump = node.get_clock().create_jump_callback(back, post_callback=lambda _: self._sent.clear())

    def frame(self, image, header):
        """Return the `Frame` of a grey picture, with the camera where it is known and fits. Raises FrameError."""
        frame = Frame(image, seconds(header.stamp), T_fixed_image=self._fixed_image(header))
        self._watch_for_changes(image, header)
        self._judge_initial_pose()
        return self._camera.join(frame)  # segmentation can do without

    def publish(self, result, header, arrived):
        """Publish a `Result`: TF, pose and centreline where it is believed, and the status always.

        arrived: monotonic seconds when the image came.
        """
        registration = self._explained(result.registration)
        self._contrast = result.vessels.contrast.value
        stamp = nanoseconds(header.stamp)
        if registration.accepted and stamp not in self._sent:
            self._sent[stamp] = None
            if len(self._sent) > _REMEMBERED:
                del self._sent[next(iter(self._sent))]
            self._publish_pose(registration, result.frame.camera, header)
        latency = {**result.latency, 'total': time.monotonic() - arrived}
        self._publish_status(registration, header, latency)
        if self._overlay.get_subscription_count():
            overlay = draw_overlay(replace(result, registration=registration), self.model)
            self._overlay.publish(fill_image(Image(), header, overlay))

    def refused(self, header, reason):
        """Publish the status of a frame that could not be processed."""
        self._publish_status(Registration(self._state, reason=reason), header, {})

    def reset(self):
        """Forget the track; the search starts from the initial pose."""
        self.registrar.reset()

    def rewound(self):
        """The stamps went back: the registrar sees it for itself, and says so."""

    def changed(self, names):
        """Take live parameters over."""
        if any(name.startswith('registration.') for name in names):
            self.registrar.settings = self._settings()
        if any(name.startswith('view.') for name in names):
            self._start_from_view()

    def values(self):
        """Return what the diagnostics say of the registration."""
        model = self.model
        return {
            'state': self._state.value,
            'contrast': self._contrast,
            'model': model.name if model else self._model_problem,
            'model_hash': model.hash if model else '',
        }

    def _load_model(self):
        path = self._node.parameters['model.path']
        if not path:
            return None, 'no model: set model.path (launch: model:=FILE)'
        try:
            self._node.get_logger().info(f'reading model {path}')
            model = open_model(path, self._node.parameters['model.units'], self._node.parameters['model.axes'])
        except (ValueError, OSError) as error:
            return None, f'no model: {error}'
        self._node.get_logger().info(
            f'model {model.name}: {len(model.faces)} faces, {1e3 * model.extent:.0f} mm long, axes {model.axes}'
        )
        return model, ''

    def _settings(self):
        return RegistrationSettings(**self._node.parameters.group('registration'))

    def _start_from_view(self):
        view = self._node.parameters.group('view')
        if not self.model or not view['source_to_isocentre']:
            return
        try:
            self.registrar.set_initial_pose(pose_from_view(self.model, c_arm_of(view)))
        except ValueError as error:
            self._node.get_logger().error(f'view.*: {error}')

    def _watch_for_changes(self, image, header):
        if self._frame_id is not None and header.frame_id != self._frame_id:
            self._node.complaints.warn(
                'frame_id',
                f'the image frame_id changed from "{self._frame_id}" to "{header.frame_id}": registration starts anew',
            )
            self.reset()
        self._frame_id = header.frame_id
        if self._size is not None and image.shape != self._size:
            self._node.complaints.warn(
                'size',
                f'the image size changed from {self._size[1]}x{self._size[0]} to {image.shape[1]}x{image.shape[0]}',
            )
        self._size = image.shape

    def _fixed_image(self, header):
        """Return T_fixed_image (4, 4), or None where it is not asked for or not known. Waits for nothing.

        That of the picture's stamp; where TF is not so far yet, the latest: it is made up for with the next picture.
        """
        if not self._fixed or not header.frame_id:
            return None
        try:
            try:
                stamp = Time.from_msg(header.stamp)
                found = self._transforms.lookup_transform(self._fixed, header.frame_id, stamp)
            except ExtrapolationException:
                found = self._transforms.lookup_transform(self._fixed, header.frame_id, Time())
            return motion_from_transform(found.transform)
        except (TransformException, ValueError) as error:
            self._node.complaints.warn(
                'fixed',
                f'no motion of the C-arm or the table is known: no TF from "{header.frame_id}" to "{self._fixed}" '
                f'(frames.fixed): {error}',
            )
            return None

    def _explained(self, registration):
        """Return the registration with what only the node knows: which input is missing and how to give it."""
        if not self._frame_id:
            problem = 'the image has no frame_id: no TF without one; set it in the driver'
            self._node.complaints.warn('no frame_id', problem)
            registration = replace(registration, accepted=False, reason=problem)
        if registration.state is not State.WAITING:
            self._waiting_since = None
            return registration
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        problem = self._model_problem or self._camera.problem
        patient = not problem and now - self._waiting_since < _PATIENCE
        if not problem and self._camera.camera is None:
            topic = self._camera.topic
            problem = f'no camera_info: nothing came on {topic} ({self._node.count_publishers(topic)} publishers)'
        problem = problem or (
            'no place to start from: publish initialpose, the pose of the model in the image frame, or set '
            'view.source_to_isocentre and the angles'
        )
        if not patient:
            tell = self._node.complaints.error if self._model_problem else self._node.complaints.warn
            tell('waiting', f'registration waits: {problem}')
        return replace(registration, reason=problem)

    def _publish_pose(self, registration, camera, header):
        T = registration.T_image_model
        transform = TransformStamped(header=header, child_frame_id=self._node.parameters['frames.model'])
        fill_transform(transform.transform, T)
        self._broadcaster.sendTransform(transform)
        pose = PoseWithCovarianceStamped(header=header)
        fill_pose(pose.pose.pose, T)
        pose.pose.covariance = registration.covariance.ravel().tolist()
        self._pose.publish(pose)
        self._centreline.publish(centreline_cloud(header, registration.centreline(self.model), T, camera))

    def _publish_status(self, registration, header, latency):
        self._state = registration.state
        drops = self._node.mailbox.dropped
        self._status.publish(registration_status(registration, header.stamp, latency, drops, self._contrast))

    def _take_initial_pose(self, message):
        self._initial_pose = message

    def _judge_initial_pose(self):
        message, self._initial_pose = self._initial_pose, None
        if message is None:
            return
        try:
            if message.header.frame_id not in ('', self._frame_id):
                raise ValueError(
                    f'it is given in "{message.header.frame_id}", not in the image frame "{self._frame_id}"'
                )
            T = motion_from_pose(message.pose.pose)
            covariance = covariance_from_list(message.pose.covariance)
        except ValueError as error:
            self._node.get_logger().warning(f'initialpose refused: {error}')
            return
        self.registrar.set_initial_pose(T, covariance)
        self._node.get_logger().info('initialpose taken: registration starts from it')

    def _reset_service(self, request, response):
        with self._node.mailbox.lock:
            self.reset()
        response.success = True
        response.message = 'registration starts anew'
        return response
