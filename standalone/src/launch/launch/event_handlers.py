"""What to do when something happens."""

from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessStarted
from launch.refusal import refuse_arguments, refuser

__getattr__ = refuser(__name__)


class _OnEvent:
    """Runs `entities`, or what `entities(event, context)` returns."""

    def __init__(self, entities, unknown):
        refuse_arguments(self, unknown)
        self._entities = entities

    def matches(self, event):
        """Returns whether `event` is one of those waited for."""
        raise NotImplementedError

    def handle(self, event, context):
        """Returns the entities to run."""
        entities = self._entities(event, context) if callable(self._entities) else self._entities
        return entities if isinstance(entities, (list, tuple)) else [] if entities is None else [entities]


class _OnProcess(_OnEvent):
    def __init__(self, target_action, entities, unknown):
        super().__init__(entities, unknown)
        self._target = target_action

    def matches(self, event):
        if type(event) is not self.event_type:
            return False
        if callable(self._target):
            return self._target(event.action)
        return self._target is None or self._target is event.action


class OnProcessStart(_OnProcess):
    """Reacts to the start of a process: of `target_action`, or of any."""

    event_type = ProcessStarted

    def __init__(self, *, target_action=None, on_start, **unknown):
        super().__init__(target_action, on_start, unknown)


class OnProcessExit(_OnProcess):
    """Reacts to the end of a process: of `target_action`, or of any."""

    event_type = ProcessExited

    def __init__(self, *, target_action=None, on_exit, **unknown):
        super().__init__(target_action, on_exit, unknown)


class OnShutdown(_OnEvent):
    """Reacts to the end of the launch."""

    def __init__(self, *, on_shutdown, **unknown):
        super().__init__(on_shutdown, unknown)

    def matches(self, event):
        return isinstance(event, Shutdown)
