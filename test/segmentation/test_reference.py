"""The picture without contrast that the others are compared with."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from m2i_ros.segmentation import Segmenter, VesselMask
from m2i_ros.segmentation.reference import IN_A_ROW, KEPT, References
from m2i_ros.segmentation.segmenter import CHANGE_GAIN, network_input

SHAPE = (64, 80)


def scene(seed=0, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    rng = np.random.default_rng(seed)
    return (128 + 60 * np.sin(x / rng.uniform(5, 20) + seed) * np.cos(y / rng.uniform(5, 20))).astype(np.uint8)


def vessels(share, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask.flat[: round(share * mask.size)] = 255
    return VesselMask(mask, np.ones(shape, bool))


NONE, SOME, NONE_WIDE = vessels(0.0), vessels(0.05), vessels(0.0, (256, 256))


def test_without_a_picture_there_is_no_reference():
    references = References()
    assert references.nearest(scene()) is None
    references.add(scene(), SOME)
    assert references.nearest(scene()) is None


def test_an_empty_first_picture_is_the_reference_of_those_that_follow():
    references, first = References(), scene()
    references.add(first, NONE)
    for _ in range(50):
        np.testing.assert_array_equal(references.nearest(first + np.uint8(20)), first)
        references.add(first + np.uint8(20), SOME)


def test_contrast_that_begins_to_come_is_in_no_reference():
    """Each picture shows a little more of it than the one before, and is found empty until there is enough."""
    references, still = References(), scene()
    creeping = [np.where(np.arange(SHAPE[1]) < n, still // 2, still).astype(np.uint8) for n in range(2 * IN_A_ROW)]
    references.add(still, NONE)
    for picture in creeping[: IN_A_ROW - 1]:
        references.add(picture, NONE)
    for picture in creeping[IN_A_ROW - 1 :]:
        references.add(picture, SOME)
        np.testing.assert_array_equal(references.nearest(picture), still)


def test_of_several_the_one_most_alike_is_taken():
    """Breath moves the scene: each picture's reference was taken at its own moment of the breath."""
    breath = [np.roll(scene(), shift, axis=0) for shift in (0, 3, 6, 9)]
    references = References()
    references.add(breath[0], SOME)
    for moment in breath:
        for _ in range(IN_A_ROW):
            references.add(moment, NONE)
    for moment in breath:
        np.testing.assert_array_equal(references.nearest(moment // 2 + 40), moment)


def test_old_ones_are_forgotten_and_another_scene_has_none():
    references = References()
    old, new = scene(1), scene(2)
    references.add(old, NONE)
    assert references.nearest(new) is None
    for _ in range(KEPT * IN_A_ROW):
        references.add(new, NONE)
    assert references.nearest(old) is None
    np.testing.assert_array_equal(references.nearest(new), new)


def test_the_first_picture_of_a_scene_tells_what_has_come_since():
    references = References()
    one, other = scene(1), scene(2)
    assert references.first(one) is None
    for _ in range(3):
        np.testing.assert_array_equal(references.first(one + np.uint8(20)), one)
    # The arm has turned: another scene, another first picture.
    assert references.first(other) is None
    np.testing.assert_array_equal(references.first(other), other)
    references.reset()
    assert references.first(other) is None


@pytest.mark.parametrize('other', [scene(shape=(80, 64)), scene().astype(np.uint16), scene().astype(np.float32)])
def test_a_picture_of_another_size_or_type_has_none(other):
    references = References()
    references.add(scene(), NONE)
    references.first(scene())
    assert references.nearest(other) is None and references.first(other) is None


def test_a_scene_that_moved_as_a_whole_is_followed():
    """The table has moved; what comes into view was not seen before, and counts as unchanged."""
    rng = np.random.default_rng(4)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (300, 300)).astype(np.float32), (0, 0), 16)
    wide = ((wide - wide.min()) / np.ptp(wide) * 255).astype(np.uint8)
    before, now = wide[20:276, 30:286], wide[8:264, 44:300]
    now = now.copy()
    now[100:120, 60:200] //= 2
    references = References()
    references.add(before, NONE_WIDE)
    change = now.astype(int) - references.nearest(now)
    vessel = np.zeros(now.shape, bool)
    vessel[98:122, 58:202] = True
    assert np.abs(change[~vessel]).max() < 12
    assert np.median(change[101:119, 61:199]) < -40


def test_a_reset_forgets():
    references = References()
    references.add(scene(), NONE)
    references.reset()
    assert references.nearest(scene()) is None


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_the_network_sees_what_changed_whatever_the_exposure(dtype):
    before = np.where(np.indices(SHAPE).sum(axis=0) % 2, 80, 180).astype(dtype)
    picture = before + dtype(15)  # a little brighter all over, and
    picture[20:30, 20:40] -= dtype(25)
    valid = np.ones(SHAPE, bool)
    valid[:5] = False
    change = network_input(picture, valid, 2, before)[1]
    inside = change[20:30, 20:40]
    # Black to white, 1 of the picture, is 100 grey levels.
    np.testing.assert_allclose(inside, -0.25 * CHANGE_GAIN, rtol=0.2)
    change[20:30, 20:40] = 0
    assert np.abs(change).max() < 1e-5
    assert not network_input(picture, valid, 2)[1].any()


@pytest.fixture
def contrast_comes():
    """Pictures of one scene: without contrast, with it, and without again."""
    bare = scene(shape=(96, 96))
    filled = bare.copy()
    filled[40:50] = filled[40:50] // 3
    return [bare, filled, bare]


def test_weights_for_one_picture_are_shown_no_reference(exported, contrast_comes):
    segmenter = Segmenter(exported, threads=1, polarity='dark')
    alone = segmenter.segment(contrast_comes[1]).probability
    segmenter.reset()
    np.testing.assert_array_equal([segmenter.segment(p).probability for p in contrast_comes][1], alone)
    assert not segmenter.info['reference']


def test_the_shipped_weights_see_in_a_stream_what_they_miss_in_a_picture():
    from m2i_ros.evaluation.metrics import dice
    from m2i_ros.simulation import Phantom

    phantom = Phantom('iliofemoral', 5)
    before, washing = phantom[0], phantom[round((phantom.injections[0] + phantom.plateau + 1.7) * phantom.frame_rate)]
    with_reference, without = Segmenter(threads=2, polarity='dark'), Segmenter(polarity='dark', reference=False)
    assert with_reference.info['reference'] and not without.info['reference']
    scores = []
    for segmenter in (with_reference, without):
        segmenter.segment(before.image)
        scores.append(dice(segmenter.segment(washing.image).mask, washing.mask))
    assert scores[0] > 0.8
    assert scores[0] > scores[1]
    # A picture of another plane is compared with that plane's own.
    with_reference.segment_beside(before.image)
    beside = with_reference.segment_beside(washing.image).mask
    assert dice(beside, washing.mask) == pytest.approx(scores[0], abs=0.02)


@pytest.fixture(scope='module')
def shadowed():
    """Pictures of before faint contrast and of it, its mask, and where something dark and long lies in both of them."""
    from m2i_ros.simulation import Phantom

    usual = Phantom.usual_settings('aortic_root')
    phantom = Phantom('aortic_root', 7, 256, 256, settings=replace(usual, iodine_mg_ml=0.12 * usual.iodine_mg_ml))
    filled = phantom[round((phantom.injections[0] + 2.8) * phantom.frame_rate)]
    y, x = np.mgrid[:256, :256]
    across = np.abs(x - 60 - 10 * np.sin(y / 40)) / 14
    shadow = 70 * np.sqrt(np.clip(1 - across**2, 0, None))
    before, after = (np.clip(picture - shadow, 0, 255).astype(np.uint8) for picture in (phantom[0].image, filled.image))
    return before, after, filled.mask > 0, across < 0.8


@pytest.mark.parametrize('polarity', ['dark', 'bright'])
def test_what_is_taken_for_vessel_from_the_first_picture_on_hides_no_contrast_that_comes(shadowed, polarity):
    """No picture is ever empty, so none is a reference."""
    before, after, truth, shadow = shadowed
    if polarity == 'bright':
        before, after = ~before, ~after
    segmenter = Segmenter(threads=1, polarity=polarity)
    alone = segmenter.segment(after).mask[truth].mean() / 255
    segmenter.reset()
    assert (segmenter.segment(before).mask[shadow] > 0).mean() > 0.5
    assert segmenter.segment(after).mask[truth].mean() / 255 > max(0.9, alone + 0.2)


def test_vessels_full_from_the_first_picture_on_are_no_wider_where_they_have_moved():
    from m2i_ros.simulation import Phantom

    phantom = Phantom('iliofemoral', 7, 256, 256)
    at = round((phantom.injections[0] + 2.8) * phantom.frame_rate)
    first, later = (phantom[i].image for i in (at, at + 15))  # a second of breath
    segmenter = Segmenter(threads=1, polarity='dark')
    alone = segmenter.segment(later).mask
    segmenter.reset()
    assert (segmenter.segment(first).mask > 0).mean() > 0.02
    assert ((segmenter.segment(later).mask > 0) & (alone == 0)).sum() < 0.01 * (alone > 0).sum()


def test_nor_does_it_where_bright_contrast_is_found_out_late(shadowed):
    before, after, truth, _ = shadowed
    segmenter, answers = Segmenter(threads=1), iter((False, True))
    segmenter._stream.bright = lambda image: next(answers)
    segmenter.segment(~before)
    assert segmenter.segment(~after).mask[truth].mean() / 255 > 0.9


def test_bright_contrast_is_compared_like_dark(contrast_comes):
    masks = []
    for polarity, pictures in (('dark', contrast_comes), ('bright', [~p for p in contrast_comes])):
        segmenter = Segmenter(threads=1, polarity=polarity)
        masks.append([segmenter.segment(picture).probability for picture in pictures][1])
    np.testing.assert_allclose(*masks, atol=0.05)


def looks(segmenter, small, left=0.4, corner=0.995):
    """Replace a segmenter's network: to the right it finds 0.1, to the left `left` and in that corner `corner`, but
    `small` on the whole left where pictures are half as large. Return the list that takes the sizes it is shown.
    """
    sizes = []

    def engine(seen):
        rows, columns = seen.shape[2:]
        sizes.append((rows, columns))
        found = np.full((rows, columns), 0.1, np.float32)
        found[:, : columns // 2] = left if rows == 512 else small
        found[: rows // 4, : columns // 4] = corner if rows == 512 else small
        return found

    segmenter._engine = engine
    return sizes


@pytest.mark.parametrize('small, expected', [(0.05, 0.4), (0.7, 0.4), (1.0, 0.7)])
def test_a_picture_alone_is_looked_at_in_half_its_size_as_well_and_loses_nothing_by_it(small, expected):
    """What the small picture shows counts where it belongs to an island of which both looks are certain."""
    segmenter = Segmenter(threads=1, polarity='dark', threshold=0.5)
    sizes = looks(segmenter, small)
    probability = segmenter.segment(scene(shape=(512, 512))).probability
    assert sizes == [(512, 512), (256, 256)]
    np.testing.assert_allclose(probability[200:, :250], expected, atol=1e-6)
    np.testing.assert_allclose(probability[:120, :120], max(0.995, (0.995 + small) / 2), atol=1e-6)
    np.testing.assert_allclose(probability[:, 260:], 0.1, atol=1e-6)


@pytest.mark.parametrize(
    'left, small, expected',
    [(0.3, 1.0, 1.0), (0.3, 0.98, 0.3), (0.1, 1.0, 0.1)],
    ids=['possible and certain', 'possible, not certain', 'hardly possible, certain'],
)
def test_what_the_picture_holds_for_possible_is_vessel_where_half_its_size_is_certain(left, small, expected):
    segmenter = Segmenter(threads=1, polarity='dark', threshold=0.5)
    looks(segmenter, small, left, left)
    result = segmenter.segment(scene(shape=(512, 512)))
    np.testing.assert_allclose(result.probability[:, :250], expected, atol=1e-6)
    assert (result.mask[:, :250] > 0).all() == (expected == 1.0)
    np.testing.assert_allclose(result.probability[:, 260:], 0.1, atol=1e-6)


def test_where_vessels_are_found_half_the_size_adds_none_by_itself():
    """A heart beside a root, say, of which the picture itself is not sure."""
    segmenter = Segmenter(threads=1, polarity='dark', threshold=0.5)

    def engine(seen):
        rows, columns = seen.shape[2:]
        found = np.full((rows, columns), 0.1, np.float32)
        found[:, : columns // 8] = 1.0 if rows == 512 else 0.1
        found[:, columns // 2 :] = 0.3 if rows == 512 else 1.0
        return found

    segmenter._engine = engine
    result = segmenter.segment(scene(shape=(512, 512)))
    assert (result.mask[:, :60] > 0).all() and not result.mask[:, 70:].any()


def test_with_a_reference_and_by_weights_for_one_picture_one_look_is_enough(exported):
    picture = scene(shape=(512, 512))
    segmenter = Segmenter(threads=1, polarity='dark')
    segmenter.segment(picture)
    sizes = looks(segmenter, 0.9)
    segmenter.segment(picture)
    assert sizes == [(512, 512)]
    segmenter = Segmenter(exported, threads=1, polarity='dark')
    sizes = looks(segmenter, 0.9)
    segmenter.segment(picture)
    assert sizes == [(512, 512)]


@pytest.mark.parametrize('shape', [(32, 32), (33, 47), (32, 2048), (128, 129)])
def test_the_smallest_pictures_are_looked_at_twice_as_well(shape):
    result = Segmenter(threads=1, polarity='dark').segment(scene(shape=shape))
    assert result.mask.shape == result.probability.shape == shape and np.isfinite(result.probability).all()
