"""Vessel models from files: meshes, volumes, centrelines, and this package's own .npz."""

import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from m2i_ros.model.errors import ModelError
from m2i_ros.model.vessel_model import Centreline, VesselModel

_log = logging.getLogger(__name__)

UNITS = {'mm': 1e-3, 'cm': 1e-2, 'm': 1.0}
AXES = ('lps', 'ras', 'native')
MESHES = ('.stl', '.ply', '.obj')
VTK = ('.vtp', '.vtk')
VOLUMES = ('.nii', '.nii.gz', '.nrrd', '.nhdr', '.mha', '.mhd')
SUFFIXES = ('.npz', *MESHES, *VTK, '.csv', *VOLUMES)
MAX_FACES = 100_000  # more cost time in every frame and show nothing more: of the largest trees they are 1 mm wide
EXTENT = (0.02, 0.6)  # metres: what a vessel tree plausibly measures
_GRID_CELLS = 20_000_000  # of the box about given centrelines, at most
_FORMAT = 'm2i_ros vessel model 1'
_ARRAYS = ('vertices', 'faces', 'cap_faces', 'points', 'radii', 'branch', 'arc_length', 'edges')


def load_model(path, units='mm', axes='lps', labels=None, threshold=None, seed_point=None, centreline=None):
    """Return the `VesselModel` of a file.

    A mesh (STL, PLY, OBJ, VTP, VTK; closed or open) is in `units` ('mm', 'cm', 'm') and `axes` ('lps', 'ras',
    'native'); so are centrelines (CSV, VTP, VTK), of which the surface is made: their tubes. A volume (NIfTI, NRRD,
    MetaImage) states both itself: a label map gives the surface of `labels`, a contrast CTA that of what reaches
    `threshold`, HU, at `seed_point` (3,), mm in the file's axes, or of the largest such part.
    centreline: a file of its own, in `units`, for a surface; else it is extracted, which takes seconds: `prepare_model`
    does it once and writes the .npz, which says its axes itself, is in metres, and loads at once.
    Coordinates are scaled to metres, never turned.

    Raises ModelError when the file is missing, unreadable or empty, or of an implausible size.
    """
    path = Path(path).expanduser()
    suffix = _suffix(path)
    if units not in UNITS:
        raise ModelError(f"{path.name}: units '{units}' are unknown: give one of {', '.join(UNITS)}")
    if axes not in AXES:
        raise ModelError(f"{path.name}: axes '{axes}' are unknown: give one of {', '.join(AXES)}")
    if suffix not in SUFFIXES:
        raise ModelError(f"{path.name}: files of type '{suffix}' are not read: give one of {', '.join(SUFFIXES)}")
    if suffix not in VOLUMES and not (labels is None and threshold is None and seed_point is None):
        raise ModelError(f'{path.name}: label, threshold and seed point are for volumes: {", ".join(VOLUMES)}')
    for file in (path, Path(centreline or path).expanduser()):
        if not file.is_file():
            raise ModelError(f'{file}: no such file')
    if suffix == '.npz':
        if centreline:
            raise ModelError(f'{path.name}: has a centreline: give the surface it was made from')
        return _load_npz(path)
    if suffix in VOLUMES:
        units, axes, vertices, faces = 'mm', *_read_volume(path, labels, threshold, seed_point)
    elif suffix == '.csv':
        vertices, faces = np.empty((0, 3)), np.empty((0, 3), np.int64)
    else:
        vertices, faces = read_mesh(path)
    given = None
    if centreline or not len(faces):
        from m2i_ros.model.centreline_files import read_centreline  # numba: not for loading an .npz

        given = read_centreline(Path(centreline or path).expanduser(), UNITS[units])
    if not len(faces):
        from m2i_ros.model.skin import skin

        vertices, faces = skin(*_grid_for(given, path.name))
    else:
        vertices = vertices * UNITS[units]
    _check_extent(vertices[np.unique(faces)], UNITS[units], path.name)
    return model_from_mesh(vertices, faces, axes, path.name[: -len(suffix)], str(path), given)


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


def read_mesh(path):
    """Return vertices (V, 3) and faces (F, 3) of a mesh file as it stands there; no face is left that is not finite.

    A VTP or VTK file of lines alone has no faces. Raises ModelError for a file that is unreadable or empty.
    """
    path = Path(path)
    if path.suffix.lower() in VTK:
        from m2i_ros.model.vtk_files import read_polydata

        vertices, faces, lines, _ = read_polydata(path)
        if lines and not len(faces):
            return vertices, faces
    else:
        import trimesh  # here, so that loading an .npz does not wait for it

        try:
            mesh = trimesh.load(str(path), force='mesh', process=False)
            vertices, faces = np.asarray(mesh.vertices, dtype=float), np.asarray(mesh.faces, dtype=np.int64)
        except Exception as error:  # trimesh raises whatever its parsers run into
            raise ModelError(f'{path.name}: not a readable {path.suffix[1:].upper()} mesh ({error})') from error
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ModelError(f'{path.name}: damaged mesh: faces refer to vertices that are not in the file')
    faces = faces.reshape(-1, 3)
    if not len(faces):
        raise ModelError(f'{path.name}: the mesh is empty: it has no faces; export the lumen as a surface of triangles')
    finite = np.isfinite(vertices).all(axis=1)[faces].all(axis=1)
    if not finite.all():
        if not finite.any():
            raise ModelError(f'{path.name}: the mesh is empty: no face with finite vertices; export the lumen anew')
        _log.warning(f'{path.name}: {int((~finite).sum())} face(s) left out whose vertices are no numbers')
    return vertices, faces[finite]


def model_from_mesh(vertices, faces, axes='lps', name='vessel', source='', centreline=None):
    """Return the `VesselModel` of a surface: cleaned, turned outward, with its caps and, unless it is given, its
    centreline found.

    vertices: (V, 3), metres. faces: (F, 3); of more than MAX_FACES so many are kept. centreline: a `Centreline`, or
    None. Raises ModelError where no vessel is found in it, or the centreline lies beside it.
    """
    from m2i_ros.model.centreline import extract_centreline, find_caps  # numba: not for loading an .npz
    from m2i_ros.model.surface import orient, simplify, weld, without_debris

    vertices, faces = weld(vertices, faces)
    if not len(faces):
        raise ModelError(f'{source or name}: the mesh is empty: all its faces are degenerate')
    vertices, faces, dropped = without_debris(vertices, faces)
    if dropped:
        _log.warning(f'{source or name}: {dropped} small loose component(s) left out')
    if len(faces) > MAX_FACES:
        _log.warning(f'{source or name}: {len(faces)} faces reduced to {MAX_FACES}')
        vertices, faces = simplify(vertices, faces, MAX_FACES)
    faces = orient(vertices, faces)
    if centreline is None:
        try:
            centreline = extract_centreline(vertices, faces)
        except ValueError as error:
            raise ModelError(f'{source or name}: {error}') from error
    else:
        low, high = vertices.min(axis=0) - 0.01, vertices.max(axis=0) + 0.01
        inside = ((centreline.points > low) & (centreline.points < high)).all(axis=1).mean()
        if inside < 0.5:
            raise ModelError(
                f'{source or name}: {100 * (1 - inside):.0f}% of the centreline lies more than 10 mm beside the '
                'surface: are both in the same units and axes?'
            )
    return VesselModel(vertices, faces, find_caps(vertices, faces, centreline), centreline, axes, name, source)


def _suffix(path):
    return '.nii.gz' if path.name.lower().endswith('.nii.gz') else path.suffix.lower()


def _read_volume(path, labels, threshold, seed_point):
    """Return axes, vertices (V, 3) in mm and faces (F, 3)."""
    from m2i_ros.model.volumes import contrast_surface, label_surface, read_volume

    if threshold is not None and labels is not None:
        raise ModelError(f'{path.name}: give labels of a label map or the threshold of a CTA, not both')
    if threshold is None and seed_point is not None:
        raise ModelError(f'{path.name}: a seed point needs a threshold')
    volume = read_volume(path)
    if volume.axes == 'native':
        _log.warning(f'{path.name}: the file does not say what its axes mean')
    if threshold is None:
        return volume.axes, *label_surface(volume, labels)
    return volume.axes, *contrast_surface(volume, threshold, seed_point)


def _grid_for(centreline, name):
    """Return a centreline and the grid spacing, metres, on which its tubes have a surface."""
    size = np.ptp(centreline.points, axis=0) + 4 * centreline.radii.max()
    if size.max() > 10 * EXTENT[1]:
        raise ModelError(f'{name}: extent {size.max():.3g} m: did you mean other units?')
    spacing = max(centreline.radii.min() / 5, np.cbrt(size.prod() / _GRID_CELLS))
    # Nothing thinner than the grid can be shown on it.
    return replace(centreline, radii=np.maximum(centreline.radii, 1.4 * spacing)), spacing


def _check_extent(vertices, scale, name):
    """Refuse vertices (V, 3), metres, that measure what no vessel tree does, with the units that would fit."""
    extent = float(np.ptp(vertices, axis=0).max())
    if not EXTENT[0] <= extent <= EXTENT[1]:
        fitting = [u for u, metres in UNITS.items() if EXTENT[0] <= extent / scale * metres <= EXTENT[1]]
        hint = (
            f'did you mean units:={" or units:=".join(fitting)}?'
            if fitting
            else f'a vessel tree measures {EXTENT[0]} to {EXTENT[1]} m; is this the right file?'
        )
        raise ModelError(f'{name}: extent {extent:.3g} m: {hint}')


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
