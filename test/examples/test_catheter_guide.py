"""What a controller learns of a tip seen in the picture, on a straight vessel, where the answer is plain geometry."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='the example is a ROS node: needs rclpy')

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'catheter_guide.py'
spec = importlib.util.spec_from_file_location('catheter_guide', EXAMPLE)
catheter_guide = importlib.util.module_from_spec(spec)
spec.loader.exec_module(catheter_guide)

FIELDS = [(name, 'f4') for name in ('x', 'y', 'z', 'radius', 'u', 'v', 'branch', 'arc_length')]
DEPTH, RADIUS, FOCAL = 0.8, 0.004, 2000.0


def straight_vessel(mirror=1.0):
    """A vessel along image x at depth 0.8 m, radius 4 mm: 10 pixels wide to either side."""
    cloud = np.zeros(101, FIELDS)
    cloud['x'] = np.linspace(-0.05, 0.05, 101)
    cloud['z'] = DEPTH
    cloud['radius'] = RADIUS
    cloud['arc_length'] = np.linspace(0, 0.1, 101)
    cloud['u'] = mirror * FOCAL * cloud['x'] / DEPTH + 256
    cloud['v'] = 256
    return cloud, np.array([[mirror * FOCAL, 0, 256], [0, FOCAL, 256], [0, 0, 1]])


@pytest.mark.parametrize('mirror', [1.0, -1.0])
@pytest.mark.parametrize('x_m, y_m', [(0.0, 0.0), (0.0204, 0.003), (-0.031, -0.002)])
def test_centre_direction_and_clearance_of_a_tip_in_a_straight_vessel(mirror, x_m, y_m):
    cloud, K = straight_vessel(mirror)
    tip = (mirror * FOCAL * x_m / DEPTH + 256, FOCAL * y_m / DEPTH + 256)
    guidance = catheter_guide.guide(tip, K.ravel(), cloud)
    np.testing.assert_allclose(guidance.centre, [x_m, 0, DEPTH], atol=1e-4)
    np.testing.assert_allclose(np.abs(guidance.direction), [1, 0, 0], atol=1e-6)
    # The ray passes the axis at y * cos(angle of the ray): nearly y.
    assert guidance.clearance == pytest.approx(RADIUS - abs(y_m), abs=5e-5)


def test_a_tip_beside_the_vessel_has_negative_clearance():
    cloud, K = straight_vessel()
    assert catheter_guide.guide((256, 256 + 15), K, cloud).clearance < 0


def test_a_vessel_outside_the_picture_gives_no_answer():
    cloud, K = straight_vessel()
    cloud['u'] = np.nan
    with pytest.raises(ValueError, match='no lumen'):
        catheter_guide.guide((256, 256), K, cloud)
