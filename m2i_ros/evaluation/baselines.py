"""What the registration is measured against: simpler ways from the same start and mask to a pose.

Each takes a `trials.Case` and a start, T_image_model (4, 4), and returns a pose (4, 4). None of them judges its pose.
"""

from importlib.util import find_spec

import cv2
import numpy as np
from scipy.optimize import differential_evolution, minimize
from skimage.morphology import skeletonize

from m2i_ros.geometry import apply, perturb
from m2i_ros.registration import RegistrationSettings
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.refine import Prior, refine
from m2i_ros.registration.search import CAPTURE_SCALES, FINE_SCALES, SEARCH_SCALES
from m2i_ros.registration.starts import best_shifts
from m2i_ros.registration.uncertainty import isotropic, ray_basis
from m2i_ros.registration.view import view_of


def refinement(case, T_start):
    """The registration's own refinement through all its scales, from the start alone: no search."""
    s = RegistrationSettings()
    T, model = T_start, case.model
    prior = Prior(T, isotropic(T, model.centroid, s.prior_rotation, s.prior_in_plane, s.prior_depth))
    surface = ContourSurface.from_model(model)
    full = view_of(case.vessels, case.camera)
    half = full.reduced(0.5)
    for view, scales in ((half.reduced(0.5), CAPTURE_SCALES), (half, SEARCH_SCALES), (full, FINE_SCALES)):
        T = refine(surface, (view,), T, prior, scales).T_image_model
    return T


def distance_map(case, T_start):
    """The projected centreline onto the mask's skeleton: distances both ways by distance maps, all six unknowns.

    Global by differential evolution (Storn and Price 1997) within 2.5 standard deviations of the prior, some 3,000
    evaluations, as published methods use CMA-ES; then Nelder and Mead.
    """
    view = view_of(case.vessels, case.camera).reduced(0.5)
    skeleton = skeletonize(view.mask > 127)
    if not skeleton.any():
        return T_start
    far = 0.1 * view.camera.width  # pixels beyond which a point is missed, however far
    to_mask = np.minimum(cv2.distanceTransform((~skeleton).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), far)
    points = case.model.centreline.points[::3]
    height, width = view.mask.shape

    def cost(x):
        pixels = view.camera.project(apply(_moved(T_start, x, case.model.centroid), points))
        seen = ((pixels >= 0) & (pixels <= (width - 1, height - 1))).all(axis=1)
        if not seen.any():
            return 2 * far
        column, row = np.round(pixels[seen]).astype(int).T
        drawn = np.ones(view.mask.shape, np.uint8)
        drawn[row, column] = 0
        to_model = cv2.distanceTransform(drawn, cv2.DIST_L2, 3)[skeleton]
        return to_mask[row, column].mean() + np.minimum(to_model, far).mean()

    s = RegistrationSettings()
    spread = 2.5 * np.array([s.prior_in_plane, s.prior_in_plane, s.prior_depth, *[s.prior_rotation] * 3])
    found = differential_evolution(
        cost, list(zip(-spread, spread)), popsize=10, maxiter=48, tol=0, polish=False, seed=0, init='sobol'
    )
    fine = minimize(cost, found.x, method='Nelder-Mead', options={'maxfev': 300})
    return _moved(T_start, fine.x, case.model.centroid)


def planar(case, T_start):
    """In-plane matching: shift, rotation about the ray and scale (depth) for the best overlap; the view stays.

    A grid of rotations and scales, each shifted by correlation, then Nelder and Mead on Dice's coefficient.
    """
    full = view_of(case.vessels, case.camera)
    surface = ContourSurface.from_model(case.model)
    centre = case.model.centroid
    grid = [
        (0, 0, depth, 0, 0, turn) for depth in (-0.1, -0.05, 0, 0.05, 0.1) for turn in np.radians([-20, -10, 0, 10, 20])
    ]
    starts = np.stack([_moved(T_start, x, centre) for x in grid])
    small = full.reduced(0.125)
    poses, overlaps = best_shifts(surface, starts, small, small.camera.width / 2)
    T = poses[overlaps.argmax()]
    half = full.reduced(0.5)
    scale = np.array([0.005, 0.005, 0.02, np.radians(3)])

    def pose(x):
        a, b, depth, turn = x * scale
        return _moved(T, (a, b, depth, 0, 0, turn), centre)

    simplex = np.vstack([np.zeros(4), np.eye(4)])
    found = minimize(
        lambda x: -np.nan_to_num(half.overlap(surface, pose(x))[0]),
        np.zeros(4),
        method='Nelder-Mead',
        options={'maxfev': 150, 'initial_simplex': simplex},
    )
    return pose(found.x)


def drr(case, T_start):
    """An intensity method: digitally reconstructed radiographs of the model onto the picture; see `drr.match`."""
    from m2i_ros.evaluation.drr import match  # torch and an optional package, for this one alone

    return match(case, T_start)


def _moved(T, x, centre):
    """Return T moved by x: metres in plane (two) and along the ray through the centre, radians about x, y, that ray."""
    at = apply(T, centre)
    E = ray_basis(at)
    return perturb(T, np.concatenate([E @ np.asarray(x[:3]), E @ np.asarray(x[3:])]), at)


BASELINES = {'refinement': refinement, 'distance_map': distance_map, 'planar': planar, 'drr': drr}
USUAL = ('refinement', 'distance_map', 'planar')  # those that need nothing more and do not take minutes


def check(names):
    """Raise ValueError where a baseline among `names` lacks the package that it is made of."""
    if 'drr' in names and find_spec('nanodrr') is None:
        raise ValueError('baseline drr: needs nanodrr, an optional package: python3 -m pip install nanodrr')
