"""The registration from frame to frame: what is believed, and when it no longer is."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from m2i_ros.geometry import apply, inverse, is_rigid, pose_difference, rigid, rotation_angle
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.confidence import (
    DISAGREEMENT,
    MIN_EXPLAINED,
    judge_fit,
    judge_held,
    millimetres_per_pixel,
    points_in_view,
    predicted_mm,
)
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.kept import KeptViews
from m2i_ros.registration.matching import Matcher
from m2i_ros.registration.motion import Motion
from m2i_ros.registration.no_model import NO_MODEL
from m2i_ros.registration.refine import Prior, refine
from m2i_ros.registration.result import Registration, State
from m2i_ros.registration.search import FINE_SCALES, Search
from m2i_ros.registration.settings import RegistrationSettings
from m2i_ros.registration.starts import best_shifts
from m2i_ros.registration.uncertainty import isotropic, turned
from m2i_ros.registration.view import view_of

TRACK_STEPS = 1, 2  # at most, at these: from one frame to the next it is not far
COARSE_FACES = 1000  # of the surface that is drawn where pixels are large
MOVE_DOUBT = 0.05  # of a motion of C-arm or table that was announced: it is known from worn encoders and a clock
ROUNDS = 3  # of starts, at most: the next ones about the best pose so far
STEADY = 0.1  # growth of the vessels' area per second, as a share, below which a search takes more than one round
FIRST_SPEED = 0.03  # metres per second taken for the anatomy's until it is measured: a heart's
SPEED_MEMORY = 1.0  # seconds: a breath is slower, but a change of speed should be noticed
MAX_APART = 5.0  # standard deviations of the first view's own pose from that with a kept one
WELL = 0.8  # of the model's contour explained: such a picture is worth keeping
REACH = 3  # pixels of the quarter-size view by which a vessel may move between frames and still count as contrast


@dataclass(frozen=True)
class _Track:
    """The last accepted pose: `prior` at `stamp`. doubted: the stamp since which frames are refused, or None.

    speed: metres per second at which the points in view move in the picture's plane: root mean square, of late.
    views: that the pose rests upon.
    """

    prior: Prior
    stamp: float
    probability: float
    speed: float
    views: int
    doubted: float | None = None


class Registrar:
    """Registers the model to one frame after another, and says which poses are believed.

    model: VesselModel, or None; can be set at any time, which drops the track. settings: RegistrationSettings; can be
    replaced at any time. motion: a `Motion`, or what has its methods.

    One thread at a time. A frame's `mask`, `valid` and `contrast` are used. Same frames, same answers. Inside, a
    frame's views go as a tuple, the first one in front.
    """

    def __init__(self, model=None, settings=None):
        self.settings = settings or RegistrationSettings()
        self._matcher = None if self.settings.matching == 'none' else Matcher(self.settings.matching)
        self.motion = Motion()
        self._kept = KeptViews()
        self._initial = None
        self.model = model

    @property
    def model(self):
        return self._model

    @model.setter
    def model(self, model):
        self._model = model
        self._surface = None if model is None else ContourSurface.from_model(model)
        self._coarse = None if model is None else ContourSurface.from_model(model, COARSE_FACES)
        self._finder = None if model is None else Search(self._surface, self._coarse, model.centroid, self._matcher)
        self._deformable = None  # made when first wanted
        self.reset()

    def reset(self):
        """Forget the track and earlier views: the next frame searches from the initial pose, which stays."""
        self._track = None
        self.motion.clear()
        self._kept.clear()
        self._last_prior = None
        self._T_fixed_image = None
        self._camera = None
        self._stamp = None
        self._area = None
        self._searched = None  # the stamp of the last search that found nothing

    def set_initial_pose(self, T_image_model, covariance=None):
        """Drop the track and search from this pose.

        T_image_model: (4, 4), metres. covariance: (6, 6), pivot at the model origin's position as in `Registration`;
        None or all zeros (unknown, in ROS) for the settings' prior.
        Raises ValueError where the pose is not rigid or the covariance not one.
        """
        if not is_rigid(T_image_model):
            raise ValueError(f'initial pose is not a rigid 4x4 motion: {np.asarray(T_image_model).tolist()}')
        if covariance is not None:
            covariance = np.asarray(covariance, dtype=float)
            if covariance.shape != (6, 6) or not np.isfinite(covariance).all():
                raise ValueError(f'initial pose: covariance of shape {covariance.shape} must be 6x6 and finite')
            covariance = (covariance + covariance.T) / 2
            if np.linalg.eigvalsh(covariance).min() < -1e-9:
                raise ValueError('initial pose: covariance has negative eigenvalues')
            if not covariance.any():
                covariance = None
        self._initial = (np.array(T_image_model, dtype=float), covariance)
        self.reset()

    def register(self, vessels, camera, stamp, second=None, T_fixed_image=None):
        """Return the `Registration` of one frame.

        vessels: VesselMask of the camera's size. camera: Camera, or None where it is not known; another one than before
        is taken for the same X-ray source seen with another zoom or detector. stamp: seconds.
        T_fixed_image: (4, 4) how the image frame stands in a frame in which the patient lies still, or None where it is
        not known: from one frame that says it to the next, what is believed is carried along, and what was seen before
        the C-arm turned can be a second view (`KeptViews`).
        second: `SecondView`, or None. Where it shows no vessels, or the pose is not believed with it, the first view
        goes alone.
        Raises ValueError where mask and camera differ in size.
        """
        missing = self._missing(camera)
        if missing:
            return Registration(State.WAITING, reason=missing)
        if vessels.mask.shape != (camera.height, camera.width):
            raise ValueError(
                f'mask is {vessels.mask.shape[1]}x{vessels.mask.shape[0]} but the camera says '
                f'{camera.width}x{camera.height}: publish the camera_info of this picture size'
            )
        if self._camera is not None and camera != self._camera:
            self._area = None
        if self._stamp is not None and stamp < self._stamp:
            back = self._stamp - stamp
            self.reset()
            self._camera, self._stamp, self._T_fixed_image = camera, stamp, T_fixed_image
            return Registration(State.SEARCHING, reason=f'the stamp went back by {back:.3f} s: a new run')
        elapsed = 0.0 if self._stamp is None else stamp - self._stamp
        self._camera, self._stamp = camera, stamp
        self._carry(T_fixed_image)
        self._kept.see(T_fixed_image, stamp, self.settings.max_keep)

        full = (view_of(vessels, camera),)
        if second is not None:
            speed = FIRST_SPEED if self._track is None else self._track.speed
            sway = (speed * second.apart) ** 2 * np.eye(2)
            full += (view_of(second.vessels, second.camera, second.T_view_image, sway),)
        elif (kept := self._kept.second(self.settings.keep_angle)) is not None:
            full += (kept,)
        age = full[-1].age
        filling = self._filling(full[0], elapsed)
        missing = ''.join(map(self._unseen, full[1:]))
        if missing:
            full = full[:1]
        steady = vessels.contrast is not None and vessels.contrast.steady
        result = self._search(full, stamp, filling) if self._track is None else self._follow(full, stamp, steady)
        if result.evidence is None or (len(full) == 1 and not missing):
            return result
        if result.views > 1:
            return replace(result, second_age=age) if age else result
        reason = missing or 'it does not agree with the first'
        return replace(result, second=f'kept for {age:.0f} s: {reason}' if age else reason)

    def _missing(self, camera):
        if self._model is None:
            return NO_MODEL
        if camera is None:
            return 'no camera_info'
        if self._initial is None:
            return 'no initial pose: give one, or the C-arm angles'
        return ''

    def _unseen(self, view):
        """Return why a view other than the first is of no use now, or ''."""
        if self._track is None:
            return 'too little vessel in it' if _area(view) < self.settings.min_vessel_fraction else ''
        contrast = self._contrast(view, self._track.prior.T_image_model)
        return 'no contrast in it' if contrast < self.settings.min_contrast else ''

    def _carry(self, T_fixed_image):
        """Move all that is believed as the image frame has moved since the last frame, where both are known."""
        before, self._T_fixed_image = self._T_fixed_image, T_fixed_image
        if before is None or T_fixed_image is None or np.array_equal(before, T_fixed_image):
            return
        T = inverse(T_fixed_image) @ before
        self.motion.carry(T)
        self._initial = (T @ self._initial[0], turned(self._initial[1], T))
        if self._last_prior is not None:
            self._last_prior = self._moved(self._last_prior, T)
        if self._track is not None:
            self._track = replace(self._track, prior=self._moved(self._track.prior, T))

    def _moved(self, prior, T_new_old):
        """Return a `Prior` carried along by the motion of the image frame, which is a little less sure than told."""
        T = T_new_old @ prior.T_image_model
        way = MOVE_DOUBT * np.linalg.norm(
            apply(T, self._model.centroid) - apply(prior.T_image_model, self._model.centroid)
        )
        doubt = isotropic(T, self._model.centroid, MOVE_DOUBT * rotation_angle(T_new_old), way, way)
        return Prior(T, turned(prior.covariance, T_new_old) + doubt)

    def _filling(self, view, elapsed):
        """Return the relative growth of the vessel area per second since the last frame, and keep the area."""
        before, self._area = self._area, _area(view)
        return (
            (self._area - before) / (self._area * elapsed) if before is not None and self._area > 0 < elapsed else 0.0
        )

    def _initial_prior(self):
        T, covariance = self._initial
        return self._broad(T) if covariance is None else Prior(T, covariance + 1e-2 * self._drift(T, 1.0))

    def _broad(self, T):
        s = self.settings
        return Prior(T, isotropic(T, self._model.centroid, s.prior_rotation, s.prior_in_plane, s.prior_depth))

    def _drift(self, T, seconds):
        """Return the covariance (6, 6) of the anatomy's unseen motion in some seconds."""
        s = self.settings
        return seconds * isotropic(T, self._model.centroid, s.drift_rotation, s.drift_in_plane, s.drift_depth)

    # Searching

    def _search(self, full, stamp, filling):
        s = self.settings
        if self._area < s.min_vessel_fraction:
            return Registration(State.SEARCHING, reason=f'too little vessel: {100 * self._area:.2f}% of the picture')
        if filling > s.max_filling:
            return Registration(State.SEARCHING, reason='contrast is filling in')
        if self._searched is not None and stamp - self._searched < s.search_interval:
            return Registration(State.SEARCHING, reason='the last search found nothing; the next one follows')
        # While more comes with every frame, the next one is worth more than another look at this one.
        rounds = ROUNDS if filling < STEADY else 1
        found = self._attempt(full, stamp, rounds)
        if not found.accepted and len(full) > 1:
            alone = self._attempt(full[:1], stamp, rounds)
            found = alone if alone.accepted else found
        self._searched = None if found.accepted else stamp
        return found

    def _attempt(self, full, stamp, rounds):
        """Return the `Registration` that a search finds in these views, in so many rounds of starts at most."""
        priors = [self._initial_prior()] + ([self._broad(self._last_prior.T_image_model)] if self._last_prior else [])
        found, nothing = self._finder.find(full, priors, rounds, self.settings)
        if found is None:
            return Registration(State.SEARCHING, reason=nothing)
        judgement = found.judgement
        if judgement.accepted and full[-1].age and self._contradicts(full[0], found.fit, found.prior):
            judgement = DISAGREEMENT
        return self._report(found.fit, found.evidence, judgement, full[0], found.points, stamp, State.SEARCHING)

    # Tracking

    def _follow(self, full, stamp, steady):
        s, track = self.settings, self._track
        unseen = stamp - track.stamp
        T, _ = self._predicted(stamp)
        prior = Prior(T, track.prior.covariance + self._drift(T, unseen))
        gone = self._contrast(full[0], T) < s.min_contrast
        if gone and self._area < s.min_vessel_fraction:
            return self._hold(full[0], stamp, 'contrast gone')
        if not gone:
            fit, points, evidence, judgement = self._fit(full, T, prior)
            if judgement.accepted and full[-1].age and track.views == 1 and self._contradicts(full[0], fit, prior):
                judgement = DISAGREEMENT
            if not judgement.accepted and len(full) > 1:
                alone = self._fit(full[:1], T, prior)
                if alone[3].accepted:
                    fit, points, evidence, judgement = alone
        if gone or not judgement.accepted:
            full = tuple(view for view in full if not view.age)  # what jumped is elsewhere now than it was
            small = full[0].reduced(0.125)
            shifted, overlap = best_shifts(self._coarse, T[None], small, small.camera.width / 2)
            if gone and overlap[0] < s.min_overlap:
                return self._hold(full[0], stamp, 'contrast gone')
            # What jumped was not foretold: where it was before says little of how it stands now.
            prior = self._broad(shifted[0])
            again = self._fit(full, self._finder.nearer(full, shifted[0], prior), prior)
            if gone or again[3].probability > judgement.probability:
                fit, points, evidence, judgement = again
                if judgement.accepted:
                    self._kept.clear()
        partial = not gone and fit.model_share <= MIN_EXPLAINED < fit.mask_share
        if partial and not (steady and judgement.accepted):
            # Nothing speaks against the pose, but where contrast fills in or washes out its edge is not the wall.
            return self._hold(full[0], stamp, 'contrast in part of the model only')
        if judgement.accepted:
            return self._report(fit, evidence, judgement, full[0], points, stamp, State.TRACKING)
        doubted = stamp if track.doubted is None else track.doubted
        if unseen > s.max_hold or stamp - doubted > s.max_doubt:
            return self._lose(judgement.reason)
        self._track = replace(track, doubted=doubted)
        return self._report(fit, evidence, judgement, full[0], points, stamp, State.HOLDING)

    def _fit(self, full, T, prior):
        fit = refine(self._surface, full, T, prior, FINE_SCALES, TRACK_STEPS)
        # A mask's faults stay from frame to frame, so frames are no independent measurements: fused as such the
        # covariance would shrink below the error. Half of each information instead (covariance intersection, Julier
        # and Uhlmann 1997): it is true whatever the correlation.
        fit = replace(fit, covariance=2 * fit.covariance)
        points = points_in_view(self._surface, fit.T_image_model, full[0])
        return fit, points, *judge_fit(fit, points, full[0].camera, self.settings)

    def _contradicts(self, view, fit, prior):
        """Return whether the first view by itself has the pose elsewhere than a `Fit` with a kept one has it.

        So it is where the C-arm went elsewhere than told: what moves along its rays costs the first view little.
        """
        alone = refine(self._surface, (view,), fit.T_image_model, prior, FINE_SCALES)
        apart = pose_difference(fit.T_image_model, alone.T_image_model)
        return apart @ np.linalg.solve(alone.covariance, apart) > MAX_APART**2

    def _predicted(self, stamp):
        """Return the track's pose (4, 4) moved to where it leads by `stamp`, and the standard deviation of the motion.

        The latter in metres in each direction of the picture.
        """
        track = self._track
        T, predicted = track.prior.T_image_model, self.motion.predict(stamp)
        if predicted is None:
            # It moves on as it did: what beats is elsewhere at once, what lies still stays for a while.
            return T, track.speed * (stamp - track.stamp)
        shift, deviation = predicted
        return rigid(translation=(*shift, 0.0)) @ T, deviation

    def _hold(self, full, stamp, reason):
        """Return the `Registration` of the predicted pose, or of none where it was seen too long ago."""
        track = self._track = replace(self._track, doubted=None)
        unseen = stamp - track.stamp
        reason = f'{reason} for {unseen:.2f} s'
        if unseen > self.settings.max_hold:
            return self._lose(reason)
        T, deviation = self._predicted(stamp)
        # A curve fitted while contrast washed out may lead astray: it is trusted no further than the anatomy moves.
        way = track.speed * unseen
        covariance = track.prior.covariance + isotropic(T, self._model.centroid, 0.0, max(deviation, way), way)
        points = points_in_view(self._surface, T, full)
        judgement = judge_held(predicted_mm(covariance, T, points, full.camera), self.settings)
        probability = min(track.probability, judgement.probability)
        if not judgement.accepted:
            reason = f'{reason}: {judgement.reason}'
        return Registration(State.HOLDING, judgement.accepted, reason, T, covariance, probability)

    def _speed(self, T, points, stamp):
        """Return the track's speed when the model points (N, 3) in view are at T now."""
        track = self._track
        if track is None:
            return FIRST_SPEED
        moved = (apply(T, points) - apply(track.prior.T_image_model, points))[:, :2]
        elapsed = max(stamp - track.stamp, 1e-3)
        share = min(1.0, elapsed / SPEED_MEMORY)
        now = (moved**2).sum(axis=1).mean() / elapsed**2
        return float(np.sqrt((1 - share) * track.speed**2 + share * now))

    def _contrast(self, view, T):
        """Return the share of the projected model that is vessel now, give or take a small motion."""
        camera = view.camera.scaled(0.25)
        mask, valid = (
            cv2.resize(p, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
            for p in (view.mask, view.valid.view(np.uint8))
        )
        model = silhouette(self._coarse, view.T_view_image @ T, camera) * valid
        near = cv2.dilate(model, np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8))
        return np.count_nonzero(near & mask > 127) / max(np.count_nonzero(model), 1)

    def _lose(self, reason):
        self._last_prior, self._track = self._track.prior, None
        self.motion.clear()
        return Registration(State.LOST, reason=reason)

    def _bend(self, fit, full):
        if self._deformable is None:
            from m2i_ros.registration.deformation import DeformableModel  # sparse matrices, for this alone

            self._deformable = DeformableModel(self._model.centreline, self._surface)
        return self._deformable.bend(full.contour, full.camera, fit.T_image_model, fit.offsets[0])

    def _report(self, fit, evidence, judgement, full, points, stamp, refused):
        """Return the `Registration` of a fit: TRACKING where it is accepted, else the state `refused`."""
        if judgement.accepted:
            speed = self._speed(fit.T_image_model, points, stamp)
            prior = Prior(fit.T_image_model, fit.covariance)
            self._track = _Track(prior, stamp, judgement.probability, speed, len(fit.offsets))
            point = points.mean(axis=0)
            self.motion.add(stamp, fit.T_image_model, point)
            if fit.model_share > WELL:
                self._kept.take(full, *self.motion.places(point, self._kept.since))
        _, recall, precision = full.overlap(self._surface, fit.T_image_model)
        scale = millimetres_per_pixel(points, fit.T_image_model, full.camera) if len(points) else np.nan
        return Registration(
            State.TRACKING if judgement.accepted else refused,
            judgement.accepted,
            judgement.reason,
            fit.T_image_model,
            fit.covariance,
            judgement.probability,
            recall,
            precision,
            fit.residual * scale,
            evidence,
            len(fit.offsets),
            bend=self._bend(fit, full) if judgement.accepted and self.settings.deformation else None,
        )


def _area(view):
    """Return the share of the valid picture that is vessel."""
    return np.count_nonzero((view.mask >> 7).view(bool)) / max(np.count_nonzero(view.valid), 1)
