"""Texts that are known only when the launch runs."""

import os

from launch.refusal import refuser

__getattr__ = refuser(__name__)


class Substitution:
    """A text to come."""

    def perform(self, context):
        """Returns the text."""
        raise NotImplementedError

    def describe(self):
        """Returns how it reads in --show-args."""
        return f'{type(self).__name__}()'


class TextSubstitution(Substitution):
    """A text known already."""

    def __init__(self, *, text):
        self.text = text

    def perform(self, context):
        return self.text

    def describe(self):
        return f"'{self.text}'"


class LaunchConfiguration(Substitution):
    """The value of a launch argument."""

    def __init__(self, variable_name, *, default=None):
        self.variable_name = normalize_to_list_of_substitutions(variable_name)
        self.default = None if default is None else normalize_to_list_of_substitutions(default)

    def perform(self, context):
        name = perform_substitutions(context, self.variable_name)
        if name in context.launch_configurations:
            return context.launch_configurations[name]
        if self.default is None:
            raise LookupError(f"launch configuration '{name}' does not exist")
        return perform_substitutions(context, self.default)

    def describe(self):
        return f'LaunchConfig({" + ".join(part.describe() for part in self.variable_name)})'


class EnvironmentVariable(Substitution):
    """The value of an environment variable."""

    def __init__(self, name, *, default_value=None):
        self.name = normalize_to_list_of_substitutions(name)
        self.default_value = None if default_value is None else normalize_to_list_of_substitutions(default_value)

    def perform(self, context):
        name = perform_substitutions(context, self.name)
        if name in os.environ:
            return os.environ[name]
        if self.default_value is None:
            raise LookupError(f"environment variable '{name}' does not exist")
        return perform_substitutions(context, self.default_value)

    def describe(self):
        return f'EnvVar({" + ".join(part.describe() for part in self.name)})'


class PathJoinSubstitution(Substitution):
    """A path made of its parts."""

    def __init__(self, substitutions):
        self.substitutions = [normalize_to_list_of_substitutions(part) for part in substitutions]

    def perform(self, context):
        return os.path.join(*(perform_substitutions(context, part) for part in self.substitutions))

    def describe(self):
        parts = (' + '.join(one.describe() for one in part) for part in self.substitutions)
        return f'PathJoin({", ".join(parts)})'


def normalize_to_list_of_substitutions(subject):
    """Returns a text, a path, a substitution or a sequence of them as a list of substitutions."""
    if isinstance(subject, Substitution):
        return [subject]
    if isinstance(subject, (str, os.PathLike)):
        return [TextSubstitution(text=os.fspath(subject))]
    return [part for one in subject for part in normalize_to_list_of_substitutions(one)]


def perform_substitutions(context, substitutions):
    """Returns the text that a list of substitutions makes."""
    return ''.join(part.perform(context) for part in substitutions)
