"""The aortic root: outflow tract, sinuses, ascending aorta, start of the arch, coronary stems."""

import numpy as np
from scipy.interpolate import CubicSpline

from m2i_ros.simulation.anatomy.tree import Tree, curve, taper

# Branches: 0 outflow tract, 1 sinuses, 2 ascending aorta, 3 left and 4 right coronary stem.
SITES = {'aneurysm': (2,), 'stenosis': (3, 4), 'occlusion': (3, 4)}


def make(rng):
    """Return the outflow tract, sinuses, ascending aorta, start of the arch and the coronary stems.

    Diameters: annulus 23.5 +- 2.7 to 26.3 +- 2.8 mm, by the view (Tops et al., JACC Cardiovasc Imaging 2008;1:321);
    sinuses 34 +- 4, sinotubular junction 30 +- 3, ascending aorta 33 +- 4 mm (Lu et al., Eur Radiol 2009;19:664),
    smaller ones in Roman et al., Am J Cardiol 1989;64:507; coronary stems 3.5-5 mm (Dodge et al., Circulation
    1992;86:232), 14.4 +- 2.9 and 17.2 +- 3.3 mm above the annulus (Tops): here both at one height.
    """
    tree = Tree()
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
    points, at = curve(knots, 1.0)
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
        stem, _ = curve(
            [
                centre,
                centre + r_sinus * out,
                centre + (r_sinus + stem_length / 2) * out,
                centre + (r_sinus + stem_length) * (out + bend * 0.5),
            ],
            0.7,
        )
        tree.add(stem, taper(rng.normal(2.1, 0.2), rng.normal(1.7, 0.2), len(stem)), level)
    return tree.centreline((rng.normal(-5, 8), rng.normal(-40, 10), rng.normal(-520, 30)))
