"""Bag files cut off in mid-write or damaged: what is whole in them, in a form that every reader of bags understands.

MCAP's records: https://mcap.dev/spec. SQLite's file: https://www.sqlite.org/fileformat.html.
"""

import io
import os
import shutil
import sqlite3
import struct
import sys
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

from lz4.frame import decompress as lz4_decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, DATA_END = 11, 15

_UNPACK = {b'': bytes, b'zstd': zstd.decompress, b'lz4': lz4_decompress}


class DamageError(ValueError):
    """A file in which nothing whole is found; the message says why."""


class MendedMcap:
    """A cut off or damaged MCAP file as far as it is whole, with an index behind it; `rosbags` takes it for a path.

    The file is read through once and stays as it is. damaged: how many chunks before its end are left out.
    Raises DamageError for a file that is no MCAP file.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.suffix = self.path.suffix
        self.damaged = 0
        self._schemas, self._channels = {}, {}  # number: content of the record
        self._counts = Counter()  # channel: messages
        self._first, self._last = 2**63 - 1, 0
        self._chunks = []
        with open(self.path, 'rb') as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise DamageError('it is no MCAP file')
            self._scan(file)
        self._tail = self._finish()

    def exists(self):
        """Return True: it was read."""
        return True

    def is_dir(self):
        """Return False."""
        return False

    def open(self, *_):
        """Return the whole part and its index as a binary file."""
        return io.BufferedReader(_Joined(self.path, self._cut, self._tail))

    def write(self):
        """Write the index into the file itself, in the place of what is not whole."""
        with open(self.path, 'r+b') as file:
            file.truncate(self._cut)
            file.seek(self._cut)
            file.write(self._tail)

    def _scan(self, file):
        size = os.fstat(file.fileno()).st_size
        self._cut = at = len(MAGIC)
        chunk = None  # the last one read, if whole
        while at + 9 <= size:
            file.seek(at)
            op, length = struct.unpack('<BQ', file.read(9))
            end = at + 9 + length
            if end > size or not HEADER <= op <= DATA_END or op in (FOOTER, DATA_END):
                break
            if op == CHUNK:
                chunk = self._chunk(at, file.read(length))
            elif op == MESSAGE_INDEX:
                if chunk:
                    chunk.indices[struct.unpack('<H', file.read(2))[0]] = at
                    chunk.indices_end = end
            elif op in (SCHEMA, CHANNEL, MESSAGE):
                self._note(op, file.read(length))
            self._cut = at = end
        # An index that is not whole is made anew.
        if chunk and set(chunk.indices) != set(chunk.messages):
            self._cut = chunk.end

    def _chunk(self, at, content):
        try:
            first, last, size, _, name = struct.unpack_from('<QQQII', content)
            compression = content[32 : 32 + name]
            packed = content[40 + name :]
            records = _UNPACK[compression](packed)
            if len(records) != size:
                raise ValueError('its size is not the stated one')
            chunk = _Chunk(at, 9 + len(content), first, last, compression, len(packed), size)
            found = list(_records(records))
            for op, offset, record in found:
                if op == MESSAGE:
                    channel, _, stamp = struct.unpack_from('<HIQ', record)
                    chunk.messages[channel].append((stamp, offset))
        except Exception:  # noqa: BLE001  each decompressor raises errors of its own: whatever it is, it is not whole
            self.damaged += 1
            return None
        for op, _, record in found:
            self._note(op, record)
        if self._chunks:
            self._chunks[-1].messages = None  # of the last one only: memory stays small
        self._chunks.append(chunk)
        return chunk

    def _note(self, op, record):
        number = struct.unpack_from('<H', record)[0]
        if op == SCHEMA:
            self._schemas[number] = record
        elif op == CHANNEL:
            self._channels[number] = record
        elif op == MESSAGE:
            stamp = struct.unpack_from('<Q', record, 6)[0]
            self._counts[number] += 1
            self._first, self._last = min(self._first, stamp), max(self._last, stamp)

    def _finish(self):
        tail = bytearray()
        if self._chunks and self._cut == self._chunks[-1].end:
            chunk = self._chunks[-1]
            for channel, messages in chunk.messages.items():
                chunk.indices[channel] = self._cut + len(tail)
                entries = b''.join(struct.pack('<QQ', *message) for message in messages)
                tail += _record(MESSAGE_INDEX, struct.pack('<HI', channel, len(entries)) + entries)
            chunk.indices_end = self._cut + len(tail)
        tail += _record(DATA_END, bytes(4))
        start = self._cut + len(tail)
        if not self._chunks:  # nothing to be indexed: readers then go through the messages
            return bytes(tail + _record(FOOTER, bytes(20)) + MAGIC)
        for op, records in ((SCHEMA, self._schemas), (CHANNEL, self._channels)):
            for record in records.values():
                tail += _record(op, record)
        for chunk in self._chunks:
            tail += _record(CHUNK_INDEX, chunk.index())
        counts = b''.join(struct.pack('<HQ', *count) for count in sorted(self._counts.items()))
        numbers = (len(self._schemas), len(self._channels), 0, 0, len(self._chunks), self._first, self._last)
        tail += _record(STATISTICS, struct.pack('<QHIIIIQQI', self._counts.total(), *numbers, len(counts)) + counts)
        return bytes(tail + _record(FOOTER, struct.pack('<QQI', start, 0, 0)) + MAGIC)


class _Chunk:
    """A whole chunk: where it lies, what is in it."""

    def __init__(self, at, length, first, last, compression, packed, size):
        self.at, self.length = at, length
        self.end = self.indices_end = at + length
        self._span, self._compression, self._sizes = (first, last), compression, (packed, size)
        self.indices = {}  # channel: where its MessageIndex lies in the file
        self.messages = defaultdict(list)  # channel: (stamp, offset in the chunk)

    def index(self):
        """Return the content of the chunk's ChunkIndex record."""
        offsets = b''.join(struct.pack('<HQ', *index) for index in self.indices.items())
        return (
            struct.pack('<QQQQI', *self._span, self.at, self.length, len(offsets))
            + offsets
            + struct.pack('<QI', self.indices_end - self.end, len(self._compression))
            + self._compression
            + struct.pack('<QQ', *self._sizes)
        )


class _Joined(io.RawIOBase):
    """The first `cut` bytes of a file with `tail` behind them."""

    def __init__(self, path, cut, tail):
        self._file = open(path, 'rb', buffering=0)  # noqa: SIM115  closed with this
        self._cut, self._tail = cut, tail
        self._at = 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._cut + len(self._tail)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer):
        if self._at < self._cut:
            self._file.seek(self._at)
            data = self._file.read(min(len(buffer), self._cut - self._at))
        else:
            data = self._tail[self._at - self._cut :][: len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self):
        self._file.close()
        super().close()


def _record(op, content):
    return struct.pack('<BQ', op, len(content)) + content


def _records(data):
    """Yield (op, offset, content) of the records in an unpacked chunk. Raises ValueError where one is not whole."""
    at = 0
    while at < len(data):
        op, length = struct.unpack_from('<BQ', data, at)
        if at + 9 + length > len(data):
            raise ValueError('a record goes beyond its chunk')
        yield op, at, data[at + 9 : at + 9 + length]
        at += 9 + length


def mend_sqlite(path, folder):
    """Copy what can be read of a cut off or damaged SQLite bag, journal included; return the copy's path.

    path: the .db3 file. folder: where to copy to. Messages come in the order in which they were written, up to the
    first that cannot be read. Raises DamageError where there is not one.
    """
    path, folder = Path(path), Path(folder)
    with open(path, 'rb') as file:
        head = file.read(100)
    if len(head) < 100 or not head.startswith(b'SQLite format 3\0'):
        raise DamageError('it is no SQLite file')
    raw = folder / f'raw_{path.name}'
    shutil.copyfile(path, raw)
    for suffix in ('-wal', '-journal'):
        journal = path.with_name(path.name + suffix)
        if journal.exists():
            shutil.copyfile(journal, raw.with_name(raw.name + suffix))
    page, pages = struct.unpack_from('>H', head, 16)[0], struct.unpack_from('>I', head, 28)[0]
    stated = (65536 if page == 1 else page) * pages
    # Cut short it would be refused as a whole. Pages of nothing are refused one by one.
    if raw.stat().st_size < stated < 2**40:
        os.truncate(raw, stated)
    whole = folder / path.name
    try:
        with closing(sqlite3.connect(raw)) as source, closing(sqlite3.connect(whole)) as target:
            source.text_factory = bytes
            target.execute('PRAGMA synchronous = OFF')  # a copy, gone with this process
            _copy_rows(source, target)
    except sqlite3.Error as error:
        raise DamageError(str(error)) from error
    finally:
        raw.unlink()
    return whole


def _copy_rows(source, target):
    tables = source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    tables = {name.decode(): sql.decode(errors='replace') for name, sql in tables}
    if not {'topics', 'messages'} <= set(tables):
        raise DamageError('it holds no topics and messages')
    for name, sql in sorted(tables.items(), key=lambda table: table[0] == 'messages'):
        target.execute(sql)
        rows = source.execute(f'SELECT * FROM "{name}" ORDER BY rowid')
        marks = ', '.join('?' * len(rows.description))
        text = name != 'messages'
        try:
            for row in rows:
                values = [v.decode(errors='replace') if text and isinstance(v, bytes) else v for v in row]
                target.execute(f'INSERT INTO "{name}" VALUES ({marks})', values)
        except sqlite3.Error:
            if name != 'messages':
                raise
    target.commit()
