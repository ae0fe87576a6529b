"""pipeline_node over DDS: every picture has its mask, bad input is survived, parameters are live or refused."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_graph import Driver, reliable, stamps, values
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from m2i_ros.ros.images import grey_from_image
from m2i_ros.segmentation.engines import ENGINES

SECOND = 10**9


@pytest.fixture(scope='module')
def node(start, model_file):
    return start('pipeline_node', **{'model.path': model_file}, **reliable('/image'))


@pytest.fixture(scope='module')
def driver(graph, node):
    driver = Driver(graph)
    yield driver
    driver.close(graph)


@pytest.fixture(scope='module')
def masks(graph, node):
    return graph.collect(Image, 'vessel/mask')


@pytest.fixture(scope='module')
def statuses(graph, node):
    return graph.collect(DiagnosticStatus, 'registration/status')


@pytest.fixture(scope='module')
def transforms(graph, node):
    return graph.collect(TFMessage, '/tf')


@pytest.fixture(scope='module')
def clock():
    """Stamps that nobody has used, 1/15 s apart."""
    state = {'now': 200 * SECOND}

    def tick():
        state['now'] += SECOND // 15
        return state['now']

    return tick


def status_of(graph, statuses, stamp):
    """Return {key: value} of the status of a frame, once it is there."""

    def find():
        return next((told for told in map(values, statuses) if told['stamp'] == stamp), None)

    return graph.wait(find, 'the status of a frame')


def test_every_picture_has_one_mask_of_its_size_and_one_transform_at_most(
    graph, driver, masks, statuses, transforms, clock, patient
):
    driver.send_initial_pose(patient.initial_pose)
    sent = [clock() for _ in patient.frames]
    for stamp, frame in zip(sent, patient.frames):
        driver.send(stamp, frame.image, patient.camera)
    graph.wait(lambda: len(statuses) >= len(sent), 'a status for every picture', 60)
    graph.wait(lambda: len(masks) >= len(sent), 'a mask for every picture')
    assert stamps(masks) == sent
    for message in masks:
        assert (message.header.frame_id, message.encoding) == ('xray', 'mono8')
        assert (message.height, message.width) == (256, 256)
        assert set(np.unique(grey_from_image(message))) <= {0, 255}
    accepted = [told['stamp'] for told in map(values, statuses) if told['accepted'] == 'true']
    graph.wait(lambda: len(transforms) >= len(accepted), 'a transform for every accepted pose')
    assert stamps([t for message in transforms for t in message.transforms]) == accepted


@pytest.mark.parametrize(('topic', 'encoding'), [('vessel/probability', '32FC1'), ('vessel/overlay', 'bgr8')])
def test_probability_and_overlay_come_to_those_who_listen(graph, driver, clock, patient, topic, encoding):
    messages = graph.collect(Image, topic)
    graph.wait(lambda: graph.node.count_publishers(topic), 'the publisher')

    def arrived():
        # The node learns of its listener in its own time: pictures go on until it has.
        driver.send(clock(), patient.frames[0].image, patient.camera)
        return messages

    graph.wait(arrived, topic)
    assert (messages[0].encoding, messages[0].height, messages[0].width) == (encoding, 256, 256)
    if encoding == '32FC1':
        probability = grey_from_image(messages[0])
        assert 0 <= probability.min() <= probability.max() <= 1
    graph.stop_collecting(messages)


def test_the_diagnostics_tell_rate_latency_engine_and_weights(graph, driver, node):
    health = graph.collect(DiagnosticArray, '/diagnostics')
    graph.wait(lambda: health, 'diagnostics')
    told = values(health[0].status[0])
    assert health[0].status[0].name == 'pipeline_node'
    assert told['engine'] in ENGINES
    assert len(told['weights_hash']) == 64
    assert float(told['latency_p50_ms']) <= float(told['latency_p99_ms'])
    assert int(told['frames']) > 0 and told['drops'] == '0'
    assert float(told['memory_mb']) < 1024


def test_a_threshold_set_live_changes_the_next_mask(graph, driver, masks, clock, patient):
    def vessel_at(threshold):
        result = graph.set_parameter('pipeline_node', 'segmentation.threshold', threshold)
        assert result.successful, result.reason
        stamp = clock()
        driver.send(stamp, patient.frames[0].image, patient.camera)
        graph.wait(lambda: stamps(masks)[-1:] == [stamp], 'the mask')
        return np.count_nonzero(grey_from_image(masks[-1]))

    low, high = vessel_at(0.05), vessel_at(0.95)
    own = vessel_at(0.0)
    assert high <= own <= low and high < low


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('segmentation.threshold', 2.0, 'range|from 0 to'),
        ('registration.accept_mm', float('nan'), 'finite|range'),
        ('model.units', 'cm', 'read-only|read only'),
        ('segmentation.threshold', 'high', 'type'),
    ],
)
def test_a_wrong_value_is_refused_with_a_reason(graph, node, name, value, reason):
    result = graph.set_parameter('pipeline_node', name, value)
    assert not result.successful
    assert any(word in result.reason for word in reason.split('|')), result.reason


BAD = {
    'empty image': {'width': 0, 'step': 0, 'data': b''},
    'encoding "sepia17"': {'encoding': 'sepia17'},
    'step': {'step': 3},
    'at least 32x32': {'height': 8},
}


@pytest.mark.parametrize('words', BAD)
def test_a_picture_that_is_none_is_refused_in_words_and_the_next_is_taken(
    graph, driver, masks, statuses, transforms, clock, patient, words
):
    before = len(transforms)
    bad, good = clock(), clock()
    driver.send(bad, patient.frames[0].image, patient.camera, **BAD[words])
    driver.send(good, patient.frames[0].image, patient.camera)
    told = status_of(graph, statuses, bad)
    assert told['accepted'] == 'false' and words in told['reason']
    graph.wait(lambda: stamps(masks)[-1:] == [good], 'the mask of the next picture')
    assert bad not in stamps(masks)
    assert bad not in stamps([t for message in transforms[before:] for t in message.transforms])


def test_a_picture_with_nan_is_refused(graph, driver, masks, statuses, clock, patient):
    picture = patient.frames[0].image.astype(np.float32)
    picture[5, 5] = np.nan
    bad = clock()
    driver.send(bad, picture, patient.camera)
    assert 'NaN' in status_of(graph, statuses, bad)['reason']
    assert bad not in stamps(masks)


def test_complaints_are_logged_but_do_not_flood(graph, driver, statuses, clock, patient, node):
    node.says('unknown image encoding|empty image|needs a step|at least 32x32')
    lines = len(node.lines)
    for _ in range(50):
        last = clock()
        driver.send(last, patient.frames[0].image, encoding='sepia17')
    status_of(graph, statuses, last)
    assert sum('sepia17' in line for line in node.lines[lines:]) <= 2


def test_a_stamp_that_comes_twice_counts_once(graph, driver, masks, clock, patient, node):
    stamp, after = clock(), clock()
    for each in (stamp, stamp, after):
        driver.send(each, patient.frames[0].image, patient.camera)
    graph.wait(lambda: stamps(masks)[-1:] == [after], 'the mask of the last picture')
    assert stamps(masks).count(stamp) == 1
    node.says('came twice')


def test_a_size_that_changes_in_mid_run_is_told_and_masks_follow(graph, driver, masks, statuses, clock, patient, node):
    small = np.ascontiguousarray(patient.frames[0].image[:200, :160])
    stamp = clock()
    driver.send(stamp, small)  # the camera_info is still that of the old size
    told = status_of(graph, statuses, stamp)
    assert told['state'] == 'waiting' and '160x200 but camera_info says 256x256' in told['reason']
    graph.wait(lambda: stamps(masks)[-1:] == [stamp], 'the mask')
    assert (masks[-1].height, masks[-1].width) == (200, 160)
    node.says('size changed from 256x256 to 160x200')


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_other_grey_types_are_taken(graph, driver, masks, clock, patient, dtype):
    stamp = clock()
    driver.send(stamp, patient.frames[0].image.astype(dtype) * 100, patient.camera)
    graph.wait(lambda: stamps(masks)[-1:] == [stamp], 'the mask')


def test_it_is_still_well(node):
    assert node.running
    assert 'Traceback' not in node.output
