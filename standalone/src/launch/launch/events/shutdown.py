"""The event that ends a launch."""


class Shutdown:
    """Everything is to end, for `reason`; `due_to_sigint` where the terminal has told the processes already."""

    def __init__(self, *, reason='reason not given', due_to_sigint=False, **_):
        self.reason = reason
        self.due_to_sigint = due_to_sigint
