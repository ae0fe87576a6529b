"""Vessel models from files: STL, PLY, OBJ and this package's own .npz."""

import logging
import os
import tempfile
from pathlib import Path

import numpy as np

from m2i_ros.model.vessel_model import Centreline, VesselModel

_log = logging.getLogger(__name__)

UNITS = {'mm': 1e-3, 'cm': 1e-2, 'm': 1.0}
AXES = ('lps', 'ras', 'native')
SUFFIXES = ('.npz', '.stl', '.ply', '.obj')
EXTENT = (0.02, 0.6)  # metres: what a vessel tree plausibly measures
_FORMAT = 'm2i_ros vessel model 1'
_ARRAYS = ('vertices', 'faces', 'cap_faces', 'points', 'radii', 'branch', 'arc_length', 'edges')


class ModelError(ValueError):
    """A file that gives no vessel model; the message names the file, what is wrong and what to do."""


def load_model(path, units='mm', axes='lps'):
    """Return the `VesselModel` of a file.

    A mesh (STL, PLY, OBJ; closed or open) is in `units` ('mm', 'cm', 'm') and `axes` ('lps', 'ras', 'native'); its
    centreline is extracted, which takes seconds: `prepare_model` does it once and writes the .npz, which says its axes
    itself, is in metres, and loads at once. Coordinates are scaled to metres, never turned.

    Raises ModelError when the file is missing, unreadable or empty, or of an implausible size.
    """
    path = Path(path).expanduser()
    if units not in UNITS:
        raise ModelError(f"{path.name}: units '{units}' are unknown: give one of {', '.join(UNITS)}")
    if axes not in AXES:
        raise ModelError(f"{path.name}: axes '{axes}' are unknown: give one of {', '.join(AXES)}")
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{path.name}: files of type '{path.suffix}' are not read: give one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f'{path}: no such file')
    if path.suffix.lower() == '.npz':
        return _load_npz(path)
    return model_from_mesh(*read_mesh(path, units), axes=axes, name=path.stem, source=str(path))


def save_model(model, path):
    """Write a `VesselModel` to `path` (.npz), whole or not at all. Raises ModelError where it cannot be written."""
    path = Path(path).expanduser()
    if path.suffix.lower() != '.npz':
        raise ModelError(f'{path.name}: models are saved as .npz')
    line = model.centreline
    content = {
        'format': _FORMAT,
        'vertices': model.vertices,
        'faces': model.faces,
        'cap_faces': model.cap_faces,
        'points': line.points,
        'radii': line.radii,
        'branch': line.branch,
        'arc_length': line.arc_length,
        'edges': line.edges,
        'units': 'm',
        'axes': model.axes,
        'name': model.name,
        'hash': model.hash,
    }
    try:
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        try:
            with os.fdopen(handle, 'wb') as stream:
                np.savez(stream, **content)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    except OSError as error:
        raise ModelError(f'{path}: cannot be written: {error.strerror or error}') from error


def read_mesh(path, units):
    """Return vertices (V, 3) in metres and faces (F, 3) of a mesh file as it stands there.

    Raises ModelError for a file that is unreadable, holds no faces, or whose extent is no vessel tree's.
    """
    import trimesh  # here, so that loading an .npz does not wait for it

    path = Path(path)
    try:
        mesh = trimesh.load(str(path), force='mesh', process=False)
        vertices, faces = np.asarray(mesh.vertices, dtype=float), np.asarray(mesh.faces, dtype=np.int64)
    except Exception as error:  # trimesh raises whatever its parsers run into
        raise ModelError(f'{path.name}: not a readable {path.suffix[1:].upper()} mesh ({error})') from error
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ModelError(f'{path.name}: damaged mesh: faces refer to vertices that are not in the file')
    faces = faces.reshape(-1, 3)
    finite = np.isfinite(vertices).all(axis=1)
    used = np.unique(faces[finite[faces].all(axis=1)]) if faces.size else []
    if not len(used):
        raise ModelError(f'{path.name}: the mesh is empty: no face with finite vertices; export the lumen anew')
    extent = float(np.ptp(vertices[used], axis=0).max())
    if not EXTENT[0] <= extent * UNITS[units] <= EXTENT[1]:
        fitting = [u for u, metres in UNITS.items() if EXTENT[0] <= extent * metres <= EXTENT[1]]
        hint = (
            f'did you mean units:={" or units:=".join(fitting)}?'
            if fitting
            else f'a vessel tree measures {EXTENT[0]} to {EXTENT[1]} m; is this the right file?'
        )
        raise ModelError(f'{path.name}: extent {extent * UNITS[units]:.3g} m: {hint}')
    return vertices * UNITS[units], faces


def model_from_mesh(vertices, faces, axes='lps', name='vessel', source=''):
    """Return the `VesselModel` of a surface: cleaned, turned outward, with its centreline and caps found.

    vertices: (V, 3), metres. faces: (F, 3). Raises ModelError where no vessel is found in it.
    """
    from m2i_ros.model.centreline import extract_centreline, find_caps  # numba: not for loading an .npz
    from m2i_ros.model.surface import orient, weld, without_debris

    vertices, faces = weld(vertices, faces)
    if not len(faces):
        raise ModelError(f'{source or name}: the mesh is empty: all its faces are degenerate')
    vertices, faces, dropped = without_debris(vertices, faces)
    if dropped:
        _log.warning(f'{source or name}: {dropped} small loose component(s) left out')
    faces = orient(vertices, faces)
    try:
        centreline = extract_centreline(vertices, faces)
    except ValueError as error:
        raise ModelError(f'{source or name}: {error}') from error
    return VesselModel(vertices, faces, find_caps(vertices, faces, centreline), centreline, axes, name, source)


def _load_npz(path):
    try:
        with np.load(path, allow_pickle=False) as content:
            if str(content.get('format', '')) != _FORMAT:
                raise ModelError(f'{path.name}: not a vessel model: write it with prepare_model')
            a = {name: content[name] for name in _ARRAYS}
            model = VesselModel(
                vertices=a['vertices'],
                faces=a['faces'],
                cap_faces=a['cap_faces'],
                centreline=Centreline(a['points'], a['radii'], a['branch'], a['arc_length'], a['edges']),
                axes=str(content['axes']),
                name=str(content['name']),
                source=str(path),
            )
            stored = str(content['hash'])
    except ModelError:
        raise
    except Exception as error:  # zip, npy and key errors: whatever a damaged file leads to
        raise ModelError(f'{path.name}: damaged or no vessel model ({error}): write it with prepare_model') from error
    if stored != model.hash:
        raise ModelError(f'{path.name}: its content does not match its hash: write it anew with prepare_model')
    return model
