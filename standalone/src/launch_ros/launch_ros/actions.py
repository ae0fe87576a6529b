"""The action that starts a node."""

import os
import tempfile

import yaml
from ament_index_python.packages import get_package_prefix
from launch.actions import ExecuteProcess
from launch.refusal import refuser
from launch.substitutions import Substitution, normalize_to_list_of_substitutions, perform_substitutions
from launch_ros.parameter_descriptions import ParameterValue

__getattr__ = refuser(__name__)


class Node(ExecuteProcess):
    """Starts `executable` of `package` as a node.

    `parameters`: dictionaries and paths of YAML files, the last one counts; texts in dictionaries are read as YAML, as
    the genuine package does (ParameterValue keeps them texts). `remappings`: pairs (from, to).
    """

    def __init__(
        self,
        *,
        executable,
        package=None,
        name=None,
        namespace=None,
        exec_name=None,
        parameters=None,
        remappings=None,
        ros_arguments=None,
        arguments=None,
        **kwargs,
    ):
        super().__init__(cmd=[executable], name=exec_name, **kwargs)
        self.package, self.node_name, self.node_namespace = package, name, namespace
        self.parameters = list(parameters or [])
        self.remappings = list(remappings or [])
        self.ros_arguments, self.arguments = list(ros_arguments or []), list(arguments or [])

    def details(self, context):
        def text(subject):
            return (
                '' if subject is None else perform_substitutions(context, normalize_to_list_of_substitutions(subject))
            )

        details = super().details(context)
        executable = details['cmd'][0]
        if self.package is not None:
            executable = find_executable(text(self.package), executable)
        ros = [text(argument) for argument in self.ros_arguments]
        name, namespace = text(self.node_name), text(self.node_namespace).strip('/')
        if name:
            ros += ['-r', f'__node:={name}']
        if namespace:
            ros += ['-r', f'__ns:=/{namespace}']
        for parameters in self.parameters:
            is_file = isinstance(parameters, (str, os.PathLike, Substitution))
            ros += ['--params-file', text(parameters) if is_file else _parameter_file(parameters, context)]
        for source, target in self.remappings:
            ros += ['-r', f'{text(source)}:={text(target)}']
        details['cmd'] = [executable, *map(text, self.arguments), *(['--ros-args', *ros] if ros else [])]
        return details


def find_executable(package, executable):
    """Returns the path of an executable of a package; raises LookupError where there is none."""
    path = os.path.join(get_package_prefix(package), 'lib', package, executable)
    if not os.access(path, os.X_OK):
        raise LookupError(f"executable '{executable}' not found on the libexec directory '{os.path.dirname(path)}'")
    return path


def _parameter_file(parameters, context):
    with tempfile.NamedTemporaryFile('w', prefix='launch_params_', delete=False) as file:
        yaml.safe_dump({'/**': {'ros__parameters': _evaluate(parameters, context)}}, file)
    return file.name


def _evaluate(value, context):
    if isinstance(value, dict):
        return {
            perform_substitutions(context, normalize_to_list_of_substitutions(name)): _evaluate(one, context)
            for name, one in value.items()
        }
    if isinstance(value, ParameterValue):
        return value.evaluate(context)
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and not any(isinstance(one, Substitution) for one in value):
        return [_evaluate(one, context) for one in value]
    return ParameterValue(value).evaluate(context)
