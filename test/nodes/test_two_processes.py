"""Segmentation and registration in a process each give the poses that they give in one, of both planes."""

import numpy as np
import pytest
from ros_graph import BiPlane, Driver, reliable, stamps
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from m2i_ros.ros.transforms import motion_from_pose

SECOND = 10**9
TOPICS = [plane + name for plane in ('/', '/second/') for name in ('image', 'camera_info', 'vessel/mask')]


@pytest.fixture(scope='module')
def poses_of(graph, model_file, patient, other):
    """Return the function from the names of nodes to the poses that they make of the same 8 pairs, (8, 4, 4)."""

    def poses_of(start_one, *nodes):
        parameters = {'model.path': model_file, 'second.patience': 1.0, **reliable(*TOPICS)}
        of_one = {'segmentation_node': {k: v for k, v in parameters.items() if k != 'model.path'}}
        processes = [start_one(node, **of_one.get(node, parameters)) for node in nodes]
        planes = BiPlane(graph, patient, other, len(nodes))
        planes.send_geometry()
        planes.first.send_initial_pose(patient.initial_pose)
        planes.until(2)  # everything has come by now
        assert graph.call(Trigger, f'{nodes[-1]}/reset', Trigger.Request()).success
        planes.now = 200 * SECOND
        told = [planes.send(index=index) for index in range(8)]
        assert [each['views'] for each in told] == ['2'] * 8 and told[-1]['second'] == ''
        expected = [each['stamp'] for each in told if each['accepted'] == 'true']
        graph.wait(lambda: set(expected) <= set(stamps(planes.poses)), 'all poses')
        found = dict(zip(stamps(planes.poses), planes.poses))
        assert len(expected) == 8
        planes.close()
        assert not any(process.stop() for process in processes)
        return np.array([motion_from_pose(found[stamp].pose.pose) for stamp in expected])

    return poses_of


def test_a_second_mask_that_does_not_fit_or_does_not_come_leaves_the_first_alone(
    graph, start_one, model_file, patient, other
):
    angles = {'view.source_to_isocentre': 0.75, 'second.source_to_isocentre': 0.75}
    node = start_one(
        'registration_node', **{'model.path': model_file, 'second.patience': 1.0}, **angles, **reliable(*TOPICS)
    )
    planes = BiPlane(graph, patient, other)
    mask = graph.publisher(Image, 'vessel/mask')
    second_mask = graph.publisher(Image, 'second/vessel/mask')
    planes.first.send_initial_pose(patient.initial_pose)

    def until(views, says, seen):
        for _ in range(30):
            index, stamp = len(planes.statuses) % 15, planes.now + SECOND // 15
            if seen is not None:
                Driver.send_image(second_mask, stamp, seen(index), 'lateral')
            Driver.send_image(mask, stamp, patient.frames[index].mask)
            told = planes.send(index=index)
            if (told['accepted'], told['views']) == ('true', str(views)) and says in told['second']:
                return
        raise AssertionError(f'{views} views, "{says}": {told}')

    masks = [other[index].mask for index in range(15)]
    until(2, '', lambda index: masks[index])
    until(1, 'second/vessel/mask is 64x64, its image 256x256', lambda index: masks[index][:64, :64].copy())
    node.says('one view only: second/vessel/mask is 64x64')
    until(1, 'no picture with a mask on /second/image', None)
    planes.close()
    graph.destroy(mask, second_mask)


def test_one_process_and_two_give_the_same_poses(poses_of, start_one):
    one = poses_of(start_one, 'pipeline_node')
    two = poses_of(start_one, 'segmentation_node', 'registration_node')
    np.testing.assert_array_equal(one, two)
