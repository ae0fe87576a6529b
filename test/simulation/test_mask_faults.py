"""Faults put into a mask: each does what its name says, and the same seed does the same."""

import cv2
import numpy as np
import pytest

from m2i_ros.simulation.mask_faults import FAULTS, damaged


@pytest.fixture(scope='module')
def mask():
    out = np.zeros((256, 256), np.uint8)
    cv2.line(out, (128, 10), (120, 240), 255, 24)
    cv2.line(out, (128, 60), (230, 180), 255, 7)
    cv2.line(out, (128, 90), (30, 200), 255, 5)
    return out


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_changes_the_mask_but_leaves_something_to_see(mask, fault):
    changed = 0
    for seed in range(12):
        vessels = damaged(mask, np.random.default_rng(seed), [fault])
        assert vessels.mask.dtype == np.uint8 and set(np.unique(vessels.mask)) <= {0, 255}
        assert vessels.valid.shape == mask.shape and not vessels.mask[~vessels.valid].any()
        kept = np.count_nonzero(vessels.mask & mask) / np.count_nonzero(mask)
        assert kept > 0.3
        if fault in ('gaps', 'missing_branches', 'partial_contrast', 'cut_field'):
            assert not (vessels.mask & ~mask).any(), 'something false was found'
        if fault in ('false_curves', 'catheter'):
            assert kept == 1.0, 'something true was missed'
        changed += not np.array_equal(vessels.mask, mask)
    assert changed >= 6


def test_the_wide_vessel_stays_where_branches_are_missed(mask):
    trunk = np.zeros_like(mask)
    cv2.line(trunk, (128, 10), (120, 240), 255, 24)
    core = cv2.erode(trunk, np.ones((5, 5), np.uint8)) > 0
    for seed in range(12):
        assert damaged(mask, np.random.default_rng(seed), ['missing_branches']).mask[core].mean() > 0.98 * 255


def test_the_same_seed_damages_alike_and_others_do_not(mask):
    first, again, other = (damaged(mask, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.mask, again.mask) and np.array_equal(first.valid, again.valid)
    assert not np.array_equal(first.mask, other.mask)


@pytest.mark.parametrize('shape', [(64, 64), (300, 200), (1024, 1024)])
def test_masks_of_all_sizes_and_empty_ones_can_be_damaged(shape):
    for seed in range(3):
        vessels = damaged(np.zeros(shape, np.uint8), np.random.default_rng(seed), list(FAULTS))
        assert vessels.mask.shape == vessels.valid.shape == shape
