"""What is known of the patient's vessels before the intervention."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from m2i_ros.model.projection import mesh_edges


@dataclass(frozen=True)
class Centreline:
    """A centreline graph: points along branches, joined by edges.

    points: (N, 3) float64, metres, model axes. The points of a branch are consecutive and in order.
    radii: (N,) float64, metres: the largest sphere inside the lumen, or the mean lumen radius of the section.
    branch: (N,) int32, 0, 1, 2, ...
    arc_length: (N,) float64, metres from the branch's first point.
    edges: (E, 2) int32: neighbours along branches, and the joints between them.
    """

    points: np.ndarray
    radii: np.ndarray
    branch: np.ndarray
    arc_length: np.ndarray
    edges: np.ndarray

    def tangents(self):
        """Return unit directions (N, 3) along the branches, towards growing arc length."""
        out = np.zeros_like(self.points)
        for b in np.unique(self.branch):
            at = np.flatnonzero(self.branch == b)
            if len(at) > 1:
                out[at] = np.gradient(self.points[at], axis=0)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class VesselModel:
    """The lumen surface and its centreline, in metres, in the file's own axes.

    vertices: (V, 3) float64. faces: (F, 3) int32, outward by the right-hand rule where the surface is closed.
    cap_faces: (F,) bool: faces that close a vessel's cut end. They are an artefact of the cut: contrast goes on behind
    them, so they never count as edges. All False where the surface is open.
    axes: what the axes mean: 'lps' (DICOM, ITK), 'ras' (NIfTI, Slicer), or 'native' where nobody knows; coordinates are
    never converted. name: for people. source: the file it came from.
    """

    vertices: np.ndarray
    faces: np.ndarray
    cap_faces: np.ndarray
    centreline: Centreline
    axes: str = 'lps'
    name: str = 'vessel'
    source: str = field(default='', compare=False)

    @cached_property
    def edges(self):
        """What `projection.mesh_edges` says of the faces."""
        return mesh_edges(self.faces)

    @cached_property
    def centroid(self):
        """The mean of the vertices, (3,) metres."""
        return self.vertices.mean(axis=0)

    @cached_property
    def extent(self):
        """The longest side of the bounding box, metres."""
        return float(np.ptp(self.vertices, axis=0).max())

    @cached_property
    def hash(self):
        """SHA-256 of surface and centreline, as 64 hex digits: which model a recorded pose belongs to."""
        digest = hashlib.sha256()
        for array in (self.vertices, self.faces, self.centreline.points, self.centreline.radii):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
