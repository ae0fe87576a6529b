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
        assert frame.second.stamp == frame.stamp
        axes = frame.second.T_second_image[2, :3]  # of the second plane's central ray, in the first image's frame
        assert math.degrees(math.acos(axes[2])) == pytest.approx(75)
        assert frame.c_arm.primary_angle == 0
        assert not np.array_equal(frame.second.image, frame.image)
    T = frames[1].second.T_second_image
    at = apply(source.second.pose(1), source.model.centroid)
    assert np.allclose(at, apply(T @ source.phantom.pose(1), source.model.centroid))


def test_one_plane_says_nothing_of_another():
    frame = next(iter(open_source('phantom', anatomy='aortic_root', seed=3, **SIZE)))
    assert frame.second is None and frame.c_arm is None
