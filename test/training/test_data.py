from itertools import islice

import cv2
import numpy as np
import pytest
import torch

from m2i_ros.training import data
from m2i_ros.training.data import DataSettings, TrainingBatches, augment, collate, read_pairs


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


def test_a_batch_depends_on_the_seed_and_the_step_alone(real):
    settings = DataSettings(size=64, batch_size=4, pool=8, reuse=2, real=(real,), real_fraction=0.25)
    unbroken = list(islice(TrainingBatches(settings, 5), 4))
    resumed = next(iter(TrainingBatches(settings, 5, first_step=3)))
    for a, b in zip(unbroken[3], resumed):
        assert torch.equal(a, b)
    assert not torch.equal(unbroken[0][0], unbroken[1][0])
    assert not torch.equal(unbroken[0][0], next(iter(TrainingBatches(settings, 6)))[0])


def test_each_simulated_frame_is_shown_as_often_as_asked(monkeypatch):
    shown, pool = [], [(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)) for _ in range(6)]
    monkeypatch.setattr(data, 'simulated_pairs', lambda count, size, seed: pool)
    monkeypatch.setattr(data, 'augment', lambda image, mask, size, rng: (image, mask))
    monkeypatch.setattr(data, 'collate', shown.extend)
    settings = DataSettings(size=32, batch_size=2, pool=6, reuse=3)
    for _ in islice(TrainingBatches(settings, 0), 9):
        pass
    for image, _ in pool:
        assert sum(image is other for other, _ in shown) == 3


def test_real_pictures_have_their_share_of_a_batch(real):
    settings = DataSettings(size=64, batch_size=4, pool=8, reuse=1, real=(real,), real_fraction=1.0)
    _, target = next(iter(TrainingBatches(settings, 0)))
    assert target.mean() > 0.95
    settings = DataSettings(size=64, batch_size=4, pool=8, reuse=1, real=(real,), real_fraction=0.5)
    _, target = next(iter(TrainingBatches(settings, 0)))
    assert (target.mean((1, 2, 3))[2:] > 0.95).all()
    assert (target.mean((1, 2, 3))[:2] < 0.95).all()


def test_a_picture_and_its_mask_are_turned_together():
    picture = np.zeros((120, 120), np.uint8)
    cv2.circle(picture, (40, 70), 15, 255, -1)
    for seed in range(20):
        image, mask = augment(picture, picture, 96, np.random.default_rng(seed))
        assert image.shape == mask.shape == (96, 96)
        if 50 < (mask > 127).sum():
            # Grey values are bent, but inside and outside the disc stay apart by more than the blur.
            inside, outside = cv2.erode(mask, np.ones((7, 7))) > 127, cv2.dilate(mask, np.ones((7, 7))) == 0
            assert image[inside].mean() > image[outside].mean() + 80


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
    save(tmp_path / 'masks', 'b.png', picture[:20])
    with pytest.raises(ValueError, match=r'b\.png.*same size'):
        read_pairs(tmp_path / 'images', tmp_path / 'masks')
    with pytest.raises(ValueError, match='no picture with a mask'):
        (tmp_path / 'empty').mkdir()
        read_pairs(tmp_path / 'images', tmp_path / 'empty')


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match='no real pictures'):
        DataSettings(real_fraction=0.5)
    with pytest.raises(ValueError, match='multiple'):
        DataSettings(pool=10, batch_size=4)
