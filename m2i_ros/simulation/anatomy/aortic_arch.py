"""The aorta from the sinotubular junction over the arch to the diaphragm, and the arteries of head and arms."""

import numpy as np
from scipy.interpolate import CubicSpline

from m2i_ros.simulation.anatomy.tree import Tree, curve, taper, wander

BRANCHES = (
    'ascending aorta and arch',
    'descending aorta',
    'brachiocephalic trunk',
    'right subclavian',
    'right vertebral',
    'right common carotid',
    'left common carotid',
    'left subclavian',
    'left vertebral',
)
SITES = {'aneurysm': (0, 1), 'stenosis': (3, 5, 6, 7), 'occlusion': (3, 6, 7), 'kink': (5, 6)}


def make(rng):
    """Return the tree of BRANCHES, in this order.

    Aortic diameters along the way: 31 +- 4 mm ascending, 29 before the trunk, 28 and 26 in the arch, 25 at the isthmus,
    24 +- 3.5 at the diaphragm (Hager et al., J Thorac Cardiovasc Surg 2002;123:1060). Origins: trunk 12.5 +- 2.0, left
    carotid 8.3 +- 1.5, left subclavian 10.4 +- 2.2 mm, walls 4.4 and 6.4 mm apart, the line through them 50 +- 14
    degrees off the sagittal plane (Yan et al., CT angiography of 217 normal arches, 2017). Common carotids 6.1 to
    6.5 mm (Krejza et al., Stroke 2006;37:1103). Trunk 4 to 5 cm long (Gray's Anatomy).

    Type: how far the trunk's origin lies below the arch's top, in diameters of the left carotid: I below 1, II to 2,
    III more; I and II are the commoner. One in seven is bovine: the left carotid comes off the trunk (13.6% in
    Popieluszko et al., J Vasc Surg 2018;68:298).
    """
    tree = Tree()
    j = lambda sd: rng.normal(0, sd)  # noqa: E731
    arch_type = rng.choice(3, p=[0.5, 0.32, 0.18])
    calibre = rng.normal(1.0, 0.11)
    trunk_calibre = rng.normal(1.0, 0.12)
    r_trunk, r_carotid, r_subclavian = np.maximum(rng.normal([6.25, 4.1, 5.2], [0.6, 0.5, 0.7]), [4.2, 2.9, 3.4])
    r_trunk, r_carotid, r_subclavian = np.array([r_trunk, r_carotid, r_subclavian]) * trunk_calibre

    # The older the arch, the wider and the higher: it unfolds, and the branches come to lie on its rising limb.
    width, height = rng.normal(68, 6) + 5 * arch_type, rng.normal(31, 3) + 6 * arch_type
    turn = np.deg2rad(rng.normal(42, 8))
    across = np.array([np.sin(turn), np.cos(turn), 0.0])
    rise = np.array([-9 + j(2), -4 + j(2), rng.normal(36, 5)])
    half = [rise + width / 2 * (1 - np.cos(a)) * across + (0, 0, height * np.sin(a)) for a in np.pi * np.arange(5) / 4]
    low = half[-1]
    knots = [(0, 0, 0), 0.5 * rise + (-3 + j(1), -3 + j(1), 0), *half]
    knots += [
        low + (j(3), 8 + j(3), -55),
        low + (-9 + j(4), 9 + j(4), -115),
        low + (-20 + j(5), 3 + j(5), -185 + j(12)),
    ]
    points, at = curve(knots, 1.5)
    n = len(points)
    start = at[6]
    points[start:] = wander(rng, points[start:], rng.gamma(2.0, 0.7), 150)
    top = int(np.argmax(points[:, 2]))
    stations = [0, at[1], at[3], top, at[5], at[7], n - 1]
    r_aorta = np.array([14.4, 15.4, 14.7, 13.6, 12.8, 12.3, 12.1]) * calibre * rng.normal(1.0, 0.03, 7)
    radii = CubicSpline(stations, r_aorta, bc_type='natural')(np.arange(n))
    aorta = tree.add(points[: start + 1], radii[: start + 1])
    tree.add(points[start:], radii[start:], aorta[-1])

    # The outer wall, to which the branches belong.
    along = np.gradient(points, axis=0)
    up = np.array([0, 0, 1.0]) - along * (along[:, 2:] / (along**2).sum(axis=1, keepdims=True))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    wall = points + radii[:, None] * up
    depth = wall[:, 2].max() - wall[:, 2]
    below = 2 * r_carotid * (arch_type + rng.uniform(0.1, 0.9 + 0.4 * (arch_type == 2)))
    origins = [int(np.argmin(np.abs(depth[:top] - below)))]
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(wall, axis=0), axis=1))])
    gaps = (max(1.0, rng.normal(4.4, 1.8)), max(1.0, rng.normal(6.4, 2.8)))
    for gap, before, after in ((gaps[0], r_trunk, r_carotid), (gaps[1], r_carotid, r_subclavian)):
        origins.append(int(np.searchsorted(way, way[origins[-1]] + before + gap + after)))

    def branch(parent, knots, r_start, r_end, bends=1.0):
        line, _ = curve(knots, 1.0)
        line = wander(rng, line, bends * rng.gamma(2.0, 0.5), 45)
        # Origins are wide: most of the taper is in the first two centimetres.
        early = np.exp(-np.arange(len(line)) / 20)
        radii = r_end + (r_start - r_end) * (0.6 * early + 0.4 * taper(1, 0, len(line)))
        return tree.add(line, radii, parent)

    def leave(k):
        """The first two points of a branch: on the aorta's axis, and a little outside its wall."""
        way_out = 0.7 * up[k] + (0, 0, 0.3)
        return [points[k], points[k] + (radii[k] + 6) * way_out / np.linalg.norm(way_out)]

    # Right side: trunk, subclavian over the first rib, vertebral, carotid.
    first = leave(aorta[origins[0]])
    fork = first[1] + (-17 + j(3), -2 + j(2), 27 + j(5))
    trunk = branch(
        aorta[origins[0]], [*first, 0.5 * (first[1] + fork) + (j(2), j(2), 2), fork], r_trunk, r_trunk * 0.94, 0.5
    )
    fork, neck = tree.point(trunk[-1]), points[top] + (-24, 8, 0)
    r_right = r_trunk * rng.normal(0.74, 0.04)
    _arm(rng, tree, trunk[-1], [fork], -1, r_right, branch)
    _carotid(rng, trunk[-1], [fork], neck, r_trunk * rng.normal(0.56, 0.04), branch)

    neck = points[top] + (26, 10, 0)
    if rng.uniform() < 0.136:
        k = trunk[int(np.searchsorted(tree.arc(trunk), radii[origins[0]] + rng.uniform(2, 14)))]
        side = [tree.point(k), tree.point(k) + (r_trunk + 7 + j(1), 2 + j(1), 9 + j(2))]
        _carotid(rng, k, side, neck, r_carotid, branch)
    else:
        _carotid(rng, aorta[origins[1]], leave(aorta[origins[1]]), neck, r_carotid, branch)

    first = leave(aorta[origins[2]])
    bend = first[1] + (7 + j(2), 1 + j(2), 24 + j(4))
    _arm(rng, tree, aorta[origins[2]], [*first, bend], 1, r_subclavian, branch)
    return tree.centreline((rng.normal(5, 6), rng.normal(-55, 8), rng.normal(-470, 25)))


def _arm(rng, tree, parent, knots, side, r_start, branch):
    """Add a subclavian artery through `knots` over the first rib to the armpit, and its vertebral artery."""
    j = lambda sd: rng.normal(0, sd)  # noqa: E731
    p = knots[-1]
    knots = [*knots, p + (side * (17 + j(2)), j(2), 13 + j(2)), p + (side * (42 + j(3)), -4 + j(3), 12 + j(3))]
    knots.append(p + (side * (80 + j(5)), -14 + j(4), -13 + j(5)))
    arm = branch(parent, knots, r_start, r_start * 0.72)
    # The vertebral artery leaves before the first rib, and enters the spine at C6.
    near = np.linalg.norm(tree.point(arm) - (p + (side * 17, 0, 13)), axis=1)
    k = arm[int(np.argmin(near))]
    p = tree.point(k)
    spine = [
        p,
        p + (side * -4 + j(1), 5 + j(1), 14),
        p + (side * -9 + j(2), 14 + j(2), 38),
        p + (side * -9, 16, 82 + j(4)),
    ]
    branch(k, spine, rng.normal(2.0, 0.2), rng.normal(1.75, 0.2), 0.6)


def _carotid(rng, parent, knots, neck, r_start, branch):
    """Add a common carotid artery through `knots` up the neck, to just below where it divides."""
    j = lambda sd: rng.normal(0, sd)  # noqa: E731
    high = neck + (j(3), j(3), 112 + j(6))
    middle = 0.45 * knots[-1] + 0.55 * high + (0.1 * (neck[0] - knots[-1][0]) + j(2), j(2), 0)
    branch(parent, [*knots, middle, high], r_start, min(r_start * 0.9, rng.normal(3.1, 0.3)))
