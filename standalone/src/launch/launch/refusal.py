"""What is not in this stand-in is refused by its name."""


class NotInStandInError(ImportError, NotImplementedError):
    """Something of the genuine package that this stand-in does not have."""

    def __init__(self, what):
        super().__init__(f'{what} is not in this stand-in: install ROS 2 for it')


def refuser(module):
    """Returns the `__getattr__` of `module`, which refuses what is not there, so that an import says why it fails."""

    def __getattr__(name):
        if name.startswith('_'):
            raise AttributeError(name)
        raise NotInStandInError(f'{module}.{name}')

    return __getattr__


def refuse_arguments(owner, arguments):
    """Raises if there are any `arguments` left that `owner` does not know."""
    for name in arguments:
        raise NotInStandInError(f'{type(owner).__name__}({name}=...)')
