"""Centrelines with radii from files: CSV, and VTP or VTK as VMTK and Slicer write them."""

import csv
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from m2i_ros.model import vtk_files
from m2i_ros.model.centreline import SPACING, graph
from m2i_ros.model.errors import ModelError
from m2i_ros.model.polyline import arc_length, resampled

_FOLLOWS = 0.3  # radii: a line this close to another is the same vessel


def read_centreline(path, scale=1e-3):
    """Return the `Centreline` of a file: points 1 mm apart, branches joined where they meet.

    CSV: columns x, y, z, radius and, for several vessels, branch; the points of a branch in order. VTP, VTK: polylines
    with point data MaximumInscribedSphereRadius or Radius. scale: metres to the file's unit of length. A line that
    follows one before it, as VMTK's from one source to many ends do, begins where it leaves that; another that begins
    or ends inside one before it is joined to it.

    Raises ModelError where the file is unreadable, has no line, or radii that are missing or not above 0.
    """
    path = Path(path)
    lines = _read_csv(path) if path.suffix.lower() == '.csv' else _read_polylines(path)
    if not all(np.isfinite(line).all() for line in lines):
        raise ModelError(f'{path.name}: damaged: some coordinates or radii are no numbers')
    lines = [line * scale for line in lines if len(line) > 1 and arc_length(line[:, :3])[-1] > 0]
    if not lines:
        raise ModelError(f'{path.name}: no centreline in it: no line of two points or more')
    if np.vstack(lines)[:, 3].min() <= 0:
        raise ModelError(f'{path.name}: some radii are not above 0')
    return _joined(lines)


def _read_csv(path):
    """Return lines [(n, 4)]: x, y, z, radius."""
    try:
        with path.open(newline='', encoding='utf-8-sig') as stream:
            rows = [{k.strip().lower(): v for k, v in row.items() if k} for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise ModelError(f'{path.name}: not a readable CSV file ({error})') from error
    if not rows or not {'x', 'y', 'z', 'radius'} <= set(rows[0]):
        raise ModelError(f'{path.name}: its first line must name the columns x, y, z, radius and, if any, branch')
    lines = {}
    for number, row in enumerate(rows, 2):
        try:
            point = [float(row[key]) for key in ('x', 'y', 'z', 'radius')]
        except (TypeError, ValueError):
            raise ModelError(f'{path.name}: line {number}: x, y, z and radius must be numbers') from None
        lines.setdefault(row.get('branch', ''), []).append(point)
    return [np.array(line) for line in lines.values()]


def _read_polylines(path):
    points, _, lines, radii = vtk_files.read_polydata(path)
    if lines and radii is None:
        raise ModelError(
            f'{path.name}: lines without radii: point data MaximumInscribedSphereRadius or Radius is missing'
        )
    return [np.column_stack([points[line], radii[line]]) for line in lines]


def _joined(lines):
    """Return the `Centreline` of lines [(n, 4)], each joined to those before it."""
    placed = []  # points (n, 3), and (line, point) where it begins
    radii = []
    for line in lines:
        line = _even(line)
        joint = None
        if placed:
            line, joint = _leaving(line, placed, radii)
        if len(line) > 1:
            placed.append((line[:, :3], joint))
            radii.append(line[:, 3])
    everything, all_radii = np.vstack([points for points, _ in placed]), np.concatenate(radii)

    # The graph's points are those placed: each is its own nearest.
    return graph(placed, lambda points: all_radii[cKDTree(everything).query(points)[1]])


def _even(line):
    """Return a line (n, 4) with points SPACING apart, radii interpolated."""
    line = line[np.concatenate([[True], np.any(np.diff(line[:, :3], axis=0) != 0, axis=1)])]
    even = resampled(line[:, :3], SPACING)
    at = np.linspace(0, arc_length(line[:, :3])[-1], len(even))
    return np.column_stack([even, np.interp(at, arc_length(line[:, :3]), line[:, 3])])


def _leaving(line, placed, radii):
    """Return a line (n, 4) from where it leaves those placed before, the joint first, and the joint: (line, point)."""
    number = np.concatenate([np.full(len(r), k) for k, r in enumerate(radii)])
    point = np.concatenate([np.arange(len(r)) for r in radii])
    everything, all_radii = np.vstack([points for points, _ in placed]), np.concatenate(radii)

    def nearest(place):
        apart = np.linalg.norm(everything - place, axis=1)
        # The nearest in radii: a thin branch that starts in a wide trunk belongs to the trunk.
        return int(np.argmin(apart / all_radii)), float(np.min(apart / all_radii))

    if nearest(line[0, :3])[1] > 1 >= nearest(line[-1, :3])[1]:
        line = line[::-1]
    at, apart = nearest(line[0, :3])
    if apart > 1:
        return line, None
    start = 0
    while start < len(line) and nearest(line[start, :3])[1] < _FOLLOWS:
        at = nearest(line[start, :3])[0]
        start += 1
    if start == len(line):  # it never leaves
        return line[:0], None
    joint = np.append(everything[at], line[start, 3])
    return _even(np.vstack([joint, line[start:]])), (int(number[at]), int(point[at]))
