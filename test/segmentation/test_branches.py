import cv2
import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from m2i_ros.segmentation.branches import likely_branches

SIDE = 120


def line(*ends, width=5):
    """A straight vessel of a width between (column, row) ends, (SIDE, SIDE) bool."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    cv2.polylines(drawn, [np.int32(ends)], False, 1, width)
    return drawn > 0


TRUNK = line((20, 60), (100, 60))
TWIG = line((60, 60), (100, 20))
# Where a twig leaves, it and the trunk share pixels.
APART = ~line((55, 60), (70, 60), width=19)


def test_an_unlikely_branch_goes_as_a_whole_and_the_trunk_stays():
    mask = TRUNK | TWIG
    probability = np.where(TRUNK, 0.95, 0.5).astype(np.float32)
    kept, axes = likely_branches(mask, probability, 0.8)
    assert not (kept & TWIG & APART).any()
    np.testing.assert_array_equal(kept & APART, TRUNK & APART)
    assert (axes <= kept).all()
    # Three pixels wide, and as long as the trunk but for its round ends.
    assert (axes & line((25, 60), (95, 60), width=1)).sum() >= 65
    assert not (axes & APART)[:, :95][np.abs(np.arange(SIDE) - 60) > 2].any()


def test_a_branch_that_is_likely_on_the_whole_stays_with_its_doubtful_part():
    doubtful = TWIG & (np.arange(SIDE) > 75) & (np.arange(SIDE) < 85)
    probability = np.where(doubtful, 0.4, 0.95).astype(np.float32)
    kept, axes = likely_branches(TRUNK | TWIG, probability, 0.8)
    np.testing.assert_array_equal(kept, TRUNK | TWIG)
    assert (axes & doubtful).any()


def test_what_is_likely_follows_the_axis_not_the_border():
    """Probability falls towards the border: a wide vessel is as likely as a narrow one."""
    wide = line((20, 60), (100, 60), width=25)
    axis = line((5, 60), (115, 60), width=3)
    probability = np.where(axis, 0.9, 0.3).astype(np.float32)
    assert (likely_branches(wide, probability, 0.8)[0] & axis & wide).sum() > 0.9 * (axis & wide).sum()
    assert not likely_branches(wide, np.where(axis, 0.3, 0.9).astype(np.float32), 0.8)[0][:, 40:80].any()


def test_the_place_in_the_picture_does_not_matter():
    mask = TRUNK | TWIG
    probability = np.where(TRUNK, 0.95, 0.5).astype(np.float32)
    moved = [np.roll(a, (15, -12), (0, 1)) for a in (mask, probability)]
    for there, here in zip(likely_branches(*moved, 0.8), likely_branches(mask, probability, 0.8)):
        np.testing.assert_array_equal(there, np.roll(here, (15, -12), (0, 1)))


STAR = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)) > 0


@example(STAR, 0, 0.5)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24))), st.integers(0, 2**32), st.floats(0, 1))
def test_of_any_mask_a_part_is_kept_and_all_of_it_where_nothing_is_asked(mask, seed, least):
    probability = np.random.default_rng(seed).uniform(0.1, 1, mask.shape).astype(np.float32)
    kept, axes = likely_branches(mask, probability, least)
    assert kept.shape == axes.shape == mask.shape and kept.dtype == axes.dtype == bool
    assert (axes <= kept).all() and (kept <= mask).all()
    np.testing.assert_array_equal(likely_branches(mask, probability, 0)[0], mask)
    assert not likely_branches(mask, probability, 1.1)[0].any()
