"""The phantom as a source: with one plane, and with two."""

import math

import numpy as np
import pytest

from m2i_ros.geometry import apply
from m2i_ros.sources import open_source

SIZE = {'width': 96, 'height': 96, 'duration': 0.2}


def test_two_planes_see_each_moment_from_where_they_say_they_stand():
    source = open_source('phantom', anatomy='aortic_root', seed=3, second_angle_deg=75.0, **SIZE)
    frames = list(source)
    assert len(frames) == len(source) == 3
    for frame in frames:
        assert frame.second.image.shape == frame.image.shape
        assert math.degrees(frame.second.c_arm.primary_angle) == pytest.approx(75)
        assert frame.c_arm.primary_angle == 0
        assert not np.array_equal(frame.second.image, frame.image)
    first, second = source.phantom.c_arm.T_image_isocentre, source.second.c_arm.T_image_isocentre
    at = apply(source.second.pose(1), source.model.centroid)
    assert np.allclose(at, apply(second @ np.linalg.inv(first) @ source.phantom.pose(1), source.model.centroid))


def test_one_plane_says_nothing_of_another():
    frame = next(iter(open_source('phantom', anatomy='aortic_root', seed=3, **SIZE)))
    assert frame.second is None and frame.c_arm is None
