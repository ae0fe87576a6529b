#!/usr/bin/env python3
"""A catheter controller's view of m2i_ros: where is the lumen around the tip, where does it lead, how far is the wall?

    ros2 launch m2i_ros pipeline.launch.py source:=phantom
    python3 examples/catheter_guide.py
    ros2 topic pub --once catheter/tip geometry_msgs/msg/PointStamped '{point: {x: 256.0, y: 256.0}}'   # pixels

Reads   /tf              is the registration believed, and how old is it?
        camera_info      the ray of the tip's pixel
        vessel/centerline  lumen centres in the image frame, metres
        catheter/tip     PointStamped, x and y in pixels of the image
Writes  catheter/lumen   PoseStamped in the image frame: nearest lumen centre, x axis along the vessel
        catheter/status  DiagnosticStatus: clearance to the wall in metres, or why there is no answer

One view does not show the tip's depth. The answer assumes that the tip is inside the vessel it is seen in, at the
depth of that vessel's centre; where two vessels overlap in the picture it takes the one whose centre is nearer in
pixels.
"""

import sys
from dataclasses import dataclass

import numpy as np
import rclpy
import tf2_ros
import tf_transformations
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PointStamped, PoseStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, PointCloud2, PointField
from tf2_ros import TransformException

NUMPY_TYPE = {PointField.FLOAT32: '<f4', PointField.FLOAT64: '<f8', PointField.INT32: '<i4', PointField.UINT32: '<u4'}


@dataclass(frozen=True)
class Guidance:
    """Metres, image frame. centre, direction: (3,). clearance: to the wall, negative where the tip is outside it."""

    centre: np.ndarray
    direction: np.ndarray
    radius: float
    clearance: float


def read_cloud(message):
    """Return the points of a PointCloud2 as a structured array with the cloud's own field names."""
    layout = {
        'names': [f.name for f in message.fields],
        'formats': [NUMPY_TYPE[f.datatype] for f in message.fields],
        'offsets': [f.offset for f in message.fields],
        'itemsize': message.point_step,
    }
    return np.frombuffer(bytes(message.data), dtype=layout, count=message.width * message.height)


def guide(tip_px, K, cloud):
    """Return the `Guidance` for a tip at pixel (u, v).

    K: (3, 3) camera matrix. cloud: structured array with x, y, z, radius (m), u, v (px), branch, arc_length (m).
    Raises ValueError when no lumen centre is in the picture.
    """
    in_picture = np.isfinite(cloud['u']) & np.isfinite(cloud['v'])
    if not in_picture.any():
        raise ValueError('no lumen centre lies in the picture')
    distance_px = np.where(in_picture, np.hypot(cloud['u'] - tip_px[0], cloud['v'] - tip_px[1]), np.inf)
    nearest = cloud[np.argmin(distance_px)]
    branch = cloud[cloud['branch'] == nearest['branch']]
    branch = branch[np.argsort(branch['arc_length'])]
    xyz = np.stack([branch['x'], branch['y'], branch['z']], axis=1).astype(float)
    at = int(np.argmin(np.abs(branch['arc_length'] - nearest['arc_length'])))
    direction = xyz[min(at + 1, len(xyz) - 1)] - xyz[max(at - 1, 0)]
    direction = direction / max(np.linalg.norm(direction), 1e-12)

    # Where the tip's ray passes the vessel closest: between the ray and the line through the centre along the vessel.
    ray = np.linalg.solve(np.asarray(K, float).reshape(3, 3), [tip_px[0], tip_px[1], 1.0])
    ray = ray / np.linalg.norm(ray)
    step = 0.0
    if len(xyz) > 1 and abs(ray @ direction) < 0.95:
        along = direction - (direction @ ray) * ray
        step = -(along @ xyz[at]) / (along @ along)
        reach = np.linalg.norm(np.diff(xyz, axis=0), axis=1).max()
        step = float(np.clip(step, -reach, reach))
    centre = xyz[at] + step * direction
    off_axis = np.linalg.norm(centre - (centre @ ray) * ray)
    radius = float(branch['radius'][at])
    return Guidance(centre, direction, radius, radius - off_axis)


class CatheterGuide(Node):
    def __init__(self):
        super().__init__('catheter_guide')
        self.max_age = self.declare_parameter('max_age', 0.5).value  # seconds a transform may be old
        self.model_frame = self.declare_parameter('model_frame', 'vessel_model').value
        self.camera_info = self.cloud = None
        self.buffer = tf2_ros.Buffer()
        self.listener = tf2_ros.TransformListener(self.buffer, self)
        self.create_subscription(CameraInfo, 'camera_info', self.on_camera_info, qos_profile_sensor_data)
        self.create_subscription(PointCloud2, 'vessel/centerline', self.on_cloud, qos_profile_sensor_data)
        self.create_subscription(PointStamped, 'catheter/tip', self.on_tip, QoSProfile(depth=1))
        self.lumen = self.create_publisher(PoseStamped, 'catheter/lumen', 1)
        self.status = self.create_publisher(DiagnosticStatus, 'catheter/status', 1)
        self.get_logger().info('ready: listening to catheter/tip')

    def on_camera_info(self, message):
        self.camera_info = message

    def on_cloud(self, message):
        self.cloud = message

    def on_tip(self, tip):
        try:
            guidance, header = self.answer((tip.point.x, tip.point.y))
        except (ValueError, TransformException) as problem:
            self.tell(DiagnosticStatus.WARN, str(problem))
            return
        pose = PoseStamped(header=header)
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = guidance.centre
        q = tf_transformations.quaternion_from_matrix(frame_along(guidance.direction))
        pose.pose.orientation.x, pose.pose.orientation.y, pose.pose.orientation.z, pose.pose.orientation.w = q
        self.lumen.publish(pose)
        inside = guidance.clearance > 0
        self.tell(
            DiagnosticStatus.OK if inside else DiagnosticStatus.WARN,
            'inside the lumen' if inside else 'seen outside the vessel',
            clearance_m=guidance.clearance,
            radius_m=guidance.radius,
            tip_u_px=tip.point.x,
            tip_v_px=tip.point.y,
        )

    def tell(self, level, message, **values):
        pairs = [KeyValue(key=key, value=f'{value:.6f}') for key, value in values.items()]
        self.status.publish(DiagnosticStatus(level=level, name='catheter_guide', message=message, values=pairs))

    def answer(self, tip_px):
        """Return (Guidance, header). Raises ValueError or TransformException: then nothing may be steered by."""
        if self.camera_info is None or self.cloud is None:
            raise ValueError('no camera_info or no vessel/centerline received yet: is the pipeline tracking?')
        header = self.cloud.header
        # The transform of the cloud's own image must have been sent, and lately: TF that stopped still looks alive.
        self.buffer.lookup_transform(header.frame_id, self.model_frame, rclpy.time.Time.from_msg(header.stamp))
        age = (self.get_clock().now() - rclpy.time.Time.from_msg(header.stamp)).nanoseconds / 1e9
        if age > self.max_age:
            raise ValueError(f'the registration is {age:.2f} s old (max_age {self.max_age} s)')
        return guide(tip_px, self.camera_info.k, read_cloud(self.cloud)), header


def frame_along(direction):
    """Return a (4, 4) rotation whose x axis is `direction`."""
    helper = np.eye(3)[np.argmin(np.abs(direction))]
    y = np.cross(direction, helper)
    y /= np.linalg.norm(y)
    T = np.eye(4)
    T[:3, :3] = np.stack([direction, y, np.cross(direction, y)], axis=1)
    return T


def main():
    rclpy.init()
    node = CatheterGuide()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        # Told to stop while a message was being taken, rclpy may raise anything.
        if rclpy.ok() and not isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
