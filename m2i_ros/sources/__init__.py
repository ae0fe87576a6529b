"""Frames from pictures, videos, DICOM runs, recorded cases and the phantom."""

from m2i_ros.sources.case import CaseSource, open_case, write_case
from m2i_ros.sources.images import ImageFolder
from m2i_ros.sources.opening import kind_of, open_model, open_source, start_by_view
from m2i_ros.sources.phantom import PhantomSource
from m2i_ros.sources.source_frame import SourceError, SourceFrame
from m2i_ros.sources.video import VideoFile

__all__ = [
    'CaseSource',
    'ImageFolder',
    'PhantomSource',
    'SourceError',
    'SourceFrame',
    'VideoFile',
    'kind_of',
    'open_case',
    'open_model',
    'open_source',
    'start_by_view',
    'write_case',
]
