"""Vessel trees as anatomy books draw them, different for each seed. LPS axes, metres. One file an anatomy."""

import numpy as np

from m2i_ros.simulation.anatomy import aortic_arch, aortic_root, coronary, iliofemoral
from m2i_ros.simulation.anatomy.pathology import afflict, draw

_MAKERS = {'iliofemoral': iliofemoral, 'aortic_root': aortic_root, 'aortic_arch': aortic_arch, 'coronary': coronary}
ANATOMIES = tuple(_MAKERS)


def make_centreline(name, seed=0, pathology='drawn'):
    """Return the `Centreline` of the anatomy `name` (one of ANATOMIES): metres, LPS; another patient for each seed.

    seed: an integer or a NumPy Generator. Branch 0 is where the blood comes in, and its first point the root.
    pathology: 'aneurysm', 'stenosis', 'occlusion', 'kink', None, or 'drawn': by the seed, 28% of the patients have one,
    where the anatomy knows it (an aortic root does not kink). All else of the patient stays the same. None is without
    these, not without the lesser plaques of age.
    Raises ValueError for a name not in ANATOMIES, or a pathology that the anatomy does not know.
    """
    if name not in _MAKERS:
        raise ValueError(f'anatomy {name!r}: choose one of {", ".join(ANATOMIES)}')
    rng = np.random.default_rng(seed)
    disease = rng.spawn(1)[0]
    tree = _MAKERS[name].make(rng)
    sites = _MAKERS[name].SITES
    if pathology == 'drawn':
        pathology = draw(disease)
        if pathology not in sites:
            return tree
    if pathology is None:
        return tree
    if pathology not in sites:
        raise ValueError(f'pathology {pathology!r} of {name}: choose one of {", ".join(sites)}')
    return afflict(tree, pathology, sites[pathology], disease)
