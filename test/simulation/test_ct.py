"""A CT seen by an X-ray system: rays are as long in water, bone and lumen as spheres' chords say, in any axes."""

import numpy as np
import pytest

from m2i_ros.geometry import Camera, CArm, rigid
from m2i_ros.model.errors import ModelError
from m2i_ros.model.volumes import Volume
from m2i_ros.simulation.ct import CTPatient

SIDES = np.array([0.75, 1.0, 1.25])  # mm
SHAPE = (180, 140, 120)
CENTRE = (SHAPE - np.ones(3)) / 2 * SIDES + (-50, 20, 300)  # mm, LPS
BALLS = {'bone': ((20.0, 0, 0), 14.0), 'lumen': ((-20.0, 5, 0), 16.0)}  # beside the centre, radius, mm


def volumes(axes='lps', contrast=400.0):
    """A block of water in air, endless from feet to head, with a ball of bone and one of contrast with its label."""
    turn = np.diag([-1.0, -1.0, 1.0]) if axes == 'ras' else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(SIDES), turn @ (-50, 20, 300)
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing='ij'), -1) * SIDES + (-50, 20, 300) - CENTRE
    hu = np.where((np.abs(at[..., :2]) < (50, 40)).all(-1), 0.0, -1000.0)
    labels = np.zeros(SHAPE, np.uint8)
    for name, value in (('bone', 1600.0), ('lumen', contrast)):
        off, radius = BALLS[name]
        inside = np.linalg.norm(at - off, axis=-1) < radius
        hu[inside] = value
        labels[inside] = name == 'lumen'
    return Volume('ct.nii', hu.astype(np.int16), affine, axes), Volume('labels.nii', labels, affine, axes)


def look(patient, primary=0.0, mirrored=False, up=0.0):
    arm = CArm(primary)
    camera = Camera.from_detector(96, 96, arm.source_to_detector, 0.15 / 96, mirrored)
    T = arm.T_image_isocentre @ rigid(translation=-CENTRE / 1e3 - (0, 0, up))
    return patient.path_lengths(T, camera), camera, T


@pytest.mark.parametrize('axes', ['lps', 'ras'])
@pytest.mark.parametrize('primary, mirrored', [(0.0, False), (0.0, True), (0.6, False), (-1.4, False)])
def test_rays_are_as_long_in_each_ball_as_its_chord(axes, primary, mirrored):
    (_, bone, lumen, _), camera, T = look(CTPatient(*volumes(axes)), primary, mirrored)
    y, x = np.mgrid[:96, :96]
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones(x.shape)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    for found, (off, radius) in ((bone, BALLS['bone']), (lumen, BALLS['lumen'])):
        middle = T[:3, :3] @ ((CENTRE + off) / 1e3) + T[:3, 3]
        beside = np.linalg.norm(np.cross(rays, middle), axis=-1)
        chord = 2 * np.sqrt(np.maximum((radius / 1e3) ** 2 - beside**2, 0))
        inside = beside < 0.75 * radius / 1e3  # at a ball's rim voxels are too coarse
        np.testing.assert_allclose(found[inside], chord[inside], atol=1.5e-3)
        assert not found[beside > (radius + 3) / 1e3].any() and abs(found.sum() / chord.sum() - 1) < 0.03


def test_tissue_is_as_thick_as_the_block_and_goes_on_above_and_below():
    (tissue, bone, _, _), _, _ = look(CTPatient(*volumes()))
    (clear,) = np.nonzero((bone < 1e-6).all(axis=1))
    assert {0, 95} <= set(clear)
    np.testing.assert_allclose(tissue[clear, 48], 0.08, atol=1e-3)


@pytest.mark.parametrize('up', [-0.05, -0.03, 0.0, 0.04])
def test_rows_are_known_up_to_where_rays_have_3_cm_of_water_beyond_the_slices(up):
    (*_, known), camera, _ = look(CTPatient(*volumes()), up=up)
    arm, half = CArm(), (SHAPE[2] - 1) * SIDES[2] / 2e3
    depth = arm.source_to_isocentre + np.linspace(-0.04, 0.04, 4001)  # through the block
    height = -(np.arange(96)[:, None] - camera.cy) / camera.fy * depth + up
    beyond = (np.abs(height) > half).mean(axis=1) * 0.08
    assert known.shape == (96, 1)
    assert np.count_nonzero(known[:, 0] != (beyond < 0.03)) <= 1
    assert known.all() == (up == 0)


def test_a_picture_s_middle_is_a_vessel_or_as_near_as_the_slices_allow():
    patient = CTPatient(*volumes())
    rng, (low, high) = np.random.default_rng(0), 0.3 + np.array((0, (SHAPE[2] - 1) * SIDES[2] / 1e3))
    middles = np.array([patient.focus(rng, 0.1) for _ in range(50)])
    lumen, radius = (CENTRE + BALLS['lumen'][0]) / 1e3, BALLS['lumen'][1] / 1e3
    assert (np.linalg.norm(middles - lumen, axis=1) < radius).all() and len(np.unique(middles, axis=0)) > 30
    near_an_end = np.array([patient.focus(rng, high - low - 0.01) for _ in range(50)])
    assert (np.abs(near_an_end[:, 2] - (low + high) / 2) < 0.0051).all()
    assert patient.focus(rng, 0.5)[2] == pytest.approx((low + high) / 2)


def test_contrast_of_the_ct_is_taken_out_where_it_is_labelled():
    with_contrast, without = (look(CTPatient(*volumes(contrast=hu)))[0] for hu in (400.0, 45.0))
    for one, other in zip(with_contrast, without, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_is_no_such_ct_is_refused_with_the_remedy():
    ct, labels = volumes()
    with pytest.raises(ModelError, match='labels made on this CT'):
        CTPatient(ct, Volume('other.nii', labels.data[:-1], labels.affine, labels.axes))
    with pytest.raises(ModelError, match='label 7 is not in it: it holds 1'):
        CTPatient(ct, labels, (7,))
    with pytest.raises(ModelError, match='it holds nothing'):
        CTPatient(ct, Volume('empty.nii', 0 * labels.data, labels.affine, labels.axes))
    with pytest.raises(ModelError, match='does not say what its axes mean'):
        CTPatient(Volume(ct.name, ct.data, ct.affine, 'native'), Volume('l', labels.data, labels.affine, 'native'))
