"""A lumen comes out of a volume where the patient has it, as wide as it is; what holds none is refused."""

import zlib

import nibabel
import nrrd
import numpy as np
import pytest
from tubes import dense_line

from m2i_ros.model import ModelError, load_model
from m2i_ros.model.volumes import contrast_surface, label_surface, read_volume

# An oblique tube in a turned, anisotropic grid: mm. Half a voxel is a tenth of its radius.
RADIUS = 3.5
ENDS = np.array([[-20.0, 12, -33], [18.0, -9, 31]])
TURN, _ = np.linalg.qr(np.array([[0.9, -0.3, 0.1], [0.2, 0.9, 0.3], [-0.2, -0.1, 0.95]]))
TURN = TURN * np.sign(np.linalg.det(TURN))
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * (0.6, 0.7, 0.9)
SHAPE = (110, 100, 110)
AFFINE[:3, 3] = -AFFINE[:3, :3] @ (np.array(SHAPE) / 2)


@pytest.fixture(scope='module')
def distance():
    """Distances (X, Y, Z) of the voxels from the tube's axis, mm; large beyond its flat ends."""
    points = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    axis = ENDS[1] - ENDS[0]
    length = np.linalg.norm(axis)
    along = (points - ENDS[0]) @ (axis / length)
    beside = np.linalg.norm(points - ENDS[0] - along[..., None] * axis / length, axis=-1)
    return np.maximum(beside, np.abs(along - length / 2) - length / 2 + RADIUS)


@pytest.fixture(scope='module')
def labels(distance):
    """The tube is label 3; a corner has label 7."""
    out = np.where(distance < RADIUS, 3, 0).astype(np.uint8)
    out[:8, :8, :8] = 7
    return out


@pytest.fixture(scope='module')
def hounsfield(distance):
    """A CTA: the tube at 350 HU, its edge a voxel wide, muscle at 50, and a larger bone at 700 beside."""
    hu = 50 + 300 / (1 + np.exp((distance - RADIUS) / 0.3))
    hu[70:, 70:, :50] = 700
    return hu.astype(np.float32)


def write(kind, data, folder):
    """Write data as a volume; return the path, and what turns its axes into those of AFFINE."""
    path = folder / f'tube{kind}'
    if kind.startswith('.nii'):
        nibabel.save(nibabel.Nifti1Image(data, AFFINE), path)
    elif kind in ('.nrrd', '.nhdr'):
        header = {
            'space': 'left-posterior-superior',
            'space directions': AFFINE[:3, :3].T,
            'space origin': AFFINE[:3, 3],
        }
        nrrd.write(str(path), data, header)
    else:
        raw = data.tobytes(order='F')
        raw, where = (zlib.compress(raw, 1), 'LOCAL') if kind == '.mha' else (raw, 'tube.raw')
        scale = np.linalg.norm(AFFINE[:3, :3], axis=0)
        kinds = {'uint8': 'MET_UCHAR', 'float32': 'MET_FLOAT'}
        header = {
            'ObjectType': 'Image',
            'NDims': 3,
            'CompressedData': kind == '.mha',
            'TransformMatrix': ' '.join(map(repr, (AFFINE[:3, :3] / scale).T.ravel().tolist())),
            'Offset': ' '.join(map(repr, AFFINE[:3, 3].tolist())),
            'ElementSpacing': ' '.join(map(repr, scale.tolist())),
            'DimSize': ' '.join(map(str, data.shape)),
            'ElementType': kinds[data.dtype.name],
            'ElementDataFile': where,
        }
        text = ''.join(f'{key} = {value}\n' for key, value in header.items()).encode()
        path.write_bytes(text + raw if where == 'LOCAL' else text)
        if where != 'LOCAL':
            (folder / where).write_bytes(raw)
    return path


def radii_about_the_axis(vertices):
    """Return the distances (n,) of vertices (V, 3), mm, from the axis, away from the ends."""
    axis = ENDS[1] - ENDS[0]
    along = (vertices - ENDS[0]) @ axis / (axis @ axis)
    beside = np.linalg.norm(vertices - ENDS[0] - along[:, None] * axis, axis=1)
    return beside[(along > 0.1) & (along < 0.9)]


@pytest.mark.parametrize('kind', ['.nii', '.nii.gz', '.nrrd', '.nhdr', '.mha', '.mhd'])
def test_a_label_lies_where_the_file_says_and_keeps_its_calibre(kind, labels, tmp_path):
    volume = read_volume(write(kind, labels, tmp_path))
    assert volume.axes == ('ras' if '.nii' in kind else 'lps')
    vertices, _ = label_surface(volume, [3])
    radii = radii_about_the_axis(vertices)
    assert radii.mean() == pytest.approx(RADIUS, rel=0.03)
    assert radii.std() < 0.05 * RADIUS  # unsmoothed voxels: 0.07


def test_contrast_lies_between_the_voxels_and_a_seed_point_tells_vessel_from_bone(hounsfield, tmp_path):
    volume = read_volume(write('.nii.gz', hounsfield, tmp_path))
    vertices, _ = contrast_surface(volume, 200, seed_point=ENDS.mean(axis=0) + (1, 0, 0))
    radii = radii_about_the_axis(vertices)
    assert radii.mean() == pytest.approx(RADIUS, rel=0.01) and radii.std() < 0.02 * RADIUS
    bone, _ = contrast_surface(volume, 200)
    assert len(radii_about_the_axis(bone)) == 0 or radii_about_the_axis(bone).min() > RADIUS


def test_a_label_map_becomes_a_model_with_its_middle_and_its_caps(labels, tmp_path):
    model = load_model(write('.nii.gz', labels, tmp_path), labels=[3])
    assert model.axes == 'ras' and model.name == 'tube'
    assert model.centreline.branch.max() == 0
    line, _ = dense_line(ENDS * 1e-3, np.full(2, RADIUS), 1e-4)
    offset = np.linalg.norm(model.centreline.points[:, None] - line, axis=2).min(axis=1)
    assert np.quantile(offset, 0.95) < RADIUS / 3 * 1e-3
    assert np.linalg.norm(model.centreline.points[[0, -1]][:, None] - ENDS * 1e-3, axis=2).min(axis=1).max() < 1e-3
    caps = model.vertices[model.faces[model.cap_faces]].mean(axis=1)
    nearest = np.linalg.norm(caps[:, None] - ENDS * 1e-3, axis=2)
    assert nearest.min(axis=1).max() < 1.3 * RADIUS * 1e-3 and set(nearest.argmin(axis=1)) == {0, 1}


def test_what_the_space_field_of_nrrd_says_is_believed(labels, tmp_path):
    directions = {'space directions': AFFINE[:3, :3].T, 'space origin': AFFINE[:3, 3]}
    for space, axes, turn in (('RAS', 'ras', (1, 1, 1)), ('left-anterior-superior', 'lps', (1, -1, 1))):
        nrrd.write(str(tmp_path / 'a.nrrd'), labels, {'space': space, **directions})
        volume = read_volume(tmp_path / 'a.nrrd')
        assert volume.axes == axes
        np.testing.assert_allclose(volume.affine[:3], np.diag(turn) @ AFFINE[:3])
    nrrd.write(str(tmp_path / 'b.nrrd'), labels, {'spacings': [0.6, 0.7, 0.9]})
    plain = read_volume(tmp_path / 'b.nrrd')
    assert plain.axes == 'native'
    np.testing.assert_allclose(plain.affine, np.diag([0.6, 0.7, 0.9, 1]))


BAD = {
    'a label that is not there': (lambda d: d, {'labels': [2]}, r'label 2 .* 3 \(\d+ voxels\), 7 \(512 voxels\)'),
    'several labels and none given': (lambda d: d, {}, 'give --label'),
    'an empty map': (lambda d: 0 * d, {}, 'empty'),
    'a CTA without a threshold': (lambda d: d + np.random.default_rng(0).random(d.shape), {}, '--threshold'),
    'a threshold that nothing reaches': (lambda d: d, {'threshold': 9e3}, '0 and 7'),
    'a seed point beside': (lambda d: d, {'threshold': 2, 'seed_point': (1e3, 0, 0)}, 'seed point'),
    'a seed point without a threshold': (lambda d: d, {'seed_point': (0, 0, 0)}, 'needs a threshold'),
    'label and threshold': (lambda d: d, {'labels': [3], 'threshold': 2}, 'not both'),
    'four dimensions': (lambda d: np.stack([d, d], axis=-1), {}, '4D'),
}


@pytest.mark.parametrize('case', BAD)
def test_a_volume_without_a_vessel_is_refused_with_the_reason(case, labels, tmp_path):
    change, settings, reason = BAD[case]
    path = tmp_path / 'bad.nii'
    nibabel.save(nibabel.Nifti1Image(change(labels).astype(np.float32), AFFINE), path)
    with pytest.raises(ModelError, match=r'bad\.nii: .*' + reason):
        load_model(path, **settings)


@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz', '.nrrd', '.mha', '.mhd'])
@pytest.mark.parametrize('content', [b'', b'noise' * 100, b'NRRD0004\n', b'ElementDataFile = LOCAL\n'])
def test_a_damaged_volume_is_refused_by_name(suffix, content, tmp_path):
    path = tmp_path / f'damaged{suffix}'
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf'damaged\{suffix[:4]}.*: not a readable volume'):
        load_model(path)


def test_label_and_threshold_are_not_for_meshes(tmp_path):
    (tmp_path / 'a.stl').touch()
    with pytest.raises(ModelError, match='for volumes'):
        load_model(tmp_path / 'a.stl', labels=[1])
