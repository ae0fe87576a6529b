"""One DICOM file as a run of pictures, decoded one by one."""

import importlib.util
import io
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from m2i_ros.sources.dicom_decoder import DecodeError, decode, shared_decoder
from m2i_ros.sources.dicom_geometry import two_numbers
from m2i_ros.sources.dicom_header import Header, describe, pydicom
from m2i_ros.sources.source_frame import SourceError

MODALITIES = ('XA', 'RF')
LARGEST_SIDE = 4096  # pixels; no X-ray detector has more, a damaged header has
_ITEM = 0xE000FFFE  # the tag (FFFE,E000), read as one number
_LONG_LENGTH = (b'OB', b'OW', b'OD', b'OF', b'OL', b'OV', b'UN', b'UT', b'UC', b'UR', b'SQ', b'SV', b'UV')


@dataclass(frozen=True)
class GivenGreys:
    """What the user says of the grey values, where the file does not or is wrong.

    window: 'CENTRE WIDTH' in stored values, instead of the file's; '': what the file says. curve: without a window,
    'log' or 'linear'; 'auto': logarithmic where the file says that values are linear in the X-rays.
    invert: 'yes', 'no', or 'auto', for contrast dark.

    Raises ValueError, naming the parameter, for what cannot be.
    """

    window: str = ''
    curve: str = 'auto'
    invert: str = 'auto'

    def __post_init__(self):
        for name, allowed in (('curve', ('auto', 'log', 'linear')), ('invert', ('auto', 'yes', 'no'))):
            if getattr(self, name) not in allowed:
                raise ValueError(f'dicom.{name}: "{getattr(self, name)}" must be one of {", ".join(allowed)}')
        window = two_numbers('dicom.window', self.window)
        if window and window[1] < 1:
            raise ValueError(f'dicom.window: "{self.window}": a width of at least 1 is needed')


class DicomRun:
    """The pictures of one XA or XRF file, contrast dark.

    path: the file. frame_rate: where above 0, instead of what the file says. greys: `GivenGreys`.
    keep_patient_tags: see `Header`.

    header: `Header`. stamps: (N,) seconds from the first frame. assumed: what the file does not say, in words.
    Raises SourceError, naming file and tag, for a file that is missing, damaged, of another modality, or whose pixels
    nothing here can decode.
    """

    def __init__(self, path, frame_rate=0.0, greys=GivenGreys(), keep_patient_tags=False):  # noqa: B008  frozen
        self.path = path
        self._greys = greys
        self.header = header = Header(path, keep_patient_tags)
        self.assumed = []
        modality = header.text('Modality')
        if modality not in MODALITIES:
            raise SourceError(
                f'{path}: {describe("Modality")} is {modality or "missing"}, not XA or RF: give an X-ray run'
            )
        self.rows = header.integer('Rows', 1, LARGEST_SIDE)
        self.columns = header.integer('Columns', 1, LARGEST_SIDE)
        header.integer('SamplesPerPixel', 1, 1, default=1)
        self._allocated = header.integer('BitsAllocated', 8, 16)
        self._bits = header.integer('BitsStored', 2, self._allocated)
        if self._allocated not in (8, 16):
            raise SourceError(f'{path}: {describe("BitsAllocated")} is {self._allocated}: only 8 and 16 are read')
        header.integer('HighBit', self._bits - 1, self._bits - 1, default=self._bits - 1)
        self._signed = header.integer('PixelRepresentation', 0, 1, default=0)
        self._check_decoder()
        # Every frame takes a byte at least: a damaged number would not fit into the memory.
        self._count = header.integer('NumberOfFrames', 1, max(1, header.size), default=1)
        self._frames = self._find_frames()
        if self._by_codec:
            shared_decoder().start()
        self._lut = self._find_lut()
        self.stamps = self._find_stamps(frame_rate)

    def __len__(self):
        """Return the number of frames the header states."""
        return self._count

    @property
    def frame_rate(self):
        """Frames per second, on average."""
        return (len(self) - 1) / self.stamps[-1] if len(self) > 1 else 1 / self._interval

    @property
    def following(self):
        """Seconds from the first frame to where one more would be."""
        return self.stamps[-1] + self._interval

    @contextmanager
    def opened(self):
        """Give a function that returns the picture of an index: (H, W) uint8, or uint16 above 8 bits stored.

        It raises SourceError for a frame that is missing or damaged.
        """
        with self._stream() as stream:
            yield lambda index: self._picture(stream, index)

    # Where the frames lie

    def _stream(self):
        if self.header.deflated:
            return io.BytesIO(self.header.get('PixelData') or b'')
        return open(self.path, 'rb')

    @property
    def _encapsulated(self):
        return self.header.transfer_syntax.is_encapsulated

    @property
    def _by_codec(self):
        return self._encapsulated and self.header.transfer_syntax != pydicom.uid.RLELossless

    def _check_decoder(self):
        syntax = self.header.transfer_syntax
        try:
            decoder = pydicom.pixels.get_decoder(syntax)
        except NotImplementedError as error:
            raise SourceError(
                f'{self.path}: pictures packed as {syntax.name} cannot be read: convert the file to JPEG lossless'
            ) from error
        if not decoder.is_available and not importlib.util.find_spec('gdcm'):
            raise SourceError(
                f'{self.path}: pictures packed as {syntax.name} need a decoder: python3 -m pip install python-gdcm'
            )

    def _find_frames(self):
        """Return the pieces (position, length) of each frame that is wholly there, by index."""
        with self._stream() as stream:
            end = stream.seek(0, io.SEEK_END)
            start, length = (0, end) if self.header.deflated else self._enter_pixels(stream)
            if self._encapsulated:
                stream.seek(start)
                frames = self._find_fragments(stream, end)
            else:
                size = self.rows * self.columns * self._allocated // 8
                there = min(self._count, min(length, end - start) // size)
                frames = {index: [(start + index * size, size)] for index in range(there)}
        if not frames:
            raise SourceError(f'{self.path}: holds no whole picture: is it cut off? Copy or export it again')
        return frames

    def _enter_pixels(self, stream):
        """Return position and length of the pixel data's value."""
        implicit, little = self.header.encoding
        order = '<' if little else '>'
        stream.seek(self.header.pixels)
        head = stream.read(12)
        if len(head) == 12 and struct.unpack(order + 'HH', head[:4]) == (0x7FE0, 0x0010):
            if implicit:
                return self.header.pixels + 8, struct.unpack(order + 'I', head[4:8])[0]
            if head[4:6] in _LONG_LENGTH:
                return self.header.pixels + 12, struct.unpack(order + 'I', head[8:12])[0]
        raise SourceError(f'{self.path}: Pixel Data (7FE0,0010) is missing: is it cut off? Copy or export it again')

    def _find_fragments(self, stream, end):
        items = list(_items(stream, end))
        if not items:
            return {}
        (table, size), fragments = items[0], items[1:]
        stream.seek(table)
        offsets = np.frombuffer(stream.read(size - size % 4), '<u4').tolist()
        extended = self.header.get('ExtendedOffsetTable')
        if isinstance(extended, bytes):
            offsets = np.frombuffer(extended[: len(extended) - len(extended) % 8], '<u8').tolist()
        first = table + size + 8
        by_offset = {position - first: number for number, (position, _) in enumerate(fragments)}
        if len(offsets) == self._count and all(a < b for a, b in zip(offsets, offsets[1:])):
            starts = [by_offset.get(offset) for offset in offsets]
        elif self._count == 1:
            starts = [0]
        elif len(fragments) <= self._count:
            starts = list(range(len(fragments)))
        else:
            # Without a table a frame ends where its JPEG stream does.
            ends = [number + 1 for number, fragment in enumerate(fragments) if _ends_stream(stream, *fragment)]
            starts = [0, *ends][: self._count]
        frames = {}
        following = [*starts[1:], len(fragments)]
        for index, (start, stop) in enumerate(zip(starts, following)):
            if start is not None and stop is not None and fragments[start:stop]:
                frames[index] = fragments[start:stop]
        return frames

    # From bytes to a picture

    def _picture(self, stream, index):
        where = f'{self.path}: frame {index + 1} of {len(self)}'
        if index not in self._frames:
            raise SourceError(f'{where} is missing: the file is cut off or damaged: copy or export it again')
        data = b''
        for position, length in self._frames[index]:
            stream.seek(position)
            data += stream.read(length)
        syntax = self.header.transfer_syntax
        if self._encapsulated:
            data = pydicom.encaps.encapsulate([data], has_bot=False)
        try:
            pixels = (shared_decoder().decode if self._by_codec else decode)(data, syntax, self._pixel_options)
        except DecodeError as error:
            raise SourceError(f'{where} cannot be decoded: {error}') from error
        if pixels.shape != (self.rows, self.columns):
            raise SourceError(f'{where} is {pixels.shape}, not {self.rows}x{self.columns} as the header says')
        pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder('='))
        unsigned = pixels.view(f'u{pixels.dtype.itemsize}')
        if self._lut is None:
            return unsigned
        # What lies above the stored bits is no part of the picture: overlays of old files.
        unsigned = unsigned & unsigned.dtype.type(min(2**self._bits - 1, np.iinfo(unsigned.dtype).max))
        return cv2.LUT(unsigned, self._lut) if len(self._lut) == 256 else self._lut[unsigned]

    @cached_property
    def _pixel_options(self):
        return {
            'rows': self.rows,
            'columns': self.columns,
            'number_of_frames': 1,
            'samples_per_pixel': 1,
            'photometric_interpretation': 'MONOCHROME2',
            'pixel_representation': self._signed,
            'bits_allocated': self._allocated,
            'bits_stored': self._bits,
            'pixel_keyword': 'PixelData',
            'pixel_vr': 'OB' if self._allocated == 8 else 'OW',
        }

    def _find_lut(self):
        """Return what to show for each stored value, full scale; None where it is shown as it is."""
        full = 2**self._bits - 1
        values = np.arange(full + 1)
        if self._signed:
            values = np.where(values > full // 2, values - full - 1, values)
        shown = self._windowed(values)
        if self._contrast_is_bright():
            shown = shown.max() - (shown - shown.min())
        low, high = shown.min(), shown.max()
        top = 255 if self._bits <= 8 else 65535
        lut = np.round((shown - low) * (top / max(high - low, 1e-9))).astype(np.uint8 if top == 255 else np.uint16)
        return None if top == 255 and np.array_equal(lut, np.arange(256)) else lut

    def _windowed(self, values):
        header = self.header
        voi = pydicom.Dataset()
        voi.set_original_encoding(*header.encoding)
        voi.PhotometricInterpretation, voi.SamplesPerPixel = 'MONOCHROME2', 1
        voi.BitsStored, voi.PixelRepresentation = self._bits, self._signed
        if given := two_numbers('dicom.window', self._greys.window):
            voi.WindowCenter, voi.WindowWidth = given
        else:
            for keyword in ('WindowCenter', 'WindowWidth'):
                if numbers := header.numbers(keyword):
                    setattr(voi, keyword, numbers[0])
            if header.text('VOILUTFunction'):
                voi.VOILUTFunction = header.text('VOILUTFunction')
            if header.get('VOILUTSequence'):
                voi.VOILUTSequence = header.get('VOILUTSequence')
        try:
            shown = np.asarray(pydicom.pixels.apply_voi_lut(values.astype(np.int32), voi), float)
            if np.isfinite(shown).all() and np.ptp(shown) > 0:
                if 'WindowWidth' in voi or 'VOILUTSequence' in voi:
                    return shown
            else:
                raise ValueError('shows one grey only')
        except Exception as error:  # noqa: BLE001  a damaged table or window is none
            reason = ' '.join(str(error).split())[:80]
            self.assumed.append(f'no window: the one that is there cannot be used: {reason} (dicom.window)')
        curve = self._greys.curve
        if curve == 'auto' and header.text('PixelIntensityRelationship') == 'LIN':
            # As on a display, and in what the network learned from: equal ratios of X-rays, equal steps of grey.
            what = f'a logarithmic curve: {describe("PixelIntensityRelationship")} is LIN, without window'
            self.assumed.append(f'{what} (dicom.curve)')
            curve = 'log'
        if curve == 'log':
            return np.log1p(np.clip(values - values.min(), 0, None).astype(float))
        return values.astype(float)

    def _contrast_is_bright(self):
        if self._greys.invert != 'auto':
            return self._greys.invert == 'yes'
        sign = self.header.number('PixelIntensityRelationshipSign')
        if sign in (-1, 1):
            return sign == -1
        return self.header.text('PhotometricInterpretation') == 'MONOCHROME1'

    # When

    def _find_stamps(self, frame_rate):
        header, count = self.header, len(self)
        vector = header.numbers('FrameTimeVector')
        interval = header.number('FrameTime')
        pointed = header.get('FrameIncrementPointer')
        if frame_rate > 0:
            self._interval = 1 / frame_rate
        elif _are_intervals(vector[1:]) and len(vector) == count and not (pointed == 0x00181063 and interval):
            self._interval = 1e-3 * float(np.mean(vector[1:]))
            return 1e-3 * np.cumsum([0.0, *vector[1:]])
        elif len(times := header.seconds_of_frames()) == count > 1 and _are_intervals(list(1e3 * np.diff(times))):
            self._interval = times[-1] / (count - 1)
            return np.array(times)
        elif interval and _are_intervals([interval]):
            self._interval = 1e-3 * interval
        else:
            rates = [header.number(keyword) for keyword in ('CineRate', 'RecommendedDisplayFrameRate')]
            rate = next((rate for rate in rates if rate and 0.01 <= rate <= 1000), None)
            if rate is None:
                rate = 15.0
                self.assumed.append(f'15 frames a second, {describe("FrameTime")} is missing (frame_rate)')
            self._interval = 1 / rate
        return self._interval * np.arange(count)


def _are_intervals(values):
    """Return whether values, milliseconds, can be times from frame to frame."""
    return bool(values) and min(values) >= 1 and max(values) <= 60000


def _items(stream, end):
    """Yield (position, length) of the values of the items from the stream's position on, as far as they are whole."""
    while len(head := stream.read(8)) == 8:
        tag, length = struct.unpack('<II', head)
        position = stream.tell()
        if tag != _ITEM or position + length > end:
            return
        yield position, length
        stream.seek(position + length)


def _ends_stream(stream, position, length):
    """Return whether a fragment ends with JPEG's end of image, which JPEG-LS and JPEG 2000 share."""
    stream.seek(position + max(0, length - 10))
    return b'\xff\xd9' in stream.read(min(length, 10))
