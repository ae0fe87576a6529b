"""Frames from pictures, recorded cases and the phantom."""

from m2i_ros.sources.case import CaseSource, open_case, write_case
from m2i_ros.sources.images import ImageFolder
from m2i_ros.sources.opening import kind_of, open_model, open_source
from m2i_ros.sources.phantom import PhantomSource
from m2i_ros.sources.source_frame import SourceError, SourceFrame

__all__ = [
    'CaseSource',
    'ImageFolder',
    'PhantomSource',
    'SourceError',
    'SourceFrame',
    'kind_of',
    'open_case',
    'open_model',
    'open_source',
    'write_case',
]
