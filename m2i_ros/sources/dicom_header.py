"""The header of one DICOM file: only the tags that are asked for are ever read, so that no other can leak."""

import logging
import math
import re
import sys
import warnings
from functools import cached_property

from m2i_ros.sources.source_frame import SourceError


def _import_pydicom():
    """Return pydicom, imported without GDCM, which only the decoder's own process may have.

    GDCM makes its symbols global, and numba compiling beside it breaks the heap (python-gdcm 3.2.6, llvmlite 0.50).
    """
    hidden = 'gdcm' not in sys.modules
    if hidden:
        sys.modules['gdcm'] = None
    try:
        import pydicom
    finally:
        if hidden:
            del sys.modules['gdcm']
    return pydicom


pydicom = _import_pydicom()

# Its warnings quote what a file says, which might be a patient's name. What matters of them is said here.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger('pydicom').setLevel(logging.CRITICAL)
warnings.filterwarnings('ignore', module='pydicom')

TAGS = (
    'SOPClassUID Modality SeriesNumber AcquisitionNumber InstanceNumber DirectoryRecordSequence '
    # pixels
    'NumberOfFrames Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit '
    'PixelRepresentation ExtendedOffsetTable PixelIntensityRelationship PixelIntensityRelationshipSign '
    'WindowCenter WindowWidth VOILUTFunction VOILUTSequence '
    # time
    'FrameIncrementPointer FrameTime FrameTimeVector CineRate RecommendedDisplayFrameRate '
    # geometry
    'DistanceSourceToDetector DistanceSourceToPatient EstimatedRadiographicMagnificationFactor ImagerPixelSpacing '
    'IntensifierSize FieldOfViewDimensions FieldOfViewOrigin FieldOfViewRotation FieldOfViewHorizontalFlip '
    'DetectorElementSpacing DetectorActiveDimensions DetectorActiveOrigin '
    'PositionerPrimaryAngle PositionerSecondaryAngle PositionerPrimaryAngleIncrement '
    'PositionerSecondaryAngleIncrement TableVerticalIncrement TableLateralIncrement TableLongitudinalIncrement '
    'PatientOrientation PatientPosition '
    'SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence'
).split()

# Where Enhanced XA and XRF have them instead: in the functional groups of all frames, or of each (PS3.3 C.8.19.6).
FUNCTIONAL_GROUPS = {
    'FrameContentSequence': 'FrameReferenceDateTime',
    'FrameVOILUTSequence': 'WindowCenter WindowWidth VOILUTFunction',
    'FramePixelDataPropertiesSequence': 'ImagerPixelSpacing PixelIntensityRelationship PixelIntensityRelationshipSign',
    'XRayGeometrySequence': 'DistanceSourceToDetector DistanceSourceToIsocenter '
    'EstimatedRadiographicMagnificationFactor',
    'FieldOfViewSequence': 'FieldOfViewDimensionsInFloat FieldOfViewOrigin FieldOfViewRotation '
    'FieldOfViewHorizontalFlip',
    'PositionerPositionSequence': 'PositionerPrimaryAngle PositionerSecondaryAngle',
    'TablePositionSequence': 'TableTopVerticalPosition TableTopLongitudinalPosition TableTopLateralPosition '
    'TableHorizontalRotationAngle TableHeadTiltAngle TableCradleTiltAngle',
    'PatientOrientationInFrameSequence': 'PatientOrientation',
}
_GROUP_OF = {keyword: group for group, keywords in FUNCTIONAL_GROUPS.items() for keyword in keywords.split()}

# What `keep_patient_tags` asks for.
PATIENT_TAGS = (
    'PatientName PatientID PatientBirthDate PatientSex PatientAge PatientSize PatientWeight AccessionNumber StudyID '
    'StudyDate StudyTime StudyDescription SeriesDescription InstitutionName ReferringPhysicianName'
).split()


_CODE = re.compile(r'[A-Z0-9_ ]{0,16}(\\[A-Z0-9_ ]{0,16})*')  # what DICOM calls a code string


def describe(keyword):
    """Return a tag as people know it: 'Frame Time (0018,1063)'."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    return f'{pydicom.datadict.dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})'


class Header:
    """Values of a DICOM file by keyword, and where its pixel data begin.

    path: the file. keep_patient_tags: read `PATIENT_TAGS` too.
    pixels: byte position of Pixel Data's tag, or of the end where there is none. size: bytes of the file.
    Raises SourceError for a file that is missing or is not DICOM.
    """

    def __init__(self, path, keep_patient_tags=False):
        self.path = path
        tags = [*TAGS, *(PATIENT_TAGS if keep_patient_tags else ()), 'PixelData']
        try:
            with open(path, 'rb') as file:
                self._dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
                self.pixels = file.tell()
                self.size = file.seek(0, 2)
                if self.deflated:  # compressed as a whole: its pixels cannot be looked up in the file
                    file.seek(0)
                    self._dataset = pydicom.dcmread(file, specific_tags=tags)
        except OSError as error:
            raise SourceError(f'{path}: cannot be read: {error.strerror}') from error
        except pydicom.errors.InvalidDicomError as error:
            raise SourceError(f'{path}: is not a DICOM file (the mark DICM is missing at byte 128)') from error
        except Exception as error:  # pydicom raises what a damaged byte makes of it
            raise SourceError(
                f'{path}: the DICOM header is damaged ({type(error).__name__}): copy or export the file again'
            ) from None

    @cached_property
    def transfer_syntax(self):
        """The transfer syntax' UID. Raises SourceError where none is stated."""
        uid = self._meta('TransferSyntaxUID')
        if not isinstance(uid, pydicom.uid.UID) or not uid.is_transfer_syntax:
            raise SourceError(
                f'{self.path}: Transfer Syntax UID (0002,0010) is missing or unknown: how the pixels are packed is not '
                f'known: export the file again'
            )
        return uid

    @property
    def deflated(self):
        """Whether the whole file is compressed."""
        return self._meta('TransferSyntaxUID') == pydicom.uid.DeflatedExplicitVRLittleEndian

    @property
    def is_directory(self):
        """Whether the file is a DICOMDIR."""
        return self._meta('MediaStorageSOPClassUID') == pydicom.uid.MediaStorageDirectoryStorage

    @property
    def encoding(self):
        """(implicit VR, little endian), as read."""
        return self._dataset.original_encoding

    def get(self, keyword):
        """Return the value as pydicom gives it, or None where it is missing or cannot be read.

        What is in functional groups only: the first frame's.
        """
        value = _value(self._dataset, keyword)
        if value is None and keyword in _GROUP_OF:
            return next(iter(self._of_frames(keyword)), None)
        return value

    def _of_frames(self, keyword):
        """Yield the value of a tag in the functional groups of each frame, or once where it is that of all; or None."""
        frames = [_value(self._dataset, 'SharedFunctionalGroupsSequence')]
        if _first(frames[0], _GROUP_OF[keyword]) is None:
            frames = [[item] for item in _value(self._dataset, 'PerFrameFunctionalGroupsSequence') or ()]
        for groups in frames:
            group = _first(groups, _GROUP_OF[keyword])
            yield _first(group, keyword)

    def _meta(self, keyword):
        return _value(self._dataset.file_meta, keyword)

    def numbers(self, keyword):
        """Return the values of a tag as a list of finite floats; empty where it is missing or holds none."""
        value = self.get(keyword)
        if value is None or isinstance(value, (str, bytes)):
            value = []
        elif not hasattr(value, '__iter__'):
            value = [value]
        try:
            values = [float(number) for number in value]
        except (TypeError, ValueError, OverflowError):
            return []
        return values if all(map(math.isfinite, values)) else []

    def numbers_of_frames(self, keyword):
        """Return the number that each frame has in its functional groups, finite floats; empty where one lacks it."""
        values = list(map(_finite, self._of_frames(keyword)))
        return [] if None in values else values

    def seconds_of_frames(self):
        """Return Frame Reference DateTime of each frame as seconds from the first one's; empty where one lacks it.

        The date itself does not leave this function.
        """
        try:
            times = [pydicom.valuerep.DT(str(value)) for value in self._of_frames('FrameReferenceDateTime')]
            return [(time - times[0]).total_seconds() for time in times]
        except Exception:  # noqa: BLE001  a damaged value is no value
            return []

    def number(self, keyword):
        """Return the first value of a tag as a finite float, or None."""
        return next(iter(self.numbers(keyword)), None)

    def integer(self, keyword, low, high, default=None):
        """Return a whole number from `low` to `high`.

        default: where the tag is missing. Raises SourceError for another value, and for none without default.
        """
        value = self.number(keyword)
        if value is None and default is not None and not self.get(keyword):
            return default
        if value is None or value != int(value) or not low <= value <= high:
            said = 'is missing or damaged' if value is None else f'is {value:g}'
            raise SourceError(f'{self.path}: {describe(keyword)} {said}: it must be from {low} to {high}')
        return int(value)

    def text(self, keyword):
        """Return the value of a code string in capitals, several values joined by backslashes; '' for anything else."""
        value = self.get(keyword)
        if value is not None and not isinstance(value, str):
            value = '\\'.join(map(str, value)) if hasattr(value, '__iter__') else ''
        text = (value or '').strip().upper()
        return text if _CODE.fullmatch(text) else ''


def _first(sequence, keyword):
    """Return the value of a tag in the first item of a sequence, or None."""
    try:
        return _value(sequence[0], keyword)
    except Exception:  # noqa: BLE001  no sequence, an empty one, a damaged one
        return None


def _finite(value):
    try:
        return float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _value(dataset, keyword):
    try:
        return dataset.get(keyword)
    except Exception:  # noqa: BLE001  a damaged value is no value
        return None
