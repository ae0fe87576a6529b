from pathlib import Path

import cv2
import numpy as np
import pytest

from m2i_ros.segmentation import Segmenter
from m2i_ros.segmentation.polarity import Polarity, inverted

REAL = Path(__file__).parents[3] / 'shared' / 'real' / 'coronary_angiograms' / 'images'


def run(frames=60, fills=(20, 45), seed=0):
    """Yield (frame, share filled) of a run, contrast shown dark: bright ribs that breathe, noise, a vessel that fills
    and empties between two frames' numbers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :200]
    vessel = np.abs(x - 100 - 30 * np.sin(y / 40)) < 6
    for i in range(frames):
        breath = 3 * np.sin(i / 8)
        picture = 120 + 25 * (np.sin((y + 0.3 * x + breath) / 9) > 0.6) + 0.1 * x
        filled = float(np.clip(min(i - fills[0], fills[1] - i) / 4, 0, 1))
        picture = cv2.GaussianBlur(picture - 50 * filled * vessel, (0, 0), 1.5) + rng.normal(0, 3, picture.shape)
        yield np.clip(picture, 0, 255).astype(np.uint8), filled


def witness(truth):
    """A segmentation that finds a vessel where the polarity is right."""
    return lambda image, bright, before: 0.02 * image.size * (bright == truth)


def nothing(image, bright, before):
    return 0


@pytest.mark.parametrize('bright', [False, True])
@pytest.mark.parametrize('fills', [(20, 45), (-10, 30)])
def test_a_run_shows_its_polarity_when_contrast_comes_or_goes_and_keeps_it(bright, fills):
    polarity = Polarity(witness(bright))
    answers = [polarity.bright(inverted(f) if bright else f) for f, _ in run(fills=fills)]
    moved = next(i for i, (_, filled) in enumerate(run(fills=fills)) if (filled == 1) == (fills[0] > 0))
    assert answers[moved + 6 :] == [bright] * len(answers[moved + 6 :])
    assert sum(a != b for a, b in zip(answers, answers[1:])) <= 1


def test_without_contrast_and_vessels_the_custom_holds():
    polarity = Polarity(nothing)
    assert not any(polarity.bright(f) for f, _ in run(fills=(90, 99)))


def test_bright_is_not_believed_without_vessels():
    polarity = Polarity(nothing)
    assert not any(polarity.bright(inverted(f)) for f, _ in run())


@pytest.mark.parametrize(
    ('bright_vessel', 'dark_vessel', 'expected'), [(0.05, 0.0, True), (0.01, 0.0, False), (0.06, 0.05, False)]
)
def test_much_more_vessel_shown_bright_counts_in_one_picture_whose_ribs_are_dark(bright_vessel, dark_vessel, expected):
    picture, _ = next(run())  # with bright ribs: dark ones when it is inverted
    polarity = Polarity(lambda image, bright, before: image.size * (bright_vessel if bright else dark_vessel))
    assert polarity.bright(inverted(picture)) == expected


@pytest.mark.parametrize('bright', [False, True])
def test_contrast_that_only_shows_by_what_has_changed_tells_its_polarity(bright):
    def vessels(image, taken_bright, before):
        changed = 0 if before is None else np.count_nonzero(abs(image - before.astype(float)) > 25)
        return changed * (taken_bright == bright)

    polarity = Polarity(vessels)
    answers = [polarity.bright(inverted(f) if bright else f) for f, _ in run()]
    assert not any(answers[:20]) and answers[27:] == [bright] * len(answers[27:])


@pytest.mark.parametrize('dark_at_first', [False, True])
def test_dark_contrast_that_goes_and_leaves_something_bright_is_not_taken_for_bright_contrast(dark_at_first):
    """A vessel before a strip of lung that is as bright as the vessel is dark: only the first picture tells."""

    def vessels(image, bright, before):
        if before is None:
            return 0.02 * image.size * dark_at_first * (not bright)
        return np.count_nonzero(image > before + 25.0) if bright else np.count_nonzero(image < before - 25.0)

    y, x = np.mgrid[:200, :200]
    strip = np.abs(x - 100 - 30 * np.sin(y / 40)) < 6
    noise = np.random.default_rng(0)
    polarity = Polarity(vessels)
    for i in range(20):
        picture = 100 + 60.0 * strip * np.clip((i - 8) / 4, 0, 1)
        seen = polarity.bright((cv2.GaussianBlur(picture, (0, 0), 1.5) + noise.normal(0, 3, x.shape)).astype(np.uint8))
    assert seen == (not dark_at_first)


def test_another_size_of_picture_is_another_scene():
    polarity = Polarity(lambda image, bright, before: 0 if before is None or before.shape == image.shape else 1 / 0)
    for side in (256, 512):
        for f, _ in run(frames=30, fills=(8, 20)):
            polarity.bright(cv2.resize(inverted(f), (side, side)))


def test_the_same_stream_gets_the_same_answers_after_a_reset():
    polarity = Polarity(witness(True))
    frames = [inverted(f) for f, _ in run()]
    first = [polarity.bright(f) for f in frames]
    assert polarity._bright
    polarity.reset()
    assert [polarity.bright(f) for f in frames] == first


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_a_display_that_is_inverted_in_mid_run_is_followed_at_once(dtype):
    polarity = Polarity(witness(False))
    frames = [f.astype(dtype) for f, _ in run(frames=8)]
    assert [polarity.bright(f) for f in frames[:4]] == [False] * 4
    assert [polarity.bright(inverted(f)) for f in frames[4:6]] == [True] * 2
    assert [polarity.bright(f) for f in frames[6:]] == [False] * 2


@pytest.mark.parametrize('shape', [(32, 32), (128, 2048), (700, 130)])
def test_any_size_has_an_answer_also_when_it_changes(shape):
    polarity = Polarity(nothing)
    rng = np.random.default_rng(0)
    for size in (shape, shape, shape[::-1]):
        assert polarity.bright(rng.integers(0, 4096, size, dtype=np.uint16)) in (True, False)
        assert not polarity.bright(np.full(size, 7, np.float32))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_an_inverted_picture_gets_the_mask_of_the_picture(exported, dtype):
    segmenter = Segmenter(exported, threads=1, polarity='dark')
    image = np.random.default_rng(0).integers(20, 200, (120, 130)).astype(dtype)
    image[:, :30] = 3  # blades: bright when inverted
    dark = segmenter.segment(image)
    segmenter.polarity = 'bright'
    bright = segmenter.segment(inverted(image))
    assert segmenter.info['polarity'] == 'bright'
    np.testing.assert_array_equal(bright.valid, dark.valid)
    np.testing.assert_allclose(bright.probability, dark.probability, atol=1e-3)
    assert not bright.valid[:, :28].any()


def test_a_shutter_stays_outside_when_it_is_drawn_black_over_bright_contrast(exported):
    image = np.random.default_rng(0).integers(80, 200, (120, 130), dtype=np.uint8)
    image[:, :30] = 3
    valid = Segmenter(exported, threads=1, polarity='bright').segment(image).valid
    assert not valid[:, :28].any() and valid[:, 36:].all()


@pytest.mark.parametrize('length, polarity', [(60, 'dark'), (110, 'bright')])
def test_short_bright_pieces_are_no_vessels_but_discs(exported, length, polarity):
    """A network that takes each dark bar for vessel, and a picture of a few bright ones."""
    image = np.full((256, 256), 90, np.uint8)
    for top in range(20, 240, 40):
        image[top : top + 8, 40 : 40 + length] = 200
    segmenter = Segmenter(exported, threads=1)
    square = np.ones((25, 25), np.uint8)
    segmenter._engine = lambda seen: (cv2.morphologyEx(seen[0, 0], cv2.MORPH_BLACKHAT, square) > 0.3).astype(np.float32)
    segmenter.segment(image)
    assert segmenter.info['polarity'] == polarity


def test_an_unknown_polarity_is_refused_with_the_known_ones(exported):
    with pytest.raises(ValueError, match='auto, dark, bright'):
        Segmenter(exported, threads=1, polarity='white')


@pytest.mark.skipif(not REAL.is_dir(), reason=f'no angiograms in {REAL}')
def test_single_real_angiograms_show_their_polarity():
    segmenter = Segmenter(threads=1)
    found = {False: 0, True: 0}
    paths = sorted(REAL.glob('*.png'))[::2]
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for bright in found:
            segmenter.reset()
            segmenter.segment(inverted(image) if bright else image)
            found[bright] += (segmenter.info['polarity'] == 'bright') == bright
    assert found[False] == len(paths)
    assert found[True] >= 0.8 * len(paths)


def test_a_picture_beside_the_stream_is_taken_as_the_streams_last_and_leaves_the_stream_as_it_was(exported):
    rng = np.random.default_rng(0)
    image, other = (rng.integers(20, 200, (120, 130)).astype(np.uint8) for _ in range(2))
    alone, both = (Segmenter(exported, threads=1) for _ in range(2))
    both.segment(image)
    beside = both.segment_beside(inverted(image))  # as a next picture it would turn the stream to bright
    assert both.info['polarity'] == 'dark'
    np.testing.assert_array_equal(
        beside.mask, Segmenter(exported, threads=1, polarity='dark').segment(inverted(image)).mask
    )
    alone.segment(image)
    np.testing.assert_array_equal(both.segment(other).mask, alone.segment(other).mask)


@pytest.mark.parametrize('share', [9, 3.95, 3])
def test_what_was_taken_for_bright_is_found_out_as_soon_as_contrast_comes_dark(share):
    """Gas and lung may look like vessels shown bright in a first picture without contrast, as many as a thin tree has
    or more."""
    y, x = np.mgrid[:256, :256]
    rng = np.random.default_rng(3)
    empty = np.full((256, 256), 120, np.uint8)
    for at in range(30, 256, 60):
        empty[(np.abs(y - at - 10 * np.sin(x / 30)) < 4)] = 190
    empty = (empty + rng.integers(0, 5, empty.shape)).astype(np.uint8)
    filled = empty.copy()
    filled[np.abs(x - 128 - 20 * np.sin(y / 40)) < 4] = 20

    def vessels(image, bright, before):
        return np.count_nonzero(image > 180) if bright else share * np.count_nonzero(image < 40)

    polarity = Polarity(vessels)
    assert polarity.bright(empty)
    assert not polarity.bright(filled)
