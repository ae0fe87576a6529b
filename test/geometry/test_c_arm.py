"""The positioner angles move the picture as a radiologist expects. Patient axes are LPS, metres."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2i_ros.geometry import Camera, CArm, apply, is_rigid

AS_SEEN = Camera.from_detector(512, 512, 1.1, 0.0005)
AS_DISPLAYED = Camera.from_detector(512, 512, 1.1, 0.0005, mirrored=True)
LEFT, RIGHT = np.array([0.05, 0.0, 0.0]), np.array([-0.05, 0.0, 0.0])
HEAD, FEET = np.array([0.0, 0.0, 0.05]), np.array([0.0, 0.0, -0.05])
FRONT, BACK = np.array([0.0, -0.05, 0.0]), np.array([0.0, 0.05, 0.0])


def pixel(c_arm, camera, point):
    return camera.project(apply(c_arm.T_image_isocentre, point))


def degrees(primary, secondary=0.0):
    return CArm(np.deg2rad(primary), np.deg2rad(secondary))


def test_a_displayed_frontal_view_faces_the_patient():
    view = degrees(0)
    assert pixel(view, AS_DISPLAYED, RIGHT)[0] < pixel(view, AS_DISPLAYED, LEFT)[0], "patient's right is on the left"
    assert pixel(view, AS_DISPLAYED, HEAD)[1] < pixel(view, AS_DISPLAYED, FEET)[1], 'head up'


def test_the_source_behind_the_patient_sees_the_mirror_image():
    assert pixel(degrees(0), AS_SEEN, RIGHT)[0] > pixel(degrees(0), AS_SEEN, LEFT)[0]


def test_in_a_frontal_view_the_detector_is_in_front():
    T = degrees(0).T_image_isocentre
    assert apply(T, FRONT)[2] > apply(T, BACK)[2]


def test_lao_swings_the_detector_to_the_left_so_that_the_front_moves_to_the_patients_right():
    # In LAO the spine is seen to the patient's left of what lies in front: on the right of the displayed picture.
    view = degrees(45)
    assert apply(view.T_image_isocentre, LEFT)[2] > apply(view.T_image_isocentre, RIGHT)[2], 'left is near the detector'
    assert pixel(view, AS_DISPLAYED, BACK)[0] > pixel(view, AS_DISPLAYED, FRONT)[0]


def test_rao_is_the_other_way():
    view = degrees(-30)
    assert apply(view.T_image_isocentre, RIGHT)[2] > apply(view.T_image_isocentre, LEFT)[2]
    assert pixel(view, AS_DISPLAYED, BACK)[0] < pixel(view, AS_DISPLAYED, FRONT)[0]


def test_lao_90_is_the_left_lateral_view():
    np.testing.assert_allclose(apply(degrees(90).T_image_isocentre, LEFT), [0, 0, 0.8], atol=1e-12)


def test_cranial_brings_the_detector_to_the_head_and_caudal_to_the_feet():
    cranial, caudal = degrees(0, 30).T_image_isocentre, degrees(0, -30).T_image_isocentre
    assert apply(cranial, HEAD)[2] > apply(cranial, FEET)[2]
    assert apply(caudal, HEAD)[2] < apply(caudal, FEET)[2]
    # Seen from above, what lies in front moves down in the picture.
    assert pixel(degrees(0, 30), AS_DISPLAYED, FRONT)[1] > pixel(degrees(0, 30), AS_DISPLAYED, BACK)[1]


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_every_view_is_a_rigid_motion_that_keeps_the_isocentre_on_the_central_ray(primary, secondary):
    T = degrees(primary, secondary).T_image_isocentre
    assert is_rigid(T)
    np.testing.assert_allclose(T[:3, 3], [0, 0, 0.75])


@pytest.mark.parametrize(
    'values', [dict(source_to_isocentre=0.0), dict(source_to_isocentre=1.2), dict(primary_angle=np.nan)]
)
def test_an_impossible_c_arm_is_refused(values):
    with pytest.raises(ValueError, match='C-arm'):
        CArm(**values)
