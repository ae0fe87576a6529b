"""From a vessel mask to the model's pose, and whether it is believed.

The `Registrar` brings compiled code (half a second): it is imported when it is first asked for.
"""

from importlib import import_module

from m2i_ros.registration.result import Registration, State
from m2i_ros.registration.settings import RegistrationSettings

__all__ = ['Registrar', 'Registration', 'RegistrationSettings', 'State']


def __getattr__(name):
    if name != 'Registrar':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return import_module(f'{__name__}.tracker').Registrar
