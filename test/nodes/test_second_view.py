"""pipeline_node with a second plane: pairs are registered jointly; whatever the second one lacks, the first goes on."""

import numpy as np
import pytest
from ros_graph import BiPlane, reliable, stamps

from m2i_ros.geometry import Camera, apply
from m2i_ros.registration.uncertainty import change_pivot
from m2i_ros.ros.transforms import motion_from_pose

SECOND = 10**9
RIGHT_MM = 2.0


def depth_variance(pose, point):
    """Return the variance (m2) of a model point's depth: at the origin, far away, rotation counts as well."""
    T = motion_from_pose(pose.pose.pose)
    A = change_pivot(T[:3, 3], apply(T, point))
    return (A @ np.reshape(pose.pose.covariance, (6, 6)) @ A.T)[2, 2]


@pytest.fixture(scope='module')
def planes(graph, start, model_file, patient, other):
    topics = ('/image', '/second/image')
    node = start('pipeline_node', **{'model.path': model_file, 'second.patience': 1.0}, **reliable(*topics))
    planes = BiPlane(graph, patient, other)
    planes.node = node
    planes.first.send_initial_pose(patient.initial_pose)
    yield planes
    planes.close()


@pytest.fixture(scope='module')
def geometry(planes):
    """How the planes stand, on /tf_static: only from here on."""
    planes.send_geometry()


def test_without_its_camera_info_it_is_one_view_and_that_is_told(planes):
    assert '/second/camera_info' in planes.until(1, says='no camera_info', camera=False)['second']
    planes.node.says('one view only: no camera_info: nothing came on /second/camera_info')


def test_without_geometry_it_is_one_view_and_the_status_says_so(planes):
    told = planes.until(1, says='TF')  # camera_info may come after the first pictures
    assert 'TF' in told['second'] and 'lateral' in told['second'] and 'second.source_to_isocentre' in told['second']


def test_pairs_are_registered_jointly_and_the_pose_is_the_first_planes(planes, geometry, patient):
    alone = planes.poses[-1]
    told = planes.until(2)
    assert told['second'] == ''
    stamp = told['stamp']
    pose = planes.graph.wait(
        lambda: next((p for p, own in zip(planes.poses, stamps(planes.poses)) if own == stamp), None), 'the pose'
    )
    assert pose.header.frame_id == 'xray'
    T, points = motion_from_pose(pose.pose.pose), patient.model.centreline.points
    near = min(np.linalg.norm(apply(T, points) - apply(f.T_image_model, points), axis=1).mean() for f in patient.frames)
    assert 1e3 * near < RIGHT_MM
    depth = [depth_variance(p, patient.model.centroid) for p in (alone, pose)]
    assert depth[1] < 0.25 * depth[0]
    planes.graph.wait(lambda: stamp in stamps(planes.masks), "the second picture's mask")
    assert planes.masks[-1].header.frame_id == 'lateral'


def test_a_second_picture_a_little_later_or_earlier_belongs_to_it_and_a_late_one_does_not(planes, geometry):
    assert planes.until(2, later=10_000_000)['second'] == ''
    assert planes.until(2, later=-10_000_000)['second'] == ''
    told = planes.until(1, later=30_000_000)
    assert 'within 0.02 s' in told['second']


def test_a_second_plane_that_is_wrong_or_switched_off_leaves_the_first_alone(planes, geometry):
    small = Camera.from_detector(128, 128, 1.1, 0.3 / 128)
    assert '128x128' in planes.until(1, camera=small)['second']
    assert 'unknown' in planes.until(1, frame_id='unknown')['second']
    assert 'one frame_id' in planes.until(1, frame_id='xray')['second']
    assert 'no picture on /second/image' in planes.until(1, second=False)['second']
    planes.node.says('one view only: no picture on /second/image within 0.02 s')
    assert planes.until(2)['second'] == ''


def test_a_second_plane_of_half_the_rate_serves_every_other_frame(planes, geometry):
    planes.until(2)
    told = [planes.send(second=second) for second in (False, True) * 3]
    assert [each['views'] for each in told] == ['1', '2'] * 3
    assert all(each['accepted'] == 'true' for each in told)


def test_the_angles_of_both_planes_say_how_they_stand(planes, patient):
    for name, value in (('view.source_to_isocentre', 0.75), ('second.source_to_isocentre', 0.75)):
        result = planes.graph.set_parameter('pipeline_node', name, value)
        assert result.successful, result.reason
    planes.first.send_initial_pose(patient.initial_pose)  # the angles are a start as well
    assert planes.until(2, frame_id='nobody says where')['second'] == ''
