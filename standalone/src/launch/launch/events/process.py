"""What happens to a process."""

from launch.refusal import refuser

__getattr__ = refuser(__name__)


class ProcessStarted:
    """The process of `action` runs."""

    def __init__(self, *, action, name, cmd, pid):
        self.action, self.process_name, self.cmd, self.pid = action, name, cmd, pid


class ProcessExited(ProcessStarted):
    """The process of `action` has ended with `returncode`, negative where a signal ended it."""

    def __init__(self, *, returncode, **details):
        super().__init__(**details)
        self.returncode = returncode
