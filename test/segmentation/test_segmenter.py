import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.segmentation import Segmenter
from m2i_ros.segmentation.segmenter import BROUGHT_TO, at_network_size, network_input


@pytest.fixture(scope='module')
def segmenter(exported):
    return Segmenter(weights=exported, threads=1)


def picture(shape, seed=0):
    return np.random.default_rng(seed).integers(20, 230, shape, dtype=np.uint8)


@settings(max_examples=6, deadline=None)
@given(
    height=st.integers(32, 150), width=st.integers(32, 150), dtype=st.sampled_from([np.uint8, np.uint16, np.float32])
)
def test_mask_valid_and_probability_have_the_size_of_the_picture(segmenter, height, width, dtype):
    vessels = segmenter.segment(picture((height, width)).astype(dtype))
    assert vessels.mask.shape == vessels.valid.shape == vessels.probability.shape == (height, width)
    assert (vessels.mask.dtype, vessels.valid.dtype, vessels.probability.dtype) == (np.uint8, bool, np.float32)
    assert set(np.unique(vessels.mask)) <= {0, 255}
    assert vessels.probability.min() >= 0 and vessels.probability.max() <= 1


def test_a_very_large_picture_is_answered_at_its_own_size(segmenter):
    vessels = segmenter.segment(picture((1500, 700)))
    assert vessels.mask.shape == vessels.probability.shape == (1500, 700)


@pytest.mark.parametrize(
    ('shape', 'largest_side', 'seen'),
    [
        ((512, 512), 512, (512, 512)),
        ((1024, 768), 512, (512, 384)),
        ((300, 200), 512, (450, 300)),
        ((480, 400), 512, (512, 427)),
        ((300, 300), 384, (384, 384)),
        ((600, 600), 1024, (600, 600)),
        ((128, 2048), 512, (128, 2048)),
        ((256, 2048), 512, (128, 1024)),
    ],
)
def test_the_network_sees_vessels_at_the_size_it_knows(exported, shape, largest_side, seen):
    segmenter = Segmenter(exported, threads=1, largest_side=largest_side, polarity='dark')
    sizes = []

    def engine(image):
        sizes.append(image.shape[2:])
        return np.zeros(image.shape[2:], np.float32)

    segmenter._engine = engine
    assert segmenter.segment(picture(shape)).mask.shape == shape
    assert sizes == [tuple(-(-side // 16) * 16 for side in seen)]


def soft_line(side, sigma=2.0):
    """(side, side) float32: 1, and 0 on the axis of a dark line of Gaussian profile."""
    x = np.arange(side) - side // 2
    return np.tile(1 - np.exp(-(x**2) / (2 * sigma**2)), (side, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ('side', 'least', 'most'), [(300, 1.2, 2.0), (420, 1.05, 1.2), (511, 1.0, 1.01), (512, 1, 1), (700, 0.9, 1)]
)
def test_enlarged_pictures_are_sharpened_the_more_the_more_they_are_enlarged(side, least, most):
    line = soft_line(side)
    contrast = np.ptp(at_network_size(line)[0]) / np.ptp(at_network_size(line, sharp=False)[0])
    assert least <= contrast <= most


def test_noise_is_not_sharpened():
    noisy = soft_line(300) + 0.03 * np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    np.testing.assert_array_equal(at_network_size(noisy), at_network_size(noisy, sharp=False))


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_a_flat_picture_stays_flat_enlarged(dtype):
    assert np.ptp(at_network_size(np.full((200, 180), 7, dtype))) < 1e-5


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_the_grey_scale_does_not_matter(segmenter, dtype):
    image = picture((96, 96))
    other = image.astype(dtype) * dtype(16) + dtype(100)
    np.testing.assert_allclose(segmenter.segment(other).probability, segmenter.segment(image).probability, atol=1e-4)


def test_a_few_extreme_pixels_do_not_change_the_grey_scale():
    image = picture((128, 128))
    valid = np.ones(image.shape, bool)
    spoiled = image.astype(np.uint16)
    spoiled[::40, ::40] = 60000
    difference = np.abs(network_input(spoiled, valid) - network_input(image, valid))
    assert np.median(difference) < 0.02


def test_a_picture_linear_in_the_signal_is_bent_until_its_vessel_is_no_fainter_than_in_a_logarithmic_one():
    """Behind a thick and a thin part of the body, a vessel takes the same share of the rays away."""
    thickness = np.linspace(1.0, 5.0, 200)[None].repeat(200, axis=0)
    vessel = np.zeros(thickness.shape, bool)
    vessel[90:110] = True
    valid = np.ones(thickness.shape, bool)

    def contrast(picture, evened):
        seen = network_input(picture, valid, evened=evened)[0]
        return (seen[70:85, 150:190].mean() - seen[90:110, 150:190].mean()).item()

    linear = np.exp(-(thickness + 0.3 * vessel)).astype(np.float32)
    assert contrast(linear, True) > 2.5 * contrast(linear, False)
    bent = network_input(linear, valid)[0]
    assert np.median(bent) == pytest.approx(BROUGHT_TO[0], abs=0.02)
    bright = (1 - linear).astype(np.float32)
    np.testing.assert_array_equal(network_input(bright, valid), network_input(bright, valid, evened=False))


def black_vessel(rim):
    """A bright picture, (200, 200), with a vessel that is black as a whole and has a rim of so many pixels."""
    x = np.abs(np.arange(200) - 100.0)[None].repeat(200, axis=0)
    return (255 * np.clip((x - 30) / max(rim, 1e-3), 0, 0.8)).astype(np.uint8), x < 30


@pytest.mark.parametrize('uneven, least, most', [(False, 0.2, 0.32), (True, 0.1, 0.17)], ids=['subtracted', 'not'])
def test_a_wide_vessel_that_is_black_as_a_whole_gets_a_tubes_profile(uneven, least, most):
    """In a subtracted picture, flat beside the vessel, a deeper one."""
    image, vessel = black_vessel(rim=1)
    if uneven:
        image = (image * np.linspace(0.7, 1.25, 200)[:, None]).astype(np.uint8)
    seen, plain = (network_input(image, vessel | True, evened=evened)[0] for evened in (True, False))
    np.testing.assert_array_equal(seen[image > 3], plain[image > 3])
    across = seen[100, 101:130]
    assert not np.ptp(plain[vessel]) and (np.diff(across) > 0).all() and least < np.ptp(across) < most


def test_a_picture_that_is_black_from_side_to_side_is_no_vessel():
    image = np.zeros((64, 64), np.uint8)
    np.testing.assert_array_equal(network_input(image, image == 0)[0], np.zeros((64, 64)))


def test_what_fades_into_black_stays_black():
    """A third is black and the grey about it sets in slowly: tissue, for a vessel's wall is a step."""
    across = np.where(np.arange(400) < 180, np.clip(0.5 * (np.arange(400) - 120), 0, 30), 130)
    image = across[None].repeat(400, axis=0).astype(np.uint8)
    valid = np.ones(image.shape, bool)
    seen, plain = (network_input(image, valid, evened=evened)[0] for evened in (True, False))
    np.testing.assert_allclose(seen, plain, atol=0.02)


def test_blades_and_a_little_black_stay_black():
    image, vessel = black_vessel(rim=1)
    np.testing.assert_array_equal(network_input(image, ~vessel)[0], network_input(image, ~vessel, evened=False)[0])
    image[3:] = 255 * 0.8
    everywhere = np.ones(image.shape, bool)
    np.testing.assert_array_equal(
        network_input(image, everywhere)[0], network_input(image, everywhere, evened=False)[0]
    )


def test_a_picture_with_a_reference_is_not_bent():
    """What has changed tells enough, and empty pictures stay cleaner."""
    picture = np.exp(-np.linspace(1.0, 5.0, 200)[None].repeat(200, axis=0)).astype(np.float32)
    valid = np.ones(picture.shape, bool)
    alone, with_it = (network_input(picture, valid, 2, reference)[0] for reference in (None, picture))
    np.testing.assert_array_equal(with_it, network_input(picture, valid, 2, picture, evened=False)[0])
    assert np.median(alone) > 2 * np.median(with_it)


def test_a_flat_picture_has_a_finite_answer(segmenter):
    assert np.isfinite(segmenter.segment(np.full((64, 64), 7, np.uint8)).probability).all()


def test_nothing_is_vessel_outside_the_collimator(segmenter):
    image = picture((200, 200)) // 2 + 100
    image[:, :60] = 2
    vessels = segmenter.segment(image)
    assert not vessels.valid[:, :58].any()
    assert not vessels.mask[~vessels.valid].any()
    assert not vessels.probability[~vessels.valid].any()


@pytest.fixture
def blobs(exported):
    """A segmenter whose engine finds blobs of all sizes and certainties, whatever the picture shows."""

    def engine(image):
        noise = np.random.default_rng(3).standard_normal(image.shape[2:])
        smooth = scipy.ndimage.gaussian_filter(noise, 3)
        return scipy.special.expit(2.5 * smooth / smooth.std()).astype(np.float32)

    segmenter = Segmenter(exported, threads=1, polarity='dark', threshold=0.6)
    segmenter._engine = engine
    return segmenter


def islands(vessels, threshold, certain=0.99):
    """Where the probability reaches the threshold, and the number of certain pixels of the island there."""
    above = vessels.probability >= threshold
    labels, _ = scipy.ndimage.label(above, np.ones((3, 3)))
    certain = np.bincount(labels[vessels.probability >= max(certain, threshold)], minlength=labels.max() + 1)
    assert certain[1:].min() < 10 and certain.max() > 60
    return above, certain[labels]


@pytest.mark.parametrize('threshold', [0.4, 0.6, 0.97])
def test_the_mask_is_where_the_probability_reaches_the_threshold_but_for_islands_not_certain(blobs, threshold):
    blobs.threshold = threshold
    vessels = blobs.segment(picture((512, 512)))
    above, certain = islands(vessels, threshold)
    # 0.01% of the picture are 26.2 pixels.
    np.testing.assert_array_equal(vessels.mask > 0, above & (certain >= 27))


@pytest.mark.parametrize('pixel_mm', [0.3, 0.8])
def test_islands_are_judged_by_their_size_in_the_patient_where_it_is_known(blobs, pixel_mm):
    blobs.pixel_mm = pixel_mm
    vessels = blobs.segment(picture((512, 512)))
    above, certain = islands(vessels, 0.6)
    np.testing.assert_array_equal(vessels.mask > 0, above & (certain * pixel_mm**2 >= 4.4))


def test_how_certain_an_island_must_be_stands_in_the_card(exported, blobs, tmp_path):
    for file in exported.parent.glob(exported.stem + '.*'):
        shutil.copy(file, tmp_path)
    card = tmp_path / f'{exported.stem}.md'
    card.write_text(card.read_text().replace('certain: 0.99\n', 'certain: 0.95\n'))
    segmenter = Segmenter(card, threads=1, polarity='dark', threshold=0.6)
    segmenter._engine = blobs._engine
    vessels = segmenter.segment(picture((512, 512)))
    above, certain = islands(vessels, 0.6, 0.95)
    np.testing.assert_array_equal(vessels.mask > 0, above & (certain >= 27))
    assert (vessels.mask > 0).sum() > (blobs.segment(picture((512, 512))).mask > 0).sum()


def test_a_higher_threshold_finds_less(blobs):
    areas = []
    for blobs.threshold in (0.2, 0.5, 0.8):
        areas.append((blobs.segment(picture((512, 512))).mask > 0).sum())
    assert areas == sorted(areas, reverse=True) and areas[-1] > 0


def test_the_threshold_is_the_weights_own_until_set(exported):
    segmenter = Segmenter(exported, threads=1)
    assert segmenter.threshold == 0.35
    segmenter.threshold = 0.6
    assert segmenter.info['threshold'] == 0.6
    for wrong in (0, 1, 1.5, float('nan')):
        with pytest.raises(ValueError, match='threshold'):
            segmenter.threshold = wrong
    assert segmenter.threshold == 0.6


def test_info_says_what_is_running(exported):
    info = Segmenter(exported, engine='torch', threads=1).info
    assert info['engine'] == 'torch'
    assert info['weights'] == 'small'
    assert len(info['hash']) == 64


def test_the_same_picture_gets_the_same_mask(exported):
    image = picture((128, 160))
    first, second = (Segmenter(exported, threads=1).segment(image) for _ in range(2))
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_array_equal(first.probability, second.probability)


@pytest.mark.parametrize('engine', ['auto', 'torch'])
@pytest.mark.parametrize('shape', [(64, 96), (70, 90), (600, 100)])
def test_what_was_handed_out_is_not_changed_by_the_next_picture(exported, engine, shape):
    segmenter = Segmenter(exported, engine, threads=1)
    image = picture(shape)
    vessels = segmenter.segment(image)
    kept = [a.copy() for a in (image, vessels.mask, vessels.valid, vessels.probability)]
    segmenter.segment(picture(shape, seed=1))
    for now, then in zip((image, vessels.mask, vessels.valid, vessels.probability), kept):
        np.testing.assert_array_equal(now, then)
    assert vessels.probability.flags.c_contiguous and vessels.mask.flags.c_contiguous


def test_torch_is_not_imported_for_another_engine(exported):
    pytest.importorskip('openvino')
    code = (
        f'import sys, numpy; from m2i_ros.segmentation import Segmenter; s = Segmenter({str(exported)!r}, "openvino"); '
        's.segment(numpy.zeros((64, 64), numpy.uint8)); print("torch" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'False'


@pytest.mark.parametrize(('side', 'alike'), [(96, False), (512, True)])
def test_weights_from_before_get_small_pictures_as_they_are(exported, tmp_path, side, alike):
    for file in exported.parent.glob(exported.stem + '.*'):
        shutil.copy(file, tmp_path)
    card = tmp_path / f'{exported.stem}.md'
    text = card.read_text()
    assert 'sharpen: true\n' in text
    card.write_text(text.replace('sharpen: true\n', ''))
    shown = (200 * soft_line(side)).astype(np.uint8)
    new, old = (Segmenter(weights=weights, threads=1).segment(shown).probability for weights in (exported, card))
    assert np.allclose(new, old, atol=1e-6) == alike
