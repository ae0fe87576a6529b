import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

import m2i_ros.segmentation
from m2i_ros.geometry import apply
from m2i_ros.model.projected_centreline import CENTRELINE_POINT
from m2i_ros.pipeline import Pipeline
from m2i_ros.recording import BagWriter, Session, typestore
from m2i_ros.recording.bag_reader import BagReader
from m2i_ros.recording.compare import compare
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

    def warm_up(self):
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
    usual = sys.getswitchinterval()
    for name, interval in (('a', usual), ('b', 1e-6), ('c', 1.0)):
        sys.setswitchinterval(interval)  # its threads take turns otherwise, as on a busy machine
        assert main([str(case), '--output', str(tmp_path / name / 'bag')]) == 0
    sys.setswitchinterval(usual)
    a, b, c = ((tmp_path / name / 'bag' / 'bag.mcap').read_bytes() for name in 'abc')
    assert a == b == c, 'to the byte'
    report = json.loads((tmp_path / 'a' / 'bag.json').read_text())
    assert report['frames'] == 5 and report['engine'] == 'threshold' and report['complete'] is True
    assert 'dice' in capsys.readouterr().out


def test_a_replay_that_cannot_be_says_why(tmp_path, moving_box, quick, capsys):
    case = write_case(tmp_path / 'case', moving_box(count=2))
    (tmp_path / 'there').mkdir()
    (tmp_path / 'wrong.yaml').write_text('/**: {ros__parameters: {registration: {starts: 0}}}')
    for code, options, words in (
        (1, [tmp_path / 'gone', '--output', 'out'], 'not found'),
        (1, ['phantom:liver:0', '--output', 'out'], 'phantom:liver:0'),
        (1, ['phantom:', '--output', 'out'], 'must be like phantom:iliofemoral:0'),
        (2, [case, '--output', tmp_path / 'there'], 'exists already'),
        (2, [case], '--output OUT'),
        (2, ['--output', 'out'], 'INPUT'),
        (2, [case, '--output', 'out', '--jobs', '0'], '--jobs from 1 on'),
        (2, [case, '--output', 'out', '--model', tmp_path / 'gone.stl'], 'gone.stl'),
        (2, [case, '--output', 'out', '--engine', 'abacus'], 'abacus'),
        (2, [case, '--output', 'out', '--params', tmp_path / 'wrong.yaml'], 'wrong.yaml: registration.starts: 0 must'),
        (2, ['--compare', tmp_path / 'gone', case], 'gone: there is nothing there'),
        (2, ['--compare', case, case, '--output', 'out'], '--compare A B alone'),
    ):
        assert main([str(word) for word in options]) == code, options
        assert words in ' '.join(capsys.readouterr().err.split())
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Replay without a network, in a folder of the test's own."""
    monkeypatch.setattr(m2i_ros.segmentation, 'Segmenter', DarkIsVessel)
    monkeypatch.chdir(tmp_path)


def test_many_recordings_one_of_them_bad_give_the_others_and_exit_code_1(tmp_path, moving_box, quick, capsys):
    for name in ('one', 'two'):
        write_case(tmp_path / name, moving_box(count=3))
    (tmp_path / 'nothing').mkdir()
    assert main(['one', 'nothing', 'two', '--output', 'all']) == 1
    out, err = capsys.readouterr()
    assert 'nothing: failed: nothing: holds no picture' in err and '2 of 3 replayed, 1 failed' in out
    for name in ('one', 'two'):
        assert json.loads((tmp_path / 'all' / f'{name}.json').read_text())['masks'] == 3
        assert len(read(tmp_path / 'all' / name)['/vessel/mask']) == 3


def test_what_is_replayed_again_is_the_same_and_what_is_not_is_told(tmp_path, moving_box, quick, capsys):
    case = write_case(tmp_path / 'case', moving_box(count=6))
    assert main([str(case), '--output', 'a']) == 0
    assert main(['a', '--output', 'b', '--model', str(case)]) == 0, 'a replay is a recording'
    assert main(['--compare', 'a', 'b']) == 0
    assert 'the same' in capsys.readouterr().out

    with BagWriter(tmp_path / 'c') as bag:  # other in one pixel of frame 4; frame 5 is missing
        for topic, messages in read(tmp_path / 'a').items():
            for number, (stamp, message) in enumerate(messages):
                if topic == '/vessel/mask' and number == 4:
                    message.data = message.data.copy()
                    message.data[0] ^= 255
                if topic.startswith(('/vessel', '/registration')) and number < 5:
                    bag.write(topic, message.__msgtype__, stamp, message)
    assert main(['--compare', 'a', 'c', '--json', 'found.json']) == 1
    assert 'first difference: frame 4, stamp 1.400000000 s: mask: 1 pixels' in capsys.readouterr().out
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['frames'] == {'a': 6, 'b': 5, 'common': 5} and found['masks'] == 1 and found['same'] is False
    assert found['dice']['median'] == 1.0 and 0.99 < found['dice']['min'] < 1.0


def test_poses_are_compared_in_millimetres_of_model_points(tmp_path, moving_box):
    class Shifted(Told):
        def register(self, vessels, camera, stamp):
            result = super().register(vessels, camera, stamp)
            if result.T_image_model is not None and self._count == 6:
                result.T_image_model[0, 3] += 0.002
            return result

    source = moving_box(count=9)
    for name, registrar in (('a', Told(source)), ('b', Shifted(source))):
        with BagWriter(tmp_path / name) as bag:
            replay(source, Pipeline(DarkIsVessel(), registrar), bag, Session())
    found = compare(tmp_path / 'a', tmp_path / 'b')
    assert found['transforms'] == 1 and found['masks'] == found['status'] == 0
    assert found['first'] == {'frame': 5, 'stamp_s': '1.500000000', 'what': 'transform: 2.000000 mm apart'}
    millimetres = found['distance_mm']
    assert (millimetres['n'], millimetres['of']) == (6, 'model points')
    assert millimetres['max'] == pytest.approx(2.0, abs=1e-4) and millimetres['median'] == 0
    # 2 mm at 0.75 m, seen by 1 m over 2 mm a pixel.
    assert found['projected_px']['max'] == pytest.approx(0.002 / 0.75 * abs(source.camera.fx), rel=0.02)


def test_the_replay_holds_truth_centreline_and_start(replayed, moving_box):
    topics, source = read(replayed[0]), moving_box(count=9)
    truth = [message.pose.position.y for _, message in topics['/truth/pose']]
    assert truth == [source.pose(index)[1, 3] for index in range(9)]
    assert np.array_equal(topics['/truth/mask'][3][1].data.reshape(64, 64), list(source)[3].mask)
    assert len(topics['/initialpose']) == 1 and len(topics['/vessel/centerline']) == 6
    points = np.frombuffer(topics['/vessel/centerline'][0][1].data, CENTRELINE_POINT)
    expected = apply(source.pose(1), source.model.centreline.points)
    np.testing.assert_allclose(np.stack([points[name] for name in 'xyz'], axis=1), expected, atol=1e-6)


def test_a_pose_given_in_mid_run_starts_the_search_anew(tmp_path, moving_box):
    class Noted(Told):
        def set_initial_pose(self, T, covariance=None):
            given.append((self._count, T, covariance))

    class Restarted(moving_box):
        initial_pose = None

        def __iter__(self):
            for index, frame in enumerate(super().__iter__()):
                yield replace(frame, initial_pose=self.pose(7), initial_covariance=np.eye(6)) if index == 3 else frame

    source, given = Restarted(count=6), []
    source.initial_pose = None
    with BagWriter(tmp_path / 'one') as bag:
        replay(source, Pipeline(DarkIsVessel(), Noted(source)), bag, Session())
    with BagWriter(tmp_path / 'two') as bag:
        replay(BagSource(tmp_path / 'one'), Pipeline(DarkIsVessel(), Noted(source)), bag, Session())
    (one, T_one, covariance), (two, T_two, again) = given
    assert one == two == 3
    np.testing.assert_allclose(T_one, T_two, atol=1e-12)
    assert np.array_equal(covariance, again)


def test_workers_beside_each_other_give_the_bags_that_one_gives(tmp_path, moving_box):
    # With the shipped network: two processes share the machine, and not a bit differs.
    for name in ('one', 'two'):
        write_case(tmp_path / name, moving_box(count=3))
    paths = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    for options in (['--output', 'alone'], ['--output', 'beside', '--jobs', '2']):
        command = [sys.executable, '-m', 'm2i_ros.replay', 'one', 'two', '--threads', '1', *options]
        done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for name in ('one', 'two'):
        alone, beside = ((tmp_path / where / name / f'{name}.mcap').read_bytes() for where in ('alone', 'beside'))
        assert alone == beside


def test_a_replay_tells_what_it_was_made_with(tmp_path, moving_box, quick):
    case = write_case(tmp_path / 'case', moving_box(count=2))
    (tmp_path / 'mine.yaml').write_text('/**: {ros__parameters: {registration: {accept_mm: 0.5}}}')
    assert main([str(case), '--output', 'out', '--params', 'mine.yaml']) == 0
    with BagReader(tmp_path / 'out') as reader:
        noted = reader.custom
    assert noted['weights_hash'] == '0' and noted['engine'] == 'threshold' and len(noted['model_hash']) == 64
    assert json.loads(noted['parameters'])['registration.accept_mm'] == 0.5
    assert b'model_hash' in (tmp_path / 'out' / 'out.mcap').read_bytes(), 'in the file itself too'


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
    told = {pair.key: pair.value for pair in read(tmp_path / 'out')['/registration/status'][2][1].values}
    assert 'NaN' in told['reason'] and told['accepted'] == 'false'


def test_a_phantom_is_a_recording_too():
    source = open_recording('phantom:iliofemoral:1', {})
    assert source.model.name.startswith('iliofemoral') and len(source) > 0
