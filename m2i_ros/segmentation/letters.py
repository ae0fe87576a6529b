"""What is written into a picture: names, dates, exposure, angles, rulers."""

import cv2
import numpy as np

# A stroke is brighter than its surroundings by this share of the grey scale, and by so many times what noise does; and
# it is, or something near it is, as white as the picture's whitest, but for this share of the grey scale.
STROKE, ABOVE_NOISE, WHITE = 0.3, 6.0, 0.05
# Longest side of a picture, and what is near, in strokes' greatest widths.
WIDTHS, NEAR = 128, 7
# A larger share of the picture is no writing.
MOST = 0.1


def without_letters(image):
    """Return a picture, (H, W) uint8, uint16 or float32, with thin strokes of white filled from what lies about them.

    They are nothing of the patient, and a network that normalises over the whole picture sees less beside them. The
    picture itself where there are none. Vessels and wires shown dark stay as they are; black strokes stay, too.
    """
    side = max(5, 2 * round(max(image.shape) / (2 * WIDTHS)) + 1)
    stroke = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, np.ones((side, side), np.uint8))
    low, high = np.percentile(image[::5, ::5], (1, 99))
    least = max(STROKE * (high - low), ABOVE_NOISE * np.median(stroke[::5, ::5]))
    strokes = stroke > least
    white = strokes & (image > image.max() - WHITE * (high - low))
    if least == 0 or not white.any() or np.count_nonzero(strokes) > MOST * image.size:
        return image
    # Round letters are nowhere quite white, but those beside them are.
    near = cv2.dilate(white.view(np.uint8), np.ones((NEAR * side,) * 2, np.uint8))
    letters = strokes & (near > 0)
    # Their soft rims as well.
    letters = cv2.dilate(letters.view(np.uint8), np.ones((3, 3), np.uint8))
    about = (2 * side + 1,) * 2
    beside = 1 - letters.astype(np.float32)
    weight = cv2.blur(beside, about)
    mean = cv2.blur(beside * image.astype(np.float32), about) / np.maximum(weight, 1e-6)
    filled = image.copy()
    np.copyto(filled, mean.astype(image.dtype), where=(letters > 0) & (weight > 0))
    return filled
