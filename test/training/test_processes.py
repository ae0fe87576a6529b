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
    'steps': 3,
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


def test_two_processes_train_one_network_on_different_pictures(command, tmp_path):
    done = subprocess.run([*command, '--devices', '2'], env=environment(), capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert '2 process(es)' in done.stdout
    one, two = (torch.load(tmp_path / f'watched.py.{rank}.pt', weights_only=True) for rank in (0, 1))
    assert len(one['seen']) == len(two['seen']) == 3
    for a, b in zip(one['seen'], two['seen']):
        assert not torch.equal(a, b)
    for a, b in zip(one['network'].values(), two['network'].values()):
        assert torch.equal(a, b)
    assert one['validation'] == two['validation']
    state = torch.load(tmp_path / 'run' / 'checkpoint.pt', weights_only=True)
    assert state['step'] == 3
    for a, b in zip(state['learner'].values(), one['network'].values()):
        assert torch.equal(a, b)
    assert len((tmp_path / 'run' / 'log.csv').read_text().splitlines()) == 4
    assert list((tmp_path / 'run' / 'tensorboard').glob('events*'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_the_step_at_hand_and_saves(command, tmp_path, number):
    process = subprocess.Popen(
        [*command, '--steps', '100000'], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if line.startswith('step 50/'):
            process.send_signal(number)
            break
    rest = process.stdout.read()
    assert process.wait() == 130, rest
    step = torch.load(tmp_path / 'run' / 'checkpoint.pt', weights_only=True)['step']
    assert f'stopped at step {step}' in rest
    assert step >= 50
