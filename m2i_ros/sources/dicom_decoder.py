"""Decodes compressed pictures in a process of its own: on damaged data the codecs' C++ may end the process they run in.

This file is also what that process runs, so it imports nothing of the package; and pydicom, which brings the codecs,
only where it decodes.
"""

import functools
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

JPEG_BASELINE = '1.2.840.10008.1.2.4.50'
JPEG_EXTENDED, JPEG_LOSSLESS = '1.2.840.10008.1.2.4.51', '1.2.840.10008.1.2.4.57'
PATIENCE = 20.0  # seconds after which a picture counts as one that cannot be decoded


class DecodeError(ValueError):
    """A picture that cannot be decoded, with the codec's reason."""


def decode(data, syntax, options):
    """Return the picture in the bytes of one frame: (H, W), as stored. Raises DecodeError.

    syntax: transfer syntax' UID. options: of pydicom's `Decoder.as_array`.
    """
    import pydicom.pixels

    if syntax == JPEG_EXTENDED and options['bits_stored'] > 8:
        # pydicom keeps lossy JPEG of 12 bits from GDCM, which decodes it: the kind of JPEG it reads from the data.
        syntax = JPEG_LOSSLESS
    decoder = pydicom.pixels.get_decoder(pydicom.uid.UID(syntax))
    if syntax == JPEG_BASELINE and 'pillow' in decoder.available_plugins:
        with suppress(Exception):  # three times as fast as GDCM, which says better what is wrong with the data
            return decoder.as_array(data, index=0, raw=True, decoding_plugin='pillow', **options)[0]
    try:
        return decoder.as_array(data, index=0, raw=True, **options)[0]
    except Exception as error:  # whatever a codec makes of damaged data
        raise DecodeError(' '.join(str(error).split())[:160]) from error


class Decoder:
    """`decode` in another process, which is started when first needed, and again where a picture has ended it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process = self._connection = None

    def start(self):
        """Start the process unless it runs: until it can decode takes half a second, in which others may work."""
        with self._lock:
            self._start()

    def decode(self, data, syntax, options):
        """Return what the function `decode` returns. Raises DecodeError."""
        with self._lock:
            self._start()
            try:
                self._connection.send((data, syntax, options))
                if not self._connection.poll(PATIENCE):
                    raise TimeoutError
                reply = self._connection.recv()
                if not isinstance(reply, str):
                    kind, shape = reply
                    return np.frombuffer(self._connection.recv_bytes(), kind).reshape(shape)
            except (EOFError, OSError) as error:  # TimeoutError is one
                self.close()
                reason = 'hangs' if isinstance(error, TimeoutError) else 'breaks'
                raise DecodeError(f'the decoder {reason} on its data') from error
        raise DecodeError(reply)

    def close(self):
        """End the process."""
        if self._process:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self):
        if self._process:
            return
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # codecs print what displeases them
            start_new_session=True,  # Ctrl-C is for the others: this one ends when its connection does
        )
        theirs.close()


@functools.cache
def shared_decoder():
    """Return the one `Decoder` of this process."""
    return Decoder()


def _serve(connection):
    """Answer until the other side is gone."""
    with suppress(ImportError):  # `decode` says so, for each picture
        import pydicom.pixels  # noqa: F401  while nobody waits for it
    while True:
        try:
            arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            picture = np.ascontiguousarray(decode(*arguments))
        except DecodeError as error:
            connection.send(str(error))
            continue
        connection.send((picture.dtype.str, picture.shape))
        connection.send_bytes(picture.data.cast('B'))


if __name__ == '__main__':
    _serve(Connection(int(sys.argv[1])))
