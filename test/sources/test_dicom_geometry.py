"""Angles, distances and detectors in DICOM files put a known 3D phantom where a radiologist expects it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xa_files import XRF, enhance, write_xa, xa_dataset

from m2i_ros.geometry import apply
from m2i_ros.sources import SourceError
from m2i_ros.sources.dicom import DicomSource

SDD, SOD, SPACING, SIZE = 1.1, 0.75, 0.4e-3, 512
# Balls in the patient, metres, LPS: x to the left, y to the back, z to the head.
STERNUM, SPINE = np.array([0.0, -0.05, 0.0]), np.array([0.0, 0.05, 0.0])
LEFT, HEAD = np.array([0.05, 0.0, 0.0]), np.array([0.0, 0.0, 0.05])
BLANK = np.zeros((1, SIZE, SIZE), np.uint8)


def source(tmp_path, frames=BLANK, settings=None, **tags):
    return DicomSource(write_xa(tmp_path / 'run.dcm', frames, **tags), **(settings or {}))


def on_screen(tmp_path, point, primary, secondary, **more):
    """Return column and row of a point of the patient, from what the source reads."""
    frame = next(iter(source(tmp_path, PositionerPrimaryAngle=primary, PositionerSecondaryAngle=secondary, **more)))
    return frame.camera.project(apply(frame.c_arm.T_image_isocentre, point))


def ray_on_screen(point, primary, secondary, mirrored=True):
    """The same by rays and planes: where the line from the source through the point meets the detector."""
    p, s = np.radians([primary, secondary])
    towards_left, towards_front, towards_head = np.array([1, 0, 0]), np.array([0, -1, 0]), np.array([0, 0, 1])
    # LAO: from the front towards the left, in the horizontal plane; cranial: from there towards the head.
    flat = np.cos(p) * towards_front + np.sin(p) * towards_left
    beam = np.cos(s) * flat + np.sin(s) * towards_head
    tube = -SOD * beam
    hit = tube + (point - tube) * SDD / ((point - tube) @ beam) - (tube + SDD * beam)
    up = np.cos(s) * towards_head - np.sin(s) * flat
    right = np.cross(-beam, up)  # of one who looks from the detector at the patient
    if not mirrored:
        right = -right
    return np.array([hit @ right, -hit @ up]) / SPACING + (SIZE - 1) / 2


# In words


def test_frontal_the_patients_left_is_on_the_right_and_the_head_is_up(tmp_path):
    centre = (SIZE - 1) / 2
    assert on_screen(tmp_path, LEFT, 0, 0)[0] > centre + 100
    assert on_screen(tmp_path, HEAD, 0, 0)[1] < centre - 100


def test_in_lao_the_spine_is_right_of_the_sternum_and_in_rao_left_of_it(tmp_path):
    assert on_screen(tmp_path, SPINE, 40, 0)[0] > on_screen(tmp_path, STERNUM, 40, 0)[0] + 50
    assert on_screen(tmp_path, SPINE, -30, 0)[0] < on_screen(tmp_path, STERNUM, -30, 0)[0] - 50


def test_seen_from_the_head_what_is_in_front_is_lower_and_from_the_feet_higher(tmp_path):
    assert on_screen(tmp_path, STERNUM, 0, 30)[1] > on_screen(tmp_path, SPINE, 0, 30)[1] + 50
    assert on_screen(tmp_path, STERNUM, 0, -30)[1] < on_screen(tmp_path, SPINE, 0, -30)[1] - 50


def test_the_detector_is_where_the_angles_name_it(tmp_path):
    """What lies nearer the detector is magnified less: left in LAO 90, the right side in RAO 90, the head in CRA."""
    for angles, near in [((90, 0), LEFT), ((-90, 0), -LEFT), ((0, 60), HEAD), ((0, -60), -HEAD), ((0, 0), STERNUM)]:
        frame = next(iter(source(tmp_path, PositionerPrimaryAngle=angles[0], PositionerSecondaryAngle=angles[1])))
        assert apply(frame.c_arm.T_image_isocentre, near)[2] > SOD + 0.04


# In numbers


@pytest.mark.parametrize(
    'point, angles, expected',
    [
        # 50 mm to the left in a frontal view: 50 x 1100 / 750 / 0.4 = 183.33 pixels right of the centre.
        (LEFT, (0, 0), (183.333, 0)),
        # LAO 30, 50 mm in front: 25 mm aside, 43.30 mm nearer the detector: 25 x 1100 / 793.30 / 0.4 to the left.
        (STERNUM, (30, 0), (-86.664, 0)),
        # RAO 30, 50 mm behind: 25 mm aside, 43.30 mm nearer the tube: 25 x 1100 / 706.70 / 0.4 to the left.
        (SPINE, (-30, 0), (-97.284, 0)),
        # CRA 30, 50 mm in front: 25 mm down, 43.30 mm nearer the detector.
        (STERNUM, (0, 30), (0, 86.664)),
        # CAU 20, 50 mm towards the head: 50 cos 20 = 46.98 mm up, 50 sin 20 = 17.10 mm nearer the tube.
        (HEAD, (0, -20), (0, -176.297)),
    ],
)
def test_a_ball_is_where_arithmetic_puts_it(tmp_path, point, angles, expected):
    found = on_screen(tmp_path, point, *angles) - (SIZE - 1) / 2
    np.testing.assert_allclose(found, expected, atol=2e-3)


@given(
    st.floats(-120, 120),
    st.floats(-50, 50),
    st.tuples(*[st.floats(-0.08, 0.08)] * 3),
    st.sampled_from(['yes', 'no']),
)
@settings(max_examples=25, deadline=None)
def test_any_view_agrees_with_rays_and_planes(tmp_path_factory, primary, secondary, point, mirrored):
    folder = tmp_path_factory.mktemp('view')
    # 16 characters are the most that DICOM allows a number.
    primary, secondary = round(primary, 4), round(secondary, 4)
    found = on_screen(folder, np.array(point), primary, secondary, settings={'mirrored': mirrored})
    np.testing.assert_allclose(found, ray_on_screen(np.array(point), primary, secondary, mirrored == 'yes'), atol=1e-6)


def test_a_turning_c_arm_takes_the_balls_along(tmp_path):
    """A picture a view with a dark ball drawn where rays and planes put it, found again by the file's angles."""
    increments = [0.0, 20.0, 45.0]
    balls = [STERNUM + 0.4 * LEFT, SPINE + 0.5 * HEAD]
    y, x = np.mgrid[:SIZE, :SIZE]
    frames = np.full((3, SIZE, SIZE), 200, np.uint8)
    for frame, increment in zip(frames, increments):
        for ball in balls:
            u, v = ray_on_screen(ball, -30 + increment, 10)
            frame[np.hypot(x - u, y - v) < 6] = 40
    tags = dict(
        PositionerMotion='DYNAMIC',
        PositionerPrimaryAngle=-30,
        PositionerSecondaryAngle=10,
        PositionerPrimaryAngleIncrement=increments,
    )
    for frame in source(tmp_path, frames, **tags):
        for ball in balls:
            u, v = frame.camera.project(apply(frame.c_arm.T_image_isocentre, ball))
            near = (np.hypot(x - u, y - v) < 9) & (frame.image < 100)
            assert np.hypot(x[near].mean() - u, y[near].mean() - v) < 0.3
    tags['PositionerPrimaryAngleIncrement'] = [0.0, 20.0, 25.0]
    steps = source(tmp_path, frames, {'increments': 'from_last'}, **tags)
    np.testing.assert_allclose([np.degrees(f.c_arm.primary_angle) for f in steps], [-30, -10, 15])


def test_the_table_carries_the_patient(tmp_path):
    """DICOM's longitudinal is towards LAO, its lateral towards cranial; down is positive."""
    tags = dict(
        TableMotion='DYNAMIC',
        TableLongitudinalIncrement=[0.0, 10.0, 0.0],
        TableLateralIncrement=[0.0, 0.0, 10.0],
        TableVerticalIncrement=[0.0, 5.0, 0.0],
        PositionerPrimaryAngle=0,
        PositionerSecondaryAngle=0,
    )
    frames = list(source(tmp_path, np.repeat(BLANK, 3, axis=0), **tags))
    np.testing.assert_allclose([f.table for f in frames], [[0, 0, 0], [0.010, 0.005, 0], [0, 0, 0.010]], atol=1e-12)
    still, left, head = (f.camera.project(apply(f.c_arm.T_image_isocentre, f.table)) for f in frames)
    # Moved to the left by 10 mm and 5 mm nearer the tube: 10 x 1100 / 745 / 0.4 pixels to the right.
    np.testing.assert_allclose(left - still, [36.913, 0], atol=2e-3)
    np.testing.assert_allclose(head - still, [0, -36.667], atol=2e-3)


MOVING = dict(
    PositionerPrimaryAngle=-30,
    PositionerSecondaryAngle=10,
    PositionerPrimaryAngleIncrement=[0.0, 20.0, 45.0],
    TableLongitudinalIncrement=[0.0, 10.0, 0.0],
    TableLateralIncrement=[0.0, 0.0, 10.0],
    TableVerticalIncrement=[0.0, 5.0, 0.0],
    PatientOrientation=['L', 'F'],
    FrameTimeVector=[0.0, 250.0, 400.0],
    WindowCenter=100,
    WindowWidth=80,
)


def test_enhanced_xa_says_in_functional_groups_what_xa_says_in_its_tags(tmp_path, caplog):
    frames = np.random.default_rng(1).integers(0, 255, (3, SIZE, SIZE)).astype(np.uint8)
    for tags in (MOVING, {'PositionerMotion': 'STATIC', 'PatientOrientation': ['L', 'F']}):
        plain = list(source(tmp_path, frames, **tags))
        told = caplog.text
        caplog.clear()
        enhanced = list(source(tmp_path, frames, enhanced=True, **tags))
        assert ('missing' in caplog.text) == ('FrameTimeVector' not in tags), 'only the times'
        assert len(enhanced) == 3 and 'missing' not in told
        for one, other in zip(plain, enhanced):
            assert np.array_equal(one.image, other.image) and one.camera == other.camera
            assert one.c_arm == pytest.approx(other.c_arm) if tags is MOVING else one.c_arm == other.c_arm
            assert (one.table is None) == (other.table is None)
            if one.table is not None:
                np.testing.assert_allclose(one.table, other.table, atol=1e-9)
            if 'FrameTimeVector' in tags:
                assert one.stamp == pytest.approx(other.stamp, abs=1e-5)


def test_a_table_that_turns_during_an_enhanced_run_is_not_followed_and_said(tmp_path, caplog):
    ds = enhance(xa_dataset(np.repeat(BLANK, 3, axis=0), **MOVING))
    for index, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        groups.TablePositionSequence[0].TableHeadTiltAngle = float(index)
    ds.save_as(tmp_path / 'run.dcm', enforce_file_format=True)
    assert all(frame.table is None for frame in DicomSource(tmp_path / 'run.dcm'))
    assert 'it turns' in caplog.text


# Detectors


@pytest.mark.parametrize('flip', ['YES', 'NO'])
@pytest.mark.parametrize('rotation', [0, 90, 180, 270])
def test_a_field_of_view_off_the_detectors_centre_moves_the_principal_point(tmp_path, rotation, flip):
    detector = np.zeros((301, 401), np.uint8)
    detector[150, 200] = 1  # its middle
    row, column, height, width = 70, 150, 120, 200
    picture = np.rot90(detector[row : row + height, column : column + width], -rotation // 90)
    picture = picture[:, ::-1] if flip == 'YES' else picture
    (v,), (u,) = np.nonzero(picture)
    camera = source(
        tmp_path,
        np.ascontiguousarray(picture[None]),
        ImagerPixelSpacing=[0.4, 0.4],
        FieldOfViewOrigin=[row, column],
        FieldOfViewRotation=rotation,
        FieldOfViewHorizontalFlip=flip,
        DetectorElementSpacing=[0.4, 0.4],
        DetectorActiveDimensions=[301 * 0.4, 401 * 0.4],
        DetectorActiveOrigin=[0, 0],
    ).camera
    assert (camera.cx, camera.cy) == pytest.approx((u, v), abs=1e-6)


def test_binned_pixels_count_in_elements_of_the_detector(tmp_path):
    """A field of 256x256 elements, binned 2x2, that begins 100 elements left of where a centred one would."""
    camera = source(
        tmp_path,
        np.zeros((1, 128, 128), np.uint8),
        ImagerPixelSpacing=[0.4, 0.4],
        FieldOfViewOrigin=[384, 284],
        DetectorElementSpacing=[0.2, 0.2],
        DetectorActiveDimensions=[204.8, 204.8],
    ).camera
    assert (camera.cx, camera.cy) == pytest.approx((63.5 + 50, 63.5), abs=1e-6)


def test_rows_and_columns_have_a_spacing_each(tmp_path):
    camera = source(tmp_path, ImagerPixelSpacing=[0.5, 0.25]).camera  # of rows, that is vertical, first
    assert (camera.fx, camera.fy) == pytest.approx((-4400, 2200))


@pytest.mark.parametrize(
    'orientation, angles, mirrored',
    [
        (['L', 'F'], (0, 0), True),
        (['R', 'F'], (0, 0), False),
        (['P', 'F'], (90, 0), True),  # from the left side, head up: the back is on the right
        (['A', 'F'], (90, 0), False),
        (['LP', 'F'], (40, 0), True),
        (['RA', 'F'], (40, 0), False),
        (['L', 'FP'], (0, -20), True),
    ],
)
def test_the_patient_orientation_says_how_the_picture_is_stored(tmp_path, caplog, orientation, angles, mirrored):
    found = source(
        tmp_path, PatientOrientation=orientation, PositionerPrimaryAngle=angles[0], PositionerSecondaryAngle=angles[1]
    )
    assert found.camera.mirrored is mirrored
    assert 'stored as displayed' not in caplog.text


# What is not there


@pytest.mark.parametrize(
    'tags, words, parameter',
    [
        (
            {'DistanceSourceToDetector': None},
            'no camera: Distance Source to Detector (0018,1110)',
            'source_to_detector',
        ),
        ({'DistanceSourceToDetector': 0}, 'no camera: Distance Source to Detector (0018,1110)', 'source_to_d'),
        ({'ImagerPixelSpacing': None}, 'no camera: Imager Pixel Spacing (0018,1164)', 'pixel_spacing_mm'),
        ({'ImagerPixelSpacing': None, 'IntensifierSize': 230}, 'pixel spacing 0.449 mm', 'pixel_spacing_mm'),
        ({'ImagerPixelSpacing': None, 'FieldOfViewDimensions': [200, 200]}, '0.391 mm', 'pixel_spacing_mm'),
        ({'DistanceSourceToPatient': None}, 'source to isocentre 0.75 m', 'source_to_isocentre'),
        ({'DistanceSourceToPatient': 1200}, 'source to isocentre 0.75 m', 'source_to_isocentre'),
        ({'PositionerPrimaryAngle': None}, 'no C-arm: Positioner Primary Angle (0018,1510)', 'angles_deg'),
        ({'PositionerSecondaryAngle': 100}, 'no C-arm', 'angles_deg'),
        ({'PatientPosition': 'FFS'}, 'patient supine, head first: Patient Position (0018,5100) is FFS', 'angles_deg'),
        ({'PositionerPrimaryAngleIncrement': [1, 2, 3]}, '3 values for 1 frames', ''),
        ({'PatientOrientation': ['F', 'L']}, 'does not fit the angles', 'mirrored'),
    ],
)
def test_what_is_assumed_is_named_once_with_its_parameter(tmp_path, caplog, tags, words, parameter):
    source(tmp_path, **tags)
    (record,) = caplog.records
    assert words in record.getMessage()
    assert f'dicom.{parameter}' in record.getMessage() if parameter else True


def test_a_complete_file_leaves_little_to_assume(tmp_path, caplog):
    source(tmp_path, PatientOrientation=['LP', 'FA'])
    said = 'central ray through the centre of the picture (dicom.principal_point)'
    assert caplog.messages == [f'{tmp_path}/run.dcm: assumed: {said}']
    caplog.clear()
    found = source(tmp_path, settings={'principal_point': '250 260.5'}, PatientOrientation=['LP', 'FA'])
    assert (found.camera.cx, found.camera.cy) == (250, 260.5) and caplog.messages == []


def test_magnification_stands_in_for_the_distance_to_the_patient(tmp_path, caplog):
    found = source(tmp_path, DistanceSourceToPatient=None, EstimatedRadiographicMagnificationFactor=1.375)
    assert found.c_arm.source_to_isocentre == pytest.approx(0.8)
    assert 'source to isocentre 0.800 m from Estimated Radiographic Magnification Factor' in caplog.text


def test_radiofluoroscopy_without_angles_has_a_camera_and_no_c_arm(tmp_path):
    tags = dict(PositionerPrimaryAngle=None, PositionerSecondaryAngle=None, PositionerMotion=None)
    found = source(tmp_path, SOPClassUID=XRF, Modality='RF', **tags)
    assert found.camera is not None and found.c_arm is None
    assert next(iter(found)).c_arm is None


def test_parameters_go_before_the_file(tmp_path):
    given = dict(source_to_detector=1.0, source_to_isocentre=0.6, pixel_spacing_mm=0.5, angles_deg='10 -5')
    found = source(tmp_path, settings={**given, 'mirrored': 'no'})
    assert found.camera.fx == found.camera.fy == pytest.approx(2000)
    assert np.degrees([found.c_arm.primary_angle, found.c_arm.secondary_angle]) == pytest.approx([10, -5])
    assert found.c_arm.source_to_isocentre == 0.6


@pytest.mark.parametrize(
    'settings, words',
    [
        ({'angles_deg': '10'}, 'dicom.angles_deg: "10" must be two numbers'),
        ({'angles_deg': '10 95'}, 'dicom.angles_deg: "10 95" must be within'),
        ({'angles_deg': 'a b'}, 'two numbers'),
        ({'principal_point': '255'}, 'dicom.principal_point: "255" must be two numbers'),
        ({'window': '100 0'}, 'dicom.window: "100 0": a width of at least 1'),
        ({'curve': 'flat'}, 'dicom.curve: "flat" must be one of auto, log, linear'),
        ({'source_to_detector': -1.0}, 'dicom.source_to_detector'),
        ({'mirrored': 'maybe'}, 'dicom.mirrored'),
        ({'increments': 'none'}, 'dicom.increments'),
        ({'source_to_detector': 1.0, 'source_to_isocentre': 0.0, 'angles_deg': '0 nan'}, 'two numbers'),
    ],
)
def test_impossible_parameters_are_refused_by_name(tmp_path, settings, words):
    with pytest.raises(SourceError, match=words):
        source(tmp_path, settings=settings)
