"""The search for a first pose: many starts, the best of them refined, judged, and where none is sure, more about it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from m2i_ros.geometry import apply, inverse
from m2i_ros.registration.confidence import (
    RIVAL_DISTANCE,
    Evidence,
    Judgement,
    distance_mm,
    judge_fit,
    points_in_view,
)
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.refine import Fit, Prior, refine
from m2i_ros.registration.starts import PriorProposer, best_depths, best_shifts
from m2i_ros.registration.uncertainty import turned

# Distances above which contours count little, in pixels of the view they are taken in.
CAPTURE_SCALES = (7.5,)  # quarter-size
SEARCH_SCALES = (6.0, 2.5)  # half-size
FINE_SCALES = (5.0, 2.0)  # full, and from one frame to the next
MATCHED = 8  # starts that a matching network moves
CANDIDATES = 8  # starts that are refined at a quarter of the size
FINALISTS = 2  # of these, refined further
SURE = 0.9  # probability of a pose from which on no other round is worth its time


@dataclass(frozen=True)
class Found:
    """The best pose of a search: its `Fit`, the `Prior` that held it, the model points (N, 3) in the first view, and
    what is to be thought of it."""

    fit: Fit
    prior: Prior
    points: np.ndarray
    evidence: Evidence
    judgement: Judgement


@dataclass(frozen=True)
class _Stage:
    """Views of one size, and how a pose is refined in them."""

    views: tuple
    surface: ContourSurface
    scales: tuple

    def fit(self, T_image_model, prior):
        """Return the `Fit` from a pose (4, 4)."""
        return refine(self.surface, self.views, T_image_model, prior, self.scales)

    def fits(self, poses, pool):
        """Return the `Fit`s from poses ((4, 4), `Prior`), each with its prior, the one of the least cost first."""
        for view in self.views:
            view.contour  # noqa: B018 (found now, before threads part that would each do it)
        return sorted(pool.map(lambda pair: (self.fit(*pair), pair[1]), poses), key=_cost)


class Search:
    """Finds a model in views, the first one in front, from where it may stand.

    surface, coarse: the model's `ContourSurface`, and one of fewer faces for small views. centre: (3,) of the model,
    metres. matcher: a `Matcher`, which moves the best starts once before they are refined, or None.
    Same views, same answers.
    """

    def __init__(self, surface, coarse, centre, matcher=None):
        self._surface = surface
        self._coarse = coarse
        self._centre = centre
        self._matcher = matcher

    def find(self, views, priors, rounds, settings):
        """Return what is `Found`, and why nothing is where that is None.

        priors: `Prior`s, where the first starts are drawn. rounds: of starts, at most: the next ones are drawn about
        the best pose so far.
        """
        around = [(prior, prior) for prior in priors]
        quarter, half, whole = self._stages(views)
        poses, best = [], None
        # Two side by side: nearly all of the time goes into compiled loops.
        with ThreadPoolExecutor(2) as pool:
            for _ in range(rounds):
                overlap, starts = self._starts(views, around, settings)
                if best is None and overlap < settings.min_overlap:
                    return None, f'no start overlaps the vessels by more than {100 * overlap:.0f}%'
                candidates = _poses(quarter.fits(starts[:CANDIDATES], pool))
                finalists = whole.fits(_poses(half.fits(candidates[:FINALISTS], pool)), pool)
                before, best = best, min(finalists if best is None else [best, *finalists], key=_cost)
                fit, prior = best
                poses += [T for T, _ in _poses(finalists)]
                points = points_in_view(self._surface, fit.T_image_model, views[0])
                rival = self._rival(fit.T_image_model, poses, points, views, half.views, settings)
                evidence, judgement = judge_fit(fit, points, views[0].camera, settings, rival)
                if best is before or judgement.probability >= max(SURE, settings.accept_probability):
                    break
                # A wrong pose leaves so much unexplained that it is doubted, and is yet nearer than its start was.
                T = fit.T_image_model
                around = [(Prior(T, turned(prior.covariance, T @ inverse(prior.T_image_model))), prior)]
        return Found(fit, prior, points, evidence, judgement), ''

    def nearer(self, views, T_image_model, prior):
        """Return a pose (4, 4) refined in the views made small: nearer to where it belongs, not yet there."""
        for stage in self._stages(views)[:2]:
            T_image_model = stage.fit(T_image_model, prior).T_image_model
        return T_image_model

    def _stages(self, views):
        """Return the `_Stage`s from afar to the pose: at a quarter, half and all of the views' size."""
        half = tuple(view.reduced(0.5) for view in views)
        quarter = tuple(view.reduced(0.5) for view in half)
        return (
            _Stage(quarter, self._coarse, CAPTURE_SCALES),
            _Stage(half, self._surface, SEARCH_SCALES),
            _Stage(views, self._surface, FINE_SCALES),
        )

    def _rival(self, T, poses, points, views, half, settings):
        """Return the best overlap of poses in other basins than T, as a share of T's own; 0 where there are none."""
        distances = [
            max(distance_mm(view.T_view_image @ T, view.T_view_image @ other, points, view.camera) for view in views)
            for other in poses
        ]
        far = RIVAL_DISTANCE * settings.accept_mm
        overlaps = [self._overlap(half, other) for other, distance in zip(poses, distances) if distance > far]
        return max(overlaps, default=0.0) / max(self._overlap(half, T), 1e-6)

    def _overlap(self, views, T):
        """Return the mean overlap (Dice) of the projected model with the vessels over views."""
        return sum(view.overlap(self._surface, T)[0] for view in views) / len(views)

    def _starts(self, views, around, settings):
        """Return the best overlap of all starts, shifted in plane, and the starts (pose, prior), the best first.

        In plane of the first view; then, where there is another, along the first one's rays. around: pairs of `Prior`s:
        where starts are drawn, and what holds them when they are refined.
        """
        small = [view.reduced(0.125) for view in views]
        found = []
        for region, prior in around:
            starts = PriorProposer(region)(max(1, settings.starts // len(around)))
            depth = max(apply(region.T_image_model, self._centre)[2], 0.1)

            def placed(poses, depth=depth):
                limit = 2.5 * settings.prior_in_plane * small[0].camera.fy / depth
                poses, overlaps = best_shifts(self._coarse, poses, small[0], limit)
                for view in small[1:]:
                    poses, others = best_depths(self._coarse, poses, view, 2.5 * settings.prior_depth)
                    overlaps = (overlaps + others) / 2
                return poses, overlaps

            poses, overlaps = placed(starts)
            if self._matcher:
                near = np.argsort(-overlaps)[:MATCHED]
                moved, _ = self._matcher(views[0].reduced(0.25), self._surface, poses[near])
                moved, moved_overlaps = placed(moved)
                poses, overlaps = np.concatenate([poses, moved]), np.concatenate([overlaps, moved_overlaps])
            found += [(overlap, T, prior) for T, overlap in zip(poses, overlaps)]
        found.sort(key=lambda item: -item[0])
        return found[0][0], [(T, prior) for _, T, prior in found]


def _cost(pair):
    return pair[0].cost


def _poses(fits):
    return [(fit.T_image_model, prior) for fit, prior in fits]
