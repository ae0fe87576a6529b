"""Where the picture is: the inside of the collimator."""

import cv2
import numpy as np

# Found at no more than this many pixels a side; the rest is enlargement.
LARGEST_SIDE = 256
# Shares of the picture's grey range. The blades' shadow is darkest and flat, and its edge a step: dark anatomy is not.
SHADOW_LEVEL = 0.08
SHADOW_SPREAD = 0.03
LEAST_STEP = 0.12
# A shadow smaller than this share of the picture does no harm; one larger than that is no picture.
SHADOW_AREA = (0.004, 0.85)
# Pixels (at LARGEST_SIDE) taken off the inside, where the edge of the shadow is blurred.
MARGIN = 2


def valid_area(image):
    """Return (H, W) bool: inside the collimator; all True where there is no sign of one.

    image: (H, W) uint8, uint16 or float32, finite. The collimator's shadow is taken to be the darkest, flat part that
    touches the border and lies around a convex inside, from which it differs by a step; whatever else is dark (spine,
    diaphragm, a filled vessel) is inside.
    """
    height, width = image.shape
    everything = np.ones((height, width), bool)
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    small = image.astype(np.float32)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small[::2, ::2], (0.5, 99.5))
    if high <= low:
        return everything
    small = np.clip((small - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    small = cv2.medianBlur(small, 5)

    frame = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    dark = (small <= int(frame.min()) + 255 * SHADOW_LEVEL).view(np.uint8)
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    touches = np.zeros(labels.max() + 1, bool)
    touches[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    touches[0] = False
    shadow = touches.take(labels)
    if not SHADOW_AREA[0] < shadow.mean() < SHADOW_AREA[1]:
        return everything

    # Areas by hand: OpenCV's own statistics take three times as long as all the rest of this.
    _, labels = cv2.connectedComponents((~shadow).view(np.uint8), connectivity=4)
    inside = (labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])).view(np.uint8)
    # Apertures are convex (round, square, polygonal): what cuts into them is a vessel or an organ as dark as blades.
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.fillConvexPoly(np.zeros_like(inside), cv2.convexHull(np.concatenate(contours)), 1)
    outside = hull == 0
    if not outside.any():
        return everything

    near = cv2.dilate(outside.astype(np.uint8), np.ones((5, 5), np.uint8))
    rim = (cv2.dilate(near, np.ones((7, 7), np.uint8)) > near).astype(bool)
    if not rim.any():
        return everything
    flat = small[outside].std() <= 255 * SHADOW_SPREAD
    step = np.percentile(small[rim], 25) - np.median(small[outside])
    if not flat or step < 255 * LEAST_STEP:
        return everything
    # The border of the picture is no blade: only what lies next to the shadow is taken off.
    blades = cv2.dilate(outside.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8))
    return cv2.resize(1 - blades, (width, height), interpolation=cv2.INTER_NEAREST).view(bool)
