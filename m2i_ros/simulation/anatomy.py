"""Vessel trees as anatomy books draw them, different for each seed. LPS axes, metres."""

import numpy as np
from scipy.interpolate import CubicSpline

from m2i_ros.model.vessel_model import Centreline

MM = 1e-3


class _Tree:
    """Collects branches, in millimetres, into a `Centreline`."""

    def __init__(self):
        self._points, self._radii, self._branch, self._arc, self._edges = [], [], [], [], []
        self._count = 0

    def add(self, points, radii, parent=None):
        """Add a branch (n, 3) with radii (n,), joined to the point `parent` of the tree; return its indices."""
        n = len(points)
        index = np.arange(self._count, self._count + n)
        step = np.linalg.norm(np.diff(points, axis=0), axis=1)
        self._points.append(points)
        self._radii.append(np.broadcast_to(radii, n))
        self._branch.append(np.full(n, len(self._branch)))
        self._arc.append(np.concatenate([[0.0], np.cumsum(step)]))
        self._edges.append(np.stack([index[:-1], index[1:]], axis=1))
        if parent is not None:
            self._edges.append(np.array([[parent, index[0]]]))
        self._count += n
        return index

    def point(self, index):
        return np.concatenate(self._points)[index]

    def radius(self, index):
        return np.concatenate(self._radii)[index]

    def centreline(self, offset):
        return Centreline(
            (np.concatenate(self._points) + offset) * MM,
            np.concatenate(self._radii) * MM,
            np.concatenate(self._branch).astype(np.int32),
            np.concatenate(self._arc) * MM,
            np.concatenate(self._edges).astype(np.int32),
        )


def _curve(knots, spacing):
    """Return points (n, 3) at about `spacing` on the smooth curve through knots (k, 3), and each knot's index."""
    knots = np.asarray(knots, dtype=float)
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    spline = CubicSpline(at, knots) if len(knots) > 2 else None
    count = max(4, int(np.ceil(at[-1] / spacing)) + 1)
    s = np.linspace(0, at[-1], count)
    points = spline(s) if spline else knots[0] + np.outer(s / at[-1], knots[1] - knots[0])
    return points, np.rint(at / at[-1] * (count - 1)).astype(int)


def _wander(rng, points, amplitude, wavelength):
    """Return the points (n, 3) displaced by a smooth random path of about `amplitude`, none at both ends."""
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    waves = max(1.0, length / wavelength)
    s = np.linspace(0, 1, len(points))[:, None]
    out = np.zeros_like(points)
    for k in range(3):
        out += rng.normal(size=3) / (k + 1) * np.sin(2 * np.pi * (waves * (k + 1) / 2 * s + rng.uniform(size=3)))
    return points + amplitude * out * np.minimum(1, 6 * np.minimum(s, 1 - s))


def _taper(start, end, n):
    return np.linspace(start, end, n)


def _iliofemoral(rng):
    """Return the distal aorta down to both femoral arteries, about 45 cm long.

    Calibres: aortic bifurcation 17-19 mm, common iliac 10-12 mm (Horejs et al., J Comput Assist Tomogr 1988;12:602);
    common femoral 8-10 mm (Sandgren et al., J Vasc Surg 1999;29:503); smaller ones scaled from these.
    """
    tree = _Tree()
    size = rng.normal(1.0, 0.08)
    calibre = rng.normal(1.0, 0.1)
    aorta, _ = _curve(
        [(rng.normal(6, 5), rng.normal(-6, 4), rng.uniform(90, 130)), (rng.normal(4, 4), -4, 50), (0, 0, 0)], 2.0
    )
    aorta = _wander(rng, aorta, rng.uniform(0, 2), 70)
    r_aorta = rng.normal(9.2, 0.9) * calibre
    trunk = tree.add(aorta * size, _taper(r_aorta * 1.08, r_aorta * 0.95, len(aorta)))
    tortuous = rng.gamma(2.0, 1.2)
    for side in (1, -1):
        spread = rng.normal(1.0, 0.12)
        j = lambda sd: rng.normal(0, sd)  # noqa: E731
        knots = np.array(
            [
                (0, 0, 0),
                (side * (18 * spread + j(3)), 12 + j(3), -28 + j(3)),
                (side * (36 * spread + j(4)), 24 + j(5), -58 + j(6)),
                (side * (58 + j(4)), 22 + j(6), -95 + j(5)),
                (side * (76 + j(4)), -12 + j(6), -130 + j(5)),
                (side * (86 + j(4)), -34 + j(4), -168 + j(5)),
                (side * (89 + j(4)), -34 + j(4), -208 + j(6)),
                (side * (82 + j(4)), -26 + j(4), -270 + j(5)),
                (side * (72 + j(5)), -14 + j(4), -335 + j(5)),
            ]
        )
        points, at = _curve(knots * size, 1.5)
        wander = np.clip(tortuous * rng.uniform(0.5, 1.4), 0, 6)
        points[at[1] : at[5]] = _wander(rng, points[at[1] : at[5]], wander, 55)
        r_cia = rng.normal(5.3, 0.6) * calibre
        r_eia, r_cfa = r_cia * rng.uniform(0.68, 0.82), r_cia * rng.uniform(0.74, 0.88)
        r_sfa, r_deep, r_iia = (
            r_cfa * rng.uniform(0.7, 0.82),
            r_cfa * rng.uniform(0.55, 0.72),
            r_cia * rng.uniform(0.5, 0.65),
        )
        radii = np.interp(
            np.arange(len(points)),
            at,
            [r_cia, r_cia, r_cia * 0.95, r_eia, r_eia, r_eia, r_cfa, r_sfa, r_sfa * 0.92],
        )
        if rng.uniform() < 0.3:
            radii *= 1 - rng.uniform(0.2, 0.5) * np.exp(
                -(((np.arange(len(points)) - rng.uniform(at[1], at[7])) / rng.uniform(3, 10)) ** 2)
            )
        parent = trunk[-1]
        for start, end in ((0, at[2]), (at[2], at[6]), (at[6], at[8])):
            index = tree.add(points[start : end + 1], radii[start : end + 1], parent)
            parent = index[-1]
            if start == 0:
                p = points[end]
                internal, _ = _curve(
                    [p, p + (side * j(3), 16, -20), p + (side * (-8 + j(4)), 36 + j(4), -48 + j(5))], 1.5
                )
                stem = tree.add(internal, _taper(r_iia, r_iia * 0.85, len(internal)), parent)
                p = internal[-1]
                for way in ((side * 22, 14, -18), (side * -10, -8, -36)):
                    twig, _ = _curve(
                        [p, p + 0.4 * np.array(way) + j(4), p + np.array(way) * rng.uniform(0.9, 1.6) + j(5)], 1.5
                    )
                    twig = _wander(rng, twig, 2, 25)
                    tree.add(twig, _taper(r_iia * 0.65, r_iia * 0.4, len(twig)), stem[-1])
            elif end == at[6]:
                p = points[end]
                deep, _ = _curve(
                    [
                        p,
                        p + (side * (10 + j(2)), 14 + j(2), -26),
                        p + (side * (14 + j(4)), 26 + j(3), -75),
                        p + (side * (14 + j(5)), 30 + j(3), -122),
                    ],
                    1.5,
                )
                tree.add(deep, _taper(r_deep, r_deep * 0.65, len(deep)), parent)
    return tree.centreline((rng.normal(0, 10), rng.normal(-20, 10), rng.normal(-950, 30)))


def _aortic_root(rng):
    """Return the outflow tract, sinuses, ascending aorta, start of the arch and the coronary stems.

    Diameters: annulus 23 +- 2 mm, sinuses 32 +- 3 mm, sinotubular junction 28 +- 3 mm, ascending aorta 29 +- 3 mm
    (Roman et al., Am J Cardiol 1989;64:507); coronary stems 3.5-5 mm (Dodge et al., Circulation 1992;86:232).
    """
    tree = _Tree()
    j = lambda sd: rng.normal(0, sd)  # noqa: E731
    length = rng.normal(1.0, 0.1)
    knots = np.array(
        [
            (13 + j(2), -10 + j(2), -24),
            (0, 0, 0),
            (-5 + j(1), -3 + j(1), 12),
            (-9 + j(1.5), -5 + j(1.5), 24),
            (-16 + j(3), -9 + j(3), 50),
            (-11 + j(3), -3 + j(3), 82),
            (6 + j(3), 14 + j(3), 104),
            (24 + j(4), 36 + j(4), 108),
        ]
    )
    knots[3:, 2] *= length
    points, at = _curve(knots, 1.0)
    calibre = rng.normal(1.0, 0.08)
    r = np.array([12.0, 11.5, 16.0, 13.8, 14.8, 14.5, 13.5, 12.5]) * calibre * rng.normal(1.0, 0.03, 8)
    r[4] *= rng.choice([1.0, rng.uniform(1.0, 1.35)])
    radii = CubicSpline(at, r, bc_type='clamped')(np.arange(len(points)))
    outflow = tree.add(points[: at[1] + 1], radii[: at[1] + 1])
    root = tree.add(points[at[1] : at[3] + 1], radii[at[1] : at[3] + 1], outflow[-1])
    tree.add(points[at[3] :], radii[at[3] :], root[-1])
    level = root[int(0.6 * len(root))]
    centre, r_sinus = tree.point(level), tree.radius(level)
    for angle, stem_length in (
        (np.deg2rad(rng.normal(-15, 10)), rng.uniform(14, 30)),
        (np.deg2rad(rng.normal(225, 12)), rng.uniform(14, 35)),
    ):
        out = np.array([np.cos(angle), np.sin(angle), 0.05])
        bend = np.array([-out[1], out[0], -0.5]) * rng.uniform(0.1, 0.4) * np.sign(rng.normal())
        stem, _ = _curve(
            [
                centre,
                centre + r_sinus * out,
                centre + (r_sinus + stem_length / 2) * out,
                centre + (r_sinus + stem_length) * (out + bend * 0.5),
            ],
            0.7,
        )
        tree.add(stem, _taper(rng.normal(2.1, 0.2), rng.normal(1.7, 0.2), len(stem)), level)
    return tree.centreline((rng.normal(-5, 8), rng.normal(-40, 10), rng.normal(-520, 30)))


def _coronary(rng):
    """Return a left or a right coronary tree: thin and tortuous, on the heart's ellipsoid.

    Diameters (Dodge et al., Circulation 1992;86:232): left main 4.5, proximal LAD 3.7, distal LAD 1.9, proximal LCx
    3.4, proximal RCA 3.9 mm, scattered by some 15%.
    """
    tree = _Tree()
    axes = np.array([50.0, 45.0, 60.0]) * rng.normal(1.0, 0.12, 3).clip(0.75, 1.3)
    calibre = rng.normal(1.0, 0.15)
    tortuous = rng.uniform(0.3, 1.3)

    def on_heart(longitude, latitude):
        a, b = np.deg2rad(longitude), np.deg2rad(latitude)
        return axes * np.array([np.cos(b) * np.sin(a), -np.cos(b) * np.cos(a), np.sin(b)])

    def vessel(waypoints, r_start, r_end, parent=None, first=None):
        spots = [on_heart(*(np.array(w) + rng.normal(0, 5, 2))) for w in waypoints]
        if first is not None:
            spots[0] = first
        points, _ = _curve(spots, 1.0)
        length = len(points)
        points = _wander(rng, points, tortuous * 1.6, 26)
        if rng.uniform() < 0.6:
            points = _wander(rng, points, tortuous * rng.uniform(0.3, 1.2), rng.uniform(7, 14))
        radii = _taper(r_start, r_end, length) * calibre
        if rng.uniform() < 0.25:
            dip = rng.uniform(0.2, 0.7) * np.exp(
                -(((np.arange(length) - rng.uniform(0, length)) / rng.uniform(2, 6)) ** 2)
            )
            radii = radii * (1 - dip)
        return tree.add(points, np.maximum(radii, 0.2), parent)

    def twigs(index, count, low, high, share, spread):
        for _ in range(count):
            k = index[int(rng.uniform(0.12, 0.85) * len(index))]
            p, r = tree.point(k), tree.radius(k) / calibre
            longitude = np.rad2deg(np.arctan2(p[0] / axes[0], -p[1] / axes[1]))
            latitude = np.rad2deg(np.arcsin(np.clip(p[2] / axes[2], -1, 1)))
            way = np.array([rng.normal(0, spread) + low, rng.uniform(-45, -5) * high])
            end = np.array([longitude, latitude]) + way * rng.uniform(0.5, 1.4)
            end[1] = max(end[1], -85)
            middle = (np.array([longitude, latitude]) + end) / 2 + rng.normal(0, 5, 2)
            branch = vessel([(longitude, latitude), middle, end], min(r * share, 1.4), rng.uniform(0.25, 0.5), k, p)
            if rng.uniform() < 0.3:
                k2 = branch[int(rng.uniform(0.3, 0.7) * len(branch))]
                p2 = tree.point(k2)
                end2 = end + rng.normal(0, 14, 2)
                end2[1] = max(end2[1], -85)
                vessel([(0, 0), (middle + end2) / 2, end2], tree.radius(k2) / calibre * 0.75, 0.25, k2, p2)

    if rng.uniform() < 0.55:
        main = vessel([(-20, 60), (0, 52), (12, 48)], 2.25, 2.1)
        p = tree.point(main[-1])
        lad = vessel([(0, 0), (18, 30), (16, -5), (14, -40), (20, -75)], 1.85, rng.uniform(0.5, 0.9), main[-1], p)
        lcx = vessel([(0, 0), (50, 38), (85, 25), (110, 5), (130, -12)], 1.7, rng.uniform(0.5, 0.9), main[-1], p)
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


_MAKERS = {'iliofemoral': _iliofemoral, 'aortic_root': _aortic_root, 'coronary': _coronary}
ANATOMIES = tuple(_MAKERS)


def make_centreline(name, seed=0):
    """Return the `Centreline` of the anatomy `name` (one of ANATOMIES): metres, LPS; another patient for each seed.

    seed: an integer or a NumPy Generator. Branch 0 is where the blood comes in, and its first point the root.
    Raises ValueError for a name not in ANATOMIES.
    """
    if name not in _MAKERS:
        raise ValueError(f'anatomy {name!r}: choose one of {", ".join(ANATOMIES)}')
    return _MAKERS[name](np.random.default_rng(seed))
