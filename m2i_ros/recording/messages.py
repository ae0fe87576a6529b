"""Results as messages of a bag, made without ROS: the same topics as the nodes publish."""

import numpy as np
from scipy.spatial.transform import Rotation

ENCODINGS = {np.dtype(np.uint8): 'mono8', np.dtype(np.uint16): 'mono16', np.dtype(np.float32): '32FC1'}


class Messages:
    """Makes messages of the definitions `types` (`recording.typestore()`).

    frame_id: the pictures' frame. model_frame: the child frame of transforms.
    """

    def __init__(self, types, frame_id='xray', model_frame='vessel_model'):
        self._types = types.types
        self._frame_id = frame_id
        self._model_frame = model_frame

    def of_result(self, result, stamp):
        """Return [(topic, type, message)] of a `Result`; stamp: ns.

        What took how long is left out: the same input gives the same bag.
        """
        header = self._header(stamp)
        frame, registration = result.frame, result.registration
        out = [('/image', 'sensor_msgs/msg/Image', self._image(header, frame.image))]
        if frame.camera is not None:
            out.append(('/camera_info', 'sensor_msgs/msg/CameraInfo', self._camera_info(header, frame.camera)))
        out.append(('/vessel/mask', 'sensor_msgs/msg/Image', self._image(header, result.vessels.mask)))
        if registration.accepted:
            out.append(('/tf', 'tf2_msgs/msg/TFMessage', self._transform(header, registration.T_image_model)))
            kind = 'geometry_msgs/msg/PoseWithCovarianceStamped'
            out.append(('/registration/pose', kind, self._pose(header, registration)))
        out.append(('/registration/status', 'diagnostic_msgs/msg/DiagnosticStatus', self._status(result, stamp)))
        return out

    def _make(self, kind, *fields):
        return self._types[kind](*fields)

    def _header(self, stamp):
        time = self._make('builtin_interfaces/msg/Time', stamp // 10**9, stamp % 10**9)
        return self._make('std_msgs/msg/Header', time, self._frame_id)

    def _image(self, header, pixels):
        height, width = pixels.shape
        data = np.ascontiguousarray(pixels).view(np.uint8).ravel()
        encoding = ENCODINGS[pixels.dtype]
        return self._make('sensor_msgs/msg/Image', header, height, width, encoding, 0, data.size // height, data)

    def _camera_info(self, header, camera):
        K = camera.K.ravel()
        P = np.hstack([camera.K, np.zeros((3, 1))]).ravel()
        roi = self._make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
        kind, size = 'sensor_msgs/msg/CameraInfo', (camera.height, camera.width)
        return self._make(kind, header, *size, 'plumb_bob', np.empty(0), K, np.eye(3).ravel(), P, 0, 0, roi)

    def _parts(self, T):
        position = [float(v) for v in T[:3, 3]]
        rotation = self._make('geometry_msgs/msg/Quaternion', *Rotation.from_matrix(T[:3, :3]).as_quat().tolist())
        return position, rotation

    def _transform(self, header, T):
        position, rotation = self._parts(T)
        transform = self._make(
            'geometry_msgs/msg/Transform', self._make('geometry_msgs/msg/Vector3', *position), rotation
        )
        stamped = self._make('geometry_msgs/msg/TransformStamped', header, self._model_frame, transform)
        return self._make('tf2_msgs/msg/TFMessage', [stamped])

    def _pose(self, header, registration):
        position, rotation = self._parts(registration.T_image_model)
        pose = self._make('geometry_msgs/msg/Pose', self._make('geometry_msgs/msg/Point', *position), rotation)
        covariance = np.ascontiguousarray(registration.covariance, dtype=float).ravel()
        with_covariance = self._make('geometry_msgs/msg/PoseWithCovariance', pose, covariance)
        return self._make('geometry_msgs/msg/PoseWithCovarianceStamped', header, with_covariance)

    def _status(self, result, stamp):
        registration = result.registration
        pairs = [
            self._make('diagnostic_msgs/msg/KeyValue', key, value)
            for key, value in status_values(result, stamp).items()
        ]
        message = registration.reason or registration.state.value
        level = 0 if registration.accepted else 1
        return self._make('diagnostic_msgs/msg/DiagnosticStatus', level, 'registration', message, '', pairs)


def status_values(result, stamp):
    """Return the {key: value}, as text, of a `registration/status` of a `Result`; stamp: ns."""
    registration = result.registration
    return {
        'state': registration.state.value,
        'accepted': str(registration.accepted).lower(),
        'confidence': f'{registration.probability:.4g}',
        'reason': registration.reason,
        'recall': f'{registration.recall:.4g}',
        'precision': f'{registration.precision:.4g}',
        'residual_mm': f'{registration.residual_mm:.4g}',
        'contrast': result.vessels.contrast.value,
        'stamp': f'{stamp // 10**9}.{stamp % 10**9:09d}',
    }
