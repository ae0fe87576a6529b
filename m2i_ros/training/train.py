"""The `train` command: `train segmentation --config FILE --out DIR`, `train export --checkpoint FILE --name NAME`."""

import argparse
import signal
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from m2i_ros.segmentation import weights
from m2i_ros.training.export import export
from m2i_ros.training.segmentation import SegmentationTraining, TrainingSettings


def main(argv=None):
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog='train', description=__doc__)
    jobs = parser.add_subparsers(dest='job', required=True)

    job = jobs.add_parser('segmentation', help='train the vessel segmentation network')
    job.add_argument('--config', required=True, help='YAML file, see config/train_segmentation.yaml')
    job.add_argument('--out', default='runs/segmentation', help='folder for checkpoints and log (default: %(default)s)')
    job.add_argument('--steps', type=int, help="replaces the configuration's steps")
    job.add_argument('--resume', action='store_true', help='go on from the checkpoint in --out')
    job.add_argument('--threads', type=int, default=torch.get_num_threads(), help='CPU threads (default: %(default)s)')
    job.set_defaults(run=_train)

    job = jobs.add_parser('export', help='turn a checkpoint into weights for the segmenter')
    job.add_argument('--checkpoint', required=True, help='best.pt or checkpoint.pt of a training')
    job.add_argument('--name', required=True, help='file name of the weights, without extension')
    job.add_argument('--folder', default=str(weights.FOLDER), help='where to write them (default: %(default)s)')
    job.add_argument('--card', help='Markdown file with the text of the model card')
    job.add_argument('--threshold', type=float, help='replaces the threshold calibrated in training')
    job.set_defaults(run=_export)

    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f'train: {error}', file=sys.stderr)
        return 1


def _train(arguments):
    overrides = {} if arguments.steps is None else {'steps': arguments.steps}
    settings = TrainingSettings.read(arguments.config, **overrides)
    torch.set_num_threads(arguments.threads)
    console = Console()
    columns = (
        TextColumn('step {task.completed}/{task.total}'),
        BarColumn(),
        TextColumn('loss {task.fields[loss]:.3f}  {task.fields[speed]:.1f} pictures/s'),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task('', total=settings.steps, loss=float('nan'), speed=0.0)

        def report(entry):
            progress.update(bar, completed=entry['step'], loss=entry['loss'], speed=entry['pictures_per_s'])
            # Without a terminal, a line now and then is the progress; validations are lines everywhere.
            if 'dice' in entry or (not console.is_terminal and entry['step'] % 50 == 0):
                console.print(_line(entry), highlight=False, soft_wrap=True)

        start = f'training {settings.network} for {settings.steps} steps in {arguments.out}; Ctrl-C stops and saves'
        console.print(start, soft_wrap=True)
        training = SegmentationTraining(settings, arguments.out, arguments.resume, report)
        # A shell starts background jobs deaf to SIGINT, and job schedulers send SIGTERM: both stop and save.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            training.run()
        except KeyboardInterrupt:
            console.print(f'stopped at step {training.step}; go on with --resume')
            return 130
    console.print(f'best validation dice {training.best:.3f}: {Path(arguments.out) / "best.pt"}')
    return 0


def _line(entry):
    line = f'step {entry["step"]}/{entry["steps"]}  loss {entry["loss"]:.3f}  '
    line += f'{entry["pictures_per_s"]:.1f} pictures/s  {entry["left_s"] / 60:.0f} min left'
    if 'dice' in entry:
        line += f'  validation dice {entry["dice"]:.3f} at threshold {entry["threshold"]:.2f}'
    return line


def _export(arguments):
    text = Path(arguments.card).read_text(encoding='utf-8') if arguments.card else 'No card was given.'
    made = export(arguments.checkpoint, arguments.name, arguments.folder, text, arguments.threshold)
    print(f'{made.onnx}, {made.torch.name} and {made.name}.md written; threshold {made.threshold:.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
