"""What the segmentation network learns from: simulated frames made as it trains, and real pictures with their masks."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.segmenter import normalise_grey
from m2i_ros.simulation import TrainingSamples

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.pgm')
# Batches made ahead, so that the network learns on while the next pool of simulated frames is made.
AHEAD = 24


@dataclass(frozen=True)
class DataSettings:
    """size: pixels a side. batch_size: pictures a step.

    pool: simulated frames made at a time. reuse: how often each of them is shown, augmented anew each time.
    real: tuple of {images: folder, masks: folder}, paired by file name. real_fraction: their share of a batch.
    """

    size: int = 256
    batch_size: int = 16
    pool: int = 512
    reuse: int = 3
    real: tuple = ()
    real_fraction: float = 0.0

    def __post_init__(self):
        if not 0 <= self.real_fraction <= 1:
            raise ValueError(f'real_fraction {self.real_fraction}: a share between 0 and 1 is needed')
        if self.real_fraction > 0 and not self.real:
            raise ValueError(
                'real_fraction is above 0 but there are no real pictures: add real: [{images: DIR, masks: DIR}]'
            )
        if self.pool % self.batch_size:
            raise ValueError(f'pool {self.pool} must be a multiple of batch_size {self.batch_size}')


class TrainingBatches(IterableDataset):
    """Endless batches from a given step on: image (B, 1, S, S) float32 as the network sees it, target likewise, 0 or 1.

    What a batch holds depends on the seed and the step alone, so a resumed training sees what an unbroken one would.
    """

    def __init__(self, settings, seed, first_step=0):
        self.settings, self.seed, self.first_step = settings, seed, first_step
        self._real = [pair for folders in settings.real for pair in read_pairs(folders['images'], folders['masks'])]

    def __iter__(self):
        settings = self.settings
        real = round(settings.real_fraction * settings.batch_size)
        simulated = settings.batch_size - real
        steps_per_pool = settings.pool * settings.reuse // max(simulated, 1)
        pool_index, pool, order = None, None, None
        step = self.first_step
        while True:
            rng = np.random.default_rng([self.seed, 1, step])
            pairs = []
            if simulated:
                if step // steps_per_pool != pool_index:
                    pool_index = step // steps_per_pool
                    pool = simulated_pairs(settings.pool, settings.size, [self.seed, 2, pool_index])
                    shuffle = np.random.default_rng([self.seed, 3, pool_index])
                    order = np.concatenate([shuffle.permutation(settings.pool) for _ in range(settings.reuse)])
                start = step % steps_per_pool * simulated
                pairs += [pool[i] for i in order[start : start + simulated]]
            pairs += [self._real[i] for i in rng.integers(len(self._real), size=real)] if real else []
            yield collate([augment(*pair, settings.size, rng) for pair in pairs])
            step += 1


def training_batches(settings, seed, first_step):
    """Iterate over `TrainingBatches` made in a process of their own."""
    loader = DataLoader(
        TrainingBatches(settings, seed, first_step),
        batch_size=None,
        num_workers=1,
        prefetch_factor=AHEAD,
        multiprocessing_context='spawn',
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _one_thread(worker):
    cv2.setNumThreads(0)


def validation_batches(settings, seed, count):
    """List of batches of `count` simulated frames not augmented, of patients that training does not see."""
    pairs = simulated_pairs(count, settings.size, [seed, 4])
    return [collate(pairs[i : i + settings.batch_size]) for i in range(0, count, settings.batch_size)]


def simulated_pairs(count, size, seed):
    """List of `count` simulated (image, mask), both (size, size) uint8, mask 0 or 255; a seed is a list of numbers."""
    samples = TrainingSamples(size=size, seed=int(np.random.SeedSequence(seed).generate_state(1)[0]), batch_size=8)
    pairs = []
    while len(pairs) < count:
        images, masks = (tensor.numpy() for tensor in next(samples))
        for image, mask in zip(images, masks):
            pairs.append(((255 * image[0]).round().astype(np.uint8), np.where(mask[0] > 0.5, 255, 0).astype(np.uint8)))
    return pairs[:count]


def read_pairs(images, masks):
    """List of (image, mask), (H, W) uint8: the pictures in one folder that have a mask of their name in the other."""
    images, masks = Path(images).expanduser(), Path(masks).expanduser()
    truth = {path.stem: path for path in masks.iterdir() if path.suffix.lower() in SUFFIXES}
    pairs = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.stem not in truth:
            continue
        image, mask = (cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (path, truth[path.stem]))
        if image is None or mask is None or image.shape != mask.shape:
            raise ValueError(f'{path} and {truth[path.stem]}: two readable pictures of the same size are needed')
        pairs.append((image, mask))
    if not pairs:
        raise ValueError(f'{images}: no picture with a mask of the same name in {masks}')
    return pairs


def augment(image, mask, size, rng):
    """Return a (size, size) cut-out of a picture and its mask, turned, scaled, flipped, its grey values bent."""
    height, width = image.shape
    angle = rng.uniform(0, 2 * np.pi) if rng.uniform() < 0.5 else rng.integers(4) * np.pi / 2
    scale = np.exp(rng.uniform(np.log(0.75), np.log(1.33)))
    flip = rng.choice([-1.0, 1.0])
    # Output pixel -> input pixel, about a point such that small pictures are not left for their mirrored surroundings.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([flip, 1.0]) / scale
    room = np.maximum(np.array([width, height]) - size / scale, 0) / 2
    centre = (np.array([width, height]) - 1) / 2 + rng.uniform(-room, room)
    matrix = np.column_stack([turn, centre - turn @ np.full(2, (size - 1) / 2)])
    how = {'flags': cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, 'borderMode': cv2.BORDER_REFLECT_101}
    image = cv2.warpAffine(image, matrix, (size, size), **how)
    mask = cv2.warpAffine(mask, matrix, (size, size), **how)
    bend = np.exp(rng.normal(0, 0.25))
    table = 255 * np.linspace(0, 1, 256) ** bend
    if rng.uniform() < 0.3:
        table = 255 * (table / 255 * rng.uniform(0.5, 1) + rng.uniform(0, 0.3))
    image = np.clip(table, 0, 255).astype(np.float32)[image]
    if rng.uniform() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.uniform() < 0.3:
        image = image + rng.normal(0, rng.uniform(1, 8), image.shape).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def collate(pairs):
    """Return image and target tensors, (B, 1, S, S) float32, of (image, mask) pairs of one size."""
    images, targets = [], []
    for image, mask in pairs:
        valid = valid_area(image)
        images.append(normalise_grey(image, valid))
        targets.append((mask > 127) & valid)
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(targets).astype(np.float32))[:, None]
