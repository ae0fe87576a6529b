"""Where the contours run."""

import numpy as np
import pytest
from trees import ray_cast

from m2i_ros.model.projection import project_vertices, silhouette
from m2i_ros.registration.contour import BORDER, CELL, FACES, ContourSurface, mask_contour, occluding_contour

VALID = np.ones((200, 220), bool)


def disc(x, y, radius, shape=VALID.shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.where(np.hypot(columns - x, rows - y) < radius, 255, 0).astype(np.uint8)


@pytest.mark.parametrize('radius', [6.0, 20.3, 71.7])
def test_a_mask_contour_is_found_to_a_fraction_of_a_pixel(radius):
    centre = np.array([101.3, 97.8])
    contour = mask_contour(disc(*centre, radius), VALID, 800)
    out = contour.points - centre
    distance = np.linalg.norm(out, axis=1)
    # The disc's own pixels are the error that is left.
    assert abs(distance.mean() - radius) < 0.1 and np.abs(distance - radius).max() < 0.8
    assert ((out / distance[:, None] * contour.normals).sum(axis=1) > 0.9).all()
    assert contour.lengths.sum() == pytest.approx(2 * np.pi * radius, rel=0.03)
    column, row = contour.points.astype(int).T // CELL
    cell = row * contour.columns + column
    assert (np.diff(cell) >= 0).all()
    assert np.array_equal(np.bincount(cell, minlength=len(contour.cells) - 1), np.diff(contour.cells))


def test_half_covered_pixels_place_the_contour_between():
    mask = np.zeros(VALID.shape, np.uint8)
    mask[:, 50:100] = 255
    mask[:, 100] = 191  # three quarters covered: the wall is at 99.5 + 0.75
    right = mask_contour(mask, VALID, 800)
    right = right.points[right.normals[:, 0] > 0.9]
    assert right[:, 0].mean() == pytest.approx(100.25, abs=0.1)


def test_edges_along_the_picture_and_the_collimator_are_dropped():
    valid = VALID.copy()
    valid[:, :40] = False
    mask = np.where(valid, 255, 0).astype(np.uint8)
    mask[100:] = 0
    contour = mask_contour(mask, valid, 800)
    assert (np.abs(contour.points[:, 1] - 99.5) < 0.3).all()
    assert contour.points[:, 0].min() >= 40 + BORDER - 1 and contour.points[:, 0].max() <= 219 - BORDER + 1


def test_of_a_long_contour_every_so_manieth_point_stands_for_the_others():
    mask = disc(101.3, 97.8, 71.7)
    all_points, some = mask_contour(mask, VALID, 10000), mask_contour(mask, VALID, 100)
    assert len(some.points) == 100
    assert some.lengths.sum() == pytest.approx(all_points.lengths.sum(), rel=0.02)
    angles = np.sort(np.arctan2(*(some.points - (101.3, 97.8)).T))
    assert np.diff(angles).max() < 0.5


def test_the_picture_may_be_as_small_as_its_border():
    for size in range(1, 12):
        mask = np.zeros((size, size), np.uint8)
        mask[: size // 2] = 255
        contour = mask_contour(mask, np.ones(mask.shape, bool), 800)
        assert np.abs(contour.points[:, 1] - (size // 2 - 0.5)).max(initial=0) < 0.3


def test_an_empty_mask_has_no_contour():
    assert len(mask_contour(np.zeros((40, 40), np.uint8), np.ones((40, 40), bool), 800).points) == 0


def test_the_surface_is_small_and_keeps_its_shape(model, camera, T_truth):
    surface = ContourSurface.from_model(model)
    assert len(surface.faces) <= FACES + 1
    a, b = silhouette(model, T_truth, camera) > 0, silhouette(surface, T_truth, camera) > 0
    assert np.count_nonzero(a & b) / np.count_nonzero(a | b) > 0.97


@pytest.mark.parametrize('mirrored', [False, True])
def test_the_occluding_contour_is_the_outline_of_the_picture(model, camera, T_truth, mirrored):
    camera = camera.flipped() if mirrored else camera
    surface = ContourSurface.from_model(model)
    K = (camera.fx, camera.fy, camera.cx, camera.cy)
    uvz = project_vertices(surface.vertices, T_truth, *K)
    contour = mask_contour(ray_cast(model.centreline, T_truth, camera), np.ones((512, 512), bool), max_points=10000)
    samples = occluding_contour(
        surface.faces, surface.normals, surface.radii, T_truth, *K, uvz, silhouette(surface, T_truth, camera),
        contour.inside,
    )  # fmt: skip
    d = np.linalg.norm(samples[:, None, 3:5] - contour.points[None], axis=2)
    nearest = d.argmin(axis=1)
    signed = ((samples[:, 3:5] - contour.points[nearest]) * contour.normals[nearest]).sum(axis=1)
    assert np.median(np.abs(signed)) < 0.3 and abs(np.median(signed)) < 0.2
    assert ((samples[:, 5:7] * contour.normals[nearest]).sum(axis=1) > 0.8).mean() > 0.95
    # Nothing of the outline is missing, and the points lie where they project.
    assert (d.min(axis=0) < 4).mean() > 0.98
    assert np.allclose(camera.project(samples[:, :3]), samples[:, 3:5])
