"""The command in processes of its own: several of them training together, and one that is told to stop."""

import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml

TINY = {
    'network': {'width': 8, 'stem': 4, 'norm': 'group'},
    'data': {'streams': [{'size': 64, 'batch_size': 2, 'pool': 4, 'reuse': 8}]},
    'warmup': 0,
    'decay': 0.0,
    'validate_every': 3,
    'validation_frames': 4,
}

# The command, and what each process has seen and learned.
WATCHED = """
import os, sys
import torch
from m2i_ros.training import segmentation, train

class Watched(segmentation.SegmentationTraining):
    seen = []

    def _learn(self, image, target):
        self.seen.append(image)
        return super()._learn(image, target)

    def run(self):
        end = super().run()
        path = f'{sys.argv[0]}.{self.fabric.global_rank}.pt'
        torch.save({'seen': self.seen, 'network': self.network.state_dict(), 'validation': self.validation}, path)
        return end

if __name__ == '__main__':
    train.SegmentationTraining = Watched
    sys.exit(train.main())
"""


@pytest.fixture
def command(tmp_path):
    script, config = tmp_path / 'watched.py', tmp_path / 'tiny.yaml'
    script.write_text(WATCHED)
    config.write_text(yaml.safe_dump(TINY))
    options = ['--config', config, '--out', tmp_path / 'run', '--accelerator', 'cpu', '--threads', '1']
    return [sys.executable, script, 'segmentation', *options]


def environment():
    kept = {name: value for name, value in os.environ.items() if name not in ('LOCAL_RANK', 'WORLD_SIZE', 'NODE_RANK')}
    return {**kept, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}


def stopped_after_a_validation(command, send):
    """Run a command that would train for hours, `send(process)` when it has validated; its exit code and output."""
    process = subprocess.Popen(
        [*command, '--steps', '100000'],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = []
    for line in process.stdout:
        if 'validation' in line and not output:
            send(process)
        output += [line] if output or 'validation' in line else []
    return process.wait(), ''.join(output)


def test_two_processes_train_one_network_on_different_pictures_until_ctrl_c(command, tmp_path):
    # A terminal sends Ctrl-C to every process, those that make the pictures too.
    code, output = stopped_after_a_validation(
        [*command, '--devices', '2'], lambda process: os.killpg(process.pid, signal.SIGINT)
    )
    assert code == 130, output
    one, two = (torch.load(tmp_path / f'watched.py.{rank}.pt', weights_only=True) for rank in (0, 1))
    assert len(one['seen']) == len(two['seen']) >= 3
    for a, b in zip(one['seen'], two['seen']):
        assert not torch.equal(a, b)
    for a, b in zip(one['network'].values(), two['network'].values()):
        assert torch.equal(a, b)
    assert one['validation'] == two['validation']
    state = torch.load(tmp_path / 'run' / 'checkpoint.pt', weights_only=True)
    assert state['step'] == len(one['seen'])
    assert f'stopped at step {state["step"]};' in output
    for a, b in zip(state['learner'].values(), one['network'].values()):
        assert torch.equal(a, b)
    assert len((tmp_path / 'run' / 'log.csv').read_text().splitlines()) == 1 + state['step']
    assert list((tmp_path / 'run' / 'tensorboard').glob('events*'))


def test_sigterm_ends_the_training_after_the_step_at_hand_and_saves(command, tmp_path):
    code, output = stopped_after_a_validation(command, lambda process: process.terminate())
    assert code == 130, output
    step = torch.load(tmp_path / 'run' / 'checkpoint.pt', weights_only=True)['step']
    assert step >= 3 and f'stopped at step {step};' in output
