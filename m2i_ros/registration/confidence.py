"""Whether a refined pose is believed."""

from dataclasses import dataclass

import numpy as np

from m2i_ros.geometry import apply
from m2i_ros.registration.uncertainty import projected_error

RIVAL_OVERLAP = 0.95  # of the best overlap: another basin that reaches it is as likely
RIVAL_DISTANCE = 3.0  # accept_mm apart in the picture: beyond that a pose is another basin
UNEVEN = 0.5  # of the contours' common offset counts as error
MIN_EXPLAINED = 0.5  # of the contour must lie where the other contour is


@dataclass(frozen=True)
class Judgement:
    """accepted: the pose may be given out. probability: see `judge`. reason: in words, why not; empty if accepted."""

    accepted: bool
    probability: float
    reason: str


def judge(error_mm, explained, rivalled, settings):
    """Return the `Judgement` of a pose.

    error_mm: root mean square projected error to expect, mm at the model's depth.
    explained: share of the contour that lies within 3 px of the other. rivalled: another basin overlaps as well.

    The probability is that of an error below `accept_mm` if both picture components are normal,
    1 - exp(-(accept_mm / error_mm)^2); times how well the contour is explained, from 0 at a quarter to 1 at three
    quarters; halved where there is a rival. Monotone in each, not calibrated.
    """
    small = -np.expm1(-((settings.accept_mm / max(error_mm, 1e-9)) ** 2))
    probability = float(small * np.clip(2 * explained - 0.5, 0.0, 1.0) * (0.5 if rivalled else 1.0))
    if not explained > MIN_EXPLAINED:
        reason = f'only {100 * explained:.0f}% of the contour explained'
    elif not error_mm < settings.accept_mm:
        reason = f'predicted error {error_mm:.1f} mm is not below {settings.accept_mm:g} mm'
    elif rivalled:
        reason = 'another pose explains the picture as well'
    elif probability < settings.accept_probability:
        reason = f'probability {probability:.2f} is below {settings.accept_probability:g}'
    else:
        reason = ''
    return Judgement(not reason, probability, reason)


def points_in_view(surface, T_image_model, view):
    """Return model points (N, 3), at most about 300 vertices of the surface, that project into the valid picture."""
    points = surface.vertices[:: max(1, len(surface.vertices) // 300)]
    pixels = view.camera.project(apply(T_image_model, points))
    with np.errstate(invalid='ignore'):
        seen = ((pixels >= 0) & (pixels <= (view.camera.width - 1, view.camera.height - 1))).all(axis=1)
    column, row = np.round(pixels[seen]).astype(int).T
    return points[seen][view.valid[row, column]]


def millimetres_per_pixel(points, T_image_model, camera):
    """Return the millimetres at the depth of model points (N, 3) that one pixel sees."""
    return float(1e3 * apply(T_image_model, points)[:, 2].mean() / camera.fy)


def predicted_mm(covariance, T_image_model, points, camera):
    """Return the projected error in mm that a covariance (6, 6) predicts for model points (N, 3); inf for none."""
    if len(points) == 0:
        return np.inf
    pixels = projected_error(covariance, T_image_model, points, camera)
    return pixels * millimetres_per_pixel(points, T_image_model, camera)


def expected_mm(fit, points, camera):
    """Return the projected error in mm to expect of a `Fit` at model points (N, 3); inf for none.

    What its covariance predicts, and `UNEVEN` of its offset: where a mask is too fat or too thin it rarely is so
    alike on all walls, least when contrast washes out.
    """
    if len(points) == 0:
        return np.inf
    offset = UNEVEN * abs(fit.offset) * millimetres_per_pixel(points, fit.T_image_model, camera)
    return float(np.hypot(predicted_mm(fit.covariance, fit.T_image_model, points, camera), offset))


def distance_mm(T_a, T_b, points, camera):
    """Return the mean distance in mm, at the model's depth, of model points (N, 3) projected under two poses."""
    if len(points) == 0:
        return np.inf
    pixels = camera.project(apply(T_a, points)) - camera.project(apply(T_b, points))
    return float(np.linalg.norm(pixels, axis=1).mean()) * millimetres_per_pixel(points, T_a, camera)
