"""A hundred healthy patients of each anatomy have the calibres, lengths and angles that others measured in people."""

import numpy as np
import pytest

from m2i_ros.simulation import ANATOMIES, make_centreline

# What was measured, its mean or the means of several groups (mm, degrees), its standard deviation, and by whom.
HAGER = 'Hager et al., J Thorac Cardiovasc Surg 2002;123:1060, CT of 70 adults'
YAN = 'Yan et al., CT angiography of 217 normal arches, 2017'
KREJZA = 'Krejza et al., Stroke 2006;37:1103, women and men'
LU = 'Lu et al., Eur Radiol 2009;19:664, gated CT of 77 adults'
TOPS = 'Tops et al., JACC Cardiovasc Imaging 2008;1:321, CT of 169 adults, two views or both ostia'
DODGE = 'Dodge et al., Circulation 1992;86:232, arteriograms of 83 adults'
ATLAS = 'Medrano-Gracia et al., EuroIntervention 2016;12:845, CT of 300 adults'
PFLEDERER = 'Pflederer et al., Invest Radiol 2006;41:793, CT, diagonals and marginals'
ABDOMINAL = 'Joh et al., Yonsei Med J 2013;54:48, and CT of 1340, doi 10.1016/j.avsg.2019.05.030, women and men'
MEASURED = [
    ('iliofemoral', 'aortic diameter', (14.5, 19.0), 2.1, ABDOMINAL),
    ('iliofemoral', 'common iliac diameter', (8.6, 12.2), 1.75, ABDOMINAL),
    (
        'iliofemoral',
        'aortic bifurcation angle',
        (35.0,),
        11.1,
        'Bargeron et al., Arteriosclerosis 1986;6:109, 70 casts',
    ),
    ('iliofemoral', 'iliac tortuosity', (1.16,), 0.14, 'CT of 59 adults, Ann Vasc Surg 2023, S0890-5096(23)00149-8'),
    ('aortic_root', 'annulus diameter', (23.5, 26.3), 2.75, TOPS),
    ('aortic_root', 'sinus diameter', (34.2,), 4.1, LU),
    ('aortic_root', 'sinotubular junction diameter', (29.7,), 3.4, LU),
    ('aortic_root', 'ascending diameter', (32.7,), 3.8, LU),
    ('aortic_arch', 'ascending diameter', (30.9,), 4.1, HAGER),
    ('aortic_arch', 'diameter before the trunk', (29.4,), 4.2, HAGER),
    ('aortic_arch', 'arch diameter', (26.1, 27.7), 3.9, HAGER),
    ('aortic_arch', 'isthmus diameter', (24.7,), 4.0, HAGER),
    ('aortic_arch', 'diameter at the diaphragm', (24.3,), 3.5, HAGER),
    ('aortic_arch', 'trunk diameter', (12.5,), 1.95, YAN),
    ('aortic_arch', 'left carotid origin', (8.28,), 1.51, YAN),
    ('aortic_arch', 'left subclavian origin', (10.41,), 2.2, YAN),
    ('aortic_arch', 'angle of the origins to the sagittal plane', (50.3,), 13.8, YAN),
    ('aortic_arch', 'common carotid diameter', (6.10, 6.52), 0.9, KREJZA),
    ('coronary', 'left main diameter', (4.5,), 0.5, DODGE),
    ('coronary', 'proximal LAD diameter', (3.7,), 0.4, DODGE),
    ('coronary', 'distal LAD diameter', (1.9,), 0.4, DODGE),
    ('coronary', 'proximal circumflex diameter', (3.4,), 0.5, DODGE),
    ('coronary', 'proximal right coronary diameter', (3.9,), 0.6, DODGE),
    ('coronary', 'left main length', (10.5,), 5.3, ATLAS),
    ('coronary', 'left main bifurcation angle', (75.0, 89.0), 22.0, ATLAS),
    ('coronary', 'first side branch angle', (46.0, 48.0), 21.5, PFLEDERER),
]


class _Patient:
    """One tree in millimetres, with what can be measured on it."""

    def __init__(self, name, seed):
        tree = make_centreline(name, seed, None)
        self.points, self.diameters, self.arc = tree.points * 1e3, tree.radii * 2e3, tree.arc_length * 1e3
        self._branch = tree.branch
        joints = tree.edges[tree.branch[tree.edges[:, 0]] != tree.branch[tree.edges[:, 1]]]
        self.origin = {tree.branch[child]: parent for parent, child in joints}

    def on(self, branch):
        return np.flatnonzero(self._branch == branch)

    def diameter(self, branch, low=0.0, high=1.0):
        """The median between two shares of the branch's length."""
        s = self.arc[self.on(branch)] / self.arc[self.on(branch)[-1]]
        return np.median(self.diameters[self.on(branch)][(s >= low) & (s <= high)])

    def direction(self, branch, distance):
        on = self.on(branch)
        way = self.points[on[np.searchsorted(self.arc[on], distance)]] - self.points[on[0]]
        return way / np.linalg.norm(way)

    def angle(self, one, other, distance):
        return np.degrees(np.arccos(self.direction(one, distance) @ self.direction(other, distance)))

    def leaves_at(self, branch, distance):
        """The angle between a branch's first millimetres and those of the vessel that goes on beside it."""
        joint = self.origin[branch]
        ways = []
        for course in (self.on(branch), np.arange(joint, self.on(self._branch[joint])[-1] + 1)):
            way = (
                self.points[course[np.searchsorted(self.arc[course] - self.arc[course[0]], distance)]]
                - self.points[joint]
            )
            ways.append(way / np.linalg.norm(way))
        return np.degrees(np.arccos(ways[0] @ ways[1]))

    def lumens_apart(self, branch):
        """Millimetres between a branch's lumen, two diameters and 2 mm from its joint on, and the nearest other's."""
        joint = self.origin[branch]
        others = np.flatnonzero(self._branch != branch)
        # A branch that it has itself is not another there.
        own = [b for b, parent in self.origin.items() if self._branch[parent] == branch]
        others = others[~np.isin(self._branch[others], own)]
        free = 2 * self.diameters[joint] + 2
        on = self.on(branch)[np.linalg.norm(self.points[self.on(branch)] - self.points[joint], axis=1) > free]
        between = np.linalg.norm(self.points[on][:, None] - self.points[others], axis=2)
        return (between - self.diameters[on, None] / 2 - self.diameters[others] / 2).min(initial=np.inf)


def _iliofemoral(p):
    # The common femoral, the last quarter of the branch, is not iliac.
    path = p.points[np.concatenate([p.on(1), p.on(5)[: 3 * len(p.on(5)) // 4]])]
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    return {
        'aortic diameter': p.diameter(0),
        'common iliac diameter': p.diameter(1),
        'common iliac length': p.arc[p.on(1)[-1]],
        'internal iliac diameter': p.diameter(2),
        'external iliac diameter': p.diameter(5, 0.2, 0.6),
        'proximal femoral diameter': p.diameters[p.on(5)[-3]],
        'aortic bifurcation angle': p.angle(1, 8, 30.0),
        'iliac tortuosity': steps.sum() / np.linalg.norm(path[-1] - path[0]),
    }


def _aortic_root(p):
    root = p.on(1)
    return {
        'annulus diameter': p.diameters[root[0]],
        'sinus diameter': p.diameters[root].max(),
        'sinotubular junction diameter': p.diameters[root[-1]],
        'ascending diameter': p.diameter(2, 0.15, 0.4),
        'ostium height': p.arc[p.origin[3]],
    }


def _aortic_arch(p):
    top = p.on(0)[p.points[p.on(0), 2].argmax()]
    along = p.points[p.origin[7]] - p.points[p.origin[2]]
    # The trunk begins where it comes out of the aorta.
    out = np.linalg.norm(p.points[p.on(2)] - p.points[p.origin[2]], axis=1) > p.diameters[p.origin[2]] / 2
    crest = (p.points[:, 2] + p.diameters / 2)[p.on(0)].max()
    bovine = p.origin[6] in p.on(2)
    return {
        'ascending diameter': p.diameter(0, 0.2, 0.35),
        'diameter before the trunk': p.diameters[p.origin[2]],
        'arch diameter': p.diameters[top],
        'isthmus diameter': p.diameters[p.on(1)[0]],
        'diameter at the diaphragm': p.diameters[p.on(1)[-1]],
        'trunk diameter': p.diameters[p.on(2)[0]],
        'left carotid origin': p.diameters[p.on(6)[0]],
        'left subclavian origin': p.diameters[p.on(7)[0]],
        'common carotid diameter': (p.diameter(5) + p.diameter(6)) / 2,
        'angle of the origins to the sagittal plane': np.degrees(np.arctan2(along[0], along[1])),
        'bovine': bovine,
        'drop': (crest - p.points[p.on(2)[out.argmax()], 2]) / p.diameters[p.on(6)[0]],
        'order': p.origin[2] < p.origin[7] and (bovine or p.origin[2] < p.origin[6] < p.origin[7]),
        'left of the right one': p.points[p.on(6)[-1], 0] - p.points[p.on(5)[-1], 0],
        'behind': p.points[p.on(1)[0], 1] - p.points[p.on(0)[0], 1],
    }


def _coronary(p):
    apart = min(p.lumens_apart(branch) for branch in p.origin)
    if p.arc[p.on(0)[-1]] > 60:
        return {'proximal right coronary diameter': p.diameter(0, 0.0, 0.1), 'lumens apart': apart}
    return {
        'lumens apart': apart,
        'first side branch angle': p.leaves_at(3, 8.0),
        'left main diameter': p.diameters[p.on(0)].max(),
        'left main length': p.arc[p.on(0)[-1]],
        'proximal LAD diameter': p.diameter(1, 0.0, 0.1),
        'distal LAD diameter': p.diameter(1, 0.75, 0.85),
        'proximal circumflex diameter': p.diameter(2, 0.0, 0.1),
        'left main bifurcation angle': p.angle(1, 2, 12.0),
    }


MEASURES = {
    'iliofemoral': _iliofemoral,
    'aortic_root': _aortic_root,
    'aortic_arch': _aortic_arch,
    'coronary': _coronary,
}


@pytest.fixture(scope='module')
def population():
    """Each measure of each anatomy, an array of one value a patient that has it."""
    out = {}
    for name in ANATOMIES:
        rows = [MEASURES[name](_Patient(name, seed)) for seed in range(100)]
        keys = {key for row in rows for key in row}
        out[name] = {key: np.array([row[key] for row in rows if key in row]) for key in keys}
    return out


@pytest.mark.parametrize(
    'name, measure, means, deviation, source', MEASURED, ids=lambda x: x if isinstance(x, str) else ''
)
def test_mean_and_spread_are_those_measured_in_people(population, name, measure, means, deviation, source):
    values = population[name][measure]
    # Studies of healthy adults differ among each other by that much.
    assert min(means) - 0.75 * deviation < values.mean() < max(means) + 0.75 * deviation, source
    assert 0.4 * deviation < values.std() < 1.7 * deviation, source


@pytest.mark.parametrize(
    'measure, percentile',
    [
        ('common iliac diameter', 11.8),
        ('internal iliac diameter', 7.5),
        ('external iliac diameter', 10.3),
        ('proximal femoral diameter', 10.2),
    ],
)
def test_the_widest_leg_arteries_are_as_wide_as_in_756_men(population, measure, percentile):
    # 95th percentiles: Lorbeer et al., PLoS ONE 2018;13:e0197559.
    assert np.percentile(population['iliofemoral'][measure], 95) == pytest.approx(percentile, rel=0.15)


def test_common_iliac_arteries_are_about_two_inches_long(population):
    # Gray's Anatomy: about 5 cm.
    length = population['iliofemoral']['common iliac length']
    assert 45 < length.mean() < 62 and length.min() > 30 and length.max() < 90


def test_coronary_ostia_are_as_high_as_in_people(population):
    # Tops et al. 2008: left 14.4, right 17.2 mm above the annulus.
    assert 13.5 < population['aortic_root']['ostium height'].mean() < 18


def test_hardly_a_coronary_artery_runs_in_another(population):
    assert np.mean(population['coronary']['lumens apart'] > 0) > 0.9


def test_arches_are_of_three_types_and_one_in_seven_is_bovine(population):
    arch = population['aortic_arch']
    # 13.6%: Popieluszko et al., J Vasc Surg 2018;68:298; 100 patients scatter by 3.4%.
    assert 0.03 < arch['bovine'].mean() < 0.24
    shares = np.histogram(arch['drop'], [-np.inf, 1, 2, np.inf])[0] / 100
    assert shares.min() > 0.05 and shares.sum() == pytest.approx(1)
    assert arch['order'].all()
    assert (arch['left of the right one'] > 20).all()
    assert (arch['behind'] > 20).all()
