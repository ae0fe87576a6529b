"""Training of the matching network, on pairs made from models: see `matching_data`."""

import csv
import math
import queue
import threading
import time
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from torch.nn import functional

from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.matching import CHANNELS, SIDE
from m2i_ros.segmentation.weights import sha256
from m2i_ros.simulation import make_anatomy
from m2i_ros.training.matching_data import batches
from m2i_ros.training.matching_network import MatchingNetwork, exp_so3, project, solve

_STREAM = 4  # the second word of the patients' seeds: none begins as a patient by number does
_CHECKPOINT_EVERY = 60.0  # seconds
_TAIL = 4.0  # degrees of freedom: poses that are far off are rare, and do not rule the certainty


@dataclass(frozen=True)
class MatchingSettings:
    """Settings of a training; see config/train_matching.yaml.

    Raises ValueError naming what is unknown or out of its range.
    """

    seed: int = 11
    anatomies: tuple = ('iliofemoral', 'aortic_root', 'aortic_arch', 'coronary')
    patients: int = 40
    cache: str = ''
    batch_size: int = 32
    starts: int = 8
    steps: int = 400000
    minutes: float = 95.0
    learning_rate: float = 0.002
    weight_decay: float = 0.0001
    loss: dict = field(
        default_factory=lambda: {'cells': 0.2, 'distance': 10.0, 'geodesic': 2.0, 'overlap': 0.5, 'pose': 0.05}
    )

    def __post_init__(self):
        for name in ('patients', 'batch_size', 'starts', 'steps', 'minutes', 'learning_rate'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} = {getattr(self, name)}: must be above 0')
        unknown = set(self.loss) - set(LOSSES)
        if unknown:
            raise ValueError(f'loss: {", ".join(sorted(unknown))} unknown; there are {", ".join(LOSSES)}')

    @classmethod
    def read(cls, path, **overrides):
        """Return the settings of a YAML file, some of them replaced."""
        given = yaml.safe_load(Path(path).read_text(encoding='utf-8')) or {}
        unknown = set(given) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f'{path}: {", ".join(sorted(unknown))} unknown')
        return cls(**{**given, **overrides})


_PARTS = tuple(part.name for part in fields(ContourSurface))
LOSSES = ('cells', 'distance', 'geodesic', 'overlap', 'pose')


def simulated_surfaces(settings, report=lambda done, total: None):
    """Return ContourSurfaces of the simulated patients of some settings; read from and kept in `cache` if there is
    one."""
    out, total = [], len(settings.anatomies) * settings.patients
    for anatomy in settings.anatomies:
        for patient in range(settings.patients):
            kept = Path(settings.cache) / f'{anatomy}_{patient}.npz' if settings.cache else None
            surface = _kept_surface(kept) if kept and kept.exists() else None
            if surface is None:
                surface = ContourSurface.from_model(make_anatomy(anatomy, (patient, _STREAM)))
                if kept:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    np.savez(kept, **{name: getattr(surface, name) for name in _PARTS})
            out.append(surface)
            report(len(out), total)
    return out


def _kept_surface(file):
    """Return the ContourSurface in a file, or None where an earlier version has written it, of other parts."""
    with np.load(file) as data:
        return ContourSurface(**data) if set(data) == set(_PARTS) else None


class MatchingTraining:
    """Trains a `MatchingNetwork`; `checkpoint.pt` and `log.csv` in `folder` say how far it came.

    surfaces: list of ContourSurface: the patients. initial: a state dict to start from, or None. resume: go on from the
    checkpoint in `folder`. report: called with a dict at each step.
    """

    def __init__(self, settings, surfaces, folder, initial=None, resume=False, report=lambda entry: None):
        self.settings, self._surfaces, self._folder = settings, surfaces, Path(folder)
        self._report, self._stopping = report, False
        torch.manual_seed(settings.seed)
        self.network = MatchingNetwork().to(memory_format=torch.channels_last)
        if initial is not None:
            self.network.load_state_dict(initial)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step, self.elapsed = 0, 0.0
        self._folder.mkdir(parents=True, exist_ok=True)
        if resume:
            state = torch.load(self._folder / 'checkpoint.pt', weights_only=True)
            self.network.load_state_dict(state['network'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.elapsed = state['step'], state['elapsed']

    def stop(self):
        """End after the step at hand."""
        self._stopping = True

    def run(self):
        """Train until the steps or the minutes are over, or `stop`; return 'done' or 'stopped'."""
        s = self.settings
        # Another stream after each stop: what was seen is not seen again.
        made = _ahead(batches(self._surfaces, np.random.default_rng((s.seed, self.step)), s.batch_size, s.starts))
        self.network.train()
        began, saved = time.monotonic() - self.elapsed, time.monotonic()
        log = self._folder / 'log.csv'
        with log.open('a' if self.step else 'w', newline='') as file:
            writer = csv.DictWriter(file, ('step', 'minutes', 'loss', *LOSSES, 'start', 'end'))
            if not self.step:
                writer.writeheader()
            while not self._stopping and self._progress() < 1:
                for group in self.optimizer.param_groups:
                    warm = min(1.0, (self.step + 1) / 100)
                    group['lr'] = s.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * self._progress()))
                terms, distances = losses(self.network, next(made))
                loss = sum(weight * terms[name] for name, weight in s.loss.items())
                self.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                self.optimizer.step()
                self.step += 1
                self.elapsed = time.monotonic() - began
                entry = {'step': self.step, 'minutes': self.elapsed / 60, 'loss': loss.item()}
                entry |= {name: value.item() for name, value in terms.items()}
                entry |= dict(zip(('start', 'end'), distances))
                writer.writerow({key: f'{value:.5g}' for key, value in entry.items()})
                self._report(entry)
                if time.monotonic() - saved > _CHECKPOINT_EVERY:
                    self.save()
                    file.flush()
                    saved = time.monotonic()
        self.save()
        return 'stopped' if self._stopping else 'done'

    def _progress(self):
        return max(self.step / self.settings.steps, self.elapsed / (60 * self.settings.minutes))

    def save(self):
        """Write the checkpoint, whole or not at all."""
        partial = self._folder / 'checkpoint.partial'
        torch.save(
            {
                'network': self.network.state_dict(),
                'optimizer': self.optimizer.state_dict(),
                'step': self.step,
                'elapsed': self.elapsed,
                'settings': {**asdict(self.settings), 'anatomies': list(self.settings.anatomies)},
            },
            partial,
        )
        partial.replace(self._folder / 'checkpoint.pt')


def losses(network, batch):
    """Return the terms of the loss of a `Batch`, and the mean projected distances before and after, in halves of the
    window.

    cells: negative log likelihood of where each cell belongs. distance: of projected points under the estimated and the
    true pose. geodesic: angle between the rotations. overlap: share of the moved model off the true silhouette.
    pose: negative log likelihood of the true motion under the estimated one's covariance (Student's t, its tails).
    """
    images = torch.from_numpy(batch.images).contiguous(memory_format=torch.channels_last)
    share, q, window, truth, theta = (
        torch.from_numpy(a) for a in (batch.share, batch.points, batch.window, batch.truth, batch.theta)
    )
    out = network(images).flatten(2)
    weight = share / share.sum(dim=1, keepdim=True)
    with torch.no_grad():
        start = project(q, torch.zeros_like(theta), window)[0]
        goal = project(q, theta, window)[0]
    off = start + out[:, :2].transpose(1, 2) - goal
    scale = torch.exp(-network.log_independence)
    lxx, lyx, lyy = (out[:, i] * scale for i in (2, 3, 4))
    r2 = (lxx * off[..., 0] + lyx * off[..., 1]) ** 2 + (lyy * off[..., 1]) ** 2
    tail = 0.5 * (_TAIL + 2) * torch.log1p(r2 / _TAIL)
    cells = (weight * (tail - torch.log(lxx) - torch.log(lyy))).sum(dim=1).mean()

    estimate, information = solve(out, share, q, window)
    p = project(q, estimate, window)[0]
    distance = (weight * (((p - goal) ** 2).sum(-1) + 1e-6).sqrt()).sum(dim=1)
    difference = exp_so3(estimate[:, 3:]).transpose(1, 2) @ exp_so3(theta[:, 3:])
    cosine = (torch.diagonal(difference, dim1=1, dim2=2).sum(-1) - 1) / 2
    geodesic = torch.sqrt(2 * (1 - cosine).clamp(min=0) + 1e-6).mean()
    under = functional.grid_sample(truth[:, None], p[:, None], align_corners=False)[:, 0, 0]
    seen = (goal.abs().amax(-1) < 1 - 2 / SIDE).float() * weight
    overlap = 1 - (seen * under).sum() / seen.sum().clamp(min=1e-6)
    e = (estimate - theta)[..., None]
    m = (e.transpose(1, 2) @ information @ e)[:, 0, 0]
    pose = (0.5 * (_TAIL + 6) * torch.log1p(m / _TAIL) - 0.5 * torch.logdet(information)).mean()
    terms = {
        'cells': cells,
        'distance': distance.mean(),
        'geodesic': geodesic,
        'overlap': overlap,
        'pose': pose,
    }
    before = (weight * (start - goal).norm(dim=-1)).sum(dim=1).mean()
    return terms, (before.item(), distance.mean().item())


def _ahead(source, depth=3):
    """Yield what `source` yields, made in a thread some items ahead: its compiled parts run beside the training."""
    made, over = queue.Queue(depth), threading.Event()

    def make():
        for item in source:
            while not over.is_set():
                try:
                    made.put(item, timeout=0.5)
                    break
                except queue.Full:
                    pass
            if over.is_set():
                return

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            yield made.get()
    finally:
        over.set()


def export(checkpoint, path, text=''):
    """Write a checkpoint's network to `path`, an .onnx file that a `Matcher` takes.

    Beside it go the parameters in half precision, for trainings to start from (.pt), and the card (.md). text: Markdown
    for the card.
    """
    state, path = torch.load(checkpoint, weights_only=True, map_location='cpu'), Path(path)
    network = MatchingNetwork()
    network.load_state_dict(state['network'])
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The newer exporter needs another package and yields the same graph.
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(
            network,
            torch.zeros(1, CHANNELS, SIDE, SIDE),
            path,
            dynamo=False,
            opset_version=17,
            input_names=['image'],
            output_names=['cells'],
        )
    half = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    torch.save({'network': half}, path.with_suffix('.pt'))
    settings = {name: value for name, value in state['settings'].items() if name != 'cache'}  # a place on this machine
    front = {
        'license': 'Apache-2.0',
        'sha256': {end: sha256(path.with_suffix(f'.{end}')) for end in ('onnx', 'pt')},
        'trained': {'steps': state['step'], 'minutes': round(state['elapsed'] / 60, 1), 'settings': settings},
    }
    card = f'---\n{yaml.safe_dump(front, sort_keys=False)}---\n# {path.stem}\n\n{text.strip()}\n'
    path.with_suffix('.md').write_text(card, encoding='utf-8')
