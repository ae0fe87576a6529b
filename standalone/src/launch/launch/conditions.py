"""Whether an action runs."""

from launch.refusal import refuser
from launch.substitutions import normalize_to_list_of_substitutions, perform_substitutions

__getattr__ = refuser(__name__)


class IfCondition:
    """True where the text is 'true' or '1', false where it is 'false' or '0'; anything else is an error."""

    def __init__(self, predicate_expression):
        self._expression = normalize_to_list_of_substitutions(predicate_expression)

    def evaluate(self, context):
        """Returns whether the condition holds."""
        text = perform_substitutions(context, self._expression).strip().lower()
        if text not in ('true', '1', 'false', '0'):
            raise ValueError(f"invalid condition expression, expected true, false, 1 or 0 but got '{text}'")
        return text in ('true', '1')


class UnlessCondition(IfCondition):
    """The opposite of IfCondition."""

    def evaluate(self, context):
        return not super().evaluate(context)
