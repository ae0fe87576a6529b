"""A start from the C-arm's angles: the model's centroid at the isocentre, the patient lying as DICOM assumes."""

from dataclasses import dataclass

import numpy as np
import pytest

from m2i_ros.geometry import CArm, apply, is_rigid
from m2i_ros.registration.start import pose_from_view


@dataclass
class Model:
    """What `pose_from_view` looks at."""

    axes: str
    centroid: np.ndarray
    name: str = 'test'


centroid = np.array([0.02, -0.11, 0.4])


@pytest.mark.parametrize('axes', ['lps', 'ras'])
@pytest.mark.parametrize('angles', [(0.0, 0.0), (0.5, 0.0), (-0.3, 0.4)])
def test_the_centroid_lies_on_the_central_ray_at_the_isocentre(axes, angles):
    T = pose_from_view(Model(axes, centroid), CArm(*angles, source_to_isocentre=0.75))
    assert is_rigid(T)
    np.testing.assert_allclose(apply(T, centroid), (0, 0, 0.75), atol=1e-12)


@pytest.mark.parametrize(
    ('axes', 'left', 'head', 'front'),
    [('lps', (1, 0, 0), (0, 0, 1), (0, -1, 0)), ('ras', (-1, 0, 0), (0, 0, 1), (0, 1, 0))],
)
def test_in_a_frontal_view_head_is_up_and_the_front_is_next_to_the_detector(axes, left, head, front):
    R = pose_from_view(Model(axes, centroid), CArm())[:3, :3]
    np.testing.assert_allclose(R @ head, (0, -1, 0), atol=1e-12)  # y points down in the picture
    np.testing.assert_allclose(R @ front, (0, 0, 1), atol=1e-12)
    # The source behind the patient sees the patient's left on its left: fx < 0 turns it for display.
    np.testing.assert_allclose(R @ left, (-1, 0, 0), atol=1e-12)


def test_axes_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match='native.*initialpose'):
        pose_from_view(Model('native', centroid), CArm())
