"""The distal aorta, the iliac and the femoral arteries."""

import numpy as np

from m2i_ros.simulation.anatomy.tree import Tree, curve, taper, wander

# Branches: 0 aorta; left, then from 8 on right: 1 common iliac, 2 internal iliac and 3, 4 its divisions, 5 external
# iliac and common femoral, 6 deep femoral, 7 superficial femoral.
SITES = {
    'aneurysm': (0, 1, 8),
    'stenosis': (1, 5, 7, 8, 12, 14),
    'occlusion': (1, 5, 7, 8, 12, 14),
    'kink': (1, 5, 8, 12),
}


def make(rng):
    """Return the distal aorta down to both femoral arteries, about 45 cm long.

    Diameters: distal aorta 14.5 to 19 mm, common iliac 8.6 to 12.2 mm (means of women and men: Joh et al., Yonsei Med J
    2013;54:48, ultrasound of 1218; CT of 1340, Ann Vasc Surg 2019, doi 10.1016/j.avsg.2019.05.030); upper limits (95%)
    of men: common iliac 11.8, internal 7.5, external 10.3, proximal femoral 10.2 mm (Lorbeer et al., PLoS ONE
    2018;13:e0197559). Common iliac about 5 cm long (Gray's Anatomy); angle between them 35 +- 11 degrees (Bargeron et
    al., Arteriosclerosis 1986;6:109); path of the iliacs over its chord 1.16 +- 0.14 (CT of 59, Ann Vasc Surg 2023,
    S0890-5096(23)00149-8). A third of the legs have a plaque.
    """
    tree = Tree()
    size = rng.normal(1.0, 0.08)
    calibre = rng.normal(1.0, 0.1)
    aorta, _ = curve(
        [(rng.normal(6, 5), rng.normal(-6, 4), rng.uniform(90, 130)), (rng.normal(4, 4), -4, 50), (0, 0, 0)], 2.0
    )
    aorta = wander(rng, aorta, rng.uniform(0, 2), 70)
    r_aorta = rng.normal(9.2, 0.9) * calibre
    trunk = tree.add(aorta * size, taper(r_aorta * 1.08, r_aorta * 0.95, len(aorta)))
    tortuous = rng.gamma(2.0, 1.2)
    for side in (1, -1):
        spread = rng.normal(1.0, 0.12)
        j = lambda sd: rng.normal(0, sd)  # noqa: E731
        knots = np.array(
            [
                (0, 0, 0),
                (side * (11 * spread + j(3)), 10 + j(3), -30 + j(3)),
                (side * (26.5 * spread + j(4)), 24 + j(5), -60 + j(6)),
                (side * (58 + j(4)), 22 + j(6), -95 + j(5)),
                (side * (76 + j(4)), -12 + j(6), -130 + j(5)),
                (side * (86 + j(4)), -34 + j(4), -168 + j(5)),
                (side * (89 + j(4)), -34 + j(4), -208 + j(6)),
                (side * (82 + j(4)), -26 + j(4), -270 + j(5)),
                (side * (72 + j(5)), -14 + j(4), -335 + j(5)),
            ]
        )
        points, at = curve(knots * size, 1.5)
        # The internal iliac leaves above the pelvic brim, which is the third knot.
        at[2] = (2 * at[1] + 3 * at[2]) // 5
        bends = np.clip(tortuous * rng.uniform(0.5, 1.4), 0, 6)
        points[at[1] : at[5]] = wander(rng, points[at[1] : at[5]], bends, 55)
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
                internal, _ = curve(
                    [p, p + (side * j(3), 16, -20), p + (side * (-8 + j(4)), 36 + j(4), -48 + j(5))], 1.5
                )
                stem = tree.add(internal, taper(r_iia, r_iia * 0.85, len(internal)), parent)
                p = internal[-1]
                for way in ((side * 22, 14, -18), (side * -10, -8, -36)):
                    twig, _ = curve(
                        [p, p + 0.4 * np.array(way) + j(4), p + np.array(way) * rng.uniform(0.9, 1.6) + j(5)], 1.5
                    )
                    twig = wander(rng, twig, 2, 25)
                    tree.add(twig, taper(r_iia * 0.65, r_iia * 0.4, len(twig)), stem[-1])
            elif end == at[6]:
                p = points[end]
                deep, _ = curve(
                    [
                        p,
                        p + (side * (10 + j(2)), 14 + j(2), -26),
                        p + (side * (14 + j(4)), 26 + j(3), -75),
                        p + (side * (14 + j(5)), 30 + j(3), -122),
                    ],
                    1.5,
                )
                tree.add(deep, taper(r_deep, r_deep * 0.65, len(deep)), parent)
    return tree.centreline((rng.normal(0, 10), rng.normal(-20, 10), rng.normal(-950, 30)))
