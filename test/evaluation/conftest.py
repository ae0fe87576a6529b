"""What the tests of `evaluate` share: a threshold in place of the network, so that the right figures are known."""

import numpy as np
import pytest

from m2i_ros.evaluation import registration, segmentation
from m2i_ros.segmentation import VesselMask


class DarkIsVessel:
    info = {'engine': 'threshold', 'weights': 'none', 'hash': '0', 'threshold': 0.5}

    def __init__(self, **_):
        pass

    def reset(self):
        pass

    def segment(self, image):
        return VesselMask(np.where(image < 128, 255, 0).astype(np.uint8), np.ones(image.shape, bool))

    segment_beside = segment


@pytest.fixture
def threshold_instead_of_network(monkeypatch):
    for job in (segmentation, registration):
        monkeypatch.setattr(job, 'Segmenter', DarkIsVessel)
