"""From what a user types to a source or a model."""

from pathlib import Path

from m2i_ros.sources.case import open_case
from m2i_ros.sources.images import ImageFolder
from m2i_ros.sources.phantom import PhantomSource
from m2i_ros.sources.recorded import dicom_source
from m2i_ros.sources.source_frame import SourceError
from m2i_ros.sources.video import VideoFile

KINDS = ('phantom', 'images', 'video', 'dicom', 'case')
USUAL_RATE = 15.0  # frames per second, where nothing states one


def open_source(kind, path='', frame_rate=0.0, **settings):
    """Return the source of a kind: iterable over `SourceFrame`, with a length.

    kind: 'phantom', 'images' (path: a folder of pictures), 'video' (a file), 'dicom' (a file, a folder, a DICOMDIR) or
    'case' (a case folder or its case.yaml).
    frame_rate: frames per second; 0.0: what the source states, 15 where it states none. A case states its own.
    settings: of `m2i_ros.simulation.Phantom` (anatomy, seed, ...) or of `DicomSource`.

    Every source has `model`, `camera`, `initial_pose` (each None where not known), `frame_rate`, `realtime` (frames are
    to be played at their rate), `skipped` (what could not be read). Raises SourceError, or ModelError from `model`.
    """
    if kind == 'phantom':
        return PhantomSource(frame_rate=frame_rate or USUAL_RATE, **settings)
    if kind not in KINDS:
        raise SourceError(f'source {kind!r}: must be one of {", ".join(KINDS)}')
    if not path:
        raise SourceError(f'source {kind!r} needs a path: the file or folder that holds the {kind}')
    if kind == 'images':
        return ImageFolder(path, frame_rate or USUAL_RATE)
    if kind == 'video':
        return VideoFile(path, frame_rate)
    if kind == 'dicom':
        return dicom_source(path, frame_rate=frame_rate, **settings)
    return open_case(path)


def open_model(spec, units='mm', axes='lps'):
    """Return the `VesselModel` that `spec` names.

    spec: 'phantom:ANATOMY:SEED', a case folder or its case.yaml, or a model file (`m2i_ros.model.load_model`).
    units, axes: of a mesh file; others state their own.

    Raises SourceError, or ModelError (a ValueError as well) for a model file.
    """
    if spec.startswith('phantom:'):
        from m2i_ros.simulation import make_anatomy

        try:
            _, anatomy, seed = spec.split(':')
            return make_anatomy(anatomy, int(seed))
        except ValueError as error:
            raise SourceError(f'{spec}: must be like phantom:iliofemoral:0 ({error})') from error
    path = Path(spec)
    if path.is_dir() or path.suffix.lower() in ('.yaml', '.yml'):
        case = open_case(path)
        if case.model is None:
            raise SourceError(f'{case.file}: model: missing, so there is nothing to register')
        return case.model
    from m2i_ros.model import load_model

    return load_model(path, units=units, axes=axes)
