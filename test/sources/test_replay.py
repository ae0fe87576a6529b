import json

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

import m2i_ros.segmentation
from m2i_ros.pipeline import Pipeline
from m2i_ros.recording import BagWriter, Session, typestore
from m2i_ros.registration import Registration, State
from m2i_ros.replay import main, open_recording, replay
from m2i_ros.segmentation import VesselMask
from m2i_ros.sources import SourceError, write_case
from m2i_ros.sources.bag import BagSource


class DarkIsVessel:
    """A segmentation that needs no weights."""

    info = {'engine': 'threshold', 'weights': 'none', 'hash': '0', 'threshold': 0.5}

    def __init__(self, *_):
        pass

    def segment(self, image):
        return VesselMask(np.where(image < 140, 255, 0).astype(np.uint8), np.ones(image.shape, bool))


class Told:
    """A registration that finds the truth, and does not believe every third frame."""

    def __init__(self, source):
        self.model, self._source, self.initial_pose, self._count = source.model, source, None, 0

    def set_initial_pose(self, T, covariance=None):
        self.initial_pose = T

    def register(self, vessels, camera, stamp):
        index, self._count = self._count, self._count + 1
        if index % 3 == 0:
            return Registration(State.SEARCHING, reason='not yet')
        return Registration(State.TRACKING, True, '', self._source.pose(index), np.diag([1.0, 2, 3, 4, 5, 6]), 0.9)


def read(bag):
    """Return {topic: [(stamp, message)]}."""
    out = {}
    with AnyReader([bag]) as reader:
        for connection, stamp, data in reader.messages():
            out.setdefault(connection.topic, []).append((stamp, reader.deserialize(data, connection.msgtype)))
    return out


@pytest.fixture
def replayed(tmp_path, moving_box):
    """The bag and the session of a replay of 9 frames."""
    source, session = moving_box(count=9), Session()
    registrar = Told(source)
    with BagWriter(tmp_path / 'out', typestore()) as bag:
        replay(source, Pipeline(DarkIsVessel(), registrar), bag, session)
    session.close()
    assert np.array_equal(registrar.initial_pose, source.initial_pose)
    return tmp_path / 'out', session


def test_every_frame_has_a_mask_and_every_believed_one_a_transform(replayed, moving_box):
    bag, _ = replayed
    topics = read(bag)
    frames = list(moving_box(count=9))
    stamps = [10**9 + round(1e9 * f.stamp) for f in frames]
    assert [s for s, _ in topics['/vessel/mask']] == [s for s, _ in topics['/registration/status']] == stamps
    for (_, message), frame in zip(topics['/vessel/mask'], frames, strict=True):
        assert np.array_equal(message.data.reshape(64, 64), np.where(frame.image < 140, 255, 0))
        assert message.encoding == 'mono8' and message.header.frame_id == 'xray'
    believed = [s for i, s in enumerate(stamps) if i % 3]
    assert [s for s, _ in topics['/tf']] == [s for s, _ in topics['/registration/pose']] == believed
    (stamp, message), *_ = topics['/tf']
    (transform,) = message.transforms
    assert (transform.header.stamp.sec * 10**9 + transform.header.stamp.nanosec, transform.header.frame_id) == (
        stamp,
        'xray',
    )
    assert transform.child_frame_id == 'vessel_model'
    t, q = transform.transform.translation, transform.transform.rotation
    # Frame 1 of the source: a rotation by 0.01 rad about z, 1 mm down.
    assert (t.x, t.y, t.z) == (0.0, 0.001, 0.75)
    assert (q.x, q.y, q.z, q.w) == pytest.approx((0, 0, np.sin(0.005), np.cos(0.005)))
    covariance = topics['/registration/pose'][0][1].pose.covariance.reshape(6, 6)
    assert np.array_equal(covariance, np.diag([1.0, 2, 3, 4, 5, 6]))
    values = {pair.key: pair.value for pair in topics['/registration/status'][0][1].values}
    assert values['state'] == 'searching' and values['reason'] == 'not yet' and values['stamp'] == '1.000000000'


def test_the_figures_are_those_of_a_live_session(replayed):
    report = replayed[1].report()
    assert report['frames'] == report['masks'] == 9 and report['dropped'] == 0
    assert report['states'] == {'searching': pytest.approx(1 / 3), 'tracking': pytest.approx(2 / 3)}
    assert report['mpd_mm'] == {'n': 6, 'median': pytest.approx(0, abs=1e-9), 'p95': pytest.approx(0, abs=1e-9)}
    assert report['dice']['n'] == 8 and report['dice']['median'] > 0.9
    assert report['segmentation_ms']['n'] == report['registration_ms']['n'] == 9


def test_a_bag_replayed_from_a_bag_has_its_stamps_pictures_and_camera(replayed, moving_box):
    source = BagSource(replayed[0])
    truth = moving_box(count=9)
    assert len(source) == 9 and source.camera == truth.camera
    assert source.origin == 10**9 and source.frame_id == 'xray'
    for given, expected in zip(source, truth, strict=True):
        assert np.array_equal(given.image, expected.image)
        assert round(1e9 * given.stamp) == round(1e9 * expected.stamp)
    assert source.initial_pose is None


def test_stamps_of_a_real_clock_survive_to_the_nanosecond(tmp_path, moving_box):
    class Dated(moving_box):
        origin = 1_795_388_611_123_456_789
        frame_id = 'c_arm'

    with BagWriter(tmp_path / 'one', typestore()) as bag:
        replay(Dated(count=4), Pipeline(DarkIsVessel(), Told(Dated())), bag, Session())
    source = BagSource(tmp_path / 'one')
    source.model = None
    with BagWriter(tmp_path / 'two', typestore()) as bag:
        replay(source, Pipeline(DarkIsVessel(), Told(Dated())), bag, Session())
    one, two = read(tmp_path / 'one'), read(tmp_path / 'two')
    assert [s for s, _ in two['/image']] == [s for s, _ in one['/image']]
    assert two['/tf'][0][1].transforms[0].header.frame_id == 'c_arm'


def test_a_bag_without_one_image_topic_is_refused_with_those_there_are(tmp_path):
    with BagWriter(tmp_path / 'bag', typestore()) as bag:
        bag.write('/front/picture', 'sensor_msgs/msg/Image', 1, b'\0\1\0\0' + bytes(40))
    with pytest.raises(SourceError, match='/front/picture'):
        BagSource(tmp_path / 'bag')


def test_the_same_recording_gives_the_same_bag(tmp_path, moving_box, monkeypatch, capsys):
    monkeypatch.setattr(m2i_ros.segmentation, 'Segmenter', DarkIsVessel)
    case = write_case(tmp_path / 'case', moving_box(count=5, mirrored=True))
    for name in ('a', 'b'):
        assert main([str(case), '--output', str(tmp_path / name / 'bag')]) == 0
    a, b = ((tmp_path / name / 'bag' / 'bag.mcap').read_bytes() for name in 'ab')
    assert a == b, 'to the byte'
    report = json.loads((tmp_path / 'a' / 'bag.json').read_text())
    assert report['frames'] == 5 and report['engine'] == 'threshold' and report['complete'] is True
    assert 'dice' in capsys.readouterr().out


def test_a_replay_that_cannot_be_says_why(tmp_path, moving_box, monkeypatch, capsys):
    monkeypatch.setattr(m2i_ros.segmentation, 'Segmenter', DarkIsVessel)
    case = write_case(tmp_path / 'case', moving_box(count=2))
    (tmp_path / 'there').mkdir()
    for recording, output, words in (
        (str(tmp_path / 'gone'), 'out', 'not found'),
        (str(case), 'there', 'exists already'),
        ('phantom:liver:0', 'out', 'phantom:liver:0'),
        ('phantom:', 'out', 'must be like phantom:iliofemoral:0'),
    ):
        assert main([recording, '--output', str(tmp_path / output)]) == 2
        assert words in capsys.readouterr().err


def test_a_frame_that_cannot_be_processed_is_left_out_and_counted(tmp_path, moving_box, capsys):
    class Broken(moving_box):
        def __iter__(self):
            for index, frame in enumerate(super().__iter__()):
                if index == 2:
                    object.__setattr__(frame, 'image', np.full((64, 64), np.nan, np.float32))
                yield frame

    session = Session()
    with BagWriter(tmp_path / 'out', typestore()) as bag:
        replay(Broken(count=5), Pipeline(DarkIsVessel(), Told(Broken())), bag, session)
    session.close()
    assert len(read(tmp_path / 'out')['/vessel/mask']) == 4
    assert session.report()['dropped'] == 1
    assert 'NaN' in capsys.readouterr().err


def test_a_phantom_is_a_recording_too():
    source = open_recording('phantom:iliofemoral:1')
    assert source.model.name.startswith('iliofemoral') and len(source) > 0
