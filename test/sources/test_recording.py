import errno
import json
import math
import resource

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from m2i_ros.recording import BagWriter, Recorder, RecordingError, Session, UnknownTypeError, typestore
from m2i_ros.recording import recorder as recorder_module
from m2i_ros.recording.bag_reader import BagReader
from m2i_ros.recording.report import summary_table, write_contact_sheet, write_json

MS = 10**6
SECOND = 10**9
START = 5000 * SECOND


def header(types, stamp):
    time = types.types['builtin_interfaces/msg/Time'](stamp // SECOND, stamp % SECOND)
    return types.types['std_msgs/msg/Header'](time, 'xray')


def transforms(types, stamp, x=0.25):
    T = types.types
    rotation = T['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0)
    transform = T['geometry_msgs/msg/Transform'](T['geometry_msgs/msg/Vector3'](x, 0.0, 1.0), rotation)
    stamped = T['geometry_msgs/msg/TransformStamped'](header(types, stamp), 'vessel_model', transform)
    return T['tf2_msgs/msg/TFMessage']([stamped])


@pytest.mark.parametrize('distribution', ['jazzy', 'kilted', 'lyrical', 'not_invented_yet'])
def test_a_bag_written_is_read_back_to_the_byte(tmp_path, distribution):
    types = typestore(distribution)
    data = bytes(types.serialize_cdr(transforms(types, START), 'tf2_msgs/msg/TFMessage'))
    with BagWriter(tmp_path / 'bag', types) as bag:
        for i in range(5):
            bag.write('/tf', 'tf2_msgs/msg/TFMessage', START + i, data)
            bag.write('/vessel/model', 'visualization_msgs/msg/MarkerArray', START + i, b'\0\1\0\0' + bytes(4), True)
    with AnyReader([tmp_path / 'bag']) as reader:
        read = [(c.topic, stamp, bytes(data)) for c, stamp, data in reader.messages() if c.topic == '/tf']
        assert read == [('/tf', START + i, data) for i in range(5)]
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        assert durability == {'/tf': 'VOLATILE', '/vessel/model': 'TRANSIENT_LOCAL'}


def test_message_objects_are_serialised(tmp_path):
    types = typestore()
    with BagWriter(tmp_path / 'bag', types) as bag:
        bag.write('/tf', 'tf2_msgs/msg/TFMessage', START, transforms(types, START, x=0.125))
    with AnyReader([tmp_path / 'bag']) as reader:
        ((connection, _, data),) = reader.messages()
        assert reader.deserialize(data, connection.msgtype).transforms[0].transform.translation.x == 0.125


def test_a_type_that_is_not_known_is_refused_by_name(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag, pytest.raises(UnknownTypeError, match='other_msgs/msg/Thing'):
        bag.write('/thing', 'other_msgs/msg/Thing', START, b'')


def test_a_recorder_leaves_bag_video_and_masks(tmp_path):
    types = typestore()
    recorder = Recorder(tmp_path / 'record')
    data = bytes(types.serialize_cdr(transforms(types, START), 'tf2_msgs/msg/TFMessage'))
    for i in range(10):
        recorder.message('/tf', 'tf2_msgs/msg/TFMessage', START + i, data)
        recorder.overlay(np.full((64, 96, 3), 20 * i, np.uint8), 10.0)
    mask = np.zeros((64, 96), np.uint8)
    mask[10:20, 30:60] = 255
    recorder.mask('frame_7', mask)
    recorder.close()
    assert recorder.failure == '' and recorder.dropped == 0
    with AnyReader([tmp_path / 'record' / 'bag']) as reader:
        assert len(list(reader.messages())) == 10
    video = cv2.VideoCapture(str(tmp_path / 'record' / 'overlay.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 10 and video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
    read = cv2.imread(str(tmp_path / 'record' / 'masks' / 'frame_7.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, mask)


def test_a_type_that_is_not_known_costs_its_topic_only(tmp_path):
    said = []
    recorder = Recorder(tmp_path, warn=said.append)
    for _ in range(3):
        recorder.message('/thing', 'other_msgs/msg/Thing', START, b'')
    recorder.mask('a', np.zeros((8, 8), np.uint8))
    recorder.close()
    assert recorder.failure == '' and (tmp_path / 'masks' / 'a.png').exists()
    assert len(said) == 1 and '/thing' in said[0]


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(RecordingError, match='file'):
        Recorder(tmp_path / 'file' / 'record')
    Recorder(tmp_path / 'twice').close()
    with pytest.raises(RecordingError, match='exists already'):
        Recorder(tmp_path / 'twice')


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path, monkeypatch):
    said = []
    recorder = Recorder(tmp_path, warn=said.append)

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(recorder._bag, 'write', full)
    for i in range(50):
        recorder.message('/tf', 'tf2_msgs/msg/TFMessage', START + i, b'1234')
        recorder.overlay(np.zeros((32, 32, 3), np.uint8), 10.0)
    recorder.close()
    assert 'No space left' in recorder.failure
    assert len(said) == 1, 'said once'


def test_what_was_written_before_the_disk_was_full_stays_readable(tmp_path):
    types = typestore()
    said = []
    recorder = Recorder(tmp_path, warn=said.append)
    rng = np.random.default_rng(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))  # a disk that takes 3 MB of a file
    try:
        for i in range(20):
            noise = rng.integers(0, 255, 2**18, np.uint8)
            image = types.types['sensor_msgs/msg/Image'](header(types, START + i), 512, 512, 'mono8', 0, 512, noise)
            data = bytes(types.serialize_cdr(image, 'sensor_msgs/msg/Image'))
            recorder.message('/image', 'sensor_msgs/msg/Image', START + i, data)
        recorder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 'recording stopped' in recorder.failure and len(said) == 1
    with AnyReader([tmp_path / 'bag' / 'bag.mcap']) as reader:  # rosbags itself, with an index
        stamps = [stamp for _, stamp, _ in reader.messages()]
    assert stamps == [START + i for i in range(len(stamps))] and len(stamps) >= 4


def test_what_is_noted_of_a_recording_is_in_its_metadata(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.describe('weights_hash', 'abc')
    recorder.close()
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.custom == {'weights_hash': 'abc'}


def test_what_the_disk_cannot_take_in_time_is_dropped_and_counted(tmp_path, monkeypatch):
    import threading

    monkeypatch.setattr(recorder_module, 'MAX_WAITING_BYTES', 1000)
    recorder = Recorder(tmp_path)
    blocked, go_on = threading.Event(), threading.Event()

    def slow(*_):
        blocked.set()
        go_on.wait(10)

    monkeypatch.setattr(recorder._bag, 'write', slow)
    recorder.message('/a', 'x', START, bytes(100))
    assert blocked.wait(10)
    for _ in range(15):
        recorder.message('/a', 'x', START, bytes(100))
    go_on.set()
    recorder.close()
    assert recorder.dropped == 5, 'one is being written, ten wait'


class Played:
    """Feeds a session with `count` answered frames: latency 20 ms, the truth shifted by a pixel."""

    def __init__(self, session, source, answered=lambda i: True, state=lambda i: 'tracking', **status):
        self.session = session
        session.model, session.camera = source.model, source.camera
        for i, frame in enumerate(source):
            stamp = START + round(frame.stamp * SECOND)
            session.source_status(
                'playing',
                {'frame': str(i + 1), 'of': str(len(source)), 'name': frame.name}
                | {'stamp': f'{stamp // SECOND}.{stamp % SECOND:09d}'},
            )
            session.image(stamp, stamp + 3 * MS, frame.image)
            session.true_mask(stamp, frame.mask)
            session.true_pose(stamp, frame.T_image_model)
            if not answered(i):
                continue
            session.mask(stamp, stamp + 20 * MS, np.roll(frame.mask, 1, axis=1))
            T = frame.T_image_model.copy()
            T[0, 3] += 0.002
            session.pose(stamp, T)
            told = {'state': state(i), 'confidence': '0.8', 'stamp': f'{stamp // SECOND}.{stamp % SECOND:09d}'}
            session.status(stamp + 25 * MS, {**told, **status})


def test_the_figures_of_a_session(moving_box):
    session = Session()
    Played(
        session, moving_box(count=40), state=lambda i: 'searching' if i < 10 else 'tracking', latency_ms='18', drops='0'
    )
    session.diagnosis(
        'pipeline_node', {'engine': 'openvino', 'weights_hash': 'abc', 'memory_mb': '500', 'cpu_percent': '80'}
    )
    session.diagnosis('pipeline_node', {'memory_mb': '400', 'cpu_percent': '60', 'rate_hz': '15'})
    for _ in range(5):  # waiting for frames is no work
        session.diagnosis('pipeline_node', {'memory_mb': '300', 'cpu_percent': '1', 'rate_hz': '0'})
    assert session.complete()
    session.close()
    report = session.report()
    assert report['frames'] == report['masks'] == 40 and report['dropped'] == 0
    assert report['fps'] == pytest.approx(10.0)
    assert report['latency_ms'] == {'n': 40, 'p50': pytest.approx(25.0), 'p99': pytest.approx(25.0)}
    assert report['latency_from'] == 'image stamp'
    assert report['processing_ms']['p50'] == 18.0
    assert report['states'] == {'searching': 0.25, 'tracking': 0.75}
    assert report['first_tracking_s'] == pytest.approx(1.0)
    assert report['contrast_to_tracking_s'] == pytest.approx(0.9), 'contrast comes with the second frame'
    # A block 16 wide, shifted by one: 15 of 16 columns in common.
    assert report['dice']['median'] == pytest.approx(15 / 16)
    assert report['dice']['n'] == 39, 'the first frame shows no vessel'
    # 2 mm sideways at the depth of the truth.
    assert report['mtre_mm']['median'] == pytest.approx(2.0)
    assert report['in_plane_mm']['median'] == pytest.approx(2.0, rel=0.01)
    assert report['mpd_mm']['median'] == pytest.approx(2.0, rel=0.05)
    assert report['depth_mm']['median'] < 0.1
    assert report['memory_mb'] == 500 and report['memory_below_1_gb'] is True
    assert report['cpu_percent'] == 70
    assert report['p50_below_66_ms'] is True
    assert report['engine'] == 'openvino' and report['weights_hash'] == 'abc'


def test_frames_without_an_answer_count_as_dropped(moving_box):
    session = Session()
    Played(session, moving_box(count=40), answered=lambda i: i % 4)
    assert not session.complete()
    session.close()
    assert session.report()['dropped'] == 10 and session.report()['masks'] == 30


def test_a_pipeline_that_says_it_dropped_is_believed_at_once(moving_box):
    session = Session()
    Played(session, moving_box(count=40), answered=lambda i: i % 4, drops='10')
    assert session.complete(), 'nothing more is to be expected'


def test_a_source_that_sent_more_than_came_is_waited_for(moving_box):
    session = Session()
    Played(session, moving_box(count=5))
    session.source_status('finished', {'frame': '6', 'of': '6'})
    assert not session.complete()


@pytest.mark.parametrize('reason', ['stepped', 'old'])
def test_latency_counts_from_receipt_where_stamps_tell_no_time(moving_box, reason):
    session = Session()
    if reason == 'stepped':
        session.source_status('playing', {'stepped': 'true'})
        session.image(START, START, np.zeros((8, 8), np.uint8))
    session.image(START + MS, START + 100 * SECOND, np.zeros((8, 8), np.uint8))
    session.status(START + 100 * SECOND + 7 * MS, {'state': 'tracking', 'stamp': f'{START // SECOND}.001000000'})
    report = session.report()
    assert report['latency_ms']['p50'] == pytest.approx(7.0) and report['latency_from'] == 'receipt of the image'


def test_a_session_without_anything_has_a_report(tmp_path):
    session = Session()
    session.close()
    report = session.report()
    assert report['frames'] == 0 and math.isnan(report['fps'])
    summary_table(report)
    write_json(tmp_path / 'report.json', report)
    assert json.loads((tmp_path / 'report.json').read_text())['fps'] is None
    write_contact_sheet(tmp_path / 'sheet.png', session.sheet_rows())
    assert not (tmp_path / 'sheet.png').exists()


def test_nonsense_in_a_status_is_no_figure():
    session = Session()
    session.status(START, {'state': 'tracking', 'stamp': 'soon'})
    session.status(START, {'state': 'tracking', 'stamp': '5.000000001', 'latency_ms': 'long', 'confidence': ''})
    assert session.report()['processing_ms']['n'] == 0 and session.report()['states'] == {'tracking': 1.0}


def test_every_frame_is_handed_on_once_with_all_its_parts(moving_box):
    moments = []
    session = Session(done=moments.append)
    Played(session, moving_box(count=100, named=True))
    assert len(moments) < 100, 'the last frames may still get parts'
    session.close()
    assert [m.name for m in moments] == [f'f{i}' for i in range(100)]
    assert all(m.mask is not None and m.image is not None and m.latency_ms == pytest.approx(25.0) for m in moments)


def test_memory_does_not_grow_with_pictures(moving_box):
    import gc
    import weakref

    alive = []

    class Picture(np.ndarray):
        pass

    session = Session()
    for i in range(300):
        picture = np.zeros((8, 8), np.uint8).view(Picture)
        alive.append(weakref.ref(picture))
        session.image(START + i, START + i, picture)
    del picture
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 60, 'of 300'


def test_the_contact_sheet_spreads_over_the_session_and_prefers_what_was_tracked(moving_box, tmp_path):
    session = Session()
    Played(session, moving_box(count=100), state=lambda i: 'tracking' if 30 <= i < 90 else 'searching')
    session.close()
    captions = [caption for caption, *_ in session.sheet_rows()]
    assert len(captions) == 6 and sum('tracking' in c for c in captions) == 4
    times = [float(c.split()[2]) for c in captions]
    assert times == sorted(times) and times[0] < 1.0 and times[-1] > 9.0
    write_contact_sheet(tmp_path / 'sheet.png', session.sheet_rows())
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape[1] == 3 * 384 + 4 * 6


def test_the_console_line_tells_the_last_seconds(moving_box):
    session = Session()
    assert not session.begun
    Played(session, moving_box(count=40))
    line = session.line(START + 4 * SECOND)
    assert session.begun
    for words in ('40/40', 'TRACKING', '10.0 fps', 'p50  25', 'dropped 0', 'dice 0.94', 'mPD 2.0'):
        assert words in line


def test_the_console_line_tells_the_contrast_where_it_is_known(moving_box):
    session = Session()
    Played(session, moving_box(count=4))
    assert 'contrast' not in session.line(START)
    session.status(START, {'state': 'searching', 'contrast': 'washing_out', 'stamp': '1.000000000'})
    assert 'contrast washing out' in session.line(START)
