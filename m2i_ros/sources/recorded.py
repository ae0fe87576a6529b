"""From the path of a recording to its source, by what lies there."""

import itertools
import re
from pathlib import Path

from m2i_ros.sources.source_frame import SourceError
from m2i_ros.sources.video import SUFFIXES, VideoFile

LOOKED_AT = 50  # files of a folder, until one of them is DICOM


def recorded_kind(path):
    """Return what lies at an existing path: 'video', 'bag' or 'dicom', or None where it is none of them."""
    path = Path(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return 'video'
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    if any(re.search(r'\.(mcap|db3)(\.zstd)?$|^metadata\.yaml$', name) for name in names):
        return 'bag'
    files = [path] if path.is_file() else (file for file in path.rglob('*') if file.is_file())
    return 'dicom' if any(map(is_dicom, itertools.islice(files, LOOKED_AT))) else None


def open_recorded(path):
    """Return the source of a video file, a bag (folder or file), or DICOM (file, folder, DICOMDIR).

    Raises SourceError.
    """
    path = Path(path)
    kind = recorded_kind(path) if path.exists() else None
    if kind == 'video':
        return VideoFile(path)
    return bag_source(path) if kind == 'bag' else dicom_source(path)


def bag_source(path, **settings):
    """Return the `BagSource` of a path. Raises SourceError."""
    from m2i_ros.sources.bag import BagSource  # rosbags' reader takes half a second to import

    return BagSource(path, **settings)


def dicom_source(path, **settings):
    """Return the `DicomSource` of a path. Raises SourceError, also where pydicom is not installed."""
    try:
        from m2i_ros.sources.dicom import DicomSource  # pydicom takes a moment to import
    except ImportError as error:
        raise SourceError(
            f'{path}: reading DICOM needs pydicom: python3 -m pip install pydicom python-gdcm ({error})'
        ) from error
    return DicomSource(path, **settings)


def is_dicom(file):
    """Return whether a file bears DICOM's mark (PS3.10, section 7.1)."""
    try:
        with open(file, 'rb') as opened:
            return opened.read(132)[128:] == b'DICM'
    except OSError:
        return False
