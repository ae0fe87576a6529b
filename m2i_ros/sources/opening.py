"""From what a user types to a source or a model."""

from pathlib import Path

import numpy as np

from m2i_ros.sources.case import open_case
from m2i_ros.sources.images import ImageFolder
from m2i_ros.sources.phantom import PhantomSource
from m2i_ros.sources.recorded import bag_source, dicom_source, recorded_kind
from m2i_ros.sources.source_frame import SourceError
from m2i_ros.sources.video import VideoFile

KINDS = ('phantom', 'images', 'video', 'dicom', 'case', 'bag')
USUAL_RATE = 15.0  # frames per second, where nothing states one


def open_source(kind, path='', frame_rate=0.0, **settings):
    """Return the source of a kind: iterable over `SourceFrame`, with a length.

    kind: 'phantom', 'images' (path: a folder of pictures), 'video' (a file), 'dicom' (a file, a folder, a DICOMDIR),
    'case' (a case folder or its case.yaml) or 'bag' (a bag's folder, or one of its files).
    frame_rate: frames per second; 0.0: what the source states, 15 where it states none. Cases and bags state their own.
    settings: of `m2i_ros.simulation.Phantom` (anatomy, seed, ...), of `DicomSource`, or of `BagSource`.

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
    return bag_source(path, **settings) if kind == 'bag' else open_case(path)


def kind_of(path):
    """Return the kind of source that lies at a path, as `open_source` names it. Raises SourceError where none does."""
    path = Path(path)
    if not path.exists():
        raise SourceError(f'{path}: not found')
    if path.suffix in ('.yaml', '.yml') and path.name != 'metadata.yaml' or (path / 'case.yaml').exists():
        return 'case'
    if kind := recorded_kind(path):
        return kind
    if path.is_dir():
        return 'images'
    raise SourceError(
        f'{path}: is no recording that is known here: a case, a bag, DICOM, a video, or a folder of pictures is one'
    )


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


def start_by_view(isocentre, model):
    """Return the function from a `CArm` to the pose of the model, (4, 4), or None where `isocentre` is empty.

    isocentre: what of the model lies there, as a user gives it: `centroid`, or x y z in metres of the model's axes.
    model: function without arguments that returns the `VesselModel` or None. Raises SourceError.
    """
    place = isocentre.split()
    if not place:
        return None
    try:
        point = None if place == ['centroid'] else np.array([float(x) for x in place])
        if point is not None and (point.shape != (3,) or not np.isfinite(point).all()):
            raise ValueError
    except ValueError as error:
        raise SourceError(f'dicom.isocentre: "{isocentre}" must be centroid, or x y z in metres') from error
    from m2i_ros.registration.start import pose_from_view  # the room takes a second to import

    model = model()
    if model is None:
        raise SourceError('dicom.isocentre needs model.path: what lies at the isocentre is a point of the model')
    return lambda c_arm: pose_from_view(model, c_arm, point)
