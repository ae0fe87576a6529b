"""The centreline is bent to where the vessels are seen, stays where they are as in the CT, and the pose stays rigid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from m2i_ros.geometry import apply
from m2i_ros.model.projection import silhouette
from m2i_ros.registration import Registrar, RegistrationSettings
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.deformation import DeformableModel
from m2i_ros.registration.view import view_of
from m2i_ros.segmentation import VesselMask
from m2i_ros.simulation.deformation import breathed


@pytest.fixture(scope='module')
def deformable(model):
    return DeformableModel(model.centreline, ContourSurface.from_model(model))


def seen(model, T, camera):
    mask = silhouette(model, T, camera)
    return VesselMask(mask, np.ones(mask.shape, bool))


def error_mm(line, true, T, camera):
    """Return how far the true centreline is seen from a `Centreline` under the same pose: mean, mm at its depth."""
    points = apply(T, true.points)
    distance, _ = cKDTree(camera.project(apply(T, line.points))).query(camera.project(points))
    return 1e3 * float((distance * points[:, 2]).mean() / abs(camera.fx))


@pytest.mark.parametrize('flipped', [False, True])
@pytest.mark.parametrize('amplitude', [3e-3, 6e-3, 10e-3])
def test_bent_vessels_are_followed(model, camera, T_truth, deformable, amplitude, flipped):
    camera = camera.flipped() if flipped else camera
    bent = breathed(model, amplitude)
    view = view_of(seen(bent, T_truth, camera), camera)
    bend = deformable.bend(view.contour, view.camera, T_truth, 0.0)
    before = error_mm(model.centreline, bent.centreline, T_truth, camera)
    after = error_mm(bend.apply(model.centreline), bent.centreline, T_truth, camera)
    assert after < 0.5 * before
    assert bend.after > bend.before + 0.2


def test_vessels_as_in_the_ct_are_left_alone(model, camera, T_truth, deformable):
    view = view_of(seen(model, T_truth, camera), camera)
    bend = deformable.bend(view.contour, view.camera, T_truth, 0.0)
    assert not bend.displacement.any() and bend.after == bend.before > 0.9


def test_without_a_vessel_in_the_picture_nothing_bends(model, camera, T_truth, deformable):
    empty = VesselMask(np.zeros((512, 512), np.uint8), np.ones((512, 512), bool))
    view = view_of(empty, camera)
    bend = deformable.bend(view.contour, view.camera, T_truth, 0.0)
    assert not bend.displacement.any() and bend.before == bend.after == 0


def test_what_one_view_cannot_see_is_not_moved(model, camera, T_truth, deformable):
    view = view_of(seen(breathed(model, 6e-3), T_truth, camera), camera)
    bend = deformable.bend(view.contour, view.camera, T_truth, 0.0)
    assert np.linalg.norm(bend.displacement, axis=1).max() > 1e-3
    assert np.abs(bend.displacement @ T_truth[2, :3]).max() < 1e-9


@settings(max_examples=20, deadline=None)
@given(shift=st.tuples(*[st.floats(-5e-3, 5e-3)] * 2))
def test_the_basis_carries_a_common_shift_everywhere(deformable, shift):
    controls = np.tile(shift, (deformable.basis.shape[1], 1))
    np.testing.assert_allclose(deformable.basis @ controls, np.tile(shift, (len(deformable.basis), 1)), atol=2e-5)


def test_the_basis_is_continuous_along_branches_and_across_joints(model, deformable):
    one, two = model.centreline.edges.T
    assert np.abs(deformable.basis[one] - deformable.basis[two]).max() < 0.15


def test_a_registration_bends_where_asked_and_its_pose_and_probability_stay(model, camera, T_truth):
    vessels = seen(breathed(model, 3e-3), T_truth, camera)
    results = []
    for deformation in (False, True):
        registrar = Registrar(model, RegistrationSettings(deformation=deformation))
        registrar.set_initial_pose(T_truth)
        results.append(registrar.register(vessels, camera, 0.0))
    rigid, bent = results
    assert rigid.accepted and bent.accepted
    np.testing.assert_array_equal(rigid.T_image_model, bent.T_image_model)
    np.testing.assert_array_equal(rigid.covariance, bent.covariance)
    assert rigid.probability == bent.probability
    assert rigid.bend is None and rigid.centreline(model) is model.centreline
    line = bent.centreline(model)
    np.testing.assert_array_equal(line.points, model.centreline.points + bent.bend.displacement)
    np.testing.assert_array_equal(line.arc_length, model.centreline.arc_length)
