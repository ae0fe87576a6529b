"""Which vessels of a picture can be seen: nobody can find what is lost in the noise or in what lies around."""

import cv2
import numpy as np

from m2i_ros.simulation import xray


def unevenness(bare):
    """Return the standard deviation (B, H, W), grey, of what lies around, of pictures (B, H, W) without contrast."""
    bare = bare - xray.wide_blur(bare, 16.0)
    return xray.wide_blur(bare**2, 16.0).clamp(min=0).sqrt()


def grain(image, clean):
    """Return the standard deviation (B, H, W), grey, of the noise in pictures (B, H, W), given them without noise."""
    return xray.wide_blur((image - clean) ** 2, 4.0).clamp(min=0).sqrt()


def drawn_coronary(radii_px, blur):
    """Return the radii (N,), pixels, to which people draw coronary arteries: where the contrast, blurred as it is by
    `blur` pixels (standard deviation), is two thirds of that at the axis (measured on angiograms and their masks)."""
    return np.hypot(0.7 * radii_px, 0.6 * blur)


def seen_segments(pixels, radii_px, segments, shape, axis_values):
    """Return those of the segments (E, 2) of a tree that can be seen.

    pixels: (N, 2) projected axis points. radii_px: (N,) pixels. shape: (H, W). axis_values: function that is given rows
    and columns (M,) and returns three (M,) arrays of grey there: what the contrast takes away, and the standard
    deviations of the noise (`grain`) and of what lies around (`unevenness`). A vessel is seen where its contrast at the
    axis, summed over the patch an eye takes in, stands out of the noise's sum (the model of Rose, J Opt Soc Am
    1948;38:196: 5, and a little for noise that is not white), and, if it is wide, out of what lies around.
    """
    at = np.rint(pixels)
    on = ((at >= 0) & (at < shape[::-1])).all(axis=1)
    columns, rows = at[on].astype(int).T
    depth, noise, around = axis_values(rows, columns)
    radii = radii_px[on]
    patch = 2 * radii * np.clip(6 * radii, 6, 20)
    wide = np.clip(radii / 10, 0, 1)
    visible = ~on
    visible[on] = (depth > 0.015) & (depth > 7 * noise / np.sqrt(patch)) & (depth > 0.7 * wide * around)
    # Gaps and specks of a few points are chance, not sight.
    share = np.convolve(visible.astype(float), np.full(11, 1 / 11), mode='same')
    return segments[(share[segments] > 0.5).all(axis=1)]


def seen_lumen(lumen, depth, around):
    """Return the part (H, W) bool of a wide lumen (H, W) bool that can be seen, given of each pixel what the contrast
    takes away and how uneven it is around, grey: where most of the lumen round it stands out."""
    stands_out = lumen & (depth > np.maximum(0.015, 0.3 * around))
    near = cv2.blur(lumen.astype(np.float32), (49, 49))
    return lumen & (cv2.blur(stands_out.astype(np.float32), (49, 49)) > 0.5 * near)
