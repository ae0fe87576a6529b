"""Simulated patients: vessel trees, X-ray pictures, injection sequences with exact truth, training samples.

torch is imported only when one of those that draw pictures is first asked for, so that importing this costs little.
"""

from importlib import import_module

_HOMES = {
    'ANATOMIES': 'anatomy',
    'Phantom': 'phantom',
    'SimulatedFrame': 'phantom',
    'make_anatomy': 'surface',
    'make_centreline': 'anatomy',
    'PhantomSamples': 'phantom_samples',
    'TrainingSamples': 'samples',
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
