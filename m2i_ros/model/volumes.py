"""Volumes (NIfTI, NRRD, MetaImage) and the lumen surfaces in them: of labels, or of contrast in a CTA."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from m2i_ros.model.errors import ModelError
from m2i_ros.model.surface import smooth

_SEED_REACH = 3.0  # mm about a seed point in which contrast is looked for
_MOST_LABELS = 1000  # with more values than these a volume is a picture, not a label map
_METAIMAGE_TYPES = {
    'MET_CHAR': 'i1', 'MET_UCHAR': 'u1', 'MET_SHORT': 'i2', 'MET_USHORT': 'u2', 'MET_INT': 'i4', 'MET_UINT': 'u4',
    'MET_LONG_LONG': 'i8', 'MET_ULONG_LONG': 'u8', 'MET_FLOAT': 'f4', 'MET_DOUBLE': 'f8',
}  # fmt: skip
# The NRRD format's spaces, as (axes, what turns into them): https://teem.sourceforge.net/nrrd/format.html#space
_NRRD_SPACES = {
    'left-posterior-superior': ('lps', (1, 1, 1)),
    'right-anterior-superior': ('ras', (1, 1, 1)),
    'left-anterior-superior': ('lps', (1, -1, 1)),
}
_NRRD_SPACES.update({''.join(word[0] for word in name.split('-')): space for name, space in _NRRD_SPACES.items()})


@dataclass(frozen=True)
class Volume:
    """Values on a grid: data (X, Y, Z); affine (4, 4) from indices to mm in `axes`: 'lps', 'ras' or 'native'."""

    name: str
    data: np.ndarray
    affine: np.ndarray
    axes: str


def read_volume(path):
    """Return the `Volume` of a NIfTI, NRRD or MetaImage file. Raises ModelError where it is unreadable or not 3D."""
    path = Path(path)
    name = path.name.lower()
    read = _read_nifti if '.nii' in name else _read_nrrd if name.endswith(('.nrrd', '.nhdr')) else _read_metaimage
    try:
        data, affine, axes = read(path)
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(f'{path.name}: needs a package: python3 -m pip install nibabel pynrrd ({error})') from error
    except Exception as error:  # whatever the parsers run into in a damaged file
        raise ModelError(f'{path.name}: not a readable volume ({error})') from error
    data = data.reshape(data.shape[:3]) if data.ndim > 3 and data.size == np.prod(data.shape[:3]) else data
    if data.ndim != 3:
        raise ModelError(f'{path.name}: {data.ndim}D: give one volume of three dimensions')
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ModelError(f'{path.name}: its spacing or directions are damaged: a voxel has no volume')
    return Volume(path.name, data, affine, axes)


def label_surface(volume, labels=None):
    """Return vertices (V, 3), mm in the volume's axes, and faces (F, 3) of the voxels that have one of the labels.

    labels: numbers; None: the only one there is. Raises ModelError where they are not in the map, or must be given.

    The staircase of the voxels is smoothed.
    """
    data = volume.data
    values = np.unique(data[::4, ::4, ::4])
    if len(values) > _MOST_LABELS or (values != np.rint(values)).any():
        raise ModelError(f'{volume.name}: no label map: for a contrast CTA give --threshold, in HU')
    present, counts = np.unique(data[data != 0], return_counts=True)
    if not len(present):
        raise ModelError(f'{volume.name}: the label map is empty: all voxels are 0')
    held = 'it holds ' + ', '.join(f'{v:g} ({n} voxels)' for v, n in zip(present[:20], counts[:20]))
    if labels is None:
        if len(present) > 1:
            raise ModelError(f'{volume.name}: several labels: give --label; {held}')
        labels = present
    if missing := [label for label in labels if label not in present]:
        raise ModelError(f'{volume.name}: label {missing[0]:g} is not in the map: {held}')
    inside, affine = _cropped(np.isin(data, labels), volume.affine)
    vertices, faces = _level(inside.astype(np.float32), 0.5)
    return _placed(smooth(vertices, faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 5), affine), faces


def contrast_surface(volume, threshold, seed_point=None):
    """Return vertices (V, 3), mm in the volume's axes, and faces (F, 3) of a contrast-filled lumen in a CTA.

    threshold: HU. seed_point: (3,), mm in the volume's axes, in or within 3 mm of the lumen; None: the largest
    connected part above the threshold, which may be bone. The surface lies where the HU between voxels pass the
    threshold. Raises ModelError where nothing is above it.
    """
    above = volume.data >= threshold
    parts, number = ndimage.label(above, np.ones((3, 3, 3)))
    if not number:
        raise ModelError(
            f'{volume.name}: nothing reaches {threshold:g} HU: its values lie between {np.nanmin(volume.data):g} and '
            f'{np.nanmax(volume.data):g}'
        )
    if seed_point is None:
        part = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    else:
        part = _part_at(volume, parts, np.asarray(seed_point, dtype=float), threshold)
    inside, affine = _cropped(parts == part, volume.affine)
    low = np.rint(np.linalg.solve(volume.affine, affine[:, 3])[:3]).astype(int)
    # The values themselves where the part and its neighbours are; all else is outside.
    values = np.full(inside.shape, threshold - 1000.0, np.float32)
    window = tuple(slice(max(a, 0), min(a + n, size)) for a, n, size in zip(low, inside.shape, volume.data.shape))
    here = tuple(slice(w.start - a, w.stop - a) for w, a in zip(window, low))
    values[here] = np.nan_to_num(volume.data[window], nan=threshold - 1000.0)
    values[~ndimage.binary_dilation(inside, np.ones((3, 3, 3)))] = threshold - 1000.0
    vertices, faces = _level(values, threshold)
    return _placed(vertices, affine), faces


def _part_at(volume, parts, seed_point, threshold):
    """Return the number of the part nearest to a seed point."""
    at = np.linalg.solve(volume.affine, np.append(seed_point, 1.0))[:3]
    size = np.linalg.norm(volume.affine[:3, :3], axis=0)
    first = np.maximum(np.floor(at - _SEED_REACH / size).astype(int), 0)
    last = np.maximum(np.ceil(at + _SEED_REACH / size).astype(int) + 1, 0)
    near = parts[tuple(slice(a, b) for a, b in zip(first, last))]
    cells = np.argwhere(near)
    distance = np.linalg.norm((cells + first - at) @ volume.affine[:3, :3].T, axis=1)
    if not len(cells) or distance.min() > _SEED_REACH:
        raise ModelError(
            f'{volume.name}: seed point {seed_point.tolist()}: nothing within {_SEED_REACH:g} mm of it reaches '
            f'{threshold:g} HU: give a point in the lumen, in mm, in the axes of the file ({volume.axes})'
        )
    return int(near[tuple(cells[np.argmin(distance)])])


def _cropped(inside, affine):
    """Return a mask (X, Y, Z) cut to what it holds, with one empty voxel around, and its affine."""
    low = np.array([np.flatnonzero(inside.any(axis=axes))[0] for axes in ((1, 2), (0, 2), (0, 1))])
    high = np.array([np.flatnonzero(inside.any(axis=axes))[-1] for axes in ((1, 2), (0, 2), (0, 1))])
    cut = np.pad(inside[tuple(slice(a, b + 1) for a, b in zip(low, high))], 1)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ (low - 1)
    return cut, moved


def _level(values, level):
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(values, level)
    return vertices, faces


def _placed(vertices, affine):
    return vertices @ affine[:3, :3].T + affine[:3, 3]


def _read_nifti(path):
    import nibabel

    image = nibabel.load(path)
    unit = {'meter': 1e3, 'micron': 1e-3}.get(image.header.get_xyzt_units()[0], 1.0)
    scale = np.diag([unit, unit, unit, 1.0])
    data = np.asarray(image.dataobj)
    return data, scale @ image.affine, 'ras'


def _read_nrrd(path):
    import nrrd

    data, header = nrrd.read(str(path))
    if data.ndim != 3:
        raise ModelError(f'{path.name}: {data.ndim}D: give one volume of three dimensions, or a label map')
    axes, flips = _NRRD_SPACES.get(str(header.get('space', '')).lower(), ('native', (1, 1, 1)))
    affine = np.eye(4)
    directions = header.get('space directions')
    affine[:3, :3] = np.diag(header.get('spacings', np.ones(3))) if directions is None else np.transpose(directions)
    affine[:3, 3] = header.get('space origin', np.zeros(3))
    return data, np.diag([*flips, 1.0]) @ affine, axes


def _read_metaimage(path):
    """Read MetaImage (https://itk.org/Wiki/ITK/MetaIO/Documentation), whose axes are ITK's: LPS."""
    header = {}
    with path.open('rb') as stream:
        for line in stream:
            key, _, value = line.decode('ascii').partition('=')
            header[key.strip()] = value.strip()
            if key.strip() == 'ElementDataFile' or len(header) > 100:
                break
        where = header['ElementDataFile']
        raw = stream.read() if where == 'LOCAL' else (path.parent / where).read_bytes()
    if header.get('CompressedData', 'False').lower() == 'true':
        raw = zlib.decompress(raw)
    size = [int(n) for n in header['DimSize'].split()]
    order = (
        '>' if header.get('BinaryDataByteOrderMSB', header.get('ElementByteOrderMSB', '')).lower() == 'true' else '<'
    )
    if header['ElementType'] not in _METAIMAGE_TYPES or int(header.get('ElementNumberOfChannels', 1)) != 1:
        raise ModelError(f'{path.name}: elements of type {header["ElementType"]} are not read: save one value a voxel')
    data = np.frombuffer(raw, order + _METAIMAGE_TYPES[header['ElementType']])
    data = data[-int(np.prod(size)) :].reshape(size, order='F')  # a header of the data file comes before

    def numbers(*keys, default):
        return np.array(next((header[k] for k in keys if k in header), default).split(), dtype=float)

    affine = np.eye(4)
    directions = numbers('TransformMatrix', 'Rotation', 'Orientation', default='1 0 0 0 1 0 0 0 1').reshape(3, 3)
    affine[:3, :3] = directions.T * numbers('ElementSpacing', 'ElementSize', default='1 1 1')
    affine[:3, 3] = numbers('Offset', 'Position', 'Origin', default='0 0 0')
    return data, affine, 'lps'
