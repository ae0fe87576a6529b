"""Bags of every kind are read; of what a crash left, all that is whole."""

import builtins
import io
import logging
import random
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from bags import BEGUN, CAMERA, LARGE, TYPES, frames, leave_in_wal, write_bag, write_plain_bag, write_split_bag
from rosbags.highlevel import AnyReader

from m2i_ros.geometry import Camera
from m2i_ros.recording.bag_reader import BagError, BagReader
from m2i_ros.recording.mending import MendedMcap
from m2i_ros.sources import SourceError
from m2i_ros.sources.bag import BagSource


def stamps_of(path, topic='/image'):
    """Return the stamps of a topic's messages and the open reader's warnings."""
    with BagReader(path, warn=lambda text: None) as reader:
        return [stamp for _, stamp, _ in reader.messages([topic])], reader.warnings


def expected(count, start=0):
    return [BEGUN + round(1e9 * frame.stamp) for frame in frames(count, start)]


def storage_file(path):
    (file,) = (file for file in path.iterdir() if file.name.endswith(('.mcap', '.db3', '.zstd')))
    return file


@pytest.mark.parametrize(
    'storage, compression',
    [('mcap', 'none'), ('mcap', 'storage'), ('mcap', 'message'), ('mcap', 'file')]
    + [('sqlite3', 'none'), ('sqlite3', 'message'), ('sqlite3', 'file')],
)
@pytest.mark.parametrize('described', [True, False])
def test_a_bag_of_any_storage_and_compression_gives_its_frames(tmp_path, storage, compression, described):
    path = write_plain_bag(tmp_path / 'bag', frames(6), storage, compression)
    if not described:
        (path / 'metadata.yaml').unlink()
    source = BagSource(path)
    assert (len(source), source.origin, source.frame_id, source.camera) == (6, BEGUN, 'c_arm', CAMERA)
    assert source.frame_rate == pytest.approx(10, rel=0.01)
    for given, truth in zip(source, frames(6), strict=True):
        assert np.array_equal(given.image, truth.image) and np.array_equal(given.mask, truth.mask)
        assert source.origin + round(1e9 * given.stamp) == BEGUN + round(1e9 * truth.stamp)
        assert given.camera == CAMERA
        np.testing.assert_allclose(given.T_image_model, truth.T_image_model, atol=1e-12)
        assert (given.initial_pose is None) == (truth.initial_pose is None)
    assert source.skipped == []
    assert len(BagSource(storage_file(path))) == 6, 'a file of a bag is one too'


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_split_files_are_one_bag_in_the_order_of_time(tmp_path, storage):
    path = write_split_bag(tmp_path / 'bag', [frames(3, 3 * k) for k in range(12)], storage)
    stamps, _ = stamps_of(path)
    assert stamps == expected(36)
    assert len(BagSource(path)) == 36


def test_a_part_of_a_bag_is_that_of_ros2_bag_play(tmp_path):
    path = write_bag(tmp_path / 'bag', frames(20))
    chosen = list(BagSource(path, start=0.45, duration=0.5))
    assert [f.image[0, 0] for f in chosen] == [f.image[0, 0] for f in frames(5, 5)]
    with pytest.raises(SourceError, match='from 9 s on, of 1.900 s'):
        BagSource(path, start=9.0)


def test_topics_of_other_names_are_found_when_named(tmp_path):
    extra = [('/side/image', *rest) for topic, *rest in write_and_list(frames(2)) if topic == '/image']
    path = write_bag(tmp_path / 'bag', frames(3), '/theatre', extra)
    with pytest.raises(SourceError, match='/side/image, /theatre/image, /theatre/truth/mask: name one, bag.image'):
        BagSource(path)
    assert BagSource(path, image='/theatre/image').camera == CAMERA
    side = BagSource(path, image='/side/image')
    assert len(side) == 2 and side.camera is None
    assert BagSource(path, image='/side/image', camera_info='/theatre/camera_info').camera == CAMERA
    with pytest.raises(SourceError, match='/gone: no such topic'):
        BagSource(path, image='/gone')
    with pytest.raises(SourceError, match='/gone: no such topic of type sensor_msgs/msg/CameraInfo'):
        BagSource(path, image='/side/image', camera_info='/gone')


def write_and_list(some):
    from bags import messages

    return list(messages(some))


def test_a_pose_given_later_comes_with_the_picture_after_it_and_one_of_another_frame_not_at_all(tmp_path):
    later = [m for m in write_and_list(frames(1)) if m[0] == '/initialpose'][0]
    stranger = TYPES.types[later[1]](TYPES.types['std_msgs/msg/Header'](later[3].header.stamp, 'table'), later[3].pose)
    extra = [(*later[:2], BEGUN + 450_000_000, later[3]), (*later[:2], BEGUN + 650_000_000, stranger)]
    source = BagSource(write_bag(tmp_path / 'bag', frames(9), extra=extra))
    given = [index for index, frame in enumerate(source) if frame.initial_pose is not None]
    assert given == [0, 5]
    assert len(source.skipped) == 1 and 'given in "table"' in source.skipped[0]


@pytest.mark.parametrize('cut', [40, 900, 20_000, 0.5, 0.9])
def test_an_mcap_file_cut_off_in_mid_write_is_read_up_to_the_cut(tmp_path, cut):
    path = write_bag(tmp_path / 'bag', frames(120, camera=LARGE))
    file = storage_file(path)
    data = file.read_bytes()
    kept = data[: -cut if isinstance(cut, int) else int(len(data) * cut)]
    file.write_bytes(kept)
    (path / 'metadata.yaml').unlink()
    stamps, warnings = stamps_of(path)
    assert stamps == expected(len(stamps)) and len(stamps) >= 0.6 * 120 * len(kept) / len(data)
    assert any('cut off' in warning for warning in warnings)
    # Mended in place, anybody reads it.
    MendedMcap(file).write()
    with AnyReader([file]) as reader:
        connections = [c for c in reader.connections if c.topic == '/image']
        assert [stamp for _, stamp, _ in reader.messages(connections)] == stamps
        assert connections[0].msgcount == len(stamps)


def test_a_damaged_chunk_costs_its_messages_only(tmp_path):
    path = write_bag(tmp_path / 'bag', frames(120, camera=LARGE))
    file = storage_file(path)
    data = bytearray(file.read_bytes())
    second = data.index(b'\x28\xb5\x2f\xfd', data.index(b'\x28\xb5\x2f\xfd') + 4)
    data[second : second + 64] = bytes(64)
    file.write_bytes(data)
    source = BagSource(path)
    found = [source.origin + round(1e9 * frame.stamp) for frame in source]
    assert 60 < len(found) < 120 and found[0] == BEGUN and found[-1] == expected(120)[-1]
    assert 'damaged places' in source.skipped[-1], 'who counts frames learns of it'


def test_an_sqlite_file_cut_off_is_read_up_to_the_cut(tmp_path):
    path = write_plain_bag(tmp_path / 'bag', frames(60), 'sqlite3')
    file = storage_file(path)
    file.write_bytes(file.read_bytes()[: int(0.6 * file.stat().st_size)])
    stamps, warnings = stamps_of(path)
    assert stamps == expected(len(stamps)) and len(stamps) >= 30
    assert any('cut off' in warning for warning in warnings)


def test_what_an_sqlite_bag_had_only_in_its_journal_is_read(tmp_path):
    path = write_plain_bag(tmp_path / 'bag', frames(5), 'sqlite3')
    more = write_plain_bag(tmp_path / 'more', frames(5, 5), 'sqlite3')
    leave_in_wal(storage_file(path), storage_file(more))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    stamps, warnings = stamps_of(path)
    assert stamps == expected(10)
    assert any('-wal' in warning for warning in warnings)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before, 'the bag itself stays as it is'


def test_a_message_that_cannot_be_read_costs_itself_only(tmp_path):
    broken = [('/image', 'sensor_msgs/msg/Image', BEGUN + 150_000_000, b'\0\1\0\0nonsense')]
    strange = [('/strange', 'diagnostic_msgs/msg/KeyValue', BEGUN, b'\0\1\0\0' + b'\xff' * 9)]
    source = BagSource(write_bag(tmp_path / 'bag', frames(4), extra=broken + strange))
    assert len(list(source)) == 4
    assert '1 damaged places' in source.skipped[-1], 'what nobody asks for is not read'


def test_a_type_that_nobody_knows_does_not_matter_to_the_others(tmp_path):
    path = write_plain_bag(tmp_path / 'bag', frames(3), 'sqlite3')
    import sqlite3

    with sqlite3.connect(storage_file(path)) as connection:
        connection.execute("UPDATE topics SET type = 'other_msgs/msg/Thing' WHERE name = '/truth/mask'")
        connection.execute(
            "UPDATE message_definitions SET encoded_message_definition = 'no such thing' WHERE topic_type LIKE '%Pose'"
        )
    connection.close()
    found = list(BagSource(path))
    assert len(found) == 3 and found[0].mask is None and found[0].T_image_model is not None


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda path: None, 'there is nothing there'),
        (lambda path: path.mkdir(), 'holds no file that ends in .mcap, .db3'),
        (lambda path: path.write_text('a'), 'is no bag'),
        (lambda path: (path.mkdir(), (path / 'a.mcap').write_bytes(b'')), 'it is no MCAP file'),
        (lambda path: (path.mkdir(), (path / 'a.db3').write_bytes(b'SQLite')), 'it is no SQLite file'),
        (lambda path: write_bag(path, []), 'none of its topics'),
        (lambda path: write_bag(path, frames(1)[:0], extra=[]), 'which topic is it'),
    ],
)
def test_what_is_no_bag_is_refused_by_name_and_reason(tmp_path, make, words):
    make(tmp_path / 'bag')
    with pytest.raises(SourceError, match=words) as error:
        BagSource(tmp_path / 'bag')
    assert str(tmp_path / 'bag') in str(error.value)


def test_metadata_that_is_nonsense_or_names_what_is_not_there_is_told_and_done_without(tmp_path):
    path = write_bag(tmp_path / 'bag', frames(3))
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: [1, 2')
    stamps, warnings = stamps_of(path)
    assert stamps == expected(3) and 'metadata.yaml cannot be used' in warnings[0]
    (path / 'metadata.yaml').write_text('rosbag2_bagfile_information: {relative_file_paths: [bag.mcap, bag_1.mcap]}')
    stamps, warnings = stamps_of(path)
    assert stamps == expected(3) and 'bag_1.mcap: missing' in warnings[0]


class CountedFile(io.FileIO):
    """A file that counts what is read of it."""

    bytes_read = 0

    def readinto(self, buffer):
        count = super().readinto(buffer)
        CountedFile.bytes_read += count
        return count

    def read(self, size=-1):
        data = super().read(size)
        CountedFile.bytes_read += len(data)
        return data


def test_opening_a_bag_of_ten_gigabytes_reads_its_index_only(tmp_path, monkeypatch):
    path = write_bag(tmp_path / 'bag', frames(3))
    file = storage_file(path)
    data = file.read_bytes()
    # In front of the index comes a record of 10 GB that no reader knows: all offsets behind it move along.
    end = data.rindex(b'\x0f\x04\0\0\0\0\0\0\0')  # DataEnd
    gap = 10 * 2**30
    (start,) = struct.unpack('<Q', data[-28:-20])
    tail = data[end:-28] + struct.pack('<QQI', start + 9 + gap, 0, 0) + data[-8:]
    with open(file, 'wb') as out:
        out.write(data[:end] + b'\xf0' + struct.pack('<Q', gap))
        out.seek(gap, io.SEEK_CUR)  # sparse
        out.write(tail)
    assert file.stat().st_size > gap
    opened = Path.open
    monkeypatch.setattr(
        Path, 'open', lambda p, mode='r', *a, **k: io.BufferedReader(CountedFile(p)) if 'b' in mode else opened(p, mode)
    )
    CountedFile.bytes_read = 0
    source = BagSource(path)
    assert len(source) == 3 and source.camera == CAMERA
    assert 0 < CountedFile.bytes_read < 500_000
    assert builtins.open is io.open


@pytest.mark.skipif(not Path('/proc/self/io').exists(), reason='what a process reads is counted by Linux')
def test_opening_an_sqlite_bag_passes_over_its_pictures(tmp_path):
    """It has no index of topics, so rows are counted; that reads of each the page on which it begins."""
    camera = Camera(512, 512, 900.0, 900.0, 255.5, 255.5)
    path = write_plain_bag(tmp_path / 'bag', frames(40, camera=camera), 'sqlite3')
    before = bytes_read()
    source = BagSource(path)
    assert len(source) == 40 and source.camera == camera
    picture = 512 * 512
    assert bytes_read() - before < 3 * picture + 0.02 * storage_file(path).stat().st_size


def bytes_read():
    """Return how many bytes this process has read so far."""
    return int(Path('/proc/self/io').read_text().split()[1])


def test_a_thousand_damaged_bags_crash_nothing_and_hang_nothing(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(7)
    sound = {}
    for storage, suffix in (('mcap', '.mcap'), ('sqlite3', '.db3')):
        compression = 'storage' if storage == 'mcap' else 'none'
        path = write_plain_bag(tmp_path / storage, frames(2), storage, compression, qos=())
        sound[suffix] = storage_file(path).read_bytes()
    outcomes = {'read': 0, 'refused': 0}
    target = tmp_path / 'mutated'
    for turn in range(1000):
        suffix = ('.mcap', '.db3')[turn % 2]
        data = bytearray(sound[suffix])
        for _ in range(chance.choice((1, 3, 30))):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at : at + 8] = struct.pack('<Q', chance.choice((0, 1, 2**31, 2**40, 2**64 - 1)))
                case 2:
                    del data[at : at + chance.randrange(1, 200)]
                case 3:
                    data[at : at + 4] = chance.randbytes(4)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        (target / f'bag{suffix}').write_bytes(data)
        try:
            source = BagSource(target)
            for _ in source:
                pass
            assert len(source) >= 0
            outcomes['read'] += 1
        except SourceError:
            outcomes['refused'] += 1
    assert outcomes['read'] > 200 and outcomes['refused'] > 100, outcomes


def test_memory_stays_flat_however_long_the_bag(tmp_path):
    import tracemalloc

    path = write_bag(tmp_path / 'bag', frames(240, camera=LARGE))
    peaks = []
    for duration in (8, 24):
        source = BagSource(path, duration=duration)
        tracemalloc.start()
        for _ in source:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], 'of messages read, a few at a time are held'


def test_a_reader_without_topics_reads_nothing(tmp_path):
    with BagReader(write_bag(tmp_path / 'bag', frames(2))) as reader:
        assert list(reader.messages([])) == []
        assert reader.counts['/image'] == 2
    with suppress(BagError):
        BagReader(tmp_path / 'gone')
