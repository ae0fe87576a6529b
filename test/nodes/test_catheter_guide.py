"""The example controller beside the real registration_node, on the phantom: its answers against the phantom's truth."""

import itertools
import sys

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PointStamped, PoseStamped
from ros_graph import Driver, Process, reliable, values

from m2i_ros.geometry import apply

SECOND = 10**9


def guide(**parameters):
    options = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
    process = Process(sys.executable, 'examples/catheter_guide.py', '--ros-args', *options)
    process.says('ready: listening')
    return process


@pytest.fixture(scope='module')
def tracked(graph, start, model_file, patient):
    """The camera and the true pose of a frame that was registered, its centreline published."""
    start('registration_node', **{'model.path': model_file}, **reliable('/image', '/vessel/mask'))
    patient_guide = guide(max_age=1e10)  # the frames below are stamped 1970
    statuses = graph.collect(DiagnosticStatus, 'catheter/status')
    driver = Driver(graph, masks=True)
    tip = graph.publisher(PointStamped, 'catheter/tip')
    driver.send_initial_pose(patient.initial_pose)
    # Again and again the same moment, until it is registered and the guide has heard of all it needs.
    frame, count = patient.frames[0], itertools.count(1)

    def guided():
        stamp = 500 * SECOND + next(count) * SECOND // 15
        driver.send(stamp, frame.image, patient.camera, frame.mask)
        tip.publish(PointStamped())
        return any(status.message == 'seen outside the vessel' for status in statuses)

    graph.wait(guided, 'an answer of the guide', 60)
    graph.stop_collecting(statuses)
    graph.destroy(tip)
    yield patient.camera, frame.T_image_model
    driver.close(graph)
    assert patient_guide.stop() == 0, patient_guide.output


@pytest.fixture(scope='module')
def answers(graph, tracked):
    return graph.collect(PoseStamped, 'catheter/lumen'), graph.collect(DiagnosticStatus, 'catheter/status')


def ask(graph, answers, pixel, expected):
    """Return the guide's pose and status for a tip at a pixel, once it answers as expected."""
    poses, statuses = answers
    poses.clear(), statuses.clear()
    tip = graph.publisher(PointStamped, 'catheter/tip')
    message = PointStamped()
    message.point.x, message.point.y = map(float, pixel)

    def answered():
        tip.publish(message)
        ours = [s for s in statuses if s.message == expected and float(values(s)['tip_u_px']) == round(pixel[0], 6)]
        # The second one: its pose, and none of an earlier question, is the last by now.
        return len(ours) > 1 and poses and (poses[-1], ours[-1])

    try:
        return graph.wait(answered, f'the answer: {expected}')
    finally:
        graph.destroy(tip)


@pytest.mark.parametrize('share', [0.2, 0.5, 0.8])
def test_the_lumen_around_a_tip_is_the_phantoms(graph, tracked, answers, patient, share):
    camera, T = tracked
    aorta = patient.model.centreline
    at = np.flatnonzero(aorta.branch == aorta.branch[np.argmax(aorta.radii)])
    centre = apply(T, aorta.points[at])
    seen = np.flatnonzero(np.all((camera.project(centre) > 15) & (camera.project(centre) < 240), axis=1))
    middle = seen[int(share * (len(seen) - 1))]
    pose, status = ask(graph, answers, camera.project(centre[middle]), 'inside the lumen')
    position, q = pose.pose.position, pose.pose.orientation
    answer = np.array([position.x, position.y, position.z])
    # Across the ray the answer is good to a pixel or two; along it one view is uncertain by many millimetres.
    ray = centre[middle] / np.linalg.norm(centre[middle])
    across = answer - centre[middle] - ((answer - centre[middle]) @ ray) * ray
    assert np.linalg.norm(across) < 2e-3
    along = np.array([1 - 2 * (q.y**2 + q.z**2), 2 * (q.x * q.y + q.z * q.w), 2 * (q.x * q.z - q.y * q.w)])
    true = centre[min(middle + 2, len(centre) - 1)] - centre[max(middle - 2, 0)]
    assert abs(along @ true) / np.linalg.norm(true) > np.cos(np.radians(15))
    radius = aorta.radii[at[middle]]
    assert float(values(status)['clearance_m']) == pytest.approx(radius, abs=0.35 * radius)


def test_a_tip_beside_the_vessel_is_said_to_be_outside(graph, tracked, answers, patient):
    camera, T = tracked
    pixels = camera.project(apply(T, patient.model.centreline.points))
    u = np.nanmax(np.where(np.abs(pixels[:, 1] - 128) < 5, pixels[:, 0], np.nan))
    _, status = ask(graph, answers, (min(u + 25, 255), 128), 'seen outside the vessel')
    assert float(values(status)['clearance_m']) < 0


def test_a_registration_that_is_too_old_is_not_steered_by(graph, tracked, patient):
    statuses = graph.collect(DiagnosticStatus, '/late/catheter/status')
    late = Process(
        sys.executable,
        'examples/catheter_guide.py',
        '--ros-args',
        *('-r', '__ns:=/late', '-r', 'camera_info:=/camera_info', '-r', 'vessel/centerline:=/vessel/centerline'),
    )
    late.says('ready: listening')
    camera, _ = tracked
    tip = graph.publisher(PointStamped, '/late/catheter/tip')
    driver = Driver(graph, masks=True)
    frame, count = patient.frames[0], itertools.count(1)

    def refused():
        # Pictures stamped 1970 are registered, but half a century old.
        driver.send(600 * SECOND + next(count) * SECOND // 15, frame.image, camera, frame.mask)
        tip.publish(PointStamped())
        return any('s old' in status.message for status in statuses)

    graph.wait(refused, 'the refusal', 60)
    driver.close(graph)
    graph.destroy(tip)
    assert late.stop() == 0, late.output
