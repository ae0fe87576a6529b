"""The tree, the camera and the view that the registration's tests share."""

import sys
from pathlib import Path

import numpy as np
import pytest

from m2i_ros.geometry import Camera, CArm, rigid

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def model():
    from trees import tree

    return tree(offset=(0.03, -0.2, -0.6))


@pytest.fixture(scope='session')
def camera():
    return Camera.from_detector(512, 512, source_to_detector=1.1, pixel_spacing=0.6e-3, mirrored=True)


@pytest.fixture(scope='session')
def T_truth(model):  # noqa: N802
    return CArm(np.radians(20), np.radians(10)).T_image_isocentre @ rigid(None, -model.centroid)
