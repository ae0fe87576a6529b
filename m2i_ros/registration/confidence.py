"""How far a refined pose is believed: a probability learned from simulated registrations whose truth is known."""

import json
import math
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from m2i_ros.geometry import apply
from m2i_ros.registration.uncertainty import projected_error

RIVAL_DISTANCE = 3.0  # accept_mm apart in the picture: beyond that a pose is another basin
RIVAL_FROM = 0.8  # of the best overlap: another basin that reaches less is no rival
MIN_EXPLAINED = 0.5  # of the model's contour; with less, contrast fills a part only
MAX_STRAIN = 4.0  # standard deviations: where the anatomy is further elsewhere in a kept view, something moved


@dataclass(frozen=True)
class Evidence:
    """What speaks against a pose, whatever its anatomy: the more of each, the less it is believed.

    predicted_mm: projected error that the covariance predicts, root mean square over the model in view, millimetres at
    the model's depth. residual_mm: root mean square distance of matched contours, likewise. model_unexplained,
    mask_unexplained: shares of the model's contour in view, and of the mask's, without the other near. rival: how
    nearly another basin overlaps as well: 0 (`RIVAL_FROM` as well, or none) to 1 (as well).
    """

    predicted_mm: float
    residual_mm: float
    model_unexplained: float
    mask_unexplained: float
    rival: float


@dataclass(frozen=True)
class Judgement:
    """accepted: the pose may be given out. probability: that its error is small. reason: in words, why not; empty if
    accepted."""

    accepted: bool
    probability: float
    reason: str


class Confidence:
    """The probability that a pose's mean projected error (mPD) is below a limit: `confidence(evidence, limit_mm)`.

    A log-logistic distribution of the error, whose scale the evidence sets:
    P = 1 / (1 + exp(-(intercept + sharpness log(limit) - weights . features))), the features those of `Evidence`, the
    first as its logarithm. No weight is negative, so that P falls with each of them and rises with the limit.

    intercept, sharpness: numbers. weights: (5,). typical: (5,), the features' medians where poses are right: what
    exceeds them most is the reason that is told.
    """

    def __init__(self, intercept, sharpness, weights, typical):
        self.intercept, self.sharpness = float(intercept), float(sharpness)
        self.weights, self.typical = np.asarray(weights, dtype=float), np.asarray(typical, dtype=float)

    @classmethod
    def shipped(cls):
        """Return the one of `confidence.json`, which `train confidence` writes and which names its command."""
        table = json.loads(files('m2i_ros.registration').joinpath('confidence.json').read_text('utf-8'))
        return cls(*(table[key] for key in ('intercept', 'sharpness', 'weights', 'typical')))

    @staticmethod
    def features(evidence):
        """Return the features (5,) of an `Evidence`."""
        e = evidence
        predicted = math.log(min(max(e.predicted_mm, 1e-3), 1e3))
        residual = min(e.residual_mm, 1e3)
        return np.array([predicted, residual, e.model_unexplained, e.mask_unexplained, e.rival])

    def __call__(self, evidence, limit_mm):
        score = self.intercept + self.sharpness * math.log(limit_mm) - self.weights @ self.features(evidence)
        return float(1 / (1 + math.exp(-min(max(score, -50), 50))))

    def worst(self, evidence):
        """Return the index of the feature that takes most from the probability."""
        return int((self.weights * (self.features(evidence) - self.typical)).argmax())


_confidence = Confidence.shipped()

DISAGREEMENT = Judgement(False, 0.0, 'the second view does not agree')


def judge(evidence, settings):
    """Return the `Judgement` of a pose with this `Evidence`: accepted from `settings.accept_probability` on."""
    probability = _confidence(evidence, settings.accept_mm)
    if probability >= settings.accept_probability:
        return Judgement(True, probability, '')
    words = (
        f'predicted error {evidence.predicted_mm:.1f} mm',
        f'contours {evidence.residual_mm:.1f} mm apart',
        f'only {100 * (1 - evidence.model_unexplained):.0f}% of the contour explained',
        f'only {100 * (1 - evidence.mask_unexplained):.0f}% of the vessels explained',
        'another pose explains the picture as well',
    )[_confidence.worst(evidence)]
    return Judgement(False, probability, f'probability {probability:.2f}: {words}')


def judge_fit(fit, points, camera, settings, rival=0.0):
    """Return the `Evidence` of a `Fit`, of the first view, and its `Judgement`, in which all views must agree.

    points, camera, rival: as for `evidence_of`.
    """
    evidence = evidence_of(fit, points, camera, rival)
    if fit.agreement <= MIN_EXPLAINED or fit.strain > MAX_STRAIN:
        return evidence, DISAGREEMENT
    return evidence, judge(evidence, settings)


def judge_held(error_mm, settings):
    """Return the `Judgement` of a pose that is not seen any more: accepted while the error to expect is small enough.

    error_mm: root mean square projected error that its grown covariance predicts; both picture components are normal.
    """
    probability = float(-np.expm1(-((settings.accept_mm / max(error_mm, 1e-9)) ** 2)))
    if error_mm < settings.accept_mm:
        return Judgement(True, probability, '')
    return Judgement(False, probability, f'predicted error {error_mm:.1f} mm is not below {settings.accept_mm:g} mm')


def evidence_of(fit, points, camera, rival=0.0):
    """Return the `Evidence` of a `Fit`. points: model points (N, 3) in view. rival: best overlap of another basin as a
    share of the pose's own."""
    pixel_mm = millimetres_per_pixel(points, fit.T_image_model, camera) if len(points) else np.inf
    return Evidence(
        predicted_mm(fit.covariance, fit.T_image_model, points, camera),
        max(fit.residual, 1e-9) * pixel_mm,
        1 - fit.model_share,
        1 - fit.mask_share,
        min(max((rival - RIVAL_FROM) / (1 - RIVAL_FROM), 0.0), 1.0),
    )


def points_in_view(surface, T_image_model, view):
    """Return model points (N, 3), at most about 300 vertices of the surface, that project into the valid picture."""
    points = surface.vertices[:: max(1, len(surface.vertices) // 300)]
    pixels = view.camera.project(apply(T_image_model, points))
    with np.errstate(invalid='ignore'):
        seen = ((pixels >= 0) & (pixels <= (view.camera.width - 1, view.camera.height - 1))).all(axis=1)
    column, row = np.rint(pixels[seen]).astype(int).T
    return points[seen][view.valid[row, column]]


def millimetres_per_pixel(points, T_image_model, camera):
    """Return the millimetres at the depth of model points (N, 3) that one pixel sees."""
    return float(1e3 * (T_image_model[2, :3] @ points.mean(axis=0) + T_image_model[2, 3]) / camera.fy)


def predicted_mm(covariance, T_image_model, points, camera):
    """Return the projected error in mm that a covariance (6, 6) predicts for model points (N, 3); inf for none."""
    if len(points) == 0:
        return np.inf
    pixels = projected_error(covariance, T_image_model, points, camera)
    return pixels * millimetres_per_pixel(points, T_image_model, camera)


def distance_mm(T_a, T_b, points, camera):
    """Return the mean distance in mm, at the model's depth, of model points (N, 3) projected under two poses."""
    if len(points) == 0:
        return np.inf
    pixels = camera.project(apply(T_a, points)) - camera.project(apply(T_b, points))
    return float(np.linalg.norm(pixels, axis=1).mean()) * millimetres_per_pixel(points, T_a, camera)
