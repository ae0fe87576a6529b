"""A model comes out of a file as it went in; a file that gives none says why, and what to do."""

import time

import numpy as np
import pytest
import trimesh
from tubes import bent, swept_tube

from m2i_ros.model import Centreline, ModelError, VesselModel, load_model, save_model
from m2i_ros.model.prepare import main, picture


@pytest.fixture(scope='module')
def mesh():
    """A bent tube, closed, in millimetres."""
    vertices, faces = swept_tube(*bent(), closed=True)
    return trimesh.Trimesh(1e3 * vertices, faces, process=False)


@pytest.fixture(scope='module')
def model(mesh, tmp_path_factory):
    path = tmp_path_factory.mktemp('models') / 'tube.stl'
    mesh.export(path)
    return load_model(path, units='mm', axes='ras')


def test_a_mesh_becomes_a_model_in_metres_in_its_own_axes(model, mesh):
    assert model.axes == 'ras' and model.name == 'tube' and model.source.endswith('tube.stl')
    np.testing.assert_allclose(np.sort(model.vertices.min(0)), np.sort(mesh.vertices.min(0)) * 1e-3, atol=1e-6)
    np.testing.assert_allclose(model.vertices.max(0), mesh.vertices.max(0) * 1e-3, atol=1e-6)
    assert len(model.faces) == len(mesh.faces) and model.faces.dtype == np.int32
    assert model.cap_faces.sum() == 2 * 7 * 32
    assert model.centreline.branch.max() == 0


def test_every_kind_of_file_gives_the_same_surface(mesh, tmp_path):
    from m2i_ros.model.files import read_mesh
    from m2i_ros.model.surface import volume, weld

    for name in ('a.stl', 'b.ply', 'c.obj', 'D.STL'):
        mesh.export(tmp_path / name, file_type=name[-3:].lower())
    (tmp_path / 'e.stl').write_text(trimesh.exchange.stl.export_stl_ascii(mesh))
    for name in ('a.stl', 'b.ply', 'c.obj', 'D.STL', 'e.stl'):
        vertices, faces = weld(*read_mesh(tmp_path / name))
        assert len(faces) == len(mesh.faces), name
        assert volume(vertices, faces) == pytest.approx(mesh.volume, rel=1e-5)


@pytest.mark.parametrize('units, factor', [('mm', 1.0), ('cm', 0.1), ('m', 1e-3)])
def test_units_scale_to_metres(mesh, tmp_path, units, factor):
    path = tmp_path / 'tube.ply'
    trimesh.Trimesh(mesh.vertices * factor, mesh.faces, process=False).export(path)
    vertices = load_model(path, units).vertices
    np.testing.assert_allclose(np.ptp(vertices, axis=0), np.ptp(mesh.vertices, axis=0) * 1e-3, rtol=1e-5)


def test_a_saved_model_is_the_same_model_and_loads_at_once(model, tmp_path):
    save_model(model, tmp_path / 'model.npz')
    start = time.process_time()
    again = load_model(tmp_path / 'model.npz')
    elapsed = time.process_time() - start
    for name in ('vertices', 'faces', 'cap_faces'):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
        assert getattr(again, name).dtype == getattr(model, name).dtype
    for name in ('points', 'radii', 'branch', 'arc_length', 'edges'):
        np.testing.assert_array_equal(getattr(again.centreline, name), getattr(model.centreline, name))
    assert (again.axes, again.name, again.hash) == (model.axes, model.name, model.hash)
    assert elapsed < 1.0  # processor time, a model of this size needs 0.01
    assert [p.name for p in tmp_path.iterdir()] == ['model.npz']


@pytest.mark.parametrize(
    'given, units, hint',
    [('mm', 'm', 'units:=mm'), ('m', 'mm', 'units:=m?'), ('cm', 'm', 'units:=cm'), ('m', 'cm', 'units:=m?')],
)
def test_wrong_units_are_refused_and_the_right_ones_named(mesh, tmp_path, given, units, hint):
    factor = {'mm': 1.0, 'cm': 0.1, 'm': 1e-3}[given]
    trimesh.Trimesh(mesh.vertices * 7 * factor, mesh.faces, process=False).export(tmp_path / 'aorta.stl')
    with pytest.raises(ModelError, match=r'aorta\.stl: extent .* m: did you mean .*' + hint.replace('?', r'\?')):
        load_model(tmp_path / 'aorta.stl', units=units)


def write(path, content):
    path.write_bytes(content)
    return path


BAD = {
    'missing': lambda d: d / 'none.stl',
    'a folder': lambda d: d,
    'a type nobody knows': lambda d: write(d / 'heart.xyz', b'0 0 0'),
    'an empty file': lambda d: write(d / 'empty.stl', b''),
    'noise as STL': lambda d: write(d / 'noise.stl', bytes(range(256)) * 3),
    'text as PLY': lambda d: write(d / 'text.ply', b'ply\nnot at all\n'),
    'points only': lambda d: write(
        d / 'points.ply',
        b'ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n'
        b'end_header\n0 0 0\n',
    ),
    'nothing finite': lambda d: write(d / 'nan.obj', b'v nan nan nan\n' * 3 + b'f 1 2 3\n'),
    'faces beyond the vertices': lambda d: write(d / 'beyond.obj', b'v 0 0 0\nv 100 0 0\nv 0 100 0\nf 1 2 9\n'),
    'a sheet': lambda d: write(d / 'sheet.obj', b'v 0 0 0\nv 100 0 0\nv 0 100 0\nf 1 2 3\n'),
    'a line of faces': lambda d: write(d / 'line.obj', b'v 0 0 0\nv 100 0 0\nv 50 0 0\nf 1 2 2\n'),
    'noise as npz': lambda d: write(d / 'noise.npz', b'PK\x03\x04' + bytes(100)),
}


@pytest.mark.parametrize('case', BAD)
def test_a_file_without_a_model_is_refused_by_name(case, tmp_path):
    path = BAD[case](tmp_path)
    with pytest.raises(ModelError, match=path.name.replace('.', r'\.')):
        load_model(path)


def test_an_npz_that_is_not_ours_or_was_changed_is_refused(model, tmp_path):
    np.savez(tmp_path / 'other.npz', vertices=model.vertices)
    with pytest.raises(ModelError, match='prepare_model'):
        load_model(tmp_path / 'other.npz')
    save_model(model, tmp_path / 'model.npz')
    with np.load(tmp_path / 'model.npz') as content:
        changed = {**content, 'points': content['points'] + 1e-3}
    np.savez(tmp_path / 'changed.npz', **changed)
    with pytest.raises(ModelError, match='hash'):
        load_model(tmp_path / 'changed.npz')


@pytest.mark.parametrize('settings', [{'units': 'inch'}, {'axes': 'xyz'}])
def test_unknown_units_and_axes_are_refused_with_the_list(settings, tmp_path):
    with pytest.raises(ModelError, match='lps, ras, native|mm, cm, m'):
        load_model(tmp_path / 'a.stl', **settings)


def test_a_model_is_saved_whole_or_not_at_all(tmp_path):
    line = Centreline(np.zeros((1, 3)), np.ones(1), np.zeros(1, int), np.zeros(1), np.empty((0, 2), int))
    model = VesselModel(np.zeros((3, 3)), np.array([[0, 1, 2]]), np.zeros(1, bool), line)
    with pytest.raises(ModelError, match=r'\.npz'):
        save_model(model, tmp_path / 'model.stl')
    with pytest.raises(ModelError, match='cannot be written'):
        save_model(model, tmp_path / 'no' / 'model.npz')
    (tmp_path / 'busy.npz').mkdir()
    with pytest.raises(ModelError, match='cannot be written'):
        save_model(model, tmp_path / 'busy.npz')
    assert [p.name for p in tmp_path.iterdir()] == ['busy.npz']


def test_prepare_model_writes_model_and_picture_and_says_what_it_found(model, mesh, tmp_path, capsys):
    mesh.export(tmp_path / 'tube.ply')
    assert main([str(tmp_path / 'tube.ply'), '--units', 'mm', '--axes', 'lps', '-o', str(tmp_path / 'out.npz')]) == 0
    said = capsys.readouterr().out
    made = load_model(tmp_path / 'out.npz')
    for word in ('48.0 x 25.0 x 23.5 mm', 'closed', '1 branch(es)', 'radius', '448 faces on caps', made.hash):
        assert word in said, said
    assert (tmp_path / 'out.png').stat().st_size > 1000
    assert made.axes == 'lps' and len(made.faces) == len(model.faces)


def test_prepare_model_fails_in_words_with_code_2(mesh, tmp_path, capsys):
    mesh.export(tmp_path / 'tube.stl')
    assert main([str(tmp_path / 'tube.stl'), '--units', 'm']) == 2
    assert 'did you mean units:=mm' in capsys.readouterr().err
    assert main([str(tmp_path / 'none.stl')]) == 2
    assert not (tmp_path / 'tube.npz').exists()


def test_the_picture_shows_the_model_from_three_sides(model):
    image = picture(model)
    assert image.shape == (480, 1440, 3) and image.dtype == np.uint8
    for view in np.split(image, 3, axis=1):
        assert 0.01 < np.mean(view.min(axis=2) < 250) < 0.8


def test_the_picture_shows_a_surface_of_few_large_faces():
    ends = np.array([[0.0, 0, 0], [0, 0, 0.1]])
    vertices, faces = swept_tube(ends, np.full(2, 0.01), closed=True, sides=6, rings_per_cap=1)
    line = Centreline(ends, np.full(2, 0.01), np.zeros(2, int), np.array([0, 0.1]), np.array([[0, 1]]))
    image = picture(VesselModel(vertices, faces.astype(np.int32), np.zeros(len(faces), bool), line))
    side = image[:, 480:960].min(axis=2)  # along y: 413 pixels tall, 83 wide
    assert np.mean(side[50:430, 210:270] < 250) > 0.95
