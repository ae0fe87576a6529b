"""A stand-in for the simulated patient, small and quick: a bright block that moves."""

import sys
from pathlib import Path

import numpy as np
import pytest

import m2i_ros.sources.dicom_header  # noqa: F401  imports pydicom first, as the sources do: without GDCM
from m2i_ros.geometry import Camera, rigid
from m2i_ros.model.vessel_model import Centreline, VesselModel
from m2i_ros.sources import SourceFrame

sys.path.insert(0, str(Path(__file__).parent))


def _box_model():
    """Return a box of 20 x 60 x 10 mm with a centreline along y."""
    x, y, z = 0.01, 0.03, 0.005
    vertices = np.array([[a, b, c] for a in (-x, x) for b in (-y, y) for c in (-z, z)])
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([t for q in quads for t in ([q[0], q[1], q[2]], [q[0], q[2], q[3]])], np.int32)
    points = np.stack([np.zeros(7), np.linspace(-y, y, 7), np.zeros(7)], axis=1)
    line = Centreline(
        points,
        np.full(7, 0.005),
        np.zeros(7, np.int32),
        np.linspace(0, 2 * y, 7),
        np.array([[i, i + 1] for i in range(6)], np.int32),
    )
    return VesselModel(vertices, faces, np.zeros(12, bool), line, name='box')


class MovingBox:
    """A source with all the truth: `count` frames of 64 x 64."""

    realtime = True
    skipped = ()

    def __init__(self, count=6, frame_rate=10.0, named=False, mirrored=False):
        self.count, self.frame_rate, self.named = count, frame_rate, named
        self.model = _box_model()
        self.camera = Camera.from_detector(64, 64, 1.0, 0.002, mirrored)
        self.initial_pose = rigid((0.0, 0.0, 0.05), (0.001, 0.0, 0.75))

    def __len__(self):
        return self.count

    def pose(self, index):
        return rigid((0.0, 0.0, 0.01 * index), (0.0, 0.001 * index, 0.75))

    def __iter__(self):
        rng = np.random.default_rng(5)
        for index in range(self.count):
            mask = np.zeros((64, 64), np.uint8)
            if index:  # no contrast in the first frame
                mask[10 + index : 50 + index, 20:36] = 255
            image = (180 - (mask // 3) + rng.integers(0, 20, mask.shape)).astype(np.uint8)
            name = f'f{index}' if self.named else ''
            yield SourceFrame(image, index / self.frame_rate, name, self.camera, self.pose(index), mask)


@pytest.fixture
def moving_box():
    """Return the class of a small source that knows all the truth."""
    return MovingBox
