"""One coronary tree, left or right."""

import numpy as np

from m2i_ros.simulation.anatomy.tree import Tree, curve, taper, wander

_ANY = range(64)
# Millimetres between two lumens: arteries lie side by side, never in each other, each in a wall of 0.75 +- 0.17 mm
# (Fayad et al., Circulation 2000;102:506). About a joint, radii of the parent and millimetres more are free.
_APART = 1.0
_JOINT = (4.0, 2.0)
# Degrees between a side branch and what it leaves: diagonals 46 +- 19, marginals 48 +- 24 (Pflederer et al., Invest
# Radiol 2006;41:793); over so many millimetres.
_ANGLE = (47.0, 21.5)
_OVER = 8
_TRIES = 40
SITES = {'aneurysm': _ANY, 'stenosis': _ANY, 'occlusion': _ANY, 'kink': _ANY}


def make(rng):
    """Return a left or a right coronary tree: thin and tortuous, on the heart's ellipsoid.

    Diameters (Dodge et al., Circulation 1992;86:232): left main 4.5, proximal LAD 3.7, distal LAD 1.9, proximal LCx
    3.4, proximal RCA 3.9 mm, scattered by some 15%. Left main 10.5 +- 5.3 mm long, its branches 75 to 89 +- 22 degrees
    apart (Medrano-Gracia et al., EuroIntervention 2016;12:845). Side branches leave at about the angles measured in
    people, and no artery runs in another where there is room for it.
    """
    tree = Tree()
    axes = np.array([50.0, 45.0, 60.0]) * rng.normal(1.0, 0.12, 3).clip(0.75, 1.3)
    calibre = rng.normal(1.0, 0.15)
    tortuous = rng.uniform(0.3, 1.3)

    def on_heart(longitude, latitude):
        a, b = np.deg2rad(longitude), np.deg2rad(latitude)
        return axes * np.array([np.cos(b) * np.sin(a), -np.cos(b) * np.cos(a), np.sin(b)])

    def drawn(waypoints, r_start, r_end, first):
        spots = [on_heart(*(np.array(w) + rng.normal(0, 5, 2))) for w in waypoints]
        if first is not None:
            spots[0] = first
        points, _ = curve(spots, 1.0)
        length = len(points)
        points = wander(rng, points, tortuous * 1.6, 26)
        if rng.uniform() < 0.6:
            points = wander(rng, points, tortuous * rng.uniform(0.3, 1.2), rng.uniform(7, 14))
        radii = taper(r_start, r_end, length) * calibre
        if rng.uniform() < 0.25:
            dip = rng.uniform(0.2, 0.7) * np.exp(
                -(((np.arange(length) - rng.uniform(0, length)) / rng.uniform(2, 6)) ** 2)
            )
            radii = radii * (1 - dip)
        return points, np.maximum(radii, 0.2)

    def has_room(points, radii, parent):
        return tree.apart(points, radii, parent, _JOINT[0] * tree.radius(parent) + _JOINT[1], _APART)

    def vessel(waypoints, r_start, r_end, parent=None, first=None):
        for _ in range(_TRIES):
            points, radii = drawn(waypoints, r_start, r_end, first)
            if parent is None or has_room(points, radii, parent):
                break
        return tree.add(points, radii, parent)

    def twigs(index, count, low, high, share, spread):
        for _ in range(count):
            for _ in range(_TRIES):
                if twig(index, low, high, share, spread):
                    break

    def likely(points, onward):
        """Return the likelihood (1 at most) of a side branch's angle to the vessel that goes on from there."""
        way, other = (line[min(_OVER, len(line) - 1)] - line[0] for line in (points, tree.point(onward)))
        angle = np.degrees(np.arccos(way @ other / np.linalg.norm(way) / np.linalg.norm(other)))
        return np.exp(-0.5 * ((angle - _ANGLE[0]) / _ANGLE[1]) ** 2)

    def twig(index, low, high, share, spread):
        """Try to let a twig grow, with another of its own at times; return whether there was room for it."""
        k = index[int(rng.uniform(0.12, 0.85) * len(index))]
        p, r = tree.point(k), tree.radius(k) / calibre
        longitude = np.rad2deg(np.arctan2(p[0] / axes[0], -p[1] / axes[1]))
        latitude = np.rad2deg(np.arcsin(np.clip(p[2] / axes[2], -1, 1)))
        way = np.array([rng.normal(0, spread) + low, rng.uniform(-45, -5) * high])
        end = np.array([longitude, latitude]) + way * rng.uniform(0.5, 1.4)
        end[1] = max(end[1], -85)
        middle = (np.array([longitude, latitude]) + end) / 2 + rng.normal(0, 5, 2)
        points, radii = drawn([(longitude, latitude), middle, end], min(r * share, 1.4), rng.uniform(0.25, 0.5), p)
        if rng.uniform() > likely(points, index[index >= k]) or not has_room(points, radii, k):
            return False
        branch = tree.add(points, radii, k)
        if rng.uniform() < 0.3:
            k2 = branch[int(rng.uniform(0.3, 0.7) * len(branch))]
            p2 = tree.point(k2)
            for _ in range(_TRIES):
                end2 = end + rng.normal(0, 14, 2)
                end2[1] = max(end2[1], -85)
                waypoints = [(0, 0), (middle + end2) / 2, end2]
                points, radii = drawn(waypoints, tree.radius(k2) / calibre * 0.75, 0.25, p2)
                if has_room(points, radii, k2):
                    tree.add(points, radii, k2)
                    break
        return True

    if rng.uniform() < 0.55:
        main = vessel([(-4, 54), (11, 48)], 2.3, 2.15)
        p = tree.point(main[-1])
        lad = vessel([(0, 0), (14, 28), (16, -5), (14, -40), (20, -75)], 1.85, rng.uniform(0.5, 0.9), main[-1], p)
        lcx = vessel([(0, 0), (48, 46), (85, 25), (110, 5), (130, -12)], 1.7, rng.uniform(0.5, 0.9), main[-1], p)
        twigs(lad, rng.integers(1, 4), 32, 1.0, 0.7, 14)
        twigs(lad, rng.integers(0, 5), -16, 0.8, 0.4, 12)
        twigs(lcx, rng.integers(1, 4), -10, 1.7, 0.75, 18)
    else:
        end = rng.uniform(-195, -170)
        rca = vessel(
            [(-25, 55), (-55, 45), (-88, 20), (-105, -15), (-135, -32), (end, -28)], 2.0, rng.uniform(1.1, 1.5)
        )
        p = tree.point(rca[-1])
        vessel([(0, 0), (end + 5, -48), (end + 25, -70)], 1.1, 0.5, rca[-1], p)
        vessel([(0, 0), (end - 25, -10), (end - 45, -25)], 1.1, 0.4, rca[-1], p)
        twigs(rca, rng.integers(1, 5), 28, 1.2, 0.5, 22)
    return tree.centreline((rng.normal(10, 8), rng.normal(-50, 10), rng.normal(-540, 30)))
