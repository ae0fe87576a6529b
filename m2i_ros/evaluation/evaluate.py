"""`evaluate`: scores the shipped way of a frame against known masks and poses."""

import argparse
import sys
from pathlib import Path

from m2i_ros.evaluation import registration, segmentation
from m2i_ros.segmentation.engines import ENGINES

STOPPED = 130


def main(argv=None):
    """Run `evaluate`; return 0, 2 where the input cannot be scored, or 130 where it was stopped."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog='evaluate', description=__doc__)
    jobs = parser.add_subparsers(dest='job', required=True)

    job = jobs.add_parser('segmentation', help='score the vessels found against true masks')
    segmentation.add_arguments(job)
    job.set_defaults(run=segmentation.run)

    job = jobs.add_parser('registration', help='score poses of recorded cases against true poses')
    registration.add_arguments(job)
    job.set_defaults(run=registration.run)

    for job in jobs.choices.values():
        job.add_argument('--json', type=Path, required=True, help='where the figures go')
        job.add_argument('--weights', default='default', help='segmentation weights (default: %(default)s)')
        job.add_argument('--engine', default='auto', help=f'auto, {", ".join(ENGINES)} (default: %(default)s)')
        job.add_argument('--threads', type=int, default=2, help='CPU threads of the engine (default: %(default)s)')
    arguments = parser.parse_args(argv)
    arguments.command = ' '.join(['evaluate', *argv])
    try:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.run(arguments)
    except (ValueError, OSError) as error:  # of masks, models, cases, weights and frames: each says what is wrong
        print(f'evaluate: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f'evaluate: stopped{stop}', file=sys.stderr)
        return STOPPED
    return 0


if __name__ == '__main__':
    sys.exit(main())
