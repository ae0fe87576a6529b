"""The `train` command: `train segmentation` trains, `train crossvalidate` scores trainings on real pictures unseen by
them, `train export` turns a checkpoint into weights, `train quantize` rounds them to 8 bits, `train confidence` learns
when a pose is believed, `train matching` trains the matching network, for all patients or for one."""

import argparse
import signal
import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from m2i_ros.registration.contour import ContourSurface
from m2i_ros.registration.matching import WEIGHTS as matching_weights
from m2i_ros.segmentation import weights
from m2i_ros.simulation import ANATOMIES
from m2i_ros.sources import open_model
from m2i_ros.training import confidence
from m2i_ros.training.crossvalidation import CrossValidation, summary_table
from m2i_ros.training.export import export
from m2i_ros.training.matching import MatchingSettings, MatchingTraining, simulated_surfaces
from m2i_ros.training.matching import export as export_matching
from m2i_ros.training.segmentation import SegmentationTraining, TrainingSettings

_PATIENT_MINUTES = 4.0  # of a training for one patient: with what is around it, less than 5
_MATCHING_LINE = (
    'step {step}  {minutes:.1f} min  loss {loss:.3f}  points off by {start:.3f} half windows, then {end:.3f}'
)


def main(argv=None):
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog='train', description=__doc__)
    jobs = parser.add_subparsers(dest='job', required=True)

    job = jobs.add_parser('segmentation', help='train the vessel segmentation network')
    job.add_argument('--out', default='runs/segmentation', help='checkpoints and logs (default: %(default)s)')
    job.add_argument('--resume', action='store_true', help='go on from the checkpoint in --out')
    _add_training_options(job)
    job.add_argument('--devices', default='auto', help='how many processes or GPUs a machine (default: one, all GPUs)')
    job.add_argument('--num-nodes', type=int, default=1, help='machines; see the README (default: %(default)s)')
    job.set_defaults(run=_train)

    job = jobs.add_parser('crossvalidate', help='train without each fold of the real pictures, score on it')
    job.add_argument('--out', default='runs/crossvalidation', help='folder; what is in it is not done again')
    job.add_argument('--folds', type=int, default=5, help='default: %(default)s')
    job.add_argument('--groups', default='', help='pictures alike, kept in one fold: "2,3;5,6"')
    only = 'train these folds alone, from 1: processes beside each other may share the work'
    job.add_argument('--only', type=int, nargs='+', metavar='FOLD', help=only)
    _add_training_options(job)
    job.set_defaults(run=_crossvalidate)

    job = jobs.add_parser('export', help='turn a checkpoint into weights for the segmenter')
    job.add_argument('--checkpoint', required=True, help='best.pt or checkpoint.pt of a training')
    job.add_argument('--name', required=True, help='file name of the weights, without extension')
    job.add_argument('--folder', default=str(weights.FOLDER), help='where to write them (default: %(default)s)')
    job.add_argument('--card', help='Markdown file with the text of the model card')
    job.add_argument('--threshold', type=float, help='replaces the threshold calibrated in training')
    job.set_defaults(run=_export)

    job = jobs.add_parser('quantize', help='round weights to 8 bits, if it costs less than 0.005 of Dice and clDice')
    job.add_argument('--weights', default='default', help='name or path; the file is written beside them')
    job.add_argument('--anatomies', nargs='+', default=['iliofemoral', 'aortic_root'], choices=sorted(ANATOMIES))
    job.add_argument('--patients', type=int, default=6, help='of each anatomy, for the cost (default: %(default)s)')
    job.set_defaults(run=_quantize)

    job = jobs.add_parser('confidence', help="learn what a registration's evidence says of its error")
    confidence.add_arguments(job)
    job.set_defaults(run=confidence.run)

    job = jobs.add_parser('matching', help='train the matching network, or make it fit one patient')
    job.add_argument('--out', default='runs/matching', help='checkpoint, log and weights (default: %(default)s)')
    job.add_argument('--config', required=True, help='YAML file, see config/train_matching.yaml')
    job.add_argument('--model', help="one patient's vessel model, as `model.path` takes it: starts from --initial")
    job.add_argument('--initial', help='.pt of weights to start from (default with --model: the shipped ones)')
    job.add_argument('--units', default='mm', choices=('mm', 'cm', 'm'), help='of a mesh file (default: %(default)s)')
    job.add_argument('--axes', default='lps', choices=('lps', 'ras', 'native'), help='of a mesh file')
    job.add_argument('--steps', type=int, help="replaces the configuration's steps")
    job.add_argument('--minutes', type=float, help="replaces the configuration's minutes (with --model: 4.0)")
    job.add_argument('--resume', action='store_true', help='go on from the checkpoint in --out')
    job.add_argument('--threads', type=int, default=1, help='CPU threads beside the one that makes pairs')
    job.set_defaults(run=_train_matching)

    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f'train: {error}', file=sys.stderr)
        return 1


def _add_training_options(job):
    job.add_argument('--config', required=True, help='YAML file, see config/train_segmentation.yaml')
    job.add_argument('--steps', type=int, help="replaces the configuration's steps")
    job.add_argument('--accelerator', default='auto', help='cpu, cuda, ... (default: what there is)')
    job.add_argument('--precision', default='32-true', choices=('32-true', 'bf16-mixed', '16-mixed'))
    job.add_argument('--threads', type=int, help='CPU threads of a process (default: all cores, shared out)')


def _settings(arguments):
    overrides = {} if arguments.steps is None else {'steps': arguments.steps}
    return TrainingSettings.read(arguments.config, **overrides)


def _fabric(arguments, devices=1, num_nodes=1):
    """Return a launched `Fabric`; with several devices, the command runs again in a process for each."""
    if devices == 'auto' and arguments.accelerator == 'cpu':
        devices = 1
    fabric = Fabric(
        accelerator=arguments.accelerator, devices=devices, num_nodes=num_nodes, precision=arguments.precision
    )
    fabric.launch()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return fabric


def _train(arguments):
    settings = _settings(arguments)
    fabric = _fabric(arguments, arguments.devices, arguments.num_nodes)
    console = Console(quiet=not fabric.is_global_zero)
    where = f'{fabric.world_size} process(es) on {fabric.device.type}, {arguments.precision}'
    start = f'training {settings.network} for {settings.steps} steps in {arguments.out}; {where}'
    console.print(f'{start}; Ctrl-C stops and saves', soft_wrap=True)
    with _Progress(console, settings.steps) as progress:
        training = SegmentationTraining(settings, arguments.out, arguments.resume, progress.report, fabric)
        end = _run(training)
    # None may leave before the first one has saved: the launcher ends all when one is gone.
    fabric.barrier()
    if end == 'stopped':
        console.print(f'stopped at step {training.step}; go on with --resume')
        return 130 if fabric.is_global_zero else 0
    if end == 'no better':
        console.print(f'stopped at step {training.step}: no better for {settings.patience} validations')
    best = training.best
    console.print(
        f'best validation score {best["score"]:.3f} at step {best["step"]}: {Path(arguments.out) / "best.pt"}'
    )
    return 0


def _run(training):
    """Run a training that Ctrl-C and SIGTERM stop after the step at hand; a second one kills."""

    def stop(number, frame):
        signal.signal(number, signal.SIG_DFL)
        training.stop()

    # A shell starts background jobs deaf to SIGINT, and job schedulers send SIGTERM.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return training.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _crossvalidate(arguments):
    settings = _settings(arguments)
    fabric, console = _fabric(arguments), Console()
    groups = [group.split(',') for group in arguments.groups.split(';') if group]
    validation = CrossValidation(settings, arguments.out, arguments.folds, groups, fabric)
    chosen = arguments.only or range(1, arguments.folds + 1)
    if not set(chosen) <= set(range(1, arguments.folds + 1)):
        raise ValueError(f'--only {" ".join(map(str, chosen))}: the folds are 1 to {arguments.folds}')
    for fold in (number - 1 for number in chosen):
        if validation.done(fold):
            console.print(f'fold {fold + 1} of {arguments.folds} is done')
            continue
        console.print(f'fold {fold + 1} of {arguments.folds}: {len(validation.held_out(fold))} pictures held out')
        with _Progress(console, settings.steps) as progress:
            if _run(validation.training(fold, progress.report)) == 'stopped':
                console.print('stopped; the same command goes on')
                return 130
        validation.finish(fold)
    if left := [str(fold + 1) for fold in range(arguments.folds) if not validation.done(fold)]:
        console.print(f'not scored yet: fold {", ".join(left)} must be trained before')
        return 0
    console.print(summary_table(validation.score()))
    console.print(f'written: {validation.file}', soft_wrap=True)
    return 0


class _Progress:
    """A bar in a terminal, a line now and then elsewhere; validations are lines everywhere."""

    def __init__(self, console, steps):
        columns = (
            TextColumn('step {task.completed}/{task.total}'),
            BarColumn(),
            TextColumn('loss {task.fields[loss]:.3f}  {task.fields[speed]:.1f} pictures/s'),
            TimeRemainingColumn(),
        )
        self._console = console
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar = self._bars.add_task('', total=steps, loss=float('nan'), speed=0.0)

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._bars.stop()

    def report(self, entry):
        self._bars.update(self._bar, completed=entry['step'], loss=entry['loss'], speed=entry['pictures_per_s'])
        if 'score' in entry or (not self._console.is_terminal and entry['step'] % 50 == 0):
            self._console.print(_line(entry), highlight=False, soft_wrap=True)


def _line(entry):
    line = f'step {entry["step"]}/{entry["steps"]}  loss {entry["loss"]:.3f}  {entry["pictures_per_s"]:.1f} pictures/s'
    line += f'  {entry["waiting"]:.0%} waiting for frames  {entry["left_s"] / 60:.0f} min left'
    if 'score' in entry:
        line += '  validation dice {dice:.3f} cldice {cldice:.3f} at threshold {threshold:.2f}'.format(**entry)
    if 'real_dice' in entry:
        line += ', real pictures {real_dice:.3f} {real_cldice:.3f}'.format(**entry)
    return line


def _train_matching(arguments):
    torch.set_num_threads(arguments.threads)
    console = Console()
    minutes = arguments.minutes or (_PATIENT_MINUTES if arguments.model else None)
    overrides = {name: v for name, v in (('steps', arguments.steps), ('minutes', minutes)) if v is not None}
    settings = MatchingSettings.read(arguments.config, **overrides)
    initial = arguments.initial or (matching_weights.with_suffix('.pt') if arguments.model else None)
    if initial:
        initial = torch.load(initial, weights_only=True)['network']
    if arguments.model:
        surfaces = [ContourSurface.from_model(open_model(arguments.model, arguments.units, arguments.axes))]
    else:
        with Progress(console=console) as progress:
            bar = progress.add_task('patients')
            surfaces = simulated_surfaces(settings, lambda n, total: progress.update(bar, completed=n, total=total))
    whose = f'{arguments.model} alone' if arguments.model else f'{len(surfaces)} simulated patients'
    limit = f'{settings.steps} steps or {settings.minutes:g} minutes'
    console.print(f'training on {whose} for at most {limit}; Ctrl-C stops and saves', soft_wrap=True)

    def report(entry):
        if entry['step'] % 25 == 0:
            console.print(_MATCHING_LINE.format(**entry), highlight=False, soft_wrap=True)

    training = MatchingTraining(settings, surfaces, arguments.out, initial, arguments.resume, report)
    if _run(training) == 'stopped':
        console.print(f'stopped at step {training.step}; go on with --resume')
        return 130
    path = Path(arguments.out) / 'matching.onnx'
    export_matching(Path(arguments.out) / 'checkpoint.pt', path, f'Trained on {whose}.')
    console.print(f'{path} written: give it to registration.matching', soft_wrap=True)
    return 0


def _export(arguments):
    text = Path(arguments.card).read_text(encoding='utf-8') if arguments.card else 'No card was given.'
    made = export(arguments.checkpoint, arguments.name, arguments.folder, text, arguments.threshold)
    print(f'{made.file("onnx")}, {made.file("pt").name} and {made.card.name} written; threshold {made.threshold:.2f}')
    return 0


def _quantize(arguments):
    from m2i_ros.training.quantize import quantize  # onnxruntime's tools, for this job alone

    cost = quantize(arguments.weights, arguments.anatomies, arguments.patients, report=print)
    for name in ('dice', 'cldice'):
        print('{}: float32 {:.4f}, 8 bits {:.4f}'.format(name, *cost[name]))
    print(f'{weights.find(arguments.weights).file("int8")} written; means of {cost["frames"]} frames')
    return 0


if __name__ == '__main__':
    sys.exit(main())
