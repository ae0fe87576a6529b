"""From what a user types to a source or a model."""

import re
from pathlib import Path

from m2i_ros.sources.case import open_case
from m2i_ros.sources.images import ImageFolder
from m2i_ros.sources.phantom import PhantomSource
from m2i_ros.sources.source_frame import SourceError

KINDS = ('phantom', 'images', 'case', 'bag')


def open_source(kind, path='', frame_rate=15.0, **settings):
    """Return the source of a kind: iterable over `SourceFrame`, with a length.

    kind: 'phantom', 'images' (path: a folder of pictures), 'case' (path: a case folder or its case.yaml) or 'bag'
    (path: a bag's folder, or one of its files).
    frame_rate: frames per second; a case and a bag state their own.
    settings: of `m2i_ros.simulation.Phantom` (anatomy, seed, ...) or of `BagSource` (start, duration, ...).

    Every source has `model`, `camera`, `initial_pose` (each None where not known), `frame_rate`, `realtime` (frames are
    to be played at their rate), `skipped` (what could not be read). Raises SourceError, or ModelError from `model`.
    """
    if kind == 'phantom':
        return PhantomSource(frame_rate=frame_rate, **settings)
    if kind not in KINDS:
        raise SourceError(f'source {kind!r}: must be one of {", ".join(KINDS)}')
    if not path:
        raise SourceError(f'source {kind!r} needs a path: the folder that holds the {kind}')
    if kind == 'bag':
        from m2i_ros.sources.bag import BagSource  # rosbags' reader takes half a second to import

        return BagSource(path, **settings)
    return ImageFolder(path, frame_rate) if kind == 'images' else open_case(path)


def kind_of(path):
    """Return the kind of source that lies at a path, as `open_source` names it. Raises SourceError where none does."""
    path = Path(path)
    if not path.exists():
        raise SourceError(f'{path}: not found')
    if path.suffix in ('.yaml', '.yml') and path.name != 'metadata.yaml' or (path / 'case.yaml').exists():
        return 'case'
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    if any(re.search(r'\.(mcap|db3)(\.zstd)?$|^metadata\.yaml$', name) for name in names):
        return 'bag'
    if path.is_dir():
        return 'images'
    raise SourceError(f'{path}: is no recording that is known here: a case, a bag, or a folder of pictures is one')


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
