"""From what a user types to a source or a model."""

from pathlib import Path

from m2i_ros.sources.case import open_case
from m2i_ros.sources.images import ImageFolder
from m2i_ros.sources.phantom import PhantomSource
from m2i_ros.sources.source_frame import SourceError

KINDS = ('phantom', 'images', 'case')


def open_source(kind, path='', frame_rate=15.0, **phantom):
    """Return the source of a kind: iterable over `SourceFrame`, with a length.

    kind: 'phantom', 'images' (path: a folder of pictures) or 'case' (path: a case folder or its case.yaml).
    frame_rate: frames per second; a case states its own.
    phantom: settings of `m2i_ros.simulation.Phantom` (anatomy, seed, width, height, duration, mirrored, ...).

    Every source has `model`, `camera`, `initial_pose` (each None where not known), `frame_rate`, `realtime` (frames are
    to be played at their rate), `skipped` (what could not be read). Raises SourceError, or ModelError from `model`.
    """
    if kind == 'phantom':
        return PhantomSource(frame_rate=frame_rate, **phantom)
    if kind not in KINDS:
        raise SourceError(f'source {kind!r}: must be one of {", ".join(KINDS)}')
    if not path:
        raise SourceError(f'source {kind!r} needs a path: the folder that holds the {kind}')
    return ImageFolder(path, frame_rate) if kind == 'images' else open_case(path)


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
