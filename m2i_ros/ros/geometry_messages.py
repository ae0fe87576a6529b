"""The vessel's geometry as messages: the centreline in an image, the model for a viewer."""

import array

import numpy as np
from geometry_msgs.msg import Point
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from m2i_ros.model.projected_centreline import CENTRELINE_POINT, centreline_seen
from m2i_ros.ros.transforms import fill_pose

_FIELDS = [
    PointField(
        name=name,
        offset=CENTRELINE_POINT.fields[name][1],
        datatype=PointField.INT32 if name == 'branch' else PointField.FLOAT32,
        count=1,
    )
    for name in CENTRELINE_POINT.names
]


def centreline_cloud(header, centreline, T_image_model, camera):
    """Return the PointCloud2 of a `Centreline` seen by `camera`: one point each, as `centreline_seen` says."""
    points = centreline_seen(centreline, T_image_model, camera)
    data = array.array('B')
    data.frombytes(points.tobytes())
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=_FIELDS,
        is_bigendian=False,
        point_step=CENTRELINE_POINT.itemsize,
        row_step=len(data),
        data=data,
        is_dense=bool(np.isfinite(points['u']).all()),
    )


def centreline_points(cloud):
    """Return the points of a `vessel/centerline` PointCloud2 as an array (N,) of `CENTRELINE_POINT`."""
    return np.frombuffer(cloud.data, CENTRELINE_POINT)


def model_markers(model, frame_id):
    """Return the MarkerArray of a `VesselModel` in its own frame: the surface, translucent, and the centreline.

    Stamp 0 with frame_locked: a viewer draws them at the newest transform.
    """
    surface = _marker(frame_id, 0, Marker.TRIANGLE_LIST, ColorRGBA(r=0.8, g=0.2, b=0.2, a=0.35), 1.0)
    surface.points = _points(model.vertices[model.faces.ravel()])
    line = _marker(frame_id, 1, Marker.LINE_LIST, ColorRGBA(r=1.0, g=0.9, b=0.2, a=1.0), 0.0008)
    line.points = _points(model.centreline.points[model.centreline.edges.ravel()])
    return MarkerArray(markers=[surface, line])


def _marker(frame_id, number, kind, color, scale):
    marker = Marker(ns='vessel_model', id=number, type=kind, action=Marker.ADD, frame_locked=True, color=color)
    marker.header.frame_id = frame_id
    marker.scale.x = marker.scale.y = marker.scale.z = scale
    fill_pose(marker.pose, np.eye(4))
    return marker


def _points(coordinates):
    return [Point(x=x, y=y, z=z) for x, y, z in coordinates.tolist()]
