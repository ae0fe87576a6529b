"""Centrelines with radii come out of files as graphs; without a surface, their tubes are the model."""

import sys

import numpy as np
import pytest
from tubes import bent, bifurcation, swept_tube

from m2i_ros.model import ModelError, load_model
from m2i_ros.model.centreline_files import read_centreline


def write_csv(path, lines, radii, names=('x', 'y', 'z', 'radius', 'branch')):
    """Write lines [(n, 3)] and radii [(n,)], metres, as CSV in mm."""
    rows = [[*1e3 * p, 1e3 * r, k] for k, (line, radius) in enumerate(zip(lines, radii)) for p, r in zip(line, radius)]
    path.write_text('\n'.join([','.join(names), *(','.join(map(str, row)) for row in rows)]))
    return path


def degrees(centreline):
    return np.bincount(centreline.edges.ravel(), minlength=len(centreline.points))


def test_branches_that_meet_are_joined(tmp_path):
    lines, radii = bifurcation(np.radians(30))
    lines[2] = lines[2][::-1]  # in any direction
    lines[1] = np.linspace(lines[1][0] + (3e-3, 0, -2e-3), lines[1][1], 30)  # from inside the trunk
    radii[1] = np.full(30, 4e-3)
    centreline = read_centreline(write_csv(tmp_path / 'a.csv', lines, radii))
    assert sorted(d for d in degrees(centreline) if d != 2) == [1, 1, 1, 3]
    length = np.linalg.norm(np.diff(centreline.points[centreline.edges], axis=1)[:, 0], axis=1)
    assert 0.4e-3 < length.min() and length.max() < 1.6e-3
    assert set(np.round(1e3 * centreline.radii, 3)) == {6.0, 4.0, 3.5}


def test_a_line_that_follows_another_begins_where_it_leaves_it(tmp_path):
    (trunk, left, right), _ = bifurcation(np.radians(30))
    whole = [np.vstack([trunk, left[1:]]), np.vstack([trunk + 2e-4, right[1:]])]  # as VMTK writes them
    centreline = read_centreline(write_csv(tmp_path / 'a.csv', whole, [np.full(3, 3e-3)] * 2))
    assert sorted(d for d in degrees(centreline) if d != 2) == [1, 1, 1, 3]
    joint = centreline.points[degrees(centreline) == 3][0]
    assert np.linalg.norm(joint) < 3e-3


def test_a_centreline_alone_is_a_model_of_its_tubes(tmp_path):
    line, radii = bent()
    model = load_model(write_csv(tmp_path / 'tube.csv', [line], [radii]), axes='ras')
    assert model.axes == 'ras' and model.cap_faces.any()
    apart = np.linalg.norm(model.vertices[:, None] - line, axis=2).min(axis=1)
    ends = np.linalg.norm(model.vertices[:, None] - line[[0, -1]], axis=2).min(axis=1) < 1.5 * radii[0]
    assert np.abs(apart[~ends] - radii[0]).max() < 0.05 * radii[0]
    np.testing.assert_allclose(model.centreline.radii, radii[0])


def test_a_centreline_beside_a_surface_is_taken_and_one_elsewhere_is_refused(tmp_path):
    import trimesh

    line, radii = bent()
    vertices, faces = swept_tube(line, radii, closed=True)
    trimesh.Trimesh(1e3 * vertices, faces, process=False).export(tmp_path / 'tube.stl')
    model = load_model(tmp_path / 'tube.stl', centreline=write_csv(tmp_path / 'a.csv', [line], [0.9 * radii]))
    np.testing.assert_allclose(model.centreline.radii, 0.9 * radii[0])
    assert model.cap_faces.sum() == 2 * 7 * 32
    with pytest.raises(ModelError, match='same units and axes'):
        load_model(tmp_path / 'tube.stl', centreline=write_csv(tmp_path / 'b.csv', [line * (-1, -1, 1)], [radii]))


BAD = {
    'no header': ('1,2,3,4\n5,6,7,8\n', 'must name the columns'),
    'no radius': ('x,y,z\n1,2,3\n', 'must name the columns'),
    'words': ('x,y,z,radius\n1,2,3,4\n1,2,here,4\n', 'line 3'),
    'one point': ('x,y,z,radius\n1,2,3,4\n', 'no line'),
    'nan': ('x,y,z,radius\n1,2,3,4\n1,2,nan,4\n50,50,50,4', 'no numbers'),
    'radius zero': ('x,y,z,radius\n1,2,3,4\n50,2,30,0\n', 'above 0'),
    'empty': ('', 'must name the columns'),
    'noise': (b'\xff\xfe\x00\x80' * 9, 'not a readable CSV'),
    'metres taken for mm': ('x,y,z,radius\n0,0,0,0.004\n0,0,0.08,0.004\n', 'did you mean units:=m'),
}


@pytest.mark.parametrize('case', BAD)
def test_a_file_without_a_centreline_is_refused_with_the_reason(case, tmp_path):
    content, reason = BAD[case]
    path = tmp_path / 'bad.csv'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=r'bad\.csv: .*' + reason):
        load_model(path)


def test_without_vtk_its_files_are_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'vtkmodules', None)
    monkeypatch.setitem(sys.modules, 'vtkmodules.util.numpy_support', None)
    (tmp_path / 'a.vtp').touch()
    with pytest.raises(ModelError, match=r'a\.vtp: .*pip install vtk'):
        load_model(tmp_path / 'a.vtp')


@pytest.fixture
def polydata():
    """Return a function that writes points (mm), triangles, polylines and radii as VTP or VTK."""
    pytest.importorskip('vtkmodules', reason='vtk is optional and not installed')
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkIOLegacy import vtkPolyDataWriter
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    def write(path, points, faces=(), lines=(), radii=None):
        content, places = vtkPolyData(), vtkPoints()
        places.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
        content.SetPoints(places)
        for cells, put in ((faces, content.SetPolys), (lines, content.SetLines)):
            array = vtkCellArray()
            for cell in cells:
                array.InsertNextCell(len(cell), [int(i) for i in cell])
            put(array)
        if radii is not None:
            array = numpy_to_vtk(radii, deep=True)
            array.SetName('MaximumInscribedSphereRadius')
            content.GetPointData().AddArray(array)
        writer = vtkXMLPolyDataWriter() if path.suffix == '.vtp' else vtkPolyDataWriter()
        writer.SetFileName(str(path))
        writer.SetInputData(content)
        writer.Write()
        return path

    return write


@pytest.mark.parametrize('suffix', ['.vtp', '.vtk'])
def test_vtk_files_give_surfaces_and_centrelines(suffix, polydata, tmp_path):
    line, radii = bent()
    vertices, faces = swept_tube(line, radii, closed=True)
    surface = polydata(tmp_path / f'tube{suffix}', 1e3 * vertices, faces)
    lines = polydata(tmp_path / f'line{suffix}', 1e3 * line, lines=[np.arange(len(line))], radii=1e3 * radii)
    both = load_model(surface, centreline=lines)
    assert len(both.faces) == len(faces)
    np.testing.assert_allclose(both.centreline.radii, radii[0], rtol=1e-6)
    assert load_model(lines).cap_faces.any()
    bare = polydata(tmp_path / f'bare{suffix}', 1e3 * line, lines=[np.arange(len(line))])
    with pytest.raises(ModelError, match='without radii'):
        load_model(bare)
    (tmp_path / f'noise{suffix}').write_bytes(b'noise' * 50)
    with pytest.raises(ModelError, match='not a readable VTK'):
        load_model(tmp_path / f'noise{suffix}')
