"""Vessel trees as anatomy books draw them, different for each seed. LPS axes, metres. One file an anatomy."""

import numpy as np

from m2i_ros.simulation.anatomy import aortic_arch, aortic_root, coronary, iliofemoral

_MAKERS = {'iliofemoral': iliofemoral, 'aortic_root': aortic_root, 'aortic_arch': aortic_arch, 'coronary': coronary}
ANATOMIES = tuple(_MAKERS)


def make_centreline(name, seed=0):
    """Return the `Centreline` of the anatomy `name` (one of ANATOMIES): metres, LPS; another patient for each seed.

    seed: an integer or a NumPy Generator. Branch 0 is where the blood comes in, and its first point the root.
    Raises ValueError for a name not in ANATOMIES.
    """
    if name not in _MAKERS:
        raise ValueError(f'anatomy {name!r}: choose one of {", ".join(ANATOMIES)}')
    return _MAKERS[name].make(np.random.default_rng(seed))
