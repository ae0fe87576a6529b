"""Matching in the picture's plane finds transforms that were made, and no more than its kind allows."""

import cv2
import numpy as np
import pytest

from m2i_ros.geometry import perturb
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.planar import match_in_plane
from m2i_ros.registration.view import View

MADE = {
    'rigid': (0.15, 0.0, 0.0),
    'similarity': (0.1, 0.12, 0.0),
    'affine': (0.05, 0.05, 0.15),
}


def made(kind, middle):
    turn, growth, shear = MADE[kind]
    A = (
        np.exp(growth)
        * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        @ [[1, shear], [shear, 1]]
    )
    return np.column_stack([A, middle - A @ middle + (14, -9)])


@pytest.mark.parametrize('kind', MADE)
def test_a_transform_that_was_made_is_found(T_truth, model, camera, kind):
    surface = ContourSurface.from_model(model)
    moving = silhouette(surface, T_truth, camera)
    rows, columns = np.nonzero(moving)
    A = made(kind, np.array([columns.mean(), rows.mean()]))
    mask = cv2.warpAffine(moving, A, moving.shape[::-1])
    match = match_in_plane(surface, T_truth, View(mask, np.ones(mask.shape, bool), camera), kind)
    assert match.recall > 0.9 and match.precision > 0.9
    on = np.column_stack([columns, rows, np.ones(len(rows))])[::97]
    assert np.linalg.norm(on @ (match.matrix - A).T, axis=1).mean() < 3


def test_a_rigid_match_cannot_follow_what_an_affine_one_can(T_truth, model, camera):
    surface = ContourSurface.from_model(model)
    mask = silhouette(surface, perturb(T_truth, (0, 0, -0.1, 0, 0, 0)), camera)
    view = View(mask, np.ones(mask.shape, bool), camera)
    dice = [match_in_plane(surface, T_truth, view, kind).dice for kind in MADE]
    assert dice[0] < dice[1] - 0.01 and dice[2] > dice[1] - 0.02


def test_a_kind_that_is_none_is_told(T_truth, model, camera):
    with pytest.raises(ValueError, match='projective'):
        match_in_plane(ContourSurface.from_model(model), T_truth, None, 'projective')
