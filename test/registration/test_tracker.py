"""What a Registrar believes, frame after frame."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from trees import ILIAC, ray_cast, tree

from m2i_ros.geometry import Camera, CArm, apply, inverse, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.registration import Registrar, RegistrationSettings, State
from m2i_ros.registration.search import Search
from m2i_ros.segmentation import Contrast, VesselMask

SELECTIVE = 240  # the row below which no contrast comes
EMPTY = VesselMask(np.zeros((512, 512), np.uint8), np.ones((512, 512), bool))


def vessels(mask):
    return VesselMask(mask, np.ones(mask.shape, bool))


def mean_projected_error_mm(T, T_truth, model, camera):
    points = model.centreline.points
    pixels = camera.project(apply(T, points)) - camera.project(apply(T_truth, points))
    return np.linalg.norm(pixels, axis=1).mean() * apply(T_truth, model.centroid)[2] / camera.fy * 1e3


def off(T, model, degrees, in_plane_mm, depth_mm):
    xi = np.r_[0.8 * in_plane_mm, -0.6 * in_plane_mm, depth_mm, np.radians(degrees) * 1e3 * np.array([0.48, 0.6, 0.64])]
    return perturb(T, xi * 1e-3, apply(T, model.centroid))


@pytest.fixture
def registrar(model, T_truth):
    out = Registrar(model)
    out.set_initial_pose(off(T_truth, model, 5, 10, 20))
    return out


@pytest.fixture(scope='module')
def mask(model, T_truth, camera):
    return silhouette(model, T_truth, camera)


def test_it_waits_and_says_why(model, camera, T_truth):
    registrar = Registrar()
    assert registrar.register(EMPTY, camera, 0.0).state == State.WAITING
    assert 'model' in registrar.register(EMPTY, camera, 0.0).reason
    registrar.model = model
    assert 'initial pose' in registrar.register(EMPTY, camera, 0.0).reason
    registrar.set_initial_pose(T_truth)
    assert 'camera_info' in registrar.register(EMPTY, None, 0.0).reason
    assert registrar.register(EMPTY, camera, 0.0).state == State.SEARCHING


@pytest.mark.parametrize('offset', [(5, 10, 20), (10, -20, -50), (25, 40, 100)])
def test_it_finds_the_pose_from_a_start_that_is_off(model, camera, T_truth, mask, offset):
    registrar = Registrar(model)
    registrar.set_initial_pose(off(T_truth, model, *offset))
    result = registrar.register(vessels(mask), camera, 0.0)
    assert result.state == State.TRACKING and result.accepted and result.reason == ''
    assert mean_projected_error_mm(result.T_image_model, T_truth, model, camera) < 0.2
    assert result.recall > 0.97 and result.precision > 0.97 and result.residual_mm < 0.5
    assert result.probability > 0.9


@pytest.fixture(scope='module')
def thin():
    """A tree of vessels as thin as the pixels in which a search first looks at them."""
    return tree([(points, [0.2 * r for r in radii]) for points, radii in ILIAC], spacing=0.0008)


# From the second start a first round finds nothing, from the third a wrong pose that is just believed.
@pytest.mark.parametrize('offset', [(25, 40, 100), (-45, 20, 50), (-35, 40, 100)])
def test_it_finds_a_thin_tree_from_afar(thin, camera, offset):
    T_truth = CArm(np.radians(20), np.radians(10)).T_image_isocentre @ rigid(None, -thin.centroid)
    registrar = Registrar(thin)
    registrar.set_initial_pose(off(T_truth, thin, *offset))
    result = registrar.register(vessels(silhouette(thin, T_truth, camera)), camera, 0.0)
    assert result.accepted
    assert mean_projected_error_mm(result.T_image_model, T_truth, thin, camera) < 0.2


def test_it_tracks_a_moving_model_and_holds_when_contrast_is_gone(model, camera, T_truth, registrar):
    for i in range(6):
        T = perturb(T_truth, (0.0, 0.002 * i, 0.001 * i, 0.0, 0.0, 0.002 * i), apply(T_truth, model.centroid))
        result = registrar.register(vessels(silhouette(model, T, camera)), camera, i / 15)
        assert result.state == State.TRACKING
        assert mean_projected_error_mm(result.T_image_model, T, model, camera) < 0.3

    held = [registrar.register(EMPTY, camera, 0.4 + i / 15) for i in range(10)]
    assert all(h.state == State.HOLDING for h in held)
    assert not any(h.accepted for h in held), 'at 30 mm/s it is elsewhere at the next frame'
    assert all(np.array_equal(h.T_image_model, result.T_image_model) for h in held)
    grown = [np.trace(h.covariance) for h in [result, *held]]
    assert (np.diff(grown) > 0).all()

    lost = registrar.register(EMPTY, camera, 0.4 + registrar.settings.max_hold)
    assert lost.state == State.LOST and not lost.accepted
    assert registrar.register(EMPTY, camera, 3.9).state == State.SEARCHING
    again = registrar.register(vessels(silhouette(model, T, camera)), camera, 4.0)
    assert again.state == State.SEARCHING and 'filling' in again.reason
    assert registrar.register(vessels(silhouette(model, T, camera)), camera, 4.1).state == State.TRACKING


def settle(registrar, camera, mask):
    """Track a model that lies still until that is known; return the last registration and its stamp."""
    for i in range(6):
        result = registrar.register(vessels(mask), camera, 0.8 * i)
    assert result.state == State.TRACKING
    return result, 0.8 * i


def test_what_lies_still_is_given_out_while_held_until_the_hold_ends(camera, registrar, mask):
    believed, stamp = settle(registrar, camera, mask)
    held = [registrar.register(EMPTY, camera, stamp + i / 15) for i in range(1, 15)]
    assert all(h.state == State.HOLDING and h.accepted for h in held)
    assert all(np.array_equal(h.T_image_model, believed.T_image_model) for h in held)
    lost = registrar.register(EMPTY, camera, stamp + 1.01 * registrar.settings.max_hold)
    assert lost.state == State.LOST and not lost.accepted


def test_a_picture_of_something_else_is_not_believed(camera, registrar):
    other = np.zeros((512, 512), np.uint8)
    cv2.line(other, (60, 80), (430, 300), 255, 25)
    result = registrar.register(vessels(other), camera, 0.0)
    assert result.state == State.SEARCHING and not result.accepted and result.reason


def test_a_track_that_is_contradicted_is_not_given_out_and_then_lost(camera, registrar, mask):
    assert registrar.register(vessels(mask), camera, 0.0).accepted
    wrong = vessels(np.ascontiguousarray(mask[::-1]))
    results = [registrar.register(wrong, camera, 0.1 * i) for i in range(1, 8)]
    assert not any(r.accepted for r in results)
    assert results[0].state == State.HOLDING and State.LOST in [r.state for r in results]


def test_stamps_that_go_back_start_anew(camera, registrar, mask):
    assert registrar.register(vessels(mask), camera, 10.0).accepted
    back = registrar.register(vessels(mask), camera, 2.0)
    assert back.state == State.SEARCHING and not back.accepted and 'back' in back.reason
    assert registrar.register(vessels(mask), camera, 2.1).accepted


@pytest.mark.parametrize('zoom', [0.8, 1.5])
def test_a_track_goes_on_in_a_picture_with_another_zoom(model, camera, T_truth, registrar, mask, zoom):
    settle(registrar, camera, mask)
    zoomed = replace(camera, fx=zoom * camera.fx, fy=zoom * camera.fy, cx=camera.cx + 9)
    result = registrar.register(vessels(silhouette(model, T_truth, zoomed)), zoomed, 4.1)
    assert result.state == State.TRACKING
    assert mean_projected_error_mm(result.T_image_model, T_truth, model, zoomed) < 0.3


def moved_system(primary_deg=0.0, secondary_deg=0.0, table_mm=(0.0, 0.0, 0.0)):
    """Return T_table_image of the view of `T_truth`, moved: the C-arm's angles by so much, the table by so much."""
    c_arm = CArm(np.radians(20 + primary_deg), np.radians(10 + secondary_deg))
    return rigid(translation=-1e-3 * np.array(table_mm)) @ inverse(c_arm.T_image_isocentre)


MOVES = {
    'the table': {'table_mm': (12.0, 0.0, -40.0)},
    'the table, a little': {'table_mm': (4.0, 0.0, -7.0)},
    'the C-arm': {'primary_deg': -35.0, 'secondary_deg': 12.0},
    'both': {'primary_deg': 15.0, 'table_mm': (-10.0, 0.0, 20.0)},
}


@pytest.mark.parametrize('move', MOVES.values(), ids=MOVES)
def test_an_announced_move_of_table_or_c_arm_is_followed_at_once(model, camera, T_truth, registrar, mask, move):
    before, after = moved_system(), moved_system(**move)
    for i in range(3):
        assert registrar.register(vessels(mask), camera, i / 15, T_fixed_image=before).accepted
    T = inverse(after) @ before @ T_truth
    result = registrar.register(vessels(silhouette(model, T, camera)), camera, 0.2, T_fixed_image=after)
    assert result.state == State.TRACKING
    assert mean_projected_error_mm(result.T_image_model, T, model, camera) < 0.3


def test_an_announced_move_takes_along_what_is_held(model, camera, T_truth, registrar, mask):
    before, after = moved_system(), moved_system(table_mm=(0.0, 0.0, -30.0))
    for i in range(6):
        assert registrar.register(vessels(mask), camera, 0.8 * i, T_fixed_image=before).accepted
    T = inverse(after) @ before @ T_truth
    held = registrar.register(EMPTY, camera, 4.1, T_fixed_image=after)
    assert held.state == State.HOLDING
    assert mean_projected_error_mm(held.T_image_model, T, model, camera) < 0.3


def test_a_c_arm_that_turns_all_the_time_is_followed(model, camera, T_truth, registrar, mask):
    before = moved_system()
    for i in range(8):
        system = moved_system(primary_deg=6.0 * i)
        T = inverse(system) @ before @ T_truth
        result = registrar.register(vessels(silhouette(model, T, camera)), camera, i / 15, T_fixed_image=system)
        assert result.state == State.TRACKING
        assert mean_projected_error_mm(result.T_image_model, T, model, camera) < 0.3


def test_what_was_known_of_the_c_arm_before_a_gap_is_not_applied_twice(model, camera, T_truth, registrar, mask):
    before, after = moved_system(), moved_system(table_mm=(0.0, 0.0, -6.0))
    T = inverse(after) @ before @ T_truth
    moved = vessels(silhouette(model, T, camera))
    assert registrar.register(vessels(mask), camera, 0.0, T_fixed_image=before).accepted
    assert registrar.register(moved, camera, 0.1).accepted  # followed by the picture alone
    result = registrar.register(moved, camera, 0.2, T_fixed_image=after)
    assert result.state == State.TRACKING
    assert mean_projected_error_mm(result.T_image_model, T, model, camera) < 0.3


@pytest.mark.parametrize('move', MOVES.values(), ids=MOVES)
def test_a_move_that_nobody_told_is_noticed_and_found_again(model, camera, T_truth, registrar, mask, move):
    _, stamp = settle(registrar, camera, mask)
    T = inverse(moved_system(**move)) @ moved_system() @ T_truth
    moved = vessels(silhouette(model, T, camera))
    results = [registrar.register(moved, camera, stamp + i / 15) for i in range(1, 31)]
    for result in results:
        assert not result.accepted or mean_projected_error_mm(result.T_image_model, T, model, camera) < 1.0
    assert results[-1].state == State.TRACKING, results[-1].reason


def test_a_mask_of_another_size_than_the_camera_is_refused(camera, registrar):
    with pytest.raises(ValueError, match='256x256.*512x512'):
        registrar.register(vessels(np.zeros((256, 256), np.uint8)), camera, 0.0)


@pytest.mark.parametrize('covariance', [np.zeros((5, 5)), np.full((6, 6), np.nan), -np.eye(6)])
def test_an_impossible_covariance_is_refused(registrar, T_truth, covariance):
    with pytest.raises(ValueError, match='covariance'):
        registrar.set_initial_pose(T_truth, covariance)


def test_a_pose_that_is_not_rigid_is_refused(registrar):
    with pytest.raises(ValueError, match='rigid'):
        registrar.set_initial_pose(np.diag([1.0, 1.0, -1.0, 1.0]))


def test_settings_out_of_range_are_refused_by_name():
    with pytest.raises(ValueError, match='max_hold = -1'):
        RegistrationSettings(max_hold=-1)


def test_a_picture_as_displayed_and_one_as_seen_give_the_same_pose(model, camera, T_truth, mask):
    poses = []
    for picture, c in ((mask, camera), (np.ascontiguousarray(mask[:, ::-1]), camera.flipped())):
        registrar = Registrar(model)
        registrar.set_initial_pose(off(T_truth, model, 5, 10, 20))
        poses.append(registrar.register(vessels(picture), c, 0.0).T_image_model)
    assert np.abs(poses[0] - poses[1]).max() < 1e-3


def test_a_large_and_a_small_picture_register_too(model, T_truth):
    for size in (256, 1024):
        camera = Camera.from_detector(size, size, 1.1, 0.6e-3 * 512 / size, mirrored=False)
        registrar = Registrar(model)
        registrar.set_initial_pose(off(T_truth, model, 5, 10, 20))
        result = registrar.register(vessels(silhouette(model, T_truth, camera)), camera, 0.0)
        assert result.accepted
        assert mean_projected_error_mm(result.T_image_model, T_truth, model, camera) < 0.3


def test_a_mirrored_model_fits_worse_and_is_not_believed(model, camera, T_truth, mask):
    centre = model.centroid
    flip = np.array([-1.0, 1.0, 1.0])
    centreline = replace(model.centreline, points=(model.centreline.points - centre) * flip + centre)
    mirrored = replace(
        model,
        vertices=(model.vertices - centre) * flip + centre,
        faces=np.ascontiguousarray(model.faces[:, ::-1]),
        centreline=centreline,
    )
    results = []
    for m in (model, mirrored):
        registrar = Registrar(m)
        registrar.set_initial_pose(off(T_truth, model, 5, 10, 20))
        results.append(registrar.register(vessels(mask), camera, 0.0))
    assert results[0].accepted and not results[1].accepted
    assert results[0].precision > results[1].precision + 0.1 and results[0].recall > results[1].recall + 0.1


def test_a_damaged_mask_registers_and_precision_and_recall_tell(model, camera, T_truth, registrar):
    mask = cv2.dilate(ray_cast(model.centreline, T_truth, camera), np.ones((3, 3), np.uint8))
    cv2.circle(mask, (300, 330), 40, 0, -1)  # a branch that was not found
    cv2.line(mask, (20, 30), (200, 480), 255, 6)  # a catheter that was
    valid = np.ones(mask.shape, bool)
    valid[:, 420:] = False
    result = registrar.register(VesselMask(mask, valid), camera, 0.0)
    assert result.accepted
    assert mean_projected_error_mm(result.T_image_model, T_truth, model, camera) < 0.5
    assert 0.6 < result.recall < 0.95 and 0.8 < result.precision < 1.0


def test_while_contrast_fills_a_part_only_the_pose_is_held_and_does_not_drift(model, camera, T_truth, registrar, mask):
    believed, stamp = settle(registrar, camera, mask)
    for i, rows in enumerate((200, 160, 120), start=1):
        part = mask.copy()
        part[rows:] = 0
        result = registrar.register(vessels(part), camera, stamp + i / 15)
        assert result.state == State.HOLDING and result.accepted and 'part' in result.reason
        assert np.array_equal(result.T_image_model, believed.T_image_model)


def test_a_selective_injection_is_found_and_tracked_while_its_contrast_is_steady(model, camera, T_truth, registrar):
    """Contrast fills a part for good, of which the rest says nothing; while it comes or goes the pose is held."""
    for i in range(8):
        T = rigid(translation=(2e-4 * i, 1e-4 * i, 0.0)) @ T_truth
        part = silhouette(model, T, camera)
        part[SELECTIVE:] = 0
        seen = VesselMask(part, np.ones(part.shape, bool), contrast=Contrast.FILLED)
        result = registrar.register(seen, camera, i / 15)
        assert result.state == State.TRACKING and result.evidence.model_unexplained > 0.5
        assert mean_projected_error_mm(result.T_image_model, T, model, camera) < 1
    for contrast in (Contrast.WASHING_OUT, Contrast.FILLING, None):
        i += 1
        held = registrar.register(VesselMask(part, seen.valid, contrast=contrast), camera, i / 15)
        assert held.state == State.HOLDING and 'part' in held.reason


def test_seeing_the_same_faults_again_does_not_make_a_pose_surer(camera, registrar, mask):
    faulty = mask.copy()
    cv2.circle(faulty, (300, 330), 40, 0, -1)
    registrar.settings = RegistrationSettings(drift_rotation=1e-4, drift_in_plane=1e-5, drift_depth=1e-5)
    first = registrar.register(vessels(faulty), camera, 0.0)
    for i in range(1, 20):
        result = registrar.register(vessels(faulty), camera, i / 60)
    assert result.state == State.TRACKING
    assert (np.diag(result.covariance) > 0.6 * np.diag(first.covariance)).all()


def test_dropped_frames_do_not_lose_a_track(camera, registrar, mask):
    assert registrar.register(vessels(mask), camera, 0.0).accepted
    assert registrar.register(vessels(mask), camera, 5.0).state == State.TRACKING


def test_the_same_frames_give_the_same_answers(model, camera, T_truth, mask):
    results = []
    for _ in range(2):
        registrar = Registrar(model)
        registrar.set_initial_pose(off(T_truth, model, 10, -20, -50))
        results.append([registrar.register(vessels(mask), camera, t).T_image_model for t in (0.0, 0.1)])
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize(('seconds', 'rounds'), [(1.0, 1), (100.0, 2)])
def test_while_contrast_fills_in_a_search_that_is_not_sure_leaves_it_at_one_round(
    monkeypatch, registrar, camera, seconds, rounds
):
    """Of vessels that are not the model's, twice as many as before, so long ago."""
    registrar.settings = replace(registrar.settings, min_overlap=0.0, search_interval=0.0)
    other = np.zeros((512, 512), np.uint8)
    other[60:460:40] = other[61:460:40] = 255
    registrar.register(vessels(np.where(np.arange(512)[:, None] < 240, other, 0).astype(np.uint8)), camera, 0.0)
    calls, starts = [], Search._starts
    monkeypatch.setattr(Search, '_starts', lambda *given: calls.append(given) or starts(*given))
    assert not registrar.register(vessels(other), camera, seconds).accepted
    assert (len(calls) == 1) if rounds == 1 else (len(calls) >= rounds)


def test_after_a_search_that_found_nothing_the_next_one_waits(registrar, camera, mask):
    noise = np.random.default_rng(0).normal(size=mask.shape).astype(np.float32)
    false = vessels(np.where(cv2.GaussianBlur(noise, (0, 0), 2) > 0.15, 255, 0).astype(np.uint8))
    interval = registrar.settings.search_interval
    assert 'no start overlaps' in registrar.register(false, camera, 0.0).reason
    resting = registrar.register(vessels(mask), camera, 0.5 * interval)
    assert (resting.state, resting.accepted, resting.T_image_model) == (State.SEARCHING, False, None)
    assert registrar.register(vessels(mask), camera, 1.01 * interval).accepted
