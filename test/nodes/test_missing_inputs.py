"""What is missing is told, vessels are segmented all the same, and no transform leaves the node."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_graph import Driver, reliable, values
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

SECOND = 10**9


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Model files that cannot be used."""
    import trimesh

    folder = tmp_path_factory.mktemp('models')
    (folder / 'torn.stl').write_bytes(b'solid but not really')
    trimesh.creation.cylinder(0.01, 0.2).export(folder / 'metres.stl')  # read as mm: a vessel of 0.2 mm
    return folder


CASES = {
    'no model: set model.path': '',
    'gone.stl': 'gone.stl',
    'torn.stl': 'torn.stl',
    'units': 'metres.stl',
}


@pytest.mark.parametrize('words', CASES)
def test_without_a_usable_model_the_node_waits_and_says_what_to_do(start_one, graph, patient, files, words):
    name = CASES[words]
    model = {'model.path': str(files / name)} if name else {}
    process = start_one('registration_node', **model, **reliable('/image', '/vessel/mask'))
    statuses, transforms = graph.collect(DiagnosticStatus, 'registration/status'), graph.collect(TFMessage, '/tf')
    driver = Driver(graph, masks=True)
    for number, frame in enumerate(patient.frames[:3]):
        driver.send(300 * SECOND + number * SECOND // 15, frame.image, patient.camera, frame.mask)
    graph.wait(lambda: len(statuses) >= 3, 'a status for every picture')
    told = [values(status) for status in statuses]
    assert {each['state'] for each in told} == {'waiting'}
    assert all(words in each['reason'] for each in told), told[-1]['reason']
    process.says(rf'\[ERROR\].*registration waits: no model.*{words.removeprefix("no model")}')
    assert not transforms
    driver.close(graph)


def test_without_camera_info_it_says_so_after_a_moment(start_one, graph, patient, model_file):
    process = start_one('registration_node', **{'model.path': model_file}, **reliable('/image', '/vessel/mask'))
    statuses = graph.collect(DiagnosticStatus, 'registration/status')
    driver = Driver(graph, masks=True)
    state = {'now': 400 * SECOND}

    def complained():
        state['now'] += SECOND // 15
        driver.send(state['now'], patient.frames[0].image, None, patient.frames[0].mask)
        return 'no camera_info: nothing came on /camera_info' in process.output

    graph.wait(complained, 'the complaint')
    graph.wait(lambda: statuses, 'a status')
    assert {values(status)['state'] for status in statuses} == {'waiting'}
    driver.close(graph)


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'model.units': 'inch'}, '"inch" must be one of mm, cm, m'),
        ({'registration.accept_mm': 1}, r'registration.accept_mm must be of type float \(write 1.0, not 1\)'),
        ({'registration.accept_mm': 1000.0}, 'registration.accept_mm must be from 0.01 to 100 mm'),
    ],
)
def test_a_wrong_parameter_ends_the_start_with_the_right_ones(graph, parameters, words):
    import sys

    from ros_graph import Process

    options = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    process = Process(sys.executable, '-m', 'm2i_ros.nodes.registration_node', '--ros-args', *options)
    process.says(words)
    assert process.wait() == 1


def test_compressed_pictures_are_segmented(start_one, graph, patient):
    import cv2
    from sensor_msgs.msg import Image

    process = start_one('segmentation_node', image_transport='compressed', **reliable('/image/compressed'))
    masks = graph.collect(Image, 'vessel/mask')
    publisher = graph.publisher(CompressedImage, 'image/compressed')
    stamp = Driver.header(500 * SECOND)
    data = cv2.imencode('.png', patient.frames[0].image)[1].tobytes()
    publisher.publish(CompressedImage(header=Driver.header(499 * SECOND), format='png', data=data[: len(data) // 9]))
    publisher.publish(CompressedImage(header=stamp, format='png', data=data))
    graph.wait(lambda: masks, 'the mask')
    assert masks[0].header == stamp
    assert (masks[0].height, masks[0].width) == patient.frames[0].image.shape
    process.says('cannot be decoded')
    assert np.frombuffer(masks[0].data, np.uint8).size == 256 * 256
    graph.destroy(publisher)
