"""Phantom sequences: what the picture shows is what the truth says."""

import importlib
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from m2i_ros.geometry import CArm, apply, inverse, is_rigid, rotation_angle
from m2i_ros.simulation import Phantom
from m2i_ros.simulation.vessels import downstream, flow_distance
from m2i_ros.sources.source_frame import SourceFrame

SIZE = {'width': 192, 'height': 160, 'duration': 4.0, 'frame_rate': 10.0, 'plateau': 2.0, 'injections': (0.5,)}


@pytest.fixture(scope='module', params=['iliofemoral', 'aortic_root', 'aortic_arch'])
def phantom(request):
    return Phantom(request.param, seed=2, **SIZE)


@pytest.fixture(scope='module')
def full(phantom):
    """The frame with the most contrast."""
    return max((phantom[i] for i in range(0, len(phantom), 3)), key=lambda f: f.contrast)


def test_it_is_a_sequence_of_frames(phantom):
    assert len(phantom) == 40
    frame = phantom[7]
    assert frame.image.shape == frame.mask.shape == (160, 192)
    assert frame.image.dtype == frame.mask.dtype == np.uint8
    assert set(np.unique(frame.mask)) <= {0, 255}
    assert frame.stamp == pytest.approx(0.7)
    assert np.array_equal(phantom[-1].image, phantom[39].image)
    with pytest.raises(IndexError):
        phantom[40]
    assert sum(1 for _ in zip(phantom, range(3), strict=False)) == 3


def test_a_frame_does_not_depend_on_which_came_before(phantom):
    again = Phantom(phantom.model.name.split()[0], seed=2, **SIZE)
    for i in (23, 4):
        assert np.array_equal(phantom[i].image, again[i].image)
        assert np.array_equal(phantom[i].T_image_model, again[i].T_image_model)
    assert not np.array_equal(phantom[4].image, phantom[5].image)


def test_each_frame_has_noise_of_its_own(phantom):
    still = Phantom(phantom.model.name.split()[0], seed=2, breath=1e9, **SIZE)
    first, second, third = (still[i].image.astype(float) for i in (0, 1, 2))
    grain = [np.ravel((a - b)[:40, :40]) for a, b in ((first, second), (third, second))]
    # Differences that share one frame correlate by a half; frozen noise would leave nothing.
    assert min(g.std() for g in grain) > 0.5
    assert 0.3 < np.corrcoef(*grain)[0, 1] < 0.7


def test_breath_moves_the_tissue_as_it_moves_the_vessels(monkeypatch):
    module = importlib.import_module('m2i_ros.simulation.phantom')
    habit = module._HABITS['aortic_root']

    def soft(*how):
        scene = habit.scene(*how)
        return replace(scene, bone=0 * scene.bone, metal=0 * scene.metal)

    monkeypatch.setitem(module._HABITS, 'aortic_root', replace(habit, beating=(0.0, 0.0, 0.0), scene=soft))
    size = {'width': 256, 'height': 256, 'duration': 4.0, 'frame_rate': 10.0, 'injections': (9.0,)}
    phantom = Phantom('aortic_root', seed=3, breath=4.0, c_arm=CArm(0.4, 0.2), **size)
    pictures = [phantom[i].image.astype(float) for i in range(0, 40, 10)]
    vessels = [phantom.camera.project(apply(phantom.pose(i), phantom.model.centroid)) for i in range(0, 40, 10)]
    window = cv2.createHanningWindow((256, 256), cv2.CV_64F)
    for picture, vessel in zip(pictures[1:], vessels[1:]):
        moved, _ = cv2.phaseCorrelate(pictures[0], picture, window)
        np.testing.assert_allclose(moved, vessel - vessels[0], atol=1.0)
    assert max(np.abs(vessel - vessels[0]).max() for vessel in vessels) > 4


def test_before_the_injection_there_is_nothing_to_see_and_later_much(phantom, full):
    assert not phantom[0].mask.any() and phantom[0].contrast < 0.01
    assert full.contrast > 0.9
    assert 0.03 < (full.mask > 0).mean() < 0.4


def test_what_the_noise_hides_is_not_in_the_mask():
    faint = replace(Phantom.usual_settings('iliofemoral'), iodine_mg_ml=20.0)
    shown = Phantom('iliofemoral', seed=2, settings=faint, **SIZE)[20].mask
    hidden = Phantom('iliofemoral', seed=2, settings=replace(faint, photons=3.0), **SIZE)[20].mask
    assert np.count_nonzero(hidden) < 0.5 * np.count_nonzero(shown)
    assert not (hidden & ~shown).any()


def test_vessels_are_dark_where_the_mask_says(phantom, full):
    empty = phantom[0].image.astype(float)
    change = full.image - empty
    assert change[full.mask > 0].mean() < -15
    # Scatter spreads a little of the shadow; breathing moves the catheter.
    assert abs(np.median(change[full.mask == 0])) < 6


def test_the_pose_projects_the_model_onto_the_mask(phantom, full):
    tree = phantom.model.centreline
    pixels = np.rint(phantom.camera.project(apply(full.T_image_model, tree.points))).astype(int)
    inner = np.ones(len(pixels), bool)
    inner[np.bincount(tree.edges.ravel()) == 1] = False
    visible = ((pixels > 1) & (pixels < (190, 158))).all(axis=1) & inner
    assert visible.sum() > 50
    hit = full.mask[pixels[visible, 1], pixels[visible, 0]] > 0
    assert hit.mean() > 0.97
    corners = phantom.camera.project(apply(full.T_image_model, phantom.model.vertices))
    v, u = np.nonzero(full.mask)
    assert corners[:, 0].min() - 1 < u.min() and u.max() < corners[:, 0].max() + 1
    assert corners[:, 1].min() - 1 < v.min() and v.max() < corners[:, 1].max() + 1


def test_poses_are_rigid_and_move_by_millimetres(phantom):
    poses = [phantom.pose(i) for i in range(len(phantom))]
    assert all(is_rigid(T) for T in poses)
    steps = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for a, b in zip(poses, poses[1:], strict=False)]
    travel = max(np.linalg.norm(T[:3, 3] - poses[0][:3, 3]) for T in poses)
    assert max(steps) < 3e-3 and 5e-4 < travel < 15e-3


def test_contrast_flows_from_the_root(phantom):
    """On its way in, points nearer to the root are never emptier."""
    order = np.argsort(flow_distance(phantom.model.centreline))
    for t in (0.7, 1.0, 1.6):
        assert phantom._concentration(t).argmax() == 0
        assert (np.diff(phantom._concentration(t)[order]) < 1e-9).all()


def test_a_selective_injection_fills_what_lies_downstream_and_nothing_else(phantom):
    tree = phantom.model.centreline
    wall = downstream(tree, np.ones(len(tree.points)))
    assert wall[0] == len(tree.points)
    site = int(np.abs(wall / wall[0] - 0.4).argmin())
    selective = Phantom(phantom.model.name.split()[0], seed=2, site=site, **SIZE)
    filled = selective._concentration(2.5) > 0.5
    assert filled.sum() == wall[site] and filled[site]
    # Whoever swims upstream from a filled point comes past the site.
    assert (flow_distance(tree)[filled] >= flow_distance(tree)[site]).all()
    assert np.array_equal(selective.model.vertices, phantom.model.vertices)
    assert 0 < np.count_nonzero(selective[25].mask) < 0.9 * np.count_nonzero(phantom[25].mask)


def test_the_mirrored_picture_is_the_same_picture_flipped(phantom):
    mirrored = Phantom(phantom.model.name.split()[0], seed=2, mirrored=True, **SIZE)
    assert mirrored.camera.fx < 0 < phantom.camera.fx
    ours, theirs = phantom[18], mirrored[18]
    assert np.array_equal(ours.image[:, ::-1], theirs.image)
    assert np.array_equal(ours.mask[:, ::-1], theirs.mask)
    assert np.array_equal(ours.T_image_model, theirs.T_image_model)


def test_the_initial_pose_is_off_by_what_is_said(phantom):
    T, guess = phantom.pose(0), phantom.initial_pose
    assert rotation_angle(guess @ inverse(T)) == pytest.approx(np.deg2rad(5))
    moved = apply(guess, phantom.model.centroid) - apply(T, phantom.model.centroid)
    assert np.hypot(*moved[:2]) == pytest.approx(0.010)
    assert abs(moved[2]) == pytest.approx(0.020)


def test_the_patients_left_is_on_the_right_of_a_picture_stored_for_display():
    phantom = Phantom('iliofemoral', seed=0, mirrored=True, **SIZE)
    left = phantom.model.centroid + (0.05, 0.0, 0.0)
    pixels = phantom.camera.project(apply(phantom.pose(0), np.stack([phantom.model.centroid, left])))
    assert pixels[1, 0] > pixels[0, 0] + 10


def test_the_c_arm_turns_the_vessels_and_the_collimator_hides_them():
    oblique = Phantom('iliofemoral', seed=2, c_arm=CArm(primary_angle=np.deg2rad(40)), collimator=0.8, **SIZE)
    straight = Phantom('iliofemoral', seed=2, **SIZE)
    assert rotation_angle(oblique.pose(0) @ inverse(straight.pose(0))) == pytest.approx(np.deg2rad(40))
    frame = oblique[20]
    assert frame.image[0, 0] == 0 and frame.mask[0, 0] == 0 and frame.mask.any()
    y, x = np.nonzero(frame.mask)
    assert np.hypot(x - 95.5, y - 79.5).max() < 0.8 * 96


def test_importing_the_room_does_not_import_torch():
    code = 'import sys; import m2i_ros.simulation as s; s.make_centreline; assert "torch" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_a_second_plane_sees_the_same_patient_at_the_same_moments_before_another_background(phantom):
    anatomy = phantom.model.name.split()[0]
    turned = CArm(np.deg2rad(90))
    second = Phantom(anatomy, seed=2, c_arm=turned, plane=1, **SIZE)
    T_second_first = turned.T_image_isocentre @ inverse(CArm().T_image_isocentre)
    for i in (0, 7, 23):
        assert np.allclose(second.pose(i), T_second_first @ phantom.pose(i), atol=1e-12)
    assert np.array_equal(second.model.vertices, phantom.model.vertices)
    before = Phantom(anatomy, seed=2, plane=1, **SIZE)[0]
    alike = np.corrcoef(before.image[20:-20, 20:-20].ravel(), phantom[0].image[20:-20, 20:-20].ravel())[0, 1]
    assert alike < 0.9 and not before.mask.any()


def test_a_turning_c_arm_and_a_sliding_table_move_the_pose_as_their_source_tells():
    phantom = Phantom('iliofemoral', seed=2, breath=1e9, turn=(0.5, -0.2), slide=(0.01, 0.0, -0.03), **SIZE)
    T_table_model = []
    for frame in (phantom[0], phantom[7]):
        told = SourceFrame(frame.image, frame.stamp, c_arm=frame.c_arm, table=frame.table)
        T_table_model.append(told.T_table_image @ frame.T_image_model)
    assert np.allclose(*T_table_model, atol=1e-9)
    assert not np.allclose(phantom.pose(0), phantom.pose(7), atol=1e-3)
