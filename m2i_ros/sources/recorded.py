"""From the path of a recording to its source, by what lies there."""

from pathlib import Path

from m2i_ros.sources.source_frame import SourceError
from m2i_ros.sources.video import SUFFIXES, VideoFile


def open_recorded(path):
    """Return the source of a video file, a bag (folder or file), or DICOM (file, folder, DICOMDIR).

    Raises SourceError.
    """
    path = Path(path)
    if path.suffix.lower() in SUFFIXES:
        return VideoFile(path)
    if path.suffix.lower() in ('.mcap', '.db3') or (path / 'metadata.yaml').exists():
        from m2i_ros.sources.bag import BagSource  # rosbags' reader takes half a second to import

        return BagSource(path)
    return dicom_source(path)


def dicom_source(path, **settings):
    """Return the `DicomSource` of a path. Raises SourceError, also where pydicom is not installed."""
    try:
        from m2i_ros.sources.dicom import DicomSource  # pydicom takes a moment to import
    except ImportError as error:
        raise SourceError(
            f'{path}: reading DICOM needs pydicom: python3 -m pip install pydicom python-gdcm ({error})'
        ) from error
    return DicomSource(path, **settings)
