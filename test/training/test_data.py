import pickle
from dataclasses import replace
from itertools import islice, repeat
from types import SimpleNamespace

import cv2
import nibabel
import numpy as np
import pytest
import torch

from m2i_ros.model.errors import ModelError
from m2i_ros.training import data
from m2i_ros.training.augment import augment
from m2i_ros.training.data import (
    DataSettings,
    StreamSettings,
    TrainingBatches,
    collate,
    read_cts,
    read_folders,
    read_pairs,
    simulated_pairs,
    turns,
)


def one_stream(real=(), **stream):
    return DataSettings(streams=(StreamSettings(**stream),), real=real)


def save(folder, name, picture):
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / name), picture)


@pytest.fixture
def real(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        save(tmp_path / 'images', f'{name}.png', rng.integers(100, 200, (80, 90), dtype=np.uint8))
        save(tmp_path / 'masks', f'{name}.png', np.full((80, 90), 255, np.uint8))
    return {'images': str(tmp_path / 'images'), 'masks': str(tmp_path / 'masks')}


def test_a_batch_depends_on_the_seed_the_step_and_the_rank_alone(real):
    streams = (
        StreamSettings(size=64, batch_size=4, pool=8, reuse=2, real_fraction=0.25),
        StreamSettings(size=96, batch_size=2, pool=4, reuse=2),
    )
    settings = DataSettings(streams=streams, real=(real,))
    unbroken = list(islice(TrainingBatches(settings, 5), 5))
    assert {tuple(image.shape) for image, _ in unbroken} == {(4, 1, 64, 64), (2, 1, 96, 96)}
    for first in (3, 4):
        for a, b in zip(unbroken[first], next(iter(TrainingBatches(settings, 5, first_step=first)))):
            assert torch.equal(a, b)
    assert not torch.equal(unbroken[0][0], unbroken[2][0])
    assert not torch.equal(unbroken[0][0], next(iter(TrainingBatches(settings, 6)))[0])
    other_rank = next(iter(TrainingBatches(settings, 5, rank=1)))[0]
    assert other_rank.shape == unbroken[0][0].shape
    assert not torch.equal(unbroken[0][0], other_rank)


def test_several_workers_make_the_batches_of_an_unbroken_training_too(monkeypatch):
    settings = DataSettings(streams=(StreamSettings(size=64, batch_size=2, pool=4, reuse=4),), workers=2)

    def loaded(first_step, count):
        """What a loader passes on: a batch of each worker in turn."""
        batches = []
        for worker in range(2):
            monkeypatch.setattr(data, 'get_worker_info', lambda worker=worker: SimpleNamespace(id=worker))
            batches.append(list(islice(TrainingBatches(settings, 5, first_step), count // 2)))
        return [image for turn in zip(*batches) for image, _ in turn]

    unbroken = loaded(0, 6)
    assert len({image.sum().item() for image in unbroken}) == 6
    for a, b in zip(unbroken[3:], loaded(3, 2)):
        assert torch.equal(a, b)


def test_streams_take_turns_by_their_shares():
    taken = list(islice(turns([0.6, 0.3, 0.1]), 100))
    assert [taken.count(which) for which in range(3)] == [60, 30, 10]
    assert max(taken[i : i + 5].count(1) for i in range(95)) <= 2


def test_kept_frames_are_those_that_would_be_made(tmp_path, monkeypatch):
    made = simulated_pairs(3, 64, [1, 2])
    first = simulated_pairs(3, 64, [1, 2], str(tmp_path))
    monkeypatch.setattr(data, 'TrainingSamples', None)
    found = simulated_pairs(3, 64, [1, 2], str(tmp_path))
    for pairs in (first, found):
        np.testing.assert_array_equal(pairs, made)
    monkeypatch.setattr(data, '_simulation_hash', lambda cts: 'changed')
    with pytest.raises(TypeError):
        simulated_pairs(3, 64, [1, 2], str(tmp_path))


def test_a_share_of_the_frames_is_of_whole_injections(monkeypatch):
    injection = np.full((64, 64), 7, np.uint8), *np.zeros((2, 64, 64), np.uint8)
    monkeypatch.setattr(data, 'PhantomSamples', lambda size, seed: repeat(injection))
    images = [image for image, *_ in simulated_pairs(8, 64, [1, 2], phantoms=0.25)]
    assert [bool((image == 7).all()) for image in images] == 2 * [True] + 6 * [False]


def test_each_simulated_frame_is_shown_as_often_as_asked(monkeypatch):
    shown, pool = [], [tuple(np.zeros((3, 32, 32), np.uint8)) for _ in range(6)]
    monkeypatch.setattr(data, 'simulated_pairs', lambda *_: pool)
    monkeypatch.setattr(data, 'augment', lambda image, mask, size, rng, reference: (image, mask))
    monkeypatch.setattr(data, 'collate', lambda examples, pictures: shown.extend(examples))
    monkeypatch.setattr(data, 'WRONG_WAY', 0)
    settings = one_stream(size=32, batch_size=2, pool=6, reuse=3)
    for _ in islice(TrainingBatches(settings, 0), 9):
        pass
    for image, *_ in pool:
        assert sum(image is other for other, _ in shown) == 3


def test_contrast_is_shown_dark_and_the_wrong_way_round_there_is_nothing_to_find(monkeypatch):
    picture = np.full((64, 64), 150, np.uint8)
    cv2.rectangle(picture, (20, 0), (40, 63), 60, -1)
    pool = [(picture, np.uint8(255) * (picture < 100), picture)] * 80
    monkeypatch.setattr(data, 'simulated_pairs', lambda *_: pool)
    monkeypatch.setattr(data, 'augment', lambda image, mask, size, rng, reference: (image, mask, reference))
    monkeypatch.setattr(data, 'valid_area', lambda image: np.ones(image.shape, bool))
    seen, target = next(iter(TrainingBatches(one_stream(size=64, batch_size=80, pool=80, reuse=1), 0)))
    bright = seen[:, 0, 32, 30] > seen[:, 0, 32, 5]
    assert 0.02 < bright.float().mean() < 0.25
    assert not target[bright].any()
    assert (target[~bright][:, 0, 32, 25:35] == 1).all() and (target[~bright][:, 0, 32, :15] == 0).all()


@pytest.fixture
def asked(monkeypatch):
    """What `TrainingSamples` are asked for; they draw nothing."""
    asked = {}

    def samples(**how):
        asked.update(how)
        return repeat(3 * (torch.zeros(8, 1, 32, 32),))

    monkeypatch.setattr(data, 'TrainingSamples', samples)
    return asked


def test_training_asks_the_simulation_for_dark_contrast(asked):
    simulated_pairs(8, 32, [1])
    assert asked['bright'] == 0


def test_real_pictures_have_their_share_of_a_batch(real):
    settings = one_stream((real,), size=64, batch_size=4, pool=8, reuse=1, real_fraction=1.0)
    _, target = next(iter(TrainingBatches(settings, 0)))
    assert target.mean() > 0.95
    settings = one_stream((real,), size=64, batch_size=4, pool=8, reuse=1, real_fraction=0.5)
    _, target = next(iter(TrainingBatches(settings, 0)))
    assert (target.mean((1, 2, 3))[2:] > 0.95).all()
    assert target.mean((1, 2, 3))[:2].min() < 0.95


def test_a_picture_and_its_mask_are_moved_together():
    picture = np.zeros((120, 120), np.uint8)
    cv2.circle(picture, (40, 70), 15, 255, -1)
    seen = 0
    for seed in range(40):
        image, mask, _ = augment(picture, picture, 96, np.random.default_rng(seed))
        assert image.shape == mask.shape == (96, 96) and image.dtype == mask.dtype == np.uint8
        inside, outside = cv2.erode(mask, np.ones((7, 7))) > 127, cv2.dilate(mask, np.ones((7, 7))) == 0
        if inside.sum() > 50:
            # Grey values are bent, but inside and outside the disc stay apart.
            seen += 1
            assert abs(np.median(image[inside]) - np.median(image[outside])) > 60
    assert seen > 20


def test_a_reference_is_moved_and_shown_like_its_picture():
    picture = np.zeros((120, 120), np.uint8)
    cv2.circle(picture, (40, 70), 15, 200, -1)
    for seed in range(20):
        image, _, reference = augment(picture, picture, 96, np.random.default_rng(seed), reference=picture)
        # The same but for the noise, which is another one.
        assert np.abs(cv2.blur(image, (9, 9)).astype(int) - cv2.blur(reference, (9, 9))).max() < 16
    assert augment(picture, picture, 96, np.random.default_rng(0))[2] is None


def test_networks_of_two_pictures_see_some_frames_with_their_reference(monkeypatch):
    rng = np.random.default_rng(1)
    pool = [tuple(rng.integers(0, 255, (3, 32, 32), dtype=np.uint8)) for _ in range(40)]
    monkeypatch.setattr(data, 'simulated_pairs', lambda *_: pool)
    settings = one_stream(size=32, batch_size=40, pool=40, reuse=1)
    seen, _ = next(iter(TrainingBatches(settings, 0, pictures=2)))
    assert seen.shape == (40, 2, 32, 32)
    compared = (seen[:, 1] != 0).any(dim=(1, 2)).float().mean()
    assert 0.4 < compared < 0.8
    assert next(iter(TrainingBatches(settings, 0)))[0].shape == (40, 1, 32, 32)
    for share, some in ((0.0, True), (1.0, False)):
        seen, _ = next(iter(TrainingBatches(replace(settings, no_reference=share), 0, pictures=2)))
        assert (seen[:, 1] != 0).any(dim=(1, 2)).all() == some
        assert (seen[:, 1] != 0).any() == some
    with pytest.raises(ValueError, match='no_reference'):
        replace(settings, no_reference=1.5)


def test_the_network_sees_training_pictures_as_it_sees_frames_in_use():
    picture = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    image, target = collate([(picture, np.full((256, 256), 255, np.uint8))])
    assert image.shape == target.shape == (1, 1, 256, 256)
    # 1% of the pixels lie below 0 and above 1 each.
    assert 0.005 < (image < 0).float().mean() < 0.015
    assert 0.005 < (image > 1).float().mean() < 0.015
    assert target.unique().tolist() == [1]


def test_pictures_without_a_mask_are_left_out_and_sizes_must_agree(tmp_path):
    picture = np.zeros((40, 40), np.uint8)
    for name in ('a', 'b'):
        save(tmp_path / 'images', f'{name}.png', picture)
    save(tmp_path / 'masks', 'a.png', picture)
    assert len(read_pairs(tmp_path / 'images', tmp_path / 'masks')) == 1
    save(tmp_path / 'masks', 'b.png', picture)
    folders = {'images': tmp_path / 'images', 'masks': tmp_path / 'masks'}
    assert [name for name, *_ in read_folders([{**folders, 'leave_out': ['a']}])] == ['b']
    with pytest.raises(ValueError, match='images: DIR'):
        read_folders([{**folders, 'mask': 'x'}])
    save(tmp_path / 'masks', 'b.png', picture[:20])
    with pytest.raises(ValueError, match=r'b\.png.*same size'):
        read_pairs(tmp_path / 'images', tmp_path / 'masks')
    with pytest.raises(ValueError, match='no picture with a mask'):
        (tmp_path / 'empty').mkdir()
        read_pairs(tmp_path / 'images', tmp_path / 'empty')


def test_cts_are_read_and_what_is_none_is_refused(tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:9, 5:9], labels[12:15, 12:15] = 1, 2
    for name, volume in (('ct', np.zeros(labels.shape, np.int16)), ('labels', labels)):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([3.0, 3.0, 3.0, 1.0])), tmp_path / f'{name}.nii')
    entry = {name: str(tmp_path / f'{name}.nii') for name in ('ct', 'labels')}
    both, one = read_cts([entry, {**entry, 'label': [2]}])
    assert len(both.points) == (4 * 4 + 3 * 3) * 20 and len(one.points) == 3 * 3 * 20
    passed_on = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(passed_on.points, one.points)
    with pytest.raises(ValueError, match='ct: FILE'):
        read_cts([{'ct': entry['ct']}])
    with pytest.raises(ModelError, match='label 7 is not in it'):
        read_cts([{**entry, 'label': [7]}])


def test_a_share_of_the_frames_is_drawn_through_the_cts(asked, monkeypatch):
    monkeypatch.setattr(data, 'read_cts', lambda entries: tuple(entries))
    streams = (StreamSettings(size=32, batch_size=4, pool=8, reuse=1, cts=0.4),)
    next(iter(TrainingBatches(DataSettings(streams=streams, cts=('patient',)), 0)))
    assert asked['cts'] == ('patient',) and asked['ct_share'] == 0.4


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match='no real pictures'):
        one_stream(real_fraction=0.5)
    with pytest.raises(ValueError, match='does not fill'):
        StreamSettings(pool=2, reuse=1, batch_size=4)
    with pytest.raises(ValueError, match='above 0'):
        StreamSettings(share=0)
    with pytest.raises(ValueError, match='phantoms 1.5'):
        StreamSettings(phantoms=1.5)
    with pytest.raises(ValueError, match='there is no CT'):
        one_stream(cts=0.5)
