"""What the segmentation network learns from: simulated frames made as it trains, and real pictures with their masks."""

import hashlib
import os
import signal
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from m2i_ros import simulation
from m2i_ros.model.volumes import read_volume
from m2i_ros.segmentation.collimator import valid_area
from m2i_ros.segmentation.letters import without_letters
from m2i_ros.segmentation.polarity import inverted
from m2i_ros.segmentation.segmenter import at_network_size, network_input
from m2i_ros.simulation import PhantomSamples, TrainingSamples
from m2i_ros.simulation.ct import CTPatient
from m2i_ros.training.augment import augment

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.pgm')
# How training shows pictures, which checkpoints and cards tell on (`Weights`): evened, and real ones sharpened.
SHOWN = {'evened': True, 'sharpen': True}
# Batches made ahead, so that the network learns on while the next pool of simulated frames is made.
AHEAD = 24
# Share of the references that were taken before patient or table moved: by a pixel to a quarter of a side.
MOVED = 0.25
# Share of the simulated frames shown with bright for dark. In use contrast is made dark first, and where it has to be
# found out which it is, less vessel must be found the wrong way round: there is none to find.
WRONG_WAY = 0.1


@dataclass(frozen=True)
class StreamSettings:
    """Batches of one size.

    size: pixels a side. batch_size: pictures a step, of each process. share: of the steps, beside the other streams'.
    real_fraction: share of the real pictures in a batch.
    phantoms: share of the simulated frames that are of whole injections (`PhantomSamples`).
    cts: share of the others that are drawn through CTs.
    pool: simulated frames made at a time. reuse: how often each of them is shown, augmented anew each time.
    """

    size: int = 256
    batch_size: int = 16
    share: float = 1.0
    real_fraction: float = 0.0
    phantoms: float = 0.0
    cts: float = 0.0
    pool: int = 512
    reuse: int = 3

    def __post_init__(self):
        if min(self.size, self.batch_size, self.pool, self.reuse) < 1 or self.share <= 0:
            raise ValueError(f'{self}: size, batch_size, pool, reuse and share must be above 0')
        for name in ('real_fraction', 'phantoms', 'cts'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} {getattr(self, name)}: a share between 0 and 1 is needed')
        if self.pool * self.reuse < self.simulated:
            raise ValueError(f'pool {self.pool} shown {self.reuse} times does not fill a batch of {self.batch_size}')

    @property
    def real(self):
        """Real pictures in a batch."""
        return round(self.real_fraction * self.batch_size)

    @property
    def simulated(self):
        """Simulated pictures in a batch."""
        return self.batch_size - self.real


@dataclass(frozen=True)
class DataSettings:
    """streams: tuple of `StreamSettings`, which take turns by their shares.

    real: tuple of folders, see `read_folders`. cts: tuple of CTs, see `read_cts`.
    no_reference: share of the simulated frames, each time they are shown, that have no reference: networks of two
        pictures must do without one, too.
    workers: processes that make batches, for each process that trains.
    cache: folder in which pools of simulated frames are kept and found again; '' makes them anew each time.
    """

    streams: tuple = (StreamSettings(),)
    real: tuple = ()
    cts: tuple = ()
    no_reference: float = 0.4
    workers: int = 1
    cache: str = ''

    def __post_init__(self):
        if not self.streams or self.workers < 1:
            raise ValueError('data needs at least one stream and one worker')
        if not 0 <= self.no_reference <= 1:
            raise ValueError(f'no_reference {self.no_reference}: a share of the simulated frames, 0 to 1, is needed')
        if any(stream.real for stream in self.streams) and not self.real:
            raise ValueError(
                'real_fraction is above 0 but there are no real pictures: add real: [{images: DIR, masks: DIR}]'
            )
        if any(stream.cts for stream in self.streams) and not self.cts:
            raise ValueError('cts of a stream is above 0 but there is no CT: add cts: [{ct: FILE, labels: FILE}]')


class TrainingBatches(IterableDataset):
    """Endless batches from a given step on: what the network sees, (B, pictures, S, S) float32, and the target, (B, 1,
    S, S), 0 or 1. Networks of two pictures get references with simulated frames alone, and not with all of them.

    What a batch holds depends on the seed, the step, the rank of the training process and the number of workers alone,
    so a resumed training sees what an unbroken one would. All ranks get the same size in the same step.
    """

    def __init__(self, settings, seed, first_step=0, rank=0, pictures=1):
        self.settings, self.seed, self.first_step, self.rank = settings, seed, first_step, rank
        self._pictures = pictures
        self._real = network_pairs(settings.real)
        # Read here, where what is wrong with them ends the training before it begins.
        self._cts = read_cts(settings.cts)

    def __iter__(self):
        workers, worker = self.settings.workers, get_worker_info()
        # The loader takes a batch from each worker in turn, from the first one on. A lane is what one of them makes in
        # a training that was never stopped.
        lane = (self.first_step + (worker.id if worker else 0)) % workers
        pools = [_Pool(self.settings.cache, stream, self._cts) for stream in self.settings.streams]
        shown = [0] * len(pools)
        for step, which in enumerate(turns([stream.share for stream in self.settings.streams])):
            if step % workers != lane:
                continue
            stream, turn = self.settings.streams[which], shown[which]
            shown[which] += 1
            if step < self.first_step:
                continue
            rng = np.random.default_rng([self.seed, 1, self.rank, step])
            seed = [self.seed, 2, which, self.rank * workers + lane]
            pictures = []
            for image, mask, reference in pools[which].batch(turn, seed):
                if self._pictures == 1 or rng.uniform() < self.settings.no_reference:
                    reference = None
                elif rng.uniform() < MOVED:
                    way = rng.normal(size=2)
                    moved = np.exp(rng.uniform(0, np.log(stream.size / 4))) * way / np.hypot(*way)
                    reference = np.roll(reference, np.rint(moved).astype(int), (0, 1))
                pictures.append(augment(image, mask, stream.size, rng, reference=reference))
                if rng.uniform() < WRONG_WAY:
                    pictures[-1] = _wrong_way(*pictures[-1])
            for i in rng.integers(len(self._real), size=stream.real) if stream.real else []:
                pictures.append(augment(*self._real[i], stream.size, rng))
            yield collate(pictures, self._pictures)


def _wrong_way(image, mask, reference):
    """Return a picture, its mask and its reference (or None) as they are where bright is taken for dark."""
    return inverted(image), np.zeros_like(mask), None if reference is None else inverted(reference)


class _Pool:
    """The simulated frames at hand of one stream."""

    def __init__(self, cache, stream, cts):
        self._cache, self._stream, self._cts = cache, stream, cts
        self._index, self._pairs, self._order = None, None, None

    def batch(self, turn, seed):
        """List of the simulated (image, mask, reference) of the stream's batch number `turn`."""
        stream = self._stream
        if not stream.simulated:
            return []
        index, turn = divmod(turn, stream.pool * stream.reuse // stream.simulated)
        if index != self._index:
            self._index = index
            self._pairs = simulated_pairs(
                stream.pool, stream.size, [*seed, index], self._cache, stream.phantoms, self._cts, stream.cts
            )
            shuffle = np.random.default_rng([*seed, index, 1])
            self._order = np.concatenate([shuffle.permutation(stream.pool) for _ in range(stream.reuse)])
        return [self._pairs[i] for i in self._order[turn * stream.simulated : (turn + 1) * stream.simulated]]


def turns(shares):
    """Yield for ever whose turn it is, an index of `shares`: each as often as its share, evenly spread."""
    shares = np.array(shares) / np.sum(shares)
    due = np.zeros(len(shares))
    while True:
        due += shares
        which = int(due.argmax())
        due[which] -= 1
        yield which


def training_batches(settings, seed, first_step, rank=0, pictures=1):
    """Iterate over `TrainingBatches` made in processes of their own."""
    loader = DataLoader(
        TrainingBatches(settings, seed, first_step, rank, pictures),
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=max(2, AHEAD // settings.workers),
        multiprocessing_context='spawn',
        worker_init_fn=_prepare_worker,
    )
    return iter(loader)


def _prepare_worker(worker):
    # Ctrl-C reaches every process of the terminal; the one that trains finishes its step first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


def simulated_pairs(count, size, seed, cache='', phantoms=0.0, cts=(), ct_share=0.0):
    """List of `count` simulated (image, mask, reference), (size, size) uint8, mask 0 or 255.

    seed: a list of numbers.
    cache: folder to find them in, or to keep them for the next time. A changed simulation makes them anew.
    phantoms: share of them that `PhantomSamples` draws; `TrainingSamples` draws the others, `ct_share` of those
    through one of `cts`, `CTPatient`s.
    """
    file = None
    if cache:
        shares = [round(1000 * phantoms), round(1000 * ct_share)]
        name = '-'.join(str(part) for part in [_simulation_hash(cts), size, count, *shares, *seed])
        file = Path(cache).expanduser() / f'{name}.npz'
        if file.exists():
            with np.load(file) as kept:
                return list(zip(kept['images'], kept['masks'], kept['references']))
    stream = int(np.random.SeedSequence(seed).generate_state(1)[0])
    pairs = list(islice(PhantomSamples(size, stream), round(phantoms * count)))
    samples = TrainingSamples(size=size, seed=stream, batch_size=8, bright=0, cts=cts, ct_share=ct_share)
    while len(pairs) < count:
        pairs += zip(*((255 * pictures[:, 0]).round().byte().numpy() for pictures in next(samples)))
    pairs = pairs[:count]
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f'.{os.getpid()}.part')
        with part.open('wb') as out:
            np.savez_compressed(out, **dict(zip(('images', 'masks', 'references'), zip(*pairs))))
        part.replace(file)
    return pairs


def _simulation_hash(cts):
    files = sorted(Path(simulation.__file__).parent.glob('*.py'))
    parts = [file.read_bytes() for file in files] + [patient.points.tobytes() for patient in cts]
    return hashlib.sha256(b''.join(parts)).hexdigest()[:12]


def read_cts(entries):
    """Return a tuple of `CTPatient` of files, each entry a dict: ct and labels, files of the same grid; label: a list
    of the labels of the vessels that contrast fills, all where it is left out. Raises ModelError for what is no CT."""
    patients = []
    for entry in entries:
        if not {'ct', 'labels'} <= set(entry) <= {'ct', 'labels', 'label'}:
            raise ValueError(f'{entry}: {{ct: FILE, labels: FILE}} is needed, label: [N, ...] may be given')
        ct, labels = (read_volume(Path(entry[name]).expanduser()) for name in ('ct', 'labels'))
        patients.append(CTPatient(ct, labels, entry.get('label')))
    return tuple(patients)


def read_folders(folders):
    """List of (name, image, mask) of folders, each a dict of `read_pairs`' arguments."""
    for entry in folders:
        if not {'images', 'masks'} <= set(entry) <= {'images', 'masks', 'leave_out'}:
            raise ValueError(f'{entry}: {{images: DIR, masks: DIR}} is needed, leave_out: [NAME, ...] may be given')
    return [pair for entry in folders for pair in read_pairs(**entry)]


def network_pairs(folders):
    """List of (image, mask) of folders as the network gets them in use: at its size."""
    sharp = SHOWN['sharpen']
    return [(at_network_size(i, sharp=sharp), at_network_size(m, sharp=False)) for _, i, m in read_folders(folders)]


def read_pairs(images, masks, leave_out=()):
    """List of (name, image, mask), (H, W) uint8: the pictures of one folder with a mask of their name in the other.

    leave_out: names (without extension) that are not read.
    """
    images, masks = Path(images).expanduser(), Path(masks).expanduser()
    truth = {path.stem: path for path in masks.iterdir() if path.suffix.lower() in SUFFIXES}
    pairs = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.stem not in truth or path.stem in leave_out:
            continue
        image, mask = (cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (path, truth[path.stem]))
        if image is None or mask is None or image.shape != mask.shape:
            raise ValueError(f'{path} and {truth[path.stem]}: two readable pictures of the same size are needed')
        pairs.append((path.stem, image, mask))
    if not pairs:
        raise ValueError(f'{images}: no picture with a mask of the same name in {masks}')
    return pairs


def collate(examples, pictures=1):
    """Return what the network sees, (B, pictures, S, S), and the target, (B, 1, S, S), float32 tensors.

    examples: (image, mask) or (image, mask, reference or None) each, of one size.
    """
    seen, targets = [], []
    for image, mask, *reference in examples:
        image, *reference = (p if p is None else without_letters(p) for p in (image, *reference))
        valid = valid_area(image)
        seen.append(network_input(image, valid, pictures, *reference, evened=SHOWN['evened']))
        targets.append((mask > 127) & valid)
    return torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(targets).astype(np.float32))[:, None]
