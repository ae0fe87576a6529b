"""The training of the segmentation network: a plain loop that can be stopped anywhere and resumed to the step."""

import csv
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import yaml

from m2i_ros.segmentation.network import DeepResidualUNet
from m2i_ros.segmentation.weights import find
from m2i_ros.training.data import DataSettings, training_batches, validation_batches
from m2i_ros.training.losses import segmentation_loss

THRESHOLDS = np.arange(0.05, 0.96, 0.05)


@dataclass(frozen=True)
class TrainingSettings:
    """The entries of a configuration file; see config/train_segmentation.yaml for what each means."""

    seed: int = 0
    initial_weights: str = ''
    network: dict = field(default_factory=lambda: {'width': 16, 'stem': 2, 'norm': 'group'})
    data: DataSettings = field(default_factory=DataSettings)
    loss: dict = field(default_factory=lambda: {'dice': 1.0, 'bce': 1.0, 'cldice': 0.0})
    steps: int = 5000
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: int = 100
    decay: float = 0.6
    ema: float = 0.995
    validate_every: int = 500
    validation_frames: int = 96
    checkpoint_every: float = 180.0

    @classmethod
    def read(cls, path, **overrides):
        """Return the settings in a YAML file, with entries replaced. Raises ValueError naming what is unknown."""
        entries = {**(yaml.safe_load(Path(path).read_text(encoding='utf-8')) or {}), **overrides}
        return cls.from_dict(entries, path)

    @classmethod
    def from_dict(cls, entries, source='settings'):
        data = dict(entries.get('data', {}))
        for given, known in ((entries, cls), (data, DataSettings)):
            unknown = set(given) - {f.name for f in fields(known)}
            if unknown:
                raise ValueError(f'{source}: unknown {sorted(unknown)}; known are {[f.name for f in fields(known)]}')
        data['real'] = tuple(data.get('real') or ())
        return cls(**{**entries, 'data': DataSettings(**data)})


def load_network(source):
    """Return the `DeepResidualUNet` of weights (a name or path, see `weights.find`) or of a training's checkpoint: then
    of its moving average."""
    path = Path(source).expanduser()
    if not (path.suffix == '.pt' and path.is_file()):
        path = find(source).torch
    if not path.is_file():
        raise ValueError(f'{path} not found: {source} came without the parameters that training needs')
    state = torch.load(path, weights_only=True)
    is_checkpoint = 'average' in state
    network = DeepResidualUNet(**(state['settings']['network'] if is_checkpoint else state['network']))
    network.load_state_dict(state['average'] if is_checkpoint else state['state_dict'])
    return network


class SegmentationTraining:
    """A training in a folder: checkpoint.pt (the last state), best.pt (best on the validation frames), log.csv.

    resume: go on from checkpoint.pt there; the settings may differ in `steps` and the like, not in the network.
    report: called each step with a dict: step, steps, loss, pictures_per_s, left_s; after validations dice, threshold.
    """

    def __init__(self, settings, out, resume=False, report=lambda entry: None):
        self.settings, self.out, self.report = settings, Path(out), report
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        self.network = DeepResidualUNet(**settings.network).to(memory_format=torch.channels_last)
        if settings.initial_weights and not resume:
            given = load_network(settings.initial_weights)
            if given.config != self.network.config:
                raise ValueError(
                    f'initial_weights {settings.initial_weights} are of the network {given.config}: '
                    f'give network: {given.config} in place of {settings.network}'
                )
            self.network.load_state_dict(given.state_dict())
        self.average = DeepResidualUNet(**settings.network).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step, self.best, self.threshold = 0, 0.0, 0.5
        if resume:
            self._load(self.out / 'checkpoint.pt')
        self._validation = validation_batches(settings.data, settings.seed, settings.validation_frames)

    def run(self):
        """Train to the last step. The state is saved at the end and before an exception, KeyboardInterrupt too."""
        settings = self.settings
        batches = training_batches(settings.data, settings.seed, self.step)
        saved, begun, first = time.monotonic(), time.monotonic(), self.step
        try:
            while self.step < settings.steps:
                image, target = next(batches)
                loss = self._learn(image, target)
                speed = (self.step - first) / max(time.monotonic() - begun, 1e-9)
                entry = {'step': self.step, 'steps': settings.steps, 'loss': loss}
                entry['pictures_per_s'] = speed * settings.data.batch_size
                entry['left_s'] = (settings.steps - self.step) / speed
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    entry.update(self._validate())
                self._log(entry)
                self.report(entry)
                if time.monotonic() - saved > settings.checkpoint_every:
                    self.save('checkpoint.pt')
                    saved = time.monotonic()
        finally:
            self.save('checkpoint.pt')

    def learning_rate(self, step):
        """Rises over `warmup` steps, stays, falls over the last share `decay` of the steps to nothing."""
        settings = self.settings
        rise = min(1.0, (step + 1) / max(settings.warmup, 1))
        fall = min(1.0, (settings.steps - step) / max(settings.decay * settings.steps, 1))
        return settings.learning_rate * rise * fall

    def _learn(self, image, target):
        for group in self.optimizer.param_groups:
            group['lr'] = self.learning_rate(self.step)
        self.network.train()
        loss = segmentation_loss(self.network(image.to(memory_format=torch.channels_last)), target, self.settings.loss)
        if not torch.isfinite(loss):
            raise FloatingPointError(f'loss is {loss.item()} at step {self.step}: lower learning_rate and resume')
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        # Young averages forget their start faster.
        keep = min(self.settings.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values()):
                mean.lerp_(value, 1 - keep) if mean.is_floating_point() else mean.copy_(value)
        return loss.item()

    def _validate(self):
        """Mean Dice of the average network on the validation frames that show vessels, at the threshold best for it."""
        self.average.eval()
        dice = []
        with torch.inference_mode():
            for image, target in self._validation:
                probability = torch.sigmoid(self.average(image))[:, 0].numpy()
                for p, t in zip(probability, target[:, 0].numpy() > 0.5):
                    if t.any():
                        dice.append([2 * (t & (p >= at)).sum() / (t.sum() + (p >= at).sum()) for at in THRESHOLDS])
        if not dice:
            raise ValueError('no validation frame shows a vessel: raise validation_frames')
        mean = np.mean(dice, axis=0)
        self.threshold, score = round(float(THRESHOLDS[mean.argmax()]), 2), float(mean.max())
        if score > self.best:
            self.best = score
            self.save('best.pt')
        return {'dice': score, 'threshold': self.threshold}

    def save(self, name):
        """Write the state to a file of the folder, at once or not at all."""
        state = {
            'step': self.step,
            'best': self.best,
            'threshold': self.threshold,
            'settings': asdict(self.settings),
            'network': self.network.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
        }
        part = self.out / (name + '.part')
        torch.save(state, part)
        part.replace(self.out / name)

    def _load(self, path):
        if not path.is_file():
            raise ValueError(f'{path} not found: nothing to resume; start without --resume')
        state = torch.load(path, weights_only=True)
        if state['settings']['network'] != self.settings.network:
            raise ValueError(f'{path} holds the network {state["settings"]["network"]}, not {self.settings.network}')
        self.step, self.best, self.threshold = state['step'], state['best'], state['threshold']
        self.network.load_state_dict(state['network'])
        self.average.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        # What was done after the checkpoint is done again.
        log = self.out / 'log.csv'
        if log.exists():
            lines = log.read_text(encoding='utf-8').splitlines(keepends=True)
            log.write_text(''.join(lines[: 1 + self.step]), encoding='utf-8', newline='')

    def _log(self, entry):
        names = ('step', 'loss', 'pictures_per_s', 'dice', 'threshold')
        path = self.out / 'log.csv'
        new = not path.exists()
        with path.open('a', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(names)
            writer.writerow([round(entry[n], 5) if n in entry else '' for n in names])
