"""One C-arm that turns: what it saw before is a second view, is doubted for what moved since, and forgotten in time."""

import numpy as np
import pytest
from trees import tree

from m2i_ros.evaluation.metrics import ellipsoids, pose_errors
from m2i_ros.geometry import CArm, apply, inverse, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.registration import Registrar, RegistrationSettings, State
from m2i_ros.registration.kept import GEOMETRY, PAUSE, SETTLING, UNSEEN, KeptViews
from m2i_ros.registration.uncertainty import change_pivot
from m2i_ros.registration.view import View
from m2i_ros.segmentation.vessel_mask import VesselMask

# Small, so that one view tells its depth badly.
SMALL = [
    ([(0, 0, 0.03), (0.002, -0.004, 0.012), (0, 0, 0)], [0.010, 0.010, 0.009]),
    ([(0, 0, 0), (0.012, 0.008, -0.012), (0.02, 0.012, -0.03)], [0.006, 0.005, 0.004]),
    ([(0, 0, 0), (-0.01, -0.004, -0.015), (-0.018, -0.012, -0.028)], [0.006, 0.005, 0.004]),
]
BREATH = np.array([0.0005, -0.0015, -0.006])  # metres along LPS, as a heart's
EARLY, NOW = CArm(np.radians(-60), np.radians(5)), CArm(np.radians(20), np.radians(10))


@pytest.fixture(scope='module')
def model():
    return tree(SMALL)


class Room:
    """A patient whose vessels lie at the isocentre, breathing or moved, seen by one C-arm."""

    def __init__(self, model, camera, **settings):
        self.model, self.camera = model, camera
        self.registrar = Registrar(model, RegistrationSettings(**settings))
        self.start(EARLY)

    def pose(self, c_arm, moved=(0.0, 0.0, 0.0)):
        return c_arm.T_image_isocentre @ rigid(translation=np.asarray(moved) - self.model.centroid)

    def start(self, c_arm):
        T = self.pose(c_arm)
        off = (0.005, -0.004, 0.01, 0.04, -0.04, 0.04)
        self.registrar.set_initial_pose(perturb(T, off, apply(T, self.model.centroid)))

    def see(self, c_arm, stamp, moved=(0.0, 0.0, 0.0), told=None):
        """Return the registration of the frame; told: T_fixed_image that TF gives, by default the true one."""
        mask = silhouette(self.model, self.pose(c_arm, moved), self.camera)
        return self.take(mask, stamp, inverse(c_arm.T_image_isocentre) if told is None else told)

    def take(self, mask, stamp, told):
        vessels = VesselMask(mask, np.ones(mask.shape, bool))
        return self.registrar.register(vessels, self.camera, stamp, T_fixed_image=told)

    def watch(self, c_arm=EARLY, seconds=8.0, breath=0.0, told=None):
        """Look at the patient who breathes once in 4 s; return the stamp of the last frame."""
        for stamp in np.arange(0.0, seconds + 0.1, 0.4):
            moved = breath * BREATH * (0.5 - 0.5 * np.cos(2 * np.pi * stamp / 4))
            assert self.see(c_arm, stamp, moved, told).accepted
        return stamp

    def lose(self, stamp, told=None):
        """Have contrast go, and the track with it; return the stamp of the last frame."""
        empty = np.zeros((self.camera.height, self.camera.width), np.uint8)
        for i in range(4):
            lost = self.take(empty, stamp + 0.4 * (i + 1), inverse(EARLY.T_image_isocentre) if told is None else told)
        assert lost.state in (State.LOST, State.SEARCHING)
        return stamp + 1.6

    def errors(self, result, c_arm, moved=(0.0, 0.0, 0.0)):
        return pose_errors(result.T_image_model, self.pose(c_arm, moved), self.model, self.camera)

    def inside(self, result, c_arm, moved=(0.0, 0.0, 0.0)):
        T = self.pose(c_arm, moved)
        return all(ellipsoids(result.covariance, result.T_image_model, T, self.model.centroid).values())

    def depth_sigma(self, result):
        A = change_pivot(result.T_image_model[:3, 3], apply(result.T_image_model, self.model.centroid))
        return np.sqrt((A @ result.covariance @ A.T)[2, 2])


@pytest.mark.parametrize('gap', [False, True], ids=['contrast stays', 'lost in between'])
def test_depth_comes_out_once_the_arm_has_turned(model, camera, gap):
    rooms = [Room(model, camera, max_keep=seconds) for seconds in (0.0, 60.0)]
    results = []
    for room in rooms:
        stamp = room.watch()
        if gap:
            stamp = room.lose(stamp) + 1.0
        results.append([room.see(NOW, stamp + 0.5 + 0.1 * i) for i in range(10)][-1])
    alone, both = results
    assert (alone.views, both.views, both.second) == (1, 2, '')
    assert np.isnan(alone.second_age) and 0.5 < both.second_age < 5
    assert rooms[1].errors(both, NOW)['depth_mm'] < 0.5
    assert rooms[1].depth_sigma(both) < 0.8 * rooms[0].depth_sigma(alone)
    assert rooms[1].inside(both, NOW)


@pytest.mark.parametrize('phase', [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize('seconds', [2.0, 8.0])
def test_whatever_the_breath_the_truth_is_not_ruled_out(model, camera, seconds, phase):
    room = Room(model, camera)
    stamp = room.lose(room.watch(seconds=seconds, breath=1.0)) + 1.5
    for i in range(3):
        result = room.see(NOW, stamp + 0.1 * i, phase * BREATH)
        assert result.accepted and result.views == 2
        assert room.errors(result, NOW, phase * BREATH)['mpd_mm'] < 0.5
        assert room.inside(result, NOW, phase * BREATH)


def test_a_breath_that_was_watched_is_made_up_for(model, camera):
    """The height of the vessels, which both views see, tells how far in its breath the kept one is elsewhere."""
    watched, unwatched = (Room(model, camera) for _ in range(2))
    last = [watched.watch(seconds=8.0, breath=1.0), unwatched.watch(seconds=2.0, breath=1.0)]
    sigma = []
    for room, stamp in zip((watched, unwatched), last):
        result = [room.see(NOW, room.lose(stamp) + 1.5 + 0.1 * i, 0.7 * BREATH) for i in range(1)][-1]
        assert result.views == 2
        sigma.append(room.depth_sigma(result))
    assert sigma[0] < sigma[1]


def test_a_small_turn_is_none(model, camera):
    room = Room(model, camera)
    stamp = room.watch()
    a_little = CArm(EARLY.primary_angle + np.radians(15), EARLY.secondary_angle)
    results = [room.see(a_little, stamp + 1 + 0.1 * i) for i in range(3)]
    assert all(result.accepted and result.views == 1 for result in results)
    assert all(result.second == '' for result in results)


def reset(room):
    room.registrar.reset()
    room.start(NOW)


def other_model(room):
    room.registrar.model = room.model
    room.start(NOW)


FORGETTING = {'reset': (reset, 1.0), 'a new model': (other_model, 1.0), 'its age': (lambda room: None, 61.0)}


@pytest.mark.parametrize(('act', 'wait'), FORGETTING.values(), ids=FORGETTING)
def test_it_is_forgotten(model, camera, act, wait):
    room = Room(model, camera)
    stamp = room.lose(room.watch())
    act(room)
    results = [room.see(NOW, stamp + wait + 0.1 * i) for i in range(3)]
    assert all(result.accepted and result.views == 1 for result in results)


def test_a_patient_who_moved_untold_is_not_seen_where_he_was(model, camera):
    room = Room(model, camera)
    stamp = room.watch()
    moved = np.array([0.02, 0.0, 0.03])
    results = [room.see(EARLY, stamp + 0.1 * (i + 1), moved) for i in range(2)]  # the jump is noticed
    results += [room.see(NOW, stamp + 1.0 + 0.1 * i, moved) for i in range(5)]
    assert results[-1].accepted and all(result.views == 1 for result in results if result.accepted)
    assert room.errors(results[-1], NOW, moved)['mpd_mm'] < 0.5


@pytest.mark.parametrize('moved', [(0.0, 0.0, 0.015), (0.004, 0.003, 0.03)])
def test_a_patient_who_moved_while_nobody_looked_contradicts_the_kept_view(model, camera, moved):
    room = Room(model, camera)
    stamp = room.lose(room.watch()) + 1.0
    results = [room.see(NOW, stamp + 0.1 * i, moved) for i in range(5)]
    assert all(room.errors(r, NOW, moved)['mpd_mm'] < 0.5 and r.views == 1 for r in results if r.accepted)
    assert results[-1].accepted and 'kept for' in results[0].second


WRONG = {
    '1 mm and 0.5 deg': (0.0006, 0.0006, -0.0005, 0.005, -0.005, 0.005),
    '5 deg': (0, 0, 0, 0.05, 0.05, 0.05),
    '20 mm': (0.01, 0.01, 0.014, 0, 0, 0),
    '15 deg and 30 mm': (0.02, -0.02, 0.01, 0.15, -0.15, 0.15),
}

PLAUSIBLE = '1 mm and 0.5 deg'


@pytest.mark.parametrize(('wrong', 'plausible'), [(xi, name == PLAUSIBLE) for name, xi in WRONG.items()], ids=WRONG)
def test_a_c_arm_that_went_elsewhere_than_told_leads_to_no_wrong_pose(model, camera, wrong, plausible):
    room = Room(model, camera)
    told = perturb(inverse(EARLY.T_image_isocentre), wrong)  # about the isocentre
    stamp = room.lose(room.watch(told=told), told) + 1.5
    for i in range(5):
        result = room.see(NOW, stamp + 0.1 * i)
        assert result.accepted and room.errors(result, NOW)['mpd_mm'] < 0.5
        assert room.errors(result, NOW)['depth_mm'] < 3
        assert room.inside(result, NOW) or not plausible


def test_a_picture_whose_tf_came_late_is_not_kept(model, camera):
    """The arm has turned, TF still says where it was: such a picture belongs to another angle than it seems."""
    room = Room(model, camera)
    early = inverse(EARLY.T_image_isocentre)
    assert room.see(EARLY, 0.0).accepted and room.see(EARLY, 0.1).accepted
    on_the_way = CArm(EARLY.primary_angle + np.radians(3), EARLY.secondary_angle)
    room.see(on_the_way, 0.2, told=early)
    result = [room.see(NOW, 1.0 + 0.1 * i) for i in range(3)][-1]
    assert result.views == 2 and result.second_age == pytest.approx(1.1)


# Of `KeptViews` alone

T_EARLY, T_NOW = (inverse(c_arm.T_image_isocentre) for c_arm in (EARLY, NOW))


@pytest.fixture
def view(camera):
    return View(np.zeros((camera.height, camera.width), np.uint8), np.ones((camera.height, camera.width), bool), camera)


def kept_of(view, stamps, places, age, T_now=T_NOW):
    kept = KeptViews()
    kept.see(T_EARLY, stamps[0], 1e3)
    kept.see(T_EARLY, stamps[-1], 1e3)
    kept.take(view, stamps, places)
    kept.see(T_EARLY, stamps[-1] + 0.1, 1e3)
    kept.see(T_now, stamps[-1] + age, 1e3)
    return kept.second(np.radians(20))


def test_what_was_watched_for_long_is_expected_about_its_mean_and_no_further_than_it_went(view):
    stamps = np.linspace(0, 8, 121)
    line = np.array([0.6, 0.8])
    places = 3e-3 * np.sin(np.pi * stamps / 2 + 0.5)[:, None] * line
    second = kept_of(view, stamps, places, 60.0)
    plain = inverse(T_EARLY) @ T_NOW
    assert second.T_view_image[:3, :3] == pytest.approx(plain[:3, :3])
    shift = second.T_view_image[:3, 3] - plain[:3, 3]
    assert shift == pytest.approx([*(places[-1] - places.mean(axis=0)), 0.0])
    known = GEOMETRY[0] ** 2 + SETTLING**2
    assert line @ second.sway @ line == pytest.approx(4.5e-6 + known, rel=0.02)
    across = np.array([-line[1], line[0]])
    assert across @ second.sway @ across == pytest.approx(known, rel=1e-6)


def test_of_what_was_hardly_watched_two_unknown_moments_are_doubted(view):
    second = kept_of(view, np.array([0.0, 0.0]), np.zeros((2, 2)), PAUSE + 0.2)
    assert np.diag(second.sway) == pytest.approx(2 * UNSEEN**2 + GEOMETRY[0] ** 2, rel=0.02)


def test_the_view_that_looks_most_across_is_taken_and_no_more_than_a_few_are_kept(view):
    kept = KeptViews()
    arms = [CArm(np.radians(deg), 0.0) for deg in (-80, -60, -58, -56, -54, 0)]
    stamp = 0.0
    for c_arm in arms:
        for _ in range(3):
            kept.see(inverse(c_arm.T_image_isocentre), stamp, 1e3)
            kept.take(view, np.array([stamp]), np.zeros((1, 2)))
            stamp += 0.1
    kept.see(inverse(arms[-1].T_image_isocentre), stamp, 1e3)
    second = kept.second(np.radians(20))
    expected = inverse(inverse(arms[0].T_image_isocentre)) @ inverse(arms[-1].T_image_isocentre)
    assert second.T_view_image == pytest.approx(expected)
