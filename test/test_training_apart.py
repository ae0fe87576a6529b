"""The tests of training, each file in a process of its own: see conftest.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.glob('training/test_*.py'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_training(file):
    environment = {**os.environ, 'M2I_TRAINING_TESTS': '1', 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
