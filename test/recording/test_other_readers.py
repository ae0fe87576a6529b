"""What others make of our bags: Foxglove's own libraries, and rosbag2 by what its reader of metadata demands.

`ros2 bag` itself does not run where these tests do. What it takes: rosbag2_storage/include/rosbag2_storage/yaml.hpp and
src/rosbag2_storage/qos.cpp of Jazzy and Kilted, metadata version 9.
"""

import json

import numpy as np
import pytest
import yaml
from bags import BEGUN, LARGE, TYPES, frames, messages, write_bag

from m2i_ros.recording.bag import BagWriter
from m2i_ros.recording.mending import MendedMcap

mcap = pytest.importorskip('mcap', reason="Foxglove's readers: python3 -m pip install mcap mcap-ros2-support")

from mcap.reader import NonSeekingReader, make_reader  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402

LATCHED = ('/vessel/model', 'visualization_msgs/msg/MarkerArray')
UNSIGNED = {'nanoseconds', 'nanoseconds_since_epoch', 'message_count', 'sec', 'nsec', 'depth', 'version'}
# What rmw_qos_*_policy_from_str knows.
POLICIES = {
    'history': {'keep_last', 'keep_all', 'system_default', 'unknown'},
    'reliability': {'reliable', 'best_effort', 'system_default', 'unknown'},
    'durability': {'volatile', 'transient_local', 'system_default', 'unknown'},
    'liveliness': {'automatic', 'manual_by_topic', 'system_default', 'unknown'},
}


@pytest.fixture
def bag(tmp_path):
    """A bag as `record` leaves it: pictures, geometry, a latched topic, notes."""
    with BagWriter(tmp_path / 'bag') as writer:
        for topic, kind, stamp, message in messages(frames(40, camera=LARGE)):
            writer.write(topic, kind, stamp, message)
        empty = TYPES.serialize_cdr(TYPES.types[LATCHED[1]]([]), LATCHED[1])
        writer.write(*LATCHED, BEGUN + 1, empty, transient_local=True)
        writer.describe('weights_hash', 'abc')
        writer.describe('parameters', json.dumps({'a.b': [1, 'ä: "x"']}))
    return tmp_path / 'bag'


def is_whole(metadata, folder):
    """Check that rosbag2 finds each value that it asks for, of the type that it asks for."""
    assert metadata['version'] == 9 and metadata['storage_identifier'] == 'mcap'
    for key in ('compression_format', 'compression_mode', 'ros_distro'):
        assert isinstance(metadata[key], str)
    assert metadata['compression_mode'] == '', 'a mode would make `ros2 bag` unpack each file first'
    assert all(isinstance(value, str) for pair in (metadata['custom_data'] or {}).items() for value in pair)
    assert metadata['relative_file_paths'] == [file['path'] for file in metadata['files']]
    assert all((folder / path).is_file() for path in metadata['relative_file_paths'])
    topics = metadata['topics_with_message_count']
    assert sum(topic['message_count'] for topic in topics) == metadata['message_count']
    assert sum(file['message_count'] for file in metadata['files']) == metadata['message_count']
    for topic in topics:
        described = topic['topic_metadata']
        assert described['serialization_format'] == 'cdr' and described['type_description_hash'].startswith('RIHS01_')
        assert isinstance(described['name'], str) and described['type'].count('/') == 2
        are_profiles(described['offered_qos_profiles'])
    counts = [value for key, value in pairs(metadata) if key in UNSIGNED]
    assert len(counts) > 20 and all(isinstance(value, int) and 0 <= value < 2**64 for value in counts)


def are_profiles(profiles):
    assert isinstance(profiles, list) and len(profiles) == 1
    for profile in profiles:
        assert all(profile[policy] in known for policy, known in POLICIES.items())
        assert set(profile) == {
            *POLICIES, 'depth', 'deadline', 'lifespan', 'liveliness_lease_duration', 'avoid_ros_namespace_conventions'
        }  # fmt: skip
        assert isinstance(profile['avoid_ros_namespace_conventions'], bool)


def pairs(value):
    """Yield all (key, value) of nested YAML."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield key, inner
        yield from pairs(inner)


def test_metadata_are_what_rosbag2_asks_for(bag):
    described = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    is_whole(described, bag)
    assert described['custom_data']['weights_hash'] == 'abc'
    durability = {
        topic['topic_metadata']['name']: topic['topic_metadata']['offered_qos_profiles'][0]['durability']
        for topic in described['topics_with_message_count']
    }
    assert durability.pop(LATCHED[0]) == 'transient_local' and set(durability.values()) == {'volatile'}


def test_foxgloves_reader_finds_every_message_as_it_was_written(bag):
    written = sorted(messages(frames(40, camera=LARGE)), key=lambda m: (m[0], m[2]))
    with open(bag / 'bag.mcap', 'rb') as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == 'ros2'
        summary = reader.get_summary()
        assert summary.statistics.message_count == len(written) + 1 and summary.statistics.chunk_count > 1
        for channel in summary.channels.values():
            assert channel.message_encoding == 'cdr' and summary.schemas[channel.schema_id].encoding == 'ros2msg'
            are_profiles(yaml.safe_load(channel.metadata['offered_qos_profiles']))
        (record,) = reader.iter_metadata()
        assert record.name == 'rosbag2'
        is_whole(yaml.safe_load(record.metadata['serialized_metadata']), bag)
        found = [
            (channel.topic, schema.name, message.log_time, decoded)
            for schema, channel, message, decoded in reader.iter_decoded_messages()
        ]
    found.sort(key=lambda m: (m[0], m[2]))
    for (*sent, message), (*received, read) in zip(written, found[:-1], strict=True):
        kind = sent[1]
        assert sent == received
        assert message.header.frame_id == read.header.frame_id
        if kind == 'sensor_msgs/msg/Image':
            assert (message.height, message.width, message.encoding) == (read.height, read.width, read.encoding)
            assert bytes(message.data) == bytes(read.data)
        elif kind == 'sensor_msgs/msg/CameraInfo':
            np.testing.assert_array_equal(message.k, read.k)
        elif kind == 'geometry_msgs/msg/PoseStamped':
            assert message.pose.position.x == read.pose.position.x
            assert message.pose.orientation.w == read.pose.orientation.w
    assert found[-1][0] == LATCHED[0]


@pytest.mark.parametrize('kept', [0.5, 0.95])
def test_foxgloves_reader_reads_what_was_mended_after_a_full_disk(tmp_path, kept):
    path = write_bag(tmp_path / 'bag', frames(120, camera=LARGE))
    file = path / 'bag.mcap'
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    MendedMcap(file).write()
    with open(file, 'rb') as opened:
        stamps = [m.log_time for *_, m in make_reader(opened, validate_crcs=True).iter_messages(topics=['/image'])]
    assert len(stamps) > 30 and stamps == [BEGUN + round(1e8 * index) for index in range(len(stamps))]
    with open(file, 'rb') as opened:  # from front to back, without the index
        assert stamps == [m.log_time for *_, m in NonSeekingReader(opened, True).iter_messages(topics=['/image'])]
