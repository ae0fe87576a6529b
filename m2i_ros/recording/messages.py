"""Results as messages of a bag, made without ROS: the same topics as the nodes publish."""

import numpy as np
from transforms3d.quaternions import mat2quat

from m2i_ros.geometry import inverse
from m2i_ros.model.projected_centreline import CENTRELINE_POINT, centreline_seen

INT32, FLOAT32 = 5, 7  # sensor_msgs/PointField
POSE = 'geometry_msgs/msg/PoseWithCovarianceStamped'
IMAGE, CAMERA_INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
TF = 'tf2_msgs/msg/TFMessage'
ENCODINGS = {np.dtype(np.uint8): 'mono8', np.dtype(np.uint16): 'mono16', np.dtype(np.float32): '32FC1'}


class Messages:
    """Makes messages of the definitions `types` (`recording.typestore()`).

    frame_id, second_frame_id: the pictures' frames. model_frame: the child frame of transforms.
    """

    def __init__(self, types, frame_id='xray', model_frame='vessel_model', second_frame_id='xray_second'):
        self._types = types.types
        self._frame_id, self._second_frame_id = frame_id, second_frame_id
        self._model_frame = model_frame
        self._second_stamp = None

    def of_frame(self, frame, stamp):
        """Return [(topic, type, message)] of what a `SourceFrame` brings: picture, camera, start, truth; stamp: ns.

        A second picture, with its camera and how its plane stands (/tf), comes with the first frame it belongs to.
        """
        header = self._header(stamp)
        out = self._of_second(frame, stamp) if frame.second else []
        if frame.initial_pose is not None:
            pose = self._pose(header, frame.initial_pose, frame.initial_covariance)
            out.append(('/initialpose', POSE, pose))
        if frame.camera is not None:
            out.append(('/camera_info', CAMERA_INFO, self._camera_info(header, frame.camera)))
        out.append(('/image', IMAGE, self._image(header, frame.image)))
        if frame.mask is not None:
            out.append(('/truth/mask', IMAGE, self._image(header, frame.mask)))
        if frame.T_image_model is not None:
            pose = self._make('geometry_msgs/msg/PoseStamped', header, self._plain_pose(frame.T_image_model))
            out.append(('/truth/pose', 'geometry_msgs/msg/PoseStamped', pose))
        return out

    def _of_second(self, frame, stamp):
        second = frame.second
        stamp += round(1e9 * second.stamp) - round(1e9 * frame.stamp)
        if stamp == self._second_stamp:
            return []
        self._second_stamp = stamp
        header, out = self._header(stamp, self._second_frame_id), []
        if second.T_second_image is not None:
            T = inverse(second.T_second_image)
            out.append(('/tf', TF, self._transform(self._header(stamp), T, self._second_frame_id)))
        if second.camera is not None:
            out.append(('/second/camera_info', CAMERA_INFO, self._camera_info(header, second.camera)))
        return [*out, ('/second/image', IMAGE, self._image(header, second.image))]

    def of_result(self, result, stamp, model=None):
        """Return [(topic, type, message)] of a `Result`; stamp: ns. model: whose centreline is given out, or None.

        What took how long is left out: the same input gives the same bag.
        """
        header = self._header(stamp)
        registration = result.registration
        out = [('/vessel/mask', IMAGE, self._image(header, result.vessels.mask))]
        if result.second is not None:
            seen = self._header(self._second_stamp, self._second_frame_id)
            out.append(('/second/vessel/mask', IMAGE, self._image(seen, result.second.mask)))
        if registration.accepted:
            T = registration.T_image_model
            out.append(('/tf', TF, self._transform(header, T, self._model_frame)))
            out.append(('/registration/pose', POSE, self._pose(header, T, registration.covariance)))
            if model is not None:
                points = centreline_seen(registration.centreline(model), T, result.frame.camera)
                out.append(('/vessel/centerline', 'sensor_msgs/msg/PointCloud2', self._cloud(header, points)))
        return [*out, self.of_registration(registration, stamp, result.vessels.contrast.value)]

    def of_registration(self, registration, stamp, contrast=''):
        """Return (topic, type, message) of the status of a `Registration`; see `status_values`."""
        pairs = [
            self._make('diagnostic_msgs/msg/KeyValue', key, value)
            for key, value in status_values(registration, stamp, contrast).items()
        ]
        told = registration.reason or registration.state.value
        status = 'diagnostic_msgs/msg/DiagnosticStatus'
        message = self._make(status, registration.state.severity, 'registration', told, '', pairs)
        return '/registration/status', status, message

    def _make(self, kind, *fields):
        return self._types[kind](*fields)

    def _header(self, stamp, frame_id=None):
        time = self._make('builtin_interfaces/msg/Time', stamp // 10**9, stamp % 10**9)
        return self._make('std_msgs/msg/Header', time, self._frame_id if frame_id is None else frame_id)

    def _image(self, header, pixels):
        height, width = pixels.shape
        data = np.ascontiguousarray(pixels).view(np.uint8).ravel()
        encoding = ENCODINGS[pixels.dtype]
        return self._make(IMAGE, header, height, width, encoding, 0, data.size // height, data)

    def _camera_info(self, header, camera):
        K = camera.K.ravel()
        P = np.hstack([camera.K, np.zeros((3, 1))]).ravel()
        roi = self._make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
        size = camera.height, camera.width
        return self._make(CAMERA_INFO, header, *size, 'plumb_bob', np.empty(0), K, np.eye(3).ravel(), P, 0, 0, roi)

    def _parts(self, T):
        position = [float(v) for v in T[:3, 3]]
        w, x, y, z = mat2quat(T[:3, :3]).tolist()
        rotation = self._make('geometry_msgs/msg/Quaternion', x, y, z, w)
        return position, rotation

    def _transform(self, header, T, child):
        position, rotation = self._parts(T)
        transform = self._make(
            'geometry_msgs/msg/Transform', self._make('geometry_msgs/msg/Vector3', *position), rotation
        )
        stamped = self._make('geometry_msgs/msg/TransformStamped', header, child, transform)
        return self._make(TF, [stamped])

    def _plain_pose(self, T):
        position, rotation = self._parts(T)
        return self._make('geometry_msgs/msg/Pose', self._make('geometry_msgs/msg/Point', *position), rotation)

    def _pose(self, header, T, covariance):
        covariance = np.zeros(36) if covariance is None else np.ascontiguousarray(covariance, dtype=float).ravel()
        return self._make(
            POSE, header, self._make('geometry_msgs/msg/PoseWithCovariance', self._plain_pose(T), covariance)
        )

    def _cloud(self, header, points):
        fields = [
            self._make('sensor_msgs/msg/PointField', name, offset, INT32 if kind == '<i4' else FLOAT32, 1)
            for name, (kind, offset) in CENTRELINE_POINT.fields.items()
        ]
        data, step = points.view(np.uint8).ravel(), CENTRELINE_POINT.itemsize
        dense = bool(np.isfinite(points['u']).all())
        return self._make(
            'sensor_msgs/msg/PointCloud2', header, 1, len(points), fields, False, step, data.size, data, dense
        )


def status_values(registration, stamp, contrast=''):
    """Return the {key: value}, as text, of a `registration/status`.

    stamp: ns. contrast: the value of the `Contrast`, '' where the frame was not looked at.
    """
    return {
        'state': registration.state.value,
        'accepted': str(registration.accepted).lower(),
        'confidence': f'{registration.probability:.4g}',
        'reason': registration.reason,
        'recall': f'{registration.recall:.4g}',
        'precision': f'{registration.precision:.4g}',
        'residual_mm': f'{registration.residual_mm:.4g}',
        'views': str(registration.views),
        'second': registration.second,
        'second_age_s': f'{registration.second_age:.4g}',
        'contrast': contrast,
        'stamp': f'{stamp // 10**9}.{stamp % 10**9:09d}',
    }
