"""The picture a person looks at: the frame, the vessels found in it, and the model where it is believed to be."""

from dataclasses import replace

import cv2
import numpy as np

from m2i_ros.model.projected_centreline import project_centreline
from m2i_ros.model.projection import silhouette
from m2i_ros.registration.result import State

VESSEL_COLOUR = (255, 180, 60)  # BGR
MODEL_COLOURS = {State.TRACKING: (80, 230, 80), State.HOLDING: (40, 210, 255)}
OTHER_COLOUR = (170, 170, 170)
TINT = 0.22


def to_grey8(image):
    """Return a grey picture (H, W) of any type as uint8: 8 bits as they are, more by their 0.5 to 99.5 percentile."""
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
    return np.clip((image - low) * (255.0 / max(high - low, 1e-12)), 0, 255).astype(np.uint8)


def draw_overlay(result, model, centreline=True):
    """Return the overlay of a `Result`, (H, W, 3) uint8 BGR at the frame's size.

    Vessels found are tinted and outlined in blue. The model's silhouette and centreline are drawn in green
    while TRACKING, in yellow while HOLDING, in grey otherwise; the centreline is the
    registration's, bent or not. model: `VesselModel`, or None.
    """
    grey = to_grey8(result.frame.image)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    thickness = max(1, round(min(grey.shape) / 512))
    _draw_vessels(picture, result.vessels.mask, thickness)
    registration = result.registration
    colour = MODEL_COLOURS.get(registration.state, OTHER_COLOUR)
    if model is not None and registration.T_image_model is not None and result.frame.camera is not None:
        model = replace(model, centreline=registration.centreline(model))
        _draw_model(picture, model, registration.T_image_model, result.frame.camera, colour, thickness, centreline)
    _draw_text(picture, _caption(registration), colour)
    return picture


def _draw_vessels(picture, mask, thickness):
    if not mask.any():
        return
    tinted = cv2.addWeighted(picture, 1 - TINT, np.full_like(picture, VESSEL_COLOUR), TINT, 0)
    cv2.copyTo(tinted, mask, picture)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, VESSEL_COLOUR, thickness, cv2.LINE_8)


def _draw_model(picture, model, T_image_model, camera, colour, thickness, centreline):
    outlines, _ = cv2.findContours(silhouette(model, T_image_model, camera), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, thickness, cv2.LINE_AA)
    if not centreline:
        return
    _, pixels = project_centreline(model, T_image_model, camera)
    lines = pixels[model.centreline.edges]  # (E, 2, 2)
    # Far off the picture, or behind the source, a line is not worth its fixed-point overflow.
    near = (np.abs(lines) < 8 * max(picture.shape)).all(axis=(1, 2))
    bits = 3
    lines = np.round(lines[near] * 2**bits).astype(np.int32)
    cv2.polylines(picture, list(lines), False, colour, thickness, cv2.LINE_AA, bits)


def _caption(registration):
    if registration.T_image_model is None:
        return registration.state.name
    return f'{registration.state.name} {registration.probability:.2f}'


def _draw_text(picture, text, colour):
    """Write at the top left, over a dark edge that keeps it readable on any picture."""
    scale = max(0.35, picture.shape[0] / 512 * 0.5)
    weight = max(1, round(scale * 2))
    at = (round(scale * 16), round(scale * 36))
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), weight + 2, cv2.LINE_AA)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, weight, cv2.LINE_AA)


def contact_sheet(rows, tile=384):
    """Return one picture of several moments: a row a moment of image, mask and overlay, (H, W, 3) uint8 BGR.

    rows: at least one (caption, image, mask, overlay): image (H, W) of any grey type, mask (H, W) uint8, overlay
    (H, W, 3) uint8 BGR; mask and overlay may be None. tile: pixels of a tile's side; pictures keep their aspect.
    """
    gap, strip = 6, 26
    width = 3 * tile + 4 * gap
    sheet = [_strip(('image', 'vessels found', 'vessels and registered model'), tile, gap, strip)]
    for caption, image, mask, overlay in rows:
        row = np.full((strip + tile + gap, width, 3), 24, np.uint8)
        cv2.putText(row, caption, (gap, strip - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 230, 230), 1, cv2.LINE_AA)
        for column, picture in enumerate((image, mask, overlay)):
            left = gap + column * (tile + gap)
            if picture is not None:
                row[strip : strip + tile, left : left + tile] = _fitted(picture, tile)
        sheet.append(row)
    return np.concatenate(sheet)


def _strip(titles, tile, gap, height):
    strip = np.full((height, 3 * tile + 4 * gap, 3), 48, np.uint8)
    for column, title in enumerate(titles):
        at = (gap + column * (tile + gap), height - 8)
        cv2.putText(strip, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return strip


def _fitted(picture, tile):
    if picture.ndim == 2:
        picture = cv2.cvtColor(to_grey8(picture), cv2.COLOR_GRAY2BGR)
    height, width = picture.shape[:2]
    factor = tile / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    out = np.zeros((tile, tile, 3), np.uint8)
    top, left = (tile - size[1]) // 2, (tile - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out
