import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.segmentation import valid_area


def anatomy(shape, rng):
    """Soft light and dark parts with noise, nowhere flat."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    picture = 130 + 50 * np.sin(5 * x + 1) * np.cos(4 * y) + rng.normal(0, 3, shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def disc(shape, centre, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


@pytest.mark.parametrize('kind', ['round', 'square', 'cut'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_the_inside_of_the_collimator_is_found(kind, dtype):
    shape = (512, 480)
    image = anatomy(shape, np.random.default_rng(0))
    inside = np.zeros(shape, bool)
    if kind == 'round':
        inside = disc(shape, (250, 240), 225)
    elif kind == 'square':
        inside[40:470, 60:430] = True
    else:
        inside = disc(shape, (200, 260), 300)
    image[~inside] = 9
    gain = dtype(1 if dtype is np.uint8 else 3)
    found = valid_area(image.astype(dtype) * gain)
    # A pixel where the blades' edge runs out of the picture may be missed.
    assert found[~inside].sum() <= 4
    # No more is lost than a narrow margin along the blades: 8 pixels of some 1,500 around.
    assert (inside & ~found).sum() < 8 * 1500


def test_a_picture_without_collimator_is_valid_everywhere():
    assert valid_area(anatomy((300, 400), np.random.default_rng(1))).all()


def test_a_dark_organ_at_the_border_is_not_taken_for_the_collimator():
    rng = np.random.default_rng(2)
    image = anatomy((400, 400), rng).astype(float)
    y, x = np.mgrid[:400, :400]
    # A diaphragm: dark, border to border, its edge soft and its inside shaded.
    image -= 110 / (1 + np.exp(-(y - 300 + 40 * np.sin(x / 100)) / 12))
    assert valid_area(np.clip(image, 0, 255).astype(np.uint8)).all()


def test_a_slow_ramp_of_grey_is_not_taken_for_the_collimator():
    ramp = np.broadcast_to(np.linspace(0, 255, 400), (300, 400))
    assert valid_area(ramp.astype(np.uint8)).all()


def test_a_dark_vessel_that_meets_the_blades_stays_inside():
    shape = (400, 400)
    inside = disc(shape, (200, 200), 190)
    image = np.where(inside, anatomy(shape, np.random.default_rng(5)), 5).astype(np.uint8)
    image[195:210, :250] = 8
    found = valid_area(image)
    assert found[200, 30:370].all()
    assert not found[:20, :20].any()


def test_a_filled_vessel_at_the_border_is_not_taken_for_the_collimator():
    image = anatomy((400, 400), np.random.default_rng(3))
    y, x = np.mgrid[:400, :400]
    image[np.abs(x - 200 - 30 * np.sin(y / 50)) < 25] = 12
    assert valid_area(image).all()


def test_a_corner_cut_off_by_a_filled_vessel_is_not_taken_for_the_collimator():
    image = anatomy((400, 400), np.random.default_rng(6))
    y, x = np.mgrid[:400, :400]
    image[np.abs(x + y - 120) < 45] = 12
    assert valid_area(image).all()


def test_letters_in_the_shadow_do_not_hide_the_collimator():
    shape = (400, 400)
    inside = disc(shape, (200, 200), 190)
    image = np.where(inside, anatomy(shape, np.random.default_rng(4)), 5).astype(np.uint8)
    image[6:18, 6:10] = image[6:18, 14:18] = 250
    found = valid_area(image)
    assert not found[~inside].any()
    assert found[200, 200]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(32, 150), st.integers(32, 150)),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(['noise', 'flat', 'black', 'step', 'spot']),
)
def test_any_picture_gets_an_answer_of_its_size(shape, seed, kind):
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.uint8)
    if kind == 'noise':
        image = rng.integers(0, 256, shape, dtype=np.uint8)
    elif kind == 'flat':
        image[:] = 77
    elif kind == 'step':
        image[:, shape[1] // 2 :] = 200
    elif kind == 'spot':
        image[shape[0] // 2, shape[1] // 2] = 255
    found = valid_area(image)
    assert found.shape == shape
    assert found.dtype == bool
    assert found.any()
