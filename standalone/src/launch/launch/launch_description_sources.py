"""Reads launch files."""

import importlib.util
import os

from launch.refusal import NotInStandInError, refuser

__getattr__ = refuser(__name__)


def get_launch_description_from_python_launch_file(python_launch_file_path):
    """Returns what the file's generate_launch_description() returns."""
    path = os.fspath(python_launch_file_path)
    if not path.endswith('.py'):
        raise NotInStandInError(f'{os.path.basename(path)}, a launch file that is not Python,')
    spec = importlib.util.spec_from_file_location('python_launch_file', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, 'generate_launch_description'):
        raise RuntimeError(
            f"launch file at '{path}' does not contain the required function 'generate_launch_description()'"
        )
    return module.generate_launch_description()
