"""Pictures as they might also have come: what keeps a network from learning a few pictures by heart."""

import cv2
import numpy as np

SCALES = (0.7, 1.5)
# Pixels over which an elastic displacement changes its direction, and its size in pixels (sigma).
ELASTIC_PERIOD = 64
ELASTIC_PX = 4.0


def augment(image, mask, size, rng, strong=False, reference=None):
    """Return (size, size) cut-outs, uint8, of a picture, its mask and its reference: turned, scaled, flipped, its grey
    values bent.

    image, mask, reference: (H, W) uint8; the latter may be None, and is never with `strong`. strong: also bent
    elastically, unevenly lit, cut by collimator blades, sometimes shown with the contrast bright: for real pictures, of
    which there are few. The simulation draws such things itself.
    """
    shown = [image] if reference is None else [image, reference]
    *shown, mask = _move([*shown, mask], size, rng, strong)
    table = 255 * np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.35 if strong else 0.25))
    if rng.uniform() < (0.6 if strong else 0.3):
        table = table * rng.uniform(0.5, 1) + 255 * rng.uniform(0, 0.3)
    table = np.clip(table, 0, 255).astype(np.float32)
    shown = [table[picture] for picture in shown]
    if strong and rng.uniform() < 0.6:
        light = np.exp(0.2 * _smooth(size, rng, 1 + rng.integers(1, 4)))
        light *= np.float32(min(1, 255 / max((light * shown[0]).max(), 1)))  # A vessel burnt out is none.
        shown = [picture * light for picture in shown]
    if rng.uniform() < 0.3:
        blur = rng.uniform(0.4, 1.2)
        shown = [cv2.GaussianBlur(picture, (0, 0), blur) for picture in shown]
    if rng.uniform() < (0.5 if strong else 0.3):
        # The noise of a smoothed picture is smooth too.
        strength, blur = rng.uniform(1, 6), rng.choice([0.0, rng.uniform(0.5, 1.0)], p=[0.7, 0.3])
        shown = [picture + np.float32(strength) * _noise(picture.shape, rng, blur) for picture in shown]
    if strong and rng.uniform() < 0.06:
        shown = [255 - picture for picture in shown]
    if strong and rng.uniform() < 0.25:
        shown[0], mask = _collimate(shown[0], mask, rng)
    image, *reference = (np.clip(picture, 0, 255).astype(np.uint8) for picture in shown)
    return image, mask, reference[0] if reference else None


def _noise(shape, rng, blur):
    """(H, W) float32 of unit variance."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    return noise / noise.std()


def _move(pictures, size, rng, elastic):
    height, width = pictures[0].shape
    angle = rng.uniform(0, 2 * np.pi) if rng.uniform() < 0.5 else rng.integers(4) * np.pi / 2
    scale = np.exp(rng.uniform(*np.log(SCALES)))
    flip = rng.choice([-1.0, 1.0])
    # Output pixel -> input pixel, about a point such that small pictures are not left for their mirrored surroundings.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([flip, 1.0]) / scale
    room = np.maximum(np.array([width, height]) - size / scale, 0) / 2
    centre = (np.array([width, height]) - 1) / 2 + rng.uniform(-room, room)
    matrix = np.column_stack([turn, centre - turn @ np.full(2, (size - 1) / 2)])
    if not elastic or rng.uniform() < 0.3:
        how = {'flags': cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, 'borderMode': cv2.BORDER_REFLECT_101}
        return tuple(cv2.warpAffine(picture, matrix, (size, size), **how) for picture in pictures)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float32)
    nodes = 2 + size // ELASTIC_PERIOD
    shift = np.stack([_smooth(size, rng, nodes) for _ in range(2)], axis=-1)
    where = (grid + np.float32(rng.uniform(0, ELASTIC_PX)) * shift) @ matrix[:, :2].T.astype(np.float32)
    x, y = np.moveaxis(where + matrix[:, 2].astype(np.float32), -1, 0)
    return tuple(
        cv2.remap(p, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT_101)
        for p in pictures
    )


def _smooth(size, rng, nodes):
    """(size, size) float32, standard normal at nodes x nodes points, smooth between them."""
    return cv2.resize(
        rng.standard_normal((nodes, nodes), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )


def _collimate(image, mask, rng):
    """Blades over up to a fifth of a side, straight or as corners: dark, flat, without vessels."""
    size = image.shape[0]
    inside = np.zeros(image.shape, np.uint8)
    corners = rng.uniform(-0.1, 0.2, 4) * size
    if rng.uniform() < 0.5:
        left, right, top, bottom = corners
        inside[max(0, int(top)) : size - max(0, int(bottom)), max(0, int(left)) : size - max(0, int(right))] = 1
    else:
        radius = rng.uniform(0.5, 0.68) * size
        centre = (size - 1) / 2 + rng.normal(0, 0.05, 2) * size
        cv2.circle(inside, tuple(int(c) for c in centre), int(radius), 1, -1)
    shadow = np.float32(rng.uniform(0, 0.9)) * image[inside > 0].min()
    return np.where(inside > 0, image, shadow), np.where(inside > 0, mask, 0).astype(np.uint8)
