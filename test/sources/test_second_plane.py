"""A second plane in bags, replays and cases: as it was recorded; and what of it lacks costs the first plane nothing."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from m2i_ros.geometry import Camera, CArm, inverse, rigid
from m2i_ros.pipeline import Frame, Pipeline
from m2i_ros.recording import BagWriter, Session, typestore
from m2i_ros.recording.bag_reader import BagReader
from m2i_ros.recording.compare import compare
from m2i_ros.recording.messages import Messages
from m2i_ros.registration import Registration, State
from m2i_ros.replay import parameters_from, replay
from m2i_ros.ros.parameters import group, second_by_angles
from m2i_ros.segmentation import VesselMask
from m2i_ros.sources import SourceError, SourceFrame, open_case, write_case
from m2i_ros.sources.bag import BagSource
from m2i_ros.sources.recorded_tf import RecordedTransforms
from m2i_ros.sources.source_frame import SecondPicture, with_second

BEGUN = 1_795_388_611_123_456_789  # ns
CAMERA = Camera.from_detector(64, 64, 1.0, 0.002)
LATERAL = Camera.from_detector(48, 40, 1.1, 0.002, mirrored=True)
T = CArm(np.radians(90)).T_image_isocentre @ inverse(CArm(np.radians(20)).T_image_isocentre)


class Segmenter:
    def segment(self, image):
        return VesselMask(np.where(image > 127, 255, 0).astype(np.uint8), np.ones(image.shape, bool))

    segment_beside = segment


class Registrar:
    """Notes what it is given."""

    model = None

    def __init__(self):
        self.seconds = []

    def register(self, vessels, camera, stamp, second=None):
        self.seconds.append(second)
        return Registration(State.TRACKING, True, '', rigid(), np.eye(6), 0.9, views=1 if second is None else 2)


def noise(seed, camera):
    return np.random.default_rng(seed).integers(0, 255, (camera.height, camera.width), np.uint8)


class Recorded:
    """Frames, 10 a second, each with a second picture that was taken `later` seconds after it."""

    realtime = False
    skipped = ()
    model = initial_pose = None
    camera = CAMERA
    frame_rate = 10.0
    origin, frame_id, second_frame_id = BEGUN, 'frontal', 'lateral'

    def __init__(self, count=6, later=0.0, change=lambda index, second: second):
        self.count, self.later, self.change = count, later, change

    def __len__(self):
        return self.count

    def __iter__(self):
        for index in range(self.count):
            second = SecondPicture(noise(100 + index, LATERAL), 0.1 * index + self.later, LATERAL, T)
            second = self.change(index, second)
            yield SourceFrame(noise(index, CAMERA), 0.1 * index, camera=CAMERA, second=second)


def write(path, source, namespace='', leave_out=(), extra=()):
    """Write a bag as an X-ray system's; leave_out: topics. extra: (topic, type, stamp, message)."""
    with BagWriter(path) as bag:
        messages = Messages(bag.types, source.frame_id, second_frame_id=source.second_frame_id)
        for topic, kind, stamp, message in extra:
            bag.write(topic, kind, stamp, message)
        for frame in source:
            stamp = BEGUN + round(1e9 * frame.stamp)
            for topic, kind, message in messages.of_frame(frame, stamp):
                if topic not in leave_out:
                    bag.write(topic if topic == '/tf' else namespace + topic, kind, stamp, message)
    return path


def transform(parent, child, T_parent_child, stamp=0):
    """Return a TFMessage."""
    maker = Messages(typestore(), parent)
    return maker._transform(maker._header(stamp), T_parent_child, child)


def replayed(path, source, **options):
    """Replay a source into a bag; return what the registrar was given a frame, and the {key: value} of each status."""
    registrar = Registrar()
    with BagWriter(path) as bag:
        replay(source, Pipeline(Segmenter(), registrar), bag, Session(), **options)
    with BagReader(path) as reader:
        told = [{p.key: p.value for p in m.values} for _, _, m in reader.messages(['/registration/status'])]
    return registrar.seconds, told


@pytest.mark.parametrize('namespace', ['', '/theatre'])
@pytest.mark.parametrize('later', [0.0, 0.04, -0.04])
def test_a_bag_gives_each_frame_its_second_picture_with_camera_and_place(tmp_path, namespace, later):
    source = BagSource(write(tmp_path / 'bag', Recorded(later=later), namespace))
    assert (source.frame_id, source.second_frame_id) == ('frontal', 'lateral') and source.second
    for given, truth in zip(source, Recorded(later=later), strict=True):
        assert np.array_equal(given.image, truth.image) and np.array_equal(given.second.image, truth.second.image)
        assert given.camera == CAMERA and given.second.camera == LATERAL
        assert given.second.stamp == pytest.approx(truth.second.stamp, abs=1e-9)
        np.testing.assert_allclose(given.second.T_second_image, T, atol=1e-12)
    assert source.skipped == []


def test_planes_that_are_called_otherwise_are_named(tmp_path):
    maker = Messages(typestore(), 'frontal')
    with BagWriter(tmp_path / 'bag') as bag:
        for frame in Recorded(count=3):
            stamp = BEGUN + round(1e9 * frame.stamp)
            for topic, kind, message in maker.of_frame(frame, stamp):
                side = '/b/' if topic.startswith('/second') else '/a/'
                bag.write('/tf' if topic == '/tf' else side + topic.rpartition('/')[2], kind, stamp, message)
    source = BagSource(tmp_path / 'bag', image='/a/image', second_image='/b/image')
    assert all(frame.second.camera == LATERAL and frame.camera == CAMERA for frame in source)
    assert not BagSource(tmp_path / 'bag', image='/a/image').second
    with pytest.raises(SourceError, match='/c/image: no such topic'):
        BagSource(tmp_path / 'bag', image='/a/image', second_image='/c/image')


def test_where_planes_stand_is_found_over_several_frames_of_tf_static_and_moving(tmp_path):
    T_frontal, T_lateral = (inverse(CArm(np.radians(angle)).T_image_isocentre) for angle in (20, 90))
    TF = 'tf2_msgs/msg/TFMessage'
    still = [('/tf_static', TF, BEGUN, transform('room', 'frontal', T_frontal))]
    # The other arm turns by 0.1 rad a second, and says so 5 times a second; a picture lies between.
    for index in range(-1, 5):
        moved = T_lateral @ rigid((0.0, 0.02 * index, 0.0), (0.01 * index, 0.0, 0.0))
        stamp = BEGUN + index * 200_000_000
        still.append(('/tf', TF, max(BEGUN, stamp), transform('room', 'lateral', moved, stamp)))
    unknown = Recorded(change=lambda index, second: replace(second, T_second_image=None))
    source = BagSource(write(tmp_path / 'bag', unknown, extra=still))
    for index, frame in enumerate(source):
        expected = rigid((0.0, 0.01 * index, 0.0), (0.005 * index, 0.0, 0.0))
        found = inverse(T_lateral) @ T_frontal @ inverse(frame.second.T_second_image)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_tf_that_is_old_or_leads_nowhere_tells_nothing():
    found = RecordedTransforms()
    found.add(transform('a', 'b', rigid(), 10**9))
    found.add(transform('c', 'd', rigid(), 10**9))
    assert found.lookup('a', 'b', 10**9 + 90_000_000) is not None
    assert found.lookup('a', 'b', 10**9 + 110_000_000) is None
    assert found.lookup('a', 'c', 10**9) is None and found.lookup('a', 'nobody', 10**9) is None
    found.add(transform('b', 'a', rigid(), 10**9))  # a ring
    assert found.lookup('a', 'b', 10**9) is not None
    none = transform('a', 'b', rigid())
    none.transforms[0].transform.rotation.w = 0.0
    with pytest.raises(ValueError, match='length 1'):
        found.add(none)


def test_a_replay_registers_pairs_and_gives_a_bag_that_replays_the_same(tmp_path):
    seconds, told = replayed(tmp_path / 'one', Recorded(later=0.01))
    assert [each.apart for each in seconds] == pytest.approx([0.01] * 6, abs=1e-6)
    for index, view in enumerate(seconds):
        assert view.camera == LATERAL
        assert np.array_equal(view.vessels.mask, Segmenter().segment(noise(100 + index, LATERAL)).mask)
    assert {(each['views'], each['second']) for each in told} == {('2', '')}
    source = BagSource(tmp_path / 'one')
    again, _ = replayed(tmp_path / 'two', source)
    assert all(np.allclose(a.T_view_image, b.T_view_image, atol=1e-12) for a, b in zip(seconds, again, strict=True))
    assert [a.apart for a in again] == [a.apart for a in seconds]
    found = compare(tmp_path / 'one', tmp_path / 'two')
    assert found['same'] and found['frames']['common'] == 6, 'a second mask is no frame'
    with BagReader(tmp_path / 'two') as reader:
        masks = [message for _, _, message in reader.messages(['/second/vessel/mask'])]
    assert len(masks) == 6 and masks[0].header.frame_id == 'lateral'
    assert masks[0].header.stamp.nanosec == (BEGUN + 10_000_000) % 10**9


def without(*names):
    return lambda index, second: replace(second, **dict.fromkeys(names))


FAULTS = {
    'no camera_info': (Recorded(change=without('camera')), [1] * 6, 'no camera_info'),
    'no place': (Recorded(change=without('T_second_image')), [1] * 6, 'how it stands to the first is not known'),
    'too late': (Recorded(later=0.03), [1] * 6, 'no picture within 0.02 s of the image'),
    'half the rate': (Recorded(change=lambda i, second: None if i % 2 else second), [2, 1] * 3, 'no picture within'),
    'stops': (Recorded(change=lambda i, second: None if i > 2 else second), [2, 2, 2, 1, 1, 1], 'no picture within'),
    'other size': (
        Recorded(change=lambda i, second: replace(second, image=second.image[:-4])),
        [1] * 6,
        'image is 48x36 but camera_info says 48x40',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_what_lacks_of_a_second_plane_is_told_once_and_the_first_goes_on(tmp_path, fault, capsys):
    source, views, words = FAULTS[fault]
    source = BagSource(write(tmp_path / 'bag', source))
    _, told = replayed(tmp_path / 'out', source)
    assert [int(each['views']) for each in told] == views
    assert all((words in each['second']) == (each['views'] == '1') for each in told)
    assert capsys.readouterr().err.count('one view only') == 1
    with BagReader(tmp_path / 'out') as reader:
        sent = [message.header.stamp.nanosec for _, _, message in reader.messages(['/second/image'])]
    assert len(set(sent)) == len(sent), 'each picture once'


def test_a_camera_info_of_the_second_plane_that_is_none_is_told_once(tmp_path, caplog):
    path = write(tmp_path / 'bag', Recorded())
    with BagReader(path) as reader, BagWriter(tmp_path / 'zeros') as bag:
        for topic, stamp, message in reader.messages(reader.topics):
            if topic == '/second/camera_info':
                message.k = np.zeros(9)
            bag.write(topic, reader.topics[topic], stamp, message)
    source = BagSource(tmp_path / 'zeros')
    assert [frame.second.camera for frame in source] == [None] * 6
    assert len(source.skipped) == 6 and caplog.text.count('K is all zeros') == 1


def test_the_angles_of_both_planes_go_before_what_the_recording_says(tmp_path):
    given = {'view.source_to_isocentre': 0.75, 'view.primary_angle_deg': 20.0, 'second.source_to_isocentre': 0.75}
    parameters = {**parameters_from(), **given}
    found = second_by_angles(group(parameters, 'view'), group(parameters, 'second'))
    np.testing.assert_allclose(found, T, atol=1e-12)
    seconds, _ = replayed(tmp_path / 'out', Recorded(change=without('T_second_image')), T_second_image=found)
    assert all(np.array_equal(each.T_view_image, found) for each in seconds)
    for name in ('view', 'second'):
        one = {**parameters, f'{name}.source_to_isocentre': 0.0}
        assert second_by_angles(group(one, 'view'), group(one, 'second')) is None


def test_without_a_camera_of_its_own_a_frame_has_no_second_one():
    given = next(iter(Recorded()))
    assert with_second(Frame(given.image, 0.0), given).second is None
    assert with_second(Frame(given.image, 0.0, CAMERA), given).second.frame.camera == LATERAL


@pytest.fixture
def case(tmp_path):
    return write_case(tmp_path / 'case', Recorded())


def change(case, **entries):
    """Set keys below second: in case.yaml; None removes one."""
    description = yaml.safe_load((case / 'case.yaml').read_text())
    second = {**description['second'], **entries}
    description['second'] = {key: value for key, value in second.items() if value is not None}
    (case / 'case.yaml').write_text(yaml.safe_dump(description))


def test_a_case_holds_the_second_plane(case):
    source = open_case(case)
    assert source.second
    for read, written in zip(source, Recorded(), strict=True):
        assert np.array_equal(read.image, written.image) and np.array_equal(read.second.image, written.second.image)
        assert read.second.stamp == read.stamp and read.second.camera == LATERAL
        assert np.array_equal(read.second.T_second_image, T), 'to the last bit'


def test_a_frame_of_a_case_without_a_second_picture_has_none(case):
    (case / 'second' / '000002.png').unlink()
    assert [frame.second is None for frame in open_case(case)] == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        ({'camera': None}, 'second: must have exactly frames, camera, T_second_image'),
        ({'planes': 2}, 'second: must have exactly'),
        ({'frames': 'nothing/*.png'}, 'second: frames: nothing/.*no file fits'),
        ({'frames': 'case.yaml'}, 'second: frames: none is named as a frame'),
        ({'camera': {'width': 48}}, 'second: camera: must have exactly'),
        ({'T_second_image': [1, 2, 3]}, 'second: T_second_image: 16 numbers'),
        ({'T_second_image': [2.0] * 16}, 'second: T_second_image: is not a rigid motion'),
    ],
)
def test_a_faulty_second_plane_of_a_case_is_refused_by_file_and_key(case, entries, words):
    change(case, **entries)
    with pytest.raises(SourceError, match=f'case.yaml: {words}'):
        open_case(case)


def test_a_second_picture_of_another_size_than_its_camera_is_refused_by_name(case):
    change(case, camera=dict(width=64, height=64, fx=900.0, fy=900.0, cx=31.5, cy=31.5))
    with pytest.raises(SourceError, match=r'000000.png: picture is 48x40, the second: camera of .* 64x64'):
        list(open_case(case))


def test_planes_that_move_against_each_other_do_not_fit_into_a_case(tmp_path):
    turning = Recorded(change=lambda i, second: replace(second, T_second_image=rigid((0, 0.01 * i, 0)) @ T))
    with pytest.raises(SourceError, match='the second plane moves'):
        write_case(tmp_path / 'case', turning)
