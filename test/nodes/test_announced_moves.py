"""registration_node, told by TF how C-arm and table stand."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from ros_graph import Driver, reliable, values
from tf2_msgs.msg import TFMessage

from m2i_ros.geometry import Camera, CArm, inverse, rigid
from m2i_ros.model import save_model
from m2i_ros.model.projection import silhouette
from m2i_ros.ros.transforms import fill_transform
from m2i_ros.simulation import make_anatomy

SECOND = 10**9
CAMERA = Camera.from_detector(256, 256, 1.1, 0.3 / 256)
# How the C-arm stands, and how far the table has moved, metres.
BEFORE = CArm(), np.zeros(3)
AFTER = CArm(np.radians(-35), np.radians(12)), np.array([0.01, 0.0, -0.02])


@pytest.fixture(scope='module')
def model():
    return make_anatomy('iliofemoral', 0)


@pytest.fixture(scope='module')
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp('patient') / 'model.npz'
    save_model(model, path)
    return path


def test_a_move_that_tf_tells_is_followed_and_without_tf_it_goes_on(graph, start, model, model_file):
    parameters = {'model.path': model_file, 'frames.fixed': 'table', **reliable('/image', '/vessel/mask')}
    node = start('registration_node', **parameters)
    status = graph.collect(DiagnosticStatus, 'registration/status')
    driver = Driver(graph, masks=True)
    tf = graph.publisher(TFMessage, '/tf')

    def pose(c_arm, table):
        return c_arm.T_image_isocentre @ rigid(translation=table - model.centroid)

    def states(count, begin, view, told=True):
        """Return the states of so many frames, sent 1/15 s apart from `begin` (ns) on."""
        c_arm, table = view
        mask = silhouette(model, pose(*view), CAMERA)
        sent = [begin + i * SECOND // 15 for i in range(count)]
        for stamp in sent:
            if told:
                T_isocentre_image = inverse(c_arm.T_image_isocentre)
                transforms = [
                    transform(stamp, 'table', 'isocentre', rigid(translation=-table)),
                    transform(stamp, 'isocentre', 'xray', T_isocentre_image),
                ]
                tf.publish(TFMessage(transforms=transforms))
            driver.send(stamp, np.full(mask.shape, 128, np.uint8), CAMERA, mask)
        graph.wait(lambda: set(sent) <= {values(s)['stamp'] for s in status}, 'the status of every frame', 120)
        found = {values(s)['stamp']: values(s)['state'] for s in status}
        return [found[stamp] for stamp in sent]

    driver.send_initial_pose(pose(*BEFORE))
    for turn in range(20):  # camera_info and initialpose may come after the first pictures
        if states(2, (100 + 2 * turn) * SECOND, BEFORE, told=False)[-1] == 'tracking':
            break
    node.says('no TF from "xray" to "table"')
    assert states(3, 200 * SECOND, BEFORE)[-1] == 'tracking'
    # TF may come after its picture: the next one makes up for it. Untold, it is doubted for longer and then lost.
    assert states(4, 200 * SECOND + SECOND // 5, AFTER)[-1] == 'tracking'
    driver.close(graph)


def transform(stamp, parent, child, T):
    message = TransformStamped(header=Driver.header(stamp, parent), child_frame_id=child)
    fill_transform(message.transform, T)
    return message
