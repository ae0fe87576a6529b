"""Training samples: shapes, labels, reproducibility."""

from itertools import islice

import numpy as np
import pytest
import torch

from m2i_ros.simulation import TrainingSamples
from m2i_ros.simulation import samples as module


@pytest.fixture(scope='module')
def batches():
    samples = TrainingSamples(size=128, seed=3, batch_size=8)
    return [next(samples) for _ in range(8)]


def test_batches_are_pictures_and_labels_in_the_unit_range(batches):
    for image, mask, reference in batches:
        assert image.shape == mask.shape == reference.shape == (8, 1, 128, 128)
        assert image.dtype == mask.dtype == reference.dtype == torch.float32
        for picture in (image, reference):
            assert torch.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 1
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_the_same_seed_gives_the_same_samples(batches):
    again = TrainingSamples(size=128, seed=3, batch_size=8)
    for batch in batches[:2]:
        assert all(map(torch.equal, batch, next(again)))
    other, *_ = next(TrainingSamples(size=128, seed=4, batch_size=8))
    assert not torch.equal(batches[0][0], other)


def test_about_one_scene_in_four_has_no_contrast():
    samples = TrainingSamples(size=32, seed=1)
    empty = np.mean([samples._sample()['lumen'] is None for _ in range(200)])
    assert 0.17 < empty < 0.33


def test_most_samples_show_vessels_and_some_none(batches):
    share = np.concatenate([(m.flatten(1).mean(1) > 0).numpy() for _, m, _ in batches]).mean()
    assert 0.45 < share < 0.9


def test_vessels_differ_from_what_is_beside_them(batches):
    """Across samples, grey on the label differs from grey in a ring around it: what is labelled can be seen."""
    differences = []
    for image, mask, _ in batches:
        ring = torch.nn.functional.max_pool2d(mask, 9, 1, 4) - torch.nn.functional.max_pool2d(mask, 3, 1, 1)
        for i, m, r in zip(image, mask, ring, strict=True):
            if m.sum() > 50 and r.sum() > 50:
                differences.append(abs(float(i[m > 0].mean() - i[r > 0].mean())))
    assert np.median(differences) > 0.05


def test_a_reference_shows_the_scene_before_the_contrast(batches):
    """On the label the picture differs from its reference, beside it the two are alike."""
    changes, rests = [], []
    for image, mask, reference in batches:
        far = torch.nn.functional.max_pool2d(mask, 21, 1, 10) == 0
        for i, m, r, f in zip(image, mask, reference, far, strict=True):
            if m.sum() > 50 and f.sum() > 50:
                change = (i - r).abs()
                changes.append(float(change[m > 0].mean()))
                rests.append(float(change[f].mean()))
    assert np.median(changes) > 1.5 * np.median(rests)


def scenes():
    samples = TrainingSamples(size=64, seed=5)
    return [samples._sample() for _ in range(48)]


def test_pictures_without_a_body_have_vessels_like_the_others(monkeypatch):
    monkeypatch.setattr(module, 'STRANGE', 1.0)
    bodiless = {kind: (*habit[:2], None, *habit[3:]) for kind, habit in module.KINDS.items()}
    monkeypatch.setattr(module, 'KINDS', bodiless)
    assert any(scene['vessel'].any() for scene in scenes())


def test_contrast_is_bright_in_as_many_pictures_as_asked():
    def darker(bright):
        """Of pictures with much vessel, in how many the vessels' place is darker than it was before the contrast."""
        batches = islice(TrainingSamples(size=96, seed=3, batch_size=32, bright=bright), 3)
        pictures = [trio for batch in batches for trio in zip(*batch) if trio[1].mean() > 0.05]
        assert len(pictures) > 20
        return np.mean([float(i[m > 0].mean() < before[m > 0].mean()) for i, m, before in pictures])

    assert darker(0.0) > 0.9 > 0.1 > darker(1.0)


def test_silhouettes_show_no_depth(monkeypatch):
    def depths(share):
        """Of each filled vessel, how much of it is as dark as its darkest part."""
        monkeypatch.setattr(module, 'SILHOUETTE', share)
        vessels = [scene['vessel'] for scene in scenes() if scene['lumen'] is not None and scene['vessel'].any()]
        return np.median([(v[v > 0] > 0.7 * v.max()).mean() for v in vessels])

    assert depths(1.0) > 0.7 > 0.4 > depths(0.0)


def test_small_pictures_show_at_times_what_larger_ones_do(monkeypatch):
    def pixels(size, share):
        """Of pictures of wide vessels: metres."""
        monkeypatch.setattr(module, 'REDUCED', share)
        seen = []

        def place(rng, shape, spacing, centre):
            seen.append(spacing)
            return module.background.strange(rng, shape, spacing, centre)

        kinds = {kind: (*habit[:2], place, *habit[3:]) for kind, habit in module.KINDS.items() if kind != 'coronary'}
        monkeypatch.setattr(module, 'KINDS', kinds)
        monkeypatch.setattr(module, 'STRANGE', 0.0)
        for seed in range(24):
            TrainingSamples(size=size, seed=seed)._sample()
        return np.array(seen)

    np.testing.assert_allclose(pixels(64, 1.0), np.minimum(2 * pixels(64, 0.0), 1.2e-3))
    np.testing.assert_array_equal(pixels(288, 1.0), pixels(288, 0.0))
