"""Parameters whose type is said."""

import yaml
from launch.refusal import NotInStandInError, refuser
from launch.substitutions import normalize_to_list_of_substitutions, perform_substitutions

__getattr__ = refuser(__name__)


class ParameterValue:
    """A value that is of `value_type` (str, bool, int, float), whatever it looks like in YAML."""

    def __init__(self, value, *, value_type=None):
        if value_type not in (None, str, bool, int, float):
            raise NotInStandInError(f'ParameterValue(value_type={value_type})')
        self.value, self.value_type = value, value_type

    def evaluate(self, context):
        """Returns the value."""
        value = self.value
        if not isinstance(value, (bool, int, float)):
            value = perform_substitutions(context, normalize_to_list_of_substitutions(value))
            if self.value_type is str:
                return value
            value = yaml.safe_load(value)
        if self.value_type is not None and type(value) is not self.value_type:
            raise ValueError(f"'{value}' is not of type {self.value_type.__name__}")
        return value
