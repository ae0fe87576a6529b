"""Bags read by `rosbags`: any storage, compression and number of files, and what a crash left of one."""

import heapq
import logging
import re
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from rosbags.rosbag2 import Reader

from m2i_ros.recording.bag import typestore
from m2i_ros.recording.mending import MendedMcap, mend_sqlite, zstd

STORAGES = ('.mcap', '.db3')
PACKED = '.zstd'
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'

_CHUNK = 2**20  # bytes unpacked at a time

log = logging.getLogger(__name__)


class BagError(ValueError):
    """A bag that cannot be read; the message names it and what to do."""


class BagReader:
    """One rosbag2 recording, opened: MCAP or SQLite, split or not, zstd-compressed by file, chunk or message.

    path: the bag's folder, or one of its files. Usable as a context manager. A missing metadata.yaml does not matter.
    What was cut off in mid-write or damaged is read as far as it is whole.

    warn: called with each warning. topics: {topic: type}. counts: {topic: number of messages}. start_time, end_time: ns
    of the first message and behind the last, both 0 in an empty bag. custom: {key: text}, what the recorder noted in
    metadata.yaml. warnings: what was found to be missing or damaged so far, in words. damaged: how many messages and
    parts of files could not be read so far; the end of what was cut off is not counted.

    Raises BagError for a path where there is no bag, or none that can be read.
    """

    def __init__(self, path, warn=log.warning):
        self.path = Path(path)
        self.warnings = []
        self.damaged = 0
        self.custom = {}
        self._tell = warn
        self._types = typestore()
        self._stack = ExitStack()
        self._mended, self._complained = [], set()
        try:
            files = self._files()
            self._readers = [reader for file in files if (reader := self._open(file))]
        except BaseException:
            self.close()
            raise
        if not self._readers:
            self.close()
            raise BagError(f'{self.path}: no file of this bag can be read: {"; ".join(self.warnings)}')
        self.topics, self.counts = {}, {}
        for reader in self._readers:
            for connection in reader.connections:
                self.topics[connection.topic] = connection.msgtype
                self.counts[connection.topic] = self.counts.get(connection.topic, 0) + connection.msgcount
        filled = [reader for reader in self._readers if reader.message_count]
        self.start_time = min((reader.start_time for reader in filled), default=0)
        self.end_time = max((reader.end_time for reader in filled), default=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the files."""
        self._stack.close()

    def messages(self, topics, start=None, stop=None):
        """Yield (topic, stamp, message) of some topics in the order of recording, the stamp in ns of the recording.

        start, stop: ns; messages from `start` on and before `stop`. Those that cannot be read are left out, with a
        warning.
        """
        sources = [self._of_file(index, set(topics), start, stop) for index in range(len(self._readers))]
        with ExitStack() as stack:
            sources = [stack.enter_context(closing(source)) for source in sources]
            for stamp, _, connection, data in heapq.merge(*sources, key=lambda item: item[:2]):
                try:
                    if data[:4] == _ZSTD_MAGIC:  # compressed by message: no CDR starts like this
                        data = zstd.decompress(data)
                    message = self._types.deserialize_cdr(data, connection.msgtype)
                except Exception as error:  # noqa: BLE001  damaged bytes make the decoder raise anything
                    self.damaged += 1
                    if connection.topic not in self._complained:  # of a thousand the first is told
                        self._complained.add(connection.topic)
                        self._warn(f'{self.path}: a message on {connection.topic} cannot be read: {error!r}')
                    continue
                yield connection.topic, stamp, message

    def _of_file(self, index, topics, start, stop):
        """Yield (stamp, index, connection, data) of one file; where it is damaged, what is whole of the rest."""
        reader = self._readers[index]
        while reader:
            try:
                connections = [c for c in reader.connections if c.topic in topics]
                for connection, stamp, data in reader.messages(connections, start, stop) if connections else ():
                    start = stamp + 1
                    yield stamp, index, connection, data
                return
            except Exception as error:  # noqa: BLE001  whatever the storage raises for damaged bytes
                self.damaged += 1
                if reader in self._mended:
                    self._warn(f'{reader.path}: damaged, read no further: {error!r}')
                    return
                reader = self._readers[index] = self._mend(reader.path, error)

    def _warn(self, text):
        if text not in self.warnings:
            self.warnings.append(text)
            self._tell(text)

    def _files(self):
        if not self.path.exists():
            raise BagError(f'{self.path}: there is nothing there')
        if not self.path.is_dir():
            if not _is_storage(self.path):
                raise BagError(
                    f'{self.path}: is no bag: a folder, or a file that ends in {", ".join(STORAGES)}, is one'
                )
            return [self.path]
        files = _storage_files(self.path)
        missing = set(self._read_metadata()) - {file.name for file in files}
        if missing:
            self._warn(f'{self.path}: {", ".join(sorted(missing))}: missing, though metadata.yaml names it')
        if not files:
            raise BagError(f'{self.path}: holds no file that ends in {", ".join(STORAGES)}')
        return files

    def _read_metadata(self):
        """Take what metadata.yaml knows besides the files themselves; return the names of the files it lists."""
        try:
            text = (self.path / 'metadata.yaml').read_text(encoding='utf-8')
            described = yaml.safe_load(text)['rosbag2_bagfile_information']
            self.custom = {str(k): str(v) for k, v in (described.get('custom_data') or {}).items()}
            return [Path(str(name)).name for name in described['relative_file_paths']]
        except FileNotFoundError:
            self._warn(f'{self.path}: has no metadata.yaml: was the recording cut off? Its files are read without')
        except Exception as error:  # noqa: BLE001  any text may stand there
            self._warn(f'{self.path}: metadata.yaml cannot be used ({error!r}): the files are read without')
        return []

    def _folder(self):
        return Path(self._stack.enter_context(TemporaryDirectory(prefix='m2i_bag_')))

    def _open(self, file):
        """Return the opened reader of a file, or None, with a warning, where nothing of it can be read."""
        if file.suffix == PACKED:
            file = self._unpacked(file)
        journals = [
            j for s in ('-wal', '-journal') if (j := file.with_name(file.name + s)).exists() and j.stat().st_size
        ]
        if journals:
            return self._mend(file, f'{journals[0].name} lies beside it')
        try:
            return self._opened(file)
        except Exception as error:  # noqa: BLE001  rosbags raises anything for damaged files
            return self._mend(file, error)

    def _opened(self, path):
        reader = Reader(path)
        reader.open()
        self._stack.callback(reader.close)
        return reader

    def _mend(self, file, reason):
        self._warn(f'{file}: cut off or damaged ({reason!r}): read as far as it is whole')
        try:
            whole = MendedMcap(file) if file.suffix == '.mcap' else mend_sqlite(file, self._folder())
            self.damaged += getattr(whole, 'damaged', 0)
            reader = self._opened(whole)
        except Exception as error:  # noqa: BLE001  as above
            self._warn(f'{file}: nothing of it can be read: {error}')
            return None
        self._mended.append(reader)
        return reader

    def _unpacked(self, file):
        """Return the copy of a file that is compressed as a whole; rosbags reads no other."""
        copy = self._folder() / file.stem
        try:
            with zstd.open(file, 'rb') as packed, open(copy, 'wb') as out:
                while data := packed.read(_CHUNK):
                    out.write(data)
        except (zstd.ZstdError, EOFError) as error:
            self._warn(f'{file}: cut off or damaged ({error}): unpacked as far as it is whole')
        return copy


def _is_storage(path):
    return (path.with_suffix('') if path.suffix == PACKED else path).suffix in STORAGES


def _storage_files(folder):
    def order(path):  # rosbag2 numbers the files of a split bag: bag_2 before bag_10
        return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', path.name)]

    return sorted((path for path in folder.iterdir() if path.is_file() and _is_storage(path)), key=order)
