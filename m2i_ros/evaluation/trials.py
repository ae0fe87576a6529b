"""Registrations of simulated patients, whose poses are known, from starts that are wrong by a known amount."""

import math
import time
from dataclasses import asdict, dataclass

import numpy as np

from m2i_ros.evaluation.metrics import dice, ellipsoids, pose_errors, precision, recall
from m2i_ros.geometry import Camera, CArm, apply, inverse, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.model.vessel_model import VesselModel
from m2i_ros.registration import Registrar
from m2i_ros.registration.view import SecondView
from m2i_ros.segmentation import VesselMask
from m2i_ros.simulation.mask_faults import damaged
from m2i_ros.simulation.vessels import downstream

# How far the start is off: rotation (degrees), shift in the picture's plane (mm), shift in depth (mm).
BANDS = {'near': (5, 10, 20), 'mid': (10, 20, 50), 'far': (25, 40, 100), 'beyond': (40, 60, 150)}
# One kind of offset alone, for the capture range.
SWEEPS = {
    'rotation': {f'rotation {d} deg': (d, 0, 0) for d in (10, 20, 30, 40)},
    'in plane': {f'in plane {mm} mm': (0, mm, 0) for mm in (20, 40, 60, 80)},
}
MASKS = ('true', 'found', 'damaged', 'partial')
ERRORS = ('mtre_mm', 'in_plane_mm', 'depth_mm', 'mpd_mm')
_OPACIFIED = 4.0  # seconds into the phantom's sequence: contrast has come everywhere
_ANGLES_DEG = (35, 15)  # the C-arm's angles lie within these, either way
_BETWEEN_DEG = (60, 120)  # a second plane is turned by these about the patient's long axis, either way
_MIXED = 0.25  # seconds from its arrival until contrast is half of what it will be
_PART = (0.2, 0.7)  # share of the lumen's wall that contrast has reached where it fills a part


@dataclass(frozen=True)
class Case:
    """One picture of one simulated patient, or a pair.

    true: (H, W) uint8. vessels, second: what a registration is given. subtracted: (H, W) float32, the picture from
    which the mask was found, subtracted from the one before the injection; None for a mask that was not found in one.
    angle_deg: between the central rays of both planes; NaN for one.
    """

    anatomy: str
    seed: int
    mask: str
    model: VesselModel
    camera: Camera
    T_truth: np.ndarray
    true: np.ndarray
    vessels: VesselMask
    segmentation_ms: float
    subtracted: np.ndarray | None = None
    second: SecondView | None = None
    angle_deg: float = math.nan


def planes_of(anatomy, seed, size, views=1, **settings):
    """Return the `Phantom`s, one or two, of a patient under random angles; the first is the same, however many.

    The second plane is turned by 60 to 120 degrees about the patient's long axis; both expose at once. settings:
    the phantoms' others.
    """
    from m2i_ros.simulation import Phantom  # torch

    angles = np.random.default_rng((seed, 77)).uniform(-1, 1, 2) * _ANGLES_DEG
    rng = np.random.default_rng((seed, 78))
    turned = angles + (rng.choice([-1, 1]) * rng.uniform(*_BETWEEN_DEG), 0)
    return [
        Phantom(
            anatomy, seed, size, size, c_arm=CArm(*np.radians(at)), mirrored=bool(seed % 2), plane=plane, **settings
        )
        for plane, at in enumerate((angles, turned)[:views])
    ]


def between(planes):
    """Return T_second_image (4, 4) of two planes."""
    first, second = (plane.c_arm.T_image_isocentre for plane in planes)
    return second @ inverse(first)


def cases(anatomy, seed, size, masks, segmenter, views=1):
    """Yield a `Case` for each of `masks` (out of MASKS): one patient, fully opacified, under random angles.

    segmenter: for 'found' and 'partial'; damaged masks are true ones with faults of `mask_faults`; partial ones are
    found where contrast fills a part of the vessels (`_partly_filled`). views: 1, or 2 for a second plane as well,
    whose mask is of the same sort.
    """
    whole = planes_of(anatomy, seed, size, views)
    for mask in masks:
        planes, moment = _partly_filled(whole, anatomy, seed, size) if mask == 'partial' else (whole, _OPACIFIED)
        frames = [plane[round(moment * plane.frame_rate)] for plane in planes]
        segmentation_ms, subtracted = math.nan, None
        if mask == 'true':
            vessels = [VesselMask(frame.mask, np.ones(frame.mask.shape, bool)) for frame in frames]
        elif mask in ('found', 'partial'):
            begin_stream(segmenter, planes)
            began = time.perf_counter()
            vessels = _segmented(segmenter, frames)
            segmentation_ms = 1e3 * (time.perf_counter() - began)
            subtracted = np.subtract(planes[0][0].image, frames[0].image, dtype=np.float32)
        else:
            words = ((seed, 79), (seed, 79, 1))
            vessels = [damaged(f.mask, np.random.default_rng(own)) for f, own in zip(frames, words)]
        phantom, frame = planes[0], frames[0]
        second = {}
        if views == 2:
            T = between(planes)
            angle_deg = math.degrees(math.acos(np.clip(T[2, 2], -1, 1)))
            second = {'second': SecondView(vessels[1], planes[1].camera, T), 'angle_deg': angle_deg}
        yield Case(
            anatomy, seed, mask, phantom.model, phantom.camera, frame.T_image_model, frame.mask, vessels[0],
            segmentation_ms, subtracted, **second,
        )  # fmt: skip


def _partly_filled(planes, anatomy, seed, size):
    """Return planes and the seconds into their sequence at which contrast fills 20 to 70% of a patient's vessels.

    Every other time what lies downstream of a catheter that was advanced (a selective injection),
    else what lies upstream of the front of an injection into the root.
    """
    rng = np.random.default_rng((seed, 83))
    share, tree, arrival = rng.uniform(*_PART), planes[0].model.centreline, planes[0].arrival
    steps = np.diff(tree.arc_length, append=0.0)  # where a branch ends, negative
    wall = tree.radii * np.maximum(steps, 0.0)
    if rng.uniform() < 0.5:
        site = np.abs(downstream(tree, wall) / wall.sum() - share).argmin()
        return planes_of(anatomy, seed, size, len(planes), site=site), _OPACIFIED
    order = np.argsort(arrival)
    ahead = np.searchsorted(np.cumsum(wall[order]), share * wall.sum())
    return planes, planes[0].injections[0] + _MIXED + arrival[order][ahead]


def begin_stream(segmenter, planes):
    """Show a segmenter the first pictures, without contrast, of a patient that it has not seen."""
    segmenter.reset()
    _segmented(segmenter, [plane[0] for plane in planes])


def _segmented(segmenter, frames):
    """Return the vessels of the first frame and, where there is one, of the second plane's."""
    return [segmenter.segment(frames[0].image)] + [segmenter.segment_beside(frame.image) for frame in frames[1:]]


def start(rng, T_truth, model, offset):
    """Return the true pose put wrong by exactly an offset of `BANDS`, each part in a random direction."""
    rotation, in_plane, depth = offset
    turn, slide = rng.normal(size=3), rng.uniform(0, 2 * np.pi)
    shift = 1e-3 * np.array([in_plane * np.cos(slide), in_plane * np.sin(slide), depth * rng.choice([-1, 1])])
    xi = np.concatenate([shift, np.radians(rotation) * turn / np.linalg.norm(turn)])
    return perturb(T_truth, xi, apply(T_truth, model.centroid))


def register(case, band, offset, number=0, baselines=None):
    """Return a dict a method: 'registrar', then each of `baselines` ({name: function (case, start) -> T}).

    Every method starts from the same pose: the `number`-th that is off by `offset`, whatever the mask.
    """
    T_start = start(np.random.default_rng((case.seed, 80, number, *offset)), case.T_truth, case.model, offset)
    about = {
        'anatomy': case.anatomy,
        'seed': case.seed,
        'mask': case.mask,
        'mask_dice': dice(case.vessels.mask, case.true),
        'segmentation_ms': case.segmentation_ms,
        'angle_deg': case.angle_deg,
        'band': band,
        'start_mtre_mm': pose_errors(T_start, case.T_truth, case.model, case.camera)['mtre_mm'],
    }
    registrar = Registrar(case.model)
    registrar.set_initial_pose(T_start)
    began = time.perf_counter()
    result = registrar.register(case.vessels, case.camera, 0.0, case.second)
    search_ms = 1e3 * (time.perf_counter() - began)
    began = time.perf_counter()
    registrar.register(case.vessels, case.camera, 1 / 15, case.second)
    track_ms = 1e3 * (time.perf_counter() - began) if result.accepted else math.nan
    scores = score(result, case.T_truth, case.true, case.model, case.camera)
    rows = [{**about, 'method': 'registrar', **scores, 'search_ms': search_ms, 'track_ms': track_ms}]
    for name, method in (baselines or {}).items():
        began = time.perf_counter()
        T = method(case, T_start)
        search_ms = 1e3 * (time.perf_counter() - began)
        errors = pose_errors(T, case.T_truth, case.model, case.camera)
        overlaps = _overlaps(T, case.true, case.model, case.camera)
        rows.append({**about, 'method': name, **errors, **overlaps, 'search_ms': search_ms})
    return rows


def mislead(case, stranger, band, offset):
    """Return a dict of a registration of another patient's model, a `VesselModel`, to a `Case`: no pose of it is right.

    It starts where the patient's own model belongs, centroid on centroid, put wrong by `offset`.
    """
    T = case.T_truth @ rigid(None, case.model.centroid - stranger.centroid)
    registrar = Registrar(stranger)
    registrar.set_initial_pose(start(np.random.default_rng((case.seed, 81, *offset)), T, stranger, offset))
    result = registrar.register(case.vessels, case.camera, 0.0, case.second)
    return {
        'anatomy': case.anatomy,
        'seed': case.seed,
        'mask': case.mask,
        'band': band,
        'accepted': result.accepted,
        'reason': result.reason,
        'probability': result.probability,
    }


def score(registration, T_truth, true, model, camera):
    """Return a dict of what a `Registration` says and how far it is from the truth; errors are infinite without a pose.

    true: (H, W) uint8, the true mask. recall, precision: of the projected model against it.
    """
    T = registration.T_image_model
    row = {
        'state': registration.state.value,
        'accepted': registration.accepted,
        'reason': registration.reason,
        'views': registration.views,
        'second': registration.second,
        'probability': registration.probability,
        'evidence': None if registration.evidence is None else asdict(registration.evidence),
    }
    if T is None:
        nothing = {'recall': 0.0, 'precision': math.nan, 'in_ellipsoid': None}
        return {**row, **dict.fromkeys(ERRORS, math.inf), **nothing}
    return {
        **row,
        **pose_errors(T, T_truth, model, camera),
        **_overlaps(T, true, model, camera),
        'in_ellipsoid': ellipsoids(registration.covariance, T, T_truth, model.centroid),
    }


def _overlaps(T, true, model, camera):
    projected = silhouette(model, T, camera)
    return {'recall': recall(projected, true), 'precision': precision(projected, true)}


def track(anatomy, seed, size, segmenter, frames, views=1):
    """Yield a dict for each of so many frames of a patient's injection, segmented and registered one after another."""
    planes = planes_of(anatomy, seed, size, views)
    phantom = planes[0]
    registrar = Registrar(phantom.model)
    registrar.set_initial_pose(phantom.initial_pose)
    begin_stream(segmenter, planes)
    first = round(phantom.injections[0] * phantom.frame_rate)
    for index in range(first, min(first + frames, len(phantom))):
        both = [plane[index] for plane in planes]
        frame = both[0]
        began = time.perf_counter()
        vessels = _segmented(segmenter, both)
        segmented = time.perf_counter()
        second = [SecondView(v, planes[1].camera, between(planes)) for v in vessels[1:]]
        result = registrar.register(vessels[0], phantom.camera, frame.stamp, *second)
        done = time.perf_counter()
        yield {
            'anatomy': anatomy,
            'seed': seed,
            'frame': index,
            'contrast': frame.contrast,
            **score(result, frame.T_image_model, frame.mask, phantom.model, phantom.camera),
            'segmentation_ms': 1e3 * (segmented - began),
            'registration_ms': 1e3 * (done - segmented),
        }
