"""Surfaces and lines in VTK's files (VTP, VTK), as Slicer, VMTK and ParaView write them. Needs the package vtk."""

from pathlib import Path

import numpy as np

from m2i_ros.model.errors import ModelError

_RADII = ('MaximumInscribedSphereRadius', 'Radius', 'radius', 'Radii', 'radii')  # VMTK's and Slicer's name, and others


def read_polydata(path):
    """Return points (N, 3), triangles (F, 3), polylines [(n,) point numbers] and radii (N,), None where there are none.

    Polygons and strips become triangles. Raises ModelError where the file is unreadable, or vtk is not installed.
    """
    path = Path(path)
    try:
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkFiltersCore import vtkTriangleFilter
        from vtkmodules.vtkIOLegacy import vtkPolyDataReader
        from vtkmodules.vtkIOXML import vtkXMLPolyDataReader
    except ImportError as error:
        raise ModelError(
            f'{path.name}: {path.suffix[1:].upper()} files need VTK: python3 -m pip install vtk, or export STL or PLY'
        ) from error
    reader = vtkXMLPolyDataReader() if path.suffix.lower() == '.vtp' else vtkPolyDataReader()
    reader.GlobalWarningDisplayOff()  # what is wrong is said below
    reader.SetFileName(str(path))
    reader.Update()
    if not reader.GetOutput().GetNumberOfPoints():
        raise ModelError(f'{path.name}: not a readable VTK file of surfaces or lines, or one without points')
    triangles = vtkTriangleFilter()
    triangles.SetInputConnection(reader.GetOutputPort())
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    triangles.Update()
    content = reader.GetOutput()
    points = vtk_to_numpy(content.GetPoints().GetData()).astype(float)
    faces = triangles.GetOutput().GetPolys()
    faces = vtk_to_numpy(faces.GetConnectivityArray()) if faces.GetNumberOfCells() else np.empty(0, np.int64)
    lines = content.GetLines()
    lines = (
        np.split(vtk_to_numpy(lines.GetConnectivityArray()), vtk_to_numpy(lines.GetOffsetsArray())[1:-1])
        if lines.GetNumberOfCells()
        else []
    )
    arrays = [content.GetPointData().GetArray(name) for name in _RADII]
    radii = next((vtk_to_numpy(array).astype(float) for array in arrays if array is not None), None)
    return points, faces.reshape(-1, 3), lines, radii
