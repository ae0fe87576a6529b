"""Diseases of a vessel tree: aneurysm, stenosis, occlusion, kink. They change a `Centreline`; metres.

An aneurysm is at least half as wide again as the vessel (Johnston et al., J Vasc Surg 1991;13:452); one in seven is a
sac at the side. A stenosis takes away half of the diameter or more. Occlusions are crossed by thin, winding
collaterals, through which the far side fills late, or nothing beyond them fills at all.
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order

# Share of the patients, of those who come to be treated: most vessels seen are healthy, and no disease is rare.
FREQUENCY = {'aneurysm': 0.09, 'stenosis': 0.09, 'occlusion': 0.05, 'kink': 0.05}
PATHOLOGIES = tuple(FREQUENCY)
_SACCULAR = 1 / 7
_THINNEST = 0.75e-3  # radius: nobody looks for disease in smaller arteries
_MOST_LOST = 2 / 3  # share of the tree that an occlusion may leave dark
_WIDEST = 28e-3  # radius: larger aneurysms are rare, and fill the picture


def draw(rng):
    """Return one of PATHOLOGIES with its FREQUENCY, or None."""
    return rng.choice([*PATHOLOGIES, None], p=[*FREQUENCY.values(), 1 - sum(FREQUENCY.values())])


def afflict(tree, pathology, branches, rng):
    """Return the tree with `pathology` (one of PATHOLOGIES) on one of `branches`, away from every joint.

    The more wall there is, the likelier it falls ill. A tree none of whose branches is wide and long enough stays well.
    """
    runs = [run for run in _clear_runs(tree) if tree.branch[run[0]] in branches]
    runs = [run for run in runs if tree.radii[run].mean() > _THINNEST]
    if not runs:
        return tree
    area = np.array([np.ptp(tree.arc_length[run]) * tree.radii[run].mean() for run in runs])
    run = runs[rng.choice(len(runs), p=area / area.sum())]
    return _MAKERS[pathology](tree, run, rng)


def _clear_runs(tree):
    """Return index arrays of the stretches along branches that lie clear of joints, ends and the parent's lumen."""
    a, b = tree.edges.T
    joints = tree.edges[tree.branch[a] != tree.branch[b]]
    clear = np.ones(len(tree.points), bool)
    for parent, child in joints:
        reach = 1.3 * max(tree.radii[parent], tree.radii[child])
        for at in (parent, child):
            near = np.abs(tree.arc_length - tree.arc_length[at]) < reach
            clear &= ~(near & (tree.branch == tree.branch[at]))
    length = np.zeros(tree.branch.max() + 1)
    np.maximum.at(length, tree.branch, tree.arc_length)
    clear &= (tree.arc_length > tree.radii) & (tree.arc_length < length[tree.branch] - tree.radii)
    same = clear[1:] & clear[:-1] & (np.diff(tree.branch) == 0)
    runs = np.split(np.arange(len(clear)), np.flatnonzero(~same) + 1)
    return [run for run in runs if len(run) >= 8]


def _window(tree, run, length, rng):
    """Return a place on the run: distances (n,) from a random point of it, as shares of half of `length`."""
    s = tree.arc_length[run]
    half = min(length, np.ptp(s)) / 2
    middle = s[0] + half + rng.uniform() * (s[-1] - s[0] - 2 * half)
    return (s - s[np.argmin(np.abs(s - middle))]) / half


def _bell(x):
    """Return 1 at x = 0, falling smoothly to 0 at -1 and 1."""
    return np.cos(np.pi / 2 * np.clip(x, -1, 1)) ** 2


def _aside(tree, at, rng):
    """Return a random unit direction (3,) across the vessel at point `at`."""
    along = tree.points[at + 1] - tree.points[at - 1]
    way = np.cross(along, rng.normal(size=3))
    return way / np.linalg.norm(way)


def _changed(tree, run, points, radii):
    """Return the tree with other points and radii on the run."""
    moved, wide = tree.points.copy(), tree.radii.copy()
    moved[run], wide[run] = points, radii
    step = np.linalg.norm(np.diff(moved, axis=0), axis=1) * (np.diff(tree.branch) == 0)
    along = np.concatenate([[0.0], np.cumsum(step)])
    first = np.flatnonzero(np.diff(tree.branch, prepend=-1))
    return replace(tree, points=moved, radii=wide, arc_length=along - along[first][tree.branch])


def _aneurysm(tree, run, rng):
    if rng.uniform() < _SACCULAR:
        return _sac(tree, run, rng)
    r = tree.radii[run].mean()
    widest = min(r * rng.uniform(1.6, 2.4), max(_WIDEST, 1.5 * r))
    swell = _bell(_window(tree, run, rng.uniform(3.0, 6.0) * widest, rng))
    # The wall gives way to one side more than to the other.
    bulge = swell[:, None] * rng.uniform(0, 0.4) * (widest - r) * _aside(tree, run[len(run) // 2], rng)
    return _changed(tree, run, tree.points[run] + bulge, tree.radii[run] + swell * (widest - r))


def _sac(tree, run, rng):
    """Return the tree with a sphere on a neck at the vessel's side: a branch of its own."""
    at = int(rng.choice(run[1:-1]))
    r = tree.radii[at]
    size = min(r * rng.uniform(0.7, 1.1), 0.6 * _WIDEST)
    middle = r + rng.uniform(0.4, 0.8) * size
    s = np.linspace(0, middle + 0.95 * size, 24)
    radii = np.sqrt(np.maximum(size**2 - (s - middle) ** 2, 0))
    radii = np.where(s < middle, np.maximum(radii, 0.6 * size), radii)
    index = len(tree.points) + np.arange(len(s))
    joint = [[at, index[0]]]
    return replace(
        tree,
        points=np.concatenate([tree.points, tree.points[at] + s[:, None] * _aside(tree, at, rng)]),
        radii=np.concatenate([tree.radii, radii]),
        branch=np.concatenate([tree.branch, np.full(len(s), tree.branch.max() + 1, np.int32)]),
        arc_length=np.concatenate([tree.arc_length, s]),
        edges=np.concatenate([tree.edges, np.stack([index[:-1], index[1:]], axis=1), joint]).astype(np.int32),
    )


def _stenosis(tree, run, rng):
    r = tree.radii[run].mean()
    degree = rng.uniform(0.5, 0.85) * _bell(_window(tree, run, max(rng.uniform(2.0, 8.0) * r, 6e-3), rng))
    # A plaque lies on one side: what is left of the lumen lies on the other.
    shift = (degree * rng.uniform(0, 0.8) * r)[:, None] * _aside(tree, run[np.argmax(degree)], rng)
    return _changed(tree, run, tree.points[run] + shift, tree.radii[run] * (1 - degree))


def _kink(tree, run, rng):
    r = tree.radii[run].mean()
    width = min(2.2 * r, np.ptp(tree.arc_length[run]) / 5)
    x = _window(tree, run, 5 * width, rng) * 2.5
    bend = np.exp(-0.5 * x**2) * _bell(x / 2.5)
    pinch = rng.uniform(0.25, 0.55) * np.exp(-0.5 * (2 * x) ** 2)
    out = bend[:, None] * rng.uniform(1.4, 2.2) * width * _aside(tree, run[np.argmax(bend)], rng)
    return _changed(tree, run, tree.points[run] + out, tree.radii[run] * (1 - pinch))


def _occlusion(tree, run, rng):
    r = tree.radii[run].mean()
    x = _window(tree, run, max(rng.uniform(6.0, 25.0) * r, 0.01), rng)
    shut = run[np.abs(x) <= 1]
    gone = _downstream(tree, shut[0])
    # Who has next to nothing left is not seen for long.
    if rng.uniform() < 0.5 and gone.mean() < _MOST_LOST:
        return _without(tree, gone)
    # The collateral's way: a bow to one side, and turns on it.
    s, length = x[np.abs(x) <= 1], np.ptp(tree.arc_length[shut])
    one = _aside(tree, shut[0], rng)
    other = np.cross(one, tree.points[shut[-1]] - tree.points[shut[0]])
    other /= np.linalg.norm(other)
    turns = 2 * np.pi * s * max(1.0, len(s) / 20) + rng.uniform(0, 2 * np.pi)
    size = np.clip(0.35 * length, 2.0 * r, 0.025)
    bow = size * _bell(s)[:, None] * ((1 + 0.5 * np.cos(turns))[:, None] * one + 0.5 * np.sin(turns)[:, None] * other)
    thin = np.full(len(s), np.clip(rng.uniform(0.12, 0.22) * r, 0.2e-3, 0.9e-3))
    return _changed(tree, shut, tree.points[shut] + bow, thin)


_MAKERS = {'aneurysm': _aneurysm, 'stenosis': _stenosis, 'occlusion': _occlusion, 'kink': _kink}


def _downstream(tree, at):
    """Return (N,) bool: the points that blood reaches through point `at`, and that point."""
    size = len(tree.points)
    graph = coo_array((np.ones(len(tree.edges)), tree.edges.T), shape=(size, size))
    order, before = breadth_first_order(graph.tocsr(), 0, directed=False)
    gone = np.zeros(size, bool)
    gone[at] = True
    for point in order[1:]:
        gone[point] |= gone[before[point]]
    return gone


def _without(tree, gone):
    """Return the tree less the points `gone` (N,) bool; branches are numbered anew."""
    number = np.cumsum(~gone) - 1
    edges = tree.edges[~gone[tree.edges].any(axis=1)]
    return replace(
        tree,
        points=tree.points[~gone],
        radii=tree.radii[~gone],
        branch=np.unique(tree.branch[~gone], return_inverse=True)[1].astype(np.int32),
        arc_length=tree.arc_length[~gone],
        edges=number[edges].astype(np.int32),
    )
