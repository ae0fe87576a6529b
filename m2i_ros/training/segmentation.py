"""The training of the segmentation network: a plain loop that can be stopped anywhere and resumed to the step."""

import csv
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger

from m2i_ros.segmentation.network import DeepResidualUNet
from m2i_ros.segmentation.weights import CERTAIN, find
from m2i_ros.training.data import (
    SHOWN,
    DataSettings,
    StreamSettings,
    collate,
    network_pairs,
    simulated_pairs,
    training_batches,
)
from m2i_ros.training.deep_supervision import CoarseHeads, coarse_loss
from m2i_ros.training.losses import TERMS, distillation_loss, segmentation_loss
from m2i_ros.training.validation import best_threshold, mean_scores

# Pixels that go through the network at once in a validation.
VALIDATION_BATCH = 8 * 256**2


@dataclass(frozen=True)
class TrainingSettings:
    """The entries of a configuration file; see config/train_segmentation.yaml for what each means."""

    seed: int = 0
    initial_weights: str = ''
    network: dict = field(default_factory=lambda: {'width': 16, 'stem': 2, 'norm': 'group'})
    data: DataSettings = field(default_factory=DataSettings)
    loss: dict = field(default_factory=lambda: {'dice': 1.0, 'bce': 1.0})
    deep_supervision: float = 0.0
    teacher: str = ''
    distillation: float = 0.0
    temperature: float = 2.0
    steps: int = 5000
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: int = 100
    decay: float = 0.6
    ema: float = 0.995
    validate_every: int = 500
    validation_frames: int = 96
    validation_size: int = 0
    validation_phantoms: float = 0.0
    validation_real: tuple = ()
    patience: int = 0
    checkpoint_every: float = 180.0
    certain: float = CERTAIN

    def __post_init__(self):
        unknown = set(self.loss) - set(TERMS)
        if unknown:
            raise ValueError(f'loss: unknown {sorted(unknown)}; known are {list(TERMS)}')
        if bool(self.teacher) != (self.distillation > 0):
            raise ValueError('teacher and distillation go together: name the one, and weigh the other above 0')

    @classmethod
    def read(cls, path, **overrides):
        """Return the settings in a YAML file, with entries replaced. Raises ValueError naming what is unknown."""
        entries = {**(yaml.safe_load(Path(path).read_text(encoding='utf-8')) or {}), **overrides}
        return cls.from_dict(entries, path)

    @classmethod
    def from_dict(cls, entries, source='settings'):
        data = _known(DataSettings, entries.get('data') or {}, f'{source}: data')
        if 'streams' in data:
            where = f'{source}: data: streams'
            data['streams'] = tuple(StreamSettings(**_known(StreamSettings, s, where)) for s in data['streams'])
        data.update({name: tuple(data.get(name) or ()) for name in ('real', 'cts')})
        entries = _known(cls, entries, source)
        entries['validation_real'] = tuple(entries.get('validation_real') or ())
        return cls(**{**entries, 'data': DataSettings(**data)})


def _known(settings, entries, source):
    unknown = set(entries) - {f.name for f in fields(settings)}
    if unknown:
        raise ValueError(f'{source}: unknown {sorted(unknown)}; known are {[f.name for f in fields(settings)]}')
    return dict(entries)


def load_network(source):
    """Return the `DeepResidualUNet` of weights (a name or path, see `weights.find`) or of a training's checkpoint: then
    of its moving average."""
    path = Path(source).expanduser()
    if not (path.suffix == '.pt' and path.is_file()):
        path = find(source).file('pt')
    if not path.is_file():
        raise ValueError(f'{path} not found: {source} came without the parameters that training needs')
    state = torch.load(path, weights_only=True, map_location='cpu')
    is_checkpoint = 'average' in state
    network = DeepResidualUNet(**(state['settings']['network'] if is_checkpoint else state['network']))
    network.load_state_dict(state['average'] if is_checkpoint else state['state_dict'])
    return network


class SegmentationTraining:
    """A training in a folder: checkpoint.pt (the last state), best.pt (best on the simulated validation frames),
    log.csv and events for TensorBoard.

    resume: go on from checkpoint.pt there; the settings may differ in `steps` and the like, not in the network.
    report: called each step with a dict: step, steps, loss, pictures_per_s, waiting (share of the time, for batches),
        left_s; after validations also score (mean of dice and cldice), dice, cldice, threshold, and real_dice and
        real_cldice where there are real validation pictures.
    fabric: a launched lightning `Fabric`: where, on how many processes and with which precision to train. In each
        process a training like this runs; the first one writes the files and reports.
    """

    def __init__(self, settings, out, resume=False, report=lambda entry: None, fabric=None):
        self.settings, self.out, self.report = settings, Path(out), report
        self.fabric = fabric or Fabric(accelerator='cpu', devices=1)
        if self.fabric.is_global_zero:
            self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        self.network = DeepResidualUNet(**settings.network).to(memory_format=torch.channels_last)
        if settings.initial_weights and not resume:
            given = load_network(settings.initial_weights)
            if {**given.config, 'pictures': 0} != {**self.network.config, 'pictures': 0} or (
                given.config['pictures'] > self.network.config['pictures']
            ):
                raise ValueError(
                    f'initial_weights {settings.initial_weights} are of the network {given.config}: '
                    f'give network: {given.config} in place of {settings.network}'
                )
            self.network.load_widened(given.state_dict())
        device = self.fabric.device
        self.average = DeepResidualUNet(**settings.network).requires_grad_(False).to(device)
        self.average.load_state_dict(self.network.state_dict())
        self.learner = CoarseHeads(self.network) if settings.deep_supervision else self.network
        self.optimizer = torch.optim.AdamW(
            self.learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._forward, self._stepper = self.fabric.setup(self.learner, self.optimizer)
        self._teacher = None
        if settings.teacher:
            self._teacher = load_network(settings.teacher).requires_grad_(False).eval().to(device)
        self.step, self.validation = 0, {}
        # Of the best validation: {score, step}.
        self.best = {'score': 0.0, 'step': 0}
        self._stopping = False
        if resume:
            self._load(self.out / 'checkpoint.pt')
        self._simulated, self._real = self._validation_batches()

    def stop(self):
        """Ask for the training to end after the step at hand; may be called from a signal handler."""
        self._stopping = True

    def run(self):
        """Train to the last step, until `patience` is over or until `stop`; the state is saved, on an exception too.

        Returns which it was: 'finished', 'no better' or 'stopped'.
        """
        settings = self.settings
        log = self.fabric.is_global_zero and _Log(self.out, self.step)
        pictures = self.network.config['pictures']
        batches = training_batches(settings.data, settings.seed, self.step, self.fabric.global_rank, pictures)
        saved = begun = time.monotonic()
        first, shown, waited = self.step, 0, 0.0
        try:
            while self.step < settings.steps:
                asked = time.monotonic()
                image, target = next(batches)
                waited += time.monotonic() - asked
                loss, stopping = self._learn(image, target)
                shown += len(image) * self.fabric.world_size
                entry = {'step': self.step, 'steps': settings.steps, 'loss': loss}
                passed = max(time.monotonic() - begun, 1e-9)
                entry['pictures_per_s'], entry['waiting'] = shown / passed, waited / passed
                entry['left_s'] = (settings.steps - self.step) * passed / (self.step - first)
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    self._validate()
                    entry.update({name: value for name, value in self.validation.items() if name != 'step'})
                if log:
                    log.write(entry)
                    self.report(entry)
                    if time.monotonic() - saved > settings.checkpoint_every:
                        self.save('checkpoint.pt')
                        saved = time.monotonic()
                if settings.patience and self.step - self.best['step'] >= settings.patience * settings.validate_every:
                    return 'no better'
                if stopping:
                    return 'stopped'
            return 'finished'
        finally:
            self.save('checkpoint.pt')

    def learning_rate(self, step):
        """Rises over `warmup` steps, stays, falls over the last share `decay` of the steps to nothing."""
        settings = self.settings
        rise = min(1.0, (step + 1) / max(settings.warmup, 1))
        fall = min(1.0, (settings.steps - step) / max(settings.decay * settings.steps, 1))
        return settings.learning_rate * rise * fall

    def _learn(self, image, target):
        """Do a step; return the mean loss of all processes, and whether one of them has been asked to stop."""
        for group in self.optimizer.param_groups:
            group['lr'] = self.learning_rate(self.step)
        image, target = self.fabric.to_device((image, target))
        self.learner.train()
        loss = self._loss(image.to(memory_format=torch.channels_last), target)
        shared = torch.stack([loss.detach(), torch.full_like(loss.detach(), self._stopping)])
        mean, stopping = self.fabric.all_reduce(shared, reduce_op='mean').tolist()
        if not np.isfinite(mean):
            raise FloatingPointError(f'loss is {mean} at step {self.step}: lower learning_rate and resume')
        self._stepper.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self._forward, self._stepper, max_norm=1.0, error_if_nonfinite=False)
        self._stepper.step()
        self.step += 1
        # Young averages forget their start faster.
        keep = min(self.settings.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean_value, value in zip(self.average.state_dict().values(), self.network.state_dict().values()):
                mean_value.lerp_(value, 1 - keep) if value.is_floating_point() else mean_value.copy_(value)
        return mean, stopping > 0

    def _loss(self, image, target):
        settings = self.settings
        logits = self._forward(image)
        loss = 0.0
        if settings.deep_supervision:
            logits, *coarse = logits
            loss = settings.deep_supervision * coarse_loss(coarse, target)
        if self._teacher:
            with torch.no_grad(), self.fabric.autocast():
                teacher = self._teacher(image[:, : self._teacher.config['pictures']]).float()
            loss = loss + settings.distillation * distillation_loss(logits, teacher, settings.temperature)
        return loss + segmentation_loss(logits, target, settings.loss)

    def _validation_batches(self):
        """Lists of batches: simulated frames of patients that training does not see, every other one without its
        reference, and real pictures; this process's share of both."""
        settings = self.settings
        size = settings.validation_size or max(stream.size for stream in settings.data.streams)
        pairs = simulated_pairs(
            settings.validation_frames, size, [settings.seed, 4], settings.data.cache, settings.validation_phantoms
        )
        together, pictures = max(1, VALIDATION_BATCH // size**2), self.network.config['pictures']
        pairs = [(*pair, reference if i % 2 else None) for i, (*pair, reference) in enumerate(pairs)]
        simulated = [collate(pairs[i : i + together], pictures) for i in range(0, len(pairs), together)]
        real = [collate([pair], pictures) for pair in network_pairs(settings.validation_real)]
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        return simulated[rank::ranks], real[rank::ranks]

    def _validate(self):
        """Score the average network, find the threshold that is best for the simulated frames, keep the best."""

        def all_reduce(array):
            return self.fabric.all_reduce(torch.from_numpy(array).to(self.fabric.device), reduce_op='sum').cpu().numpy()

        with self.fabric.autocast():
            scores = mean_scores(self.average, self._simulated, self.fabric.device, all_reduce)
            threshold, at = best_threshold(scores)
            dice, cldice = scores[at].tolist()
            found = {'score': (dice + cldice) / 2, 'dice': dice, 'cldice': cldice, 'threshold': threshold}
            if self.settings.validation_real:
                real = mean_scores(self.average, self._real, self.fabric.device, all_reduce)
                found['real_dice'], found['real_cldice'] = real[at].tolist()
        self.validation = {'step': self.step, **found}
        if found['score'] > self.best['score']:
            self.best = {'score': found['score'], 'step': self.step}
            self.save('best.pt')

    def save(self, name):
        """Write the state to a file of the folder, at once or not at all. Only the first process does."""
        if not self.fabric.is_global_zero:
            return
        state = {
            'step': self.step,
            'best': self.best,
            'validation': self.validation,
            'settings': asdict(self.settings),
            'shown': SHOWN,
            'learner': self.learner.state_dict(),
            'average': self.average.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'precision': self.fabric.strategy.precision.state_dict(),
        }
        part = self.out / (name + '.part')
        torch.save(state, part)
        part.replace(self.out / name)

    def _load(self, path):
        if not path.is_file():
            raise ValueError(f'{path} not found: nothing to resume; start without --resume')
        state = torch.load(path, weights_only=True, map_location='cpu')
        if DeepResidualUNet(**state['settings']['network']).config != self.network.config:
            raise ValueError(f'{path} holds the network {state["settings"]["network"]}, not {self.settings.network}')
        self.step, self.best, self.validation = state['step'], state['best'], state['validation']
        self.learner.load_state_dict(state['learner'])
        self.average.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.fabric.strategy.precision.load_state_dict(state['precision'])


class _Log:
    """log.csv, a line a step, and the same for TensorBoard; both go on from a step as if there had been no more."""

    COLUMNS = ('step', 'loss', 'pictures_per_s', 'score', 'dice', 'cldice', 'threshold', 'real_dice', 'real_cldice')

    def __init__(self, folder, step):
        self._path = folder / 'log.csv'
        lines = self._path.read_text(encoding='utf-8').splitlines(keepends=True) if step else []
        self._path.write_text(''.join(lines[: 1 + step]) or ','.join(self.COLUMNS) + '\r\n', 'utf-8', newline='')
        self._board = TensorBoardLogger(folder, name='tensorboard', version='', purge_step=step + 1)

    def write(self, entry):
        with self._path.open('a', newline='', encoding='utf-8') as file:
            csv.writer(file).writerow([round(entry[n], 5) if n in entry else '' for n in self.COLUMNS])
        self._board.log_metrics({n: entry[n] for n in self.COLUMNS[1:] if n in entry}, entry['step'])
        if 'score' in entry:
            self._board.save()
