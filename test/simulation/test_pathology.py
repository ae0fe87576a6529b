"""Diseases change what they should, where they should, and nothing else of the patient."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from m2i_ros.simulation import ANATOMIES, make_anatomy, make_centreline
from m2i_ros.simulation.anatomy.pathology import FREQUENCY, PATHOLOGIES, afflict, draw
from m2i_ros.simulation.vessels import coaxial_catheter, flow_distance

KNOWN = [(name, p) for name in ANATOMIES for p in PATHOLOGIES if (name, p) != ('aortic_root', 'kink')]
SEEDS = range(8)


@pytest.mark.parametrize('name, pathology', KNOWN)
def test_an_ill_tree_is_still_a_whole_tree(name, pathology):
    for seed in SEEDS:
        tree = make_centreline(name, seed, pathology)
        assert np.isfinite(tree.points).all()
        assert 0.1e-3 < tree.radii.min() and tree.radii.max() < 30e-3
        assert len(tree.edges) == len(tree.points) - 1
        assert np.isfinite(flow_distance(tree)).all()
        for b in range(tree.branch.max() + 1):
            on = np.flatnonzero(tree.branch == b)
            assert len(on) > 2 and (np.diff(on) == 1).all()
            steps = np.linalg.norm(np.diff(tree.points[on], axis=0), axis=1)
            assert tree.arc_length[on[0]] == 0 and np.diff(tree.arc_length[on]) == pytest.approx(steps)


@pytest.mark.parametrize('name', ANATOMIES)
def test_an_aneurysm_is_half_as_wide_again_or_a_sac_at_the_side(name):
    sacs = 0
    for seed in SEEDS:
        healthy, ill = make_centreline(name, seed, None), make_centreline(name, seed, 'aneurysm')
        n = len(healthy.points)
        if len(ill.points) > n:
            sacs += 1
            sac = ill.branch == ill.branch.max()
            assert np.array_equal(ill.points[:n], healthy.points) and np.array_equal(ill.radii[:n], healthy.radii)
            parent = ill.edges[-1, 0]
            # It stands out of the parent's wall.
            reach = np.linalg.norm(ill.points[sac] - ill.points[parent], axis=1) + ill.radii[sac]
            assert reach.max() > 1.7 * ill.radii[parent]
        else:
            ratio = ill.radii / healthy.radii
            assert ratio.max() > 1.45 and ratio.min() > 0.999
            assert (ratio > 1.001).mean() < 0.5
    assert sacs < len(SEEDS) / 2


@pytest.mark.parametrize('name', ANATOMIES)
def test_a_stenosis_takes_half_of_the_diameter_or_more_over_a_short_length(name):
    for seed in SEEDS:
        healthy, ill = make_centreline(name, seed, None), make_centreline(name, seed, 'stenosis')
        ratio = ill.radii / healthy.radii
        assert 0.1 < ratio.min() < 0.55 and ratio.max() == pytest.approx(1)
        assert len(np.unique(healthy.branch[ratio < 0.99])) == 1
        assert (ratio < 0.99).mean() < 0.15
        # What is left of the lumen lies within the healthy one.
        moved = np.linalg.norm(ill.points - healthy.points, axis=1)
        assert (moved + ill.radii <= healthy.radii * 1.2 + 1e-9).all()


@pytest.mark.parametrize('name', [name for name, p in KNOWN if p == 'kink'])
def test_a_kink_bends_sharply_and_narrows(name):
    for seed in SEEDS:
        healthy, ill = make_centreline(name, seed, None), make_centreline(name, seed, 'kink')
        there = np.flatnonzero(np.linalg.norm(ill.points - healthy.points, axis=1) > 1e-6)
        assert len(np.unique(healthy.branch[there])) == 1
        assert 0.4 < (ill.radii / healthy.radii)[there].min() < 0.8

        def turning(tree, on=there):
            way = np.diff(tree.points[on[0] : on[-1] + 1], axis=0)
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            return np.degrees(np.arccos(np.clip((way[1:] * way[:-1]).sum(axis=1), -1, 1))).sum()

        # Among the bends of a coronary artery one more may straighten another.
        assert name == 'coronary' or turning(ill) > turning(healthy) + 45


@pytest.mark.parametrize('name', ANATOMIES)
def test_beyond_an_occlusion_blood_comes_late_through_a_thin_vessel_or_not_at_all(name):
    lost = 0
    for seed in SEEDS:
        healthy, ill = make_centreline(name, seed, None), make_centreline(name, seed, 'occlusion')
        if len(ill.points) < len(healthy.points):
            lost += 1
            kept = {tuple(p) for p in healthy.points}
            assert all(tuple(p) in kept for p in ill.points)
            continue
        late = flow_distance(ill) - flow_distance(healthy)
        thin = ill.radii != healthy.radii
        # A third of the vessel, or as thin as a vessel is drawn.
        assert (ill.radii[thin] < np.maximum(0.35 * healthy.radii[thin], 0.201e-3)).all()
        assert thin.sum() >= 3 and len(np.unique(ill.branch[thin])) == 1
        # Where the collateral sets out it may cut a bend by a hair.
        assert late.min() > -1e-4 and late.max() > 1e-3
    assert 0 < lost < len(SEEDS)


def test_disease_is_drawn_by_seed_and_changes_nothing_else():
    drawn = [draw(np.random.default_rng(seed)) for seed in range(2000)]
    for pathology, share in FREQUENCY.items():
        assert drawn.count(pathology) / 2000 == pytest.approx(share, abs=0.02)
    ill = 0
    for seed in range(60):
        healthy, patient = make_centreline('aortic_arch', seed, None), make_centreline('aortic_arch', seed)
        again = make_centreline('aortic_arch', seed)
        assert np.array_equal(patient.points, again.points)
        # The inflow is the same in both, whatever happened further on.
        assert np.array_equal(patient.points[:3], healthy.points[:3])
        ill += len(patient.points) != len(healthy.points) or not np.array_equal(patient.radii, healthy.radii)
    assert 8 <= ill <= 27


def test_the_patients_of_examples_and_figures_are_healthy():
    for name in ANATOMIES:
        for seed in range(5):
            assert np.array_equal(make_centreline(name, seed).radii, make_centreline(name, seed, None).radii)


@pytest.mark.parametrize('pathology', PATHOLOGIES)
def test_where_no_vessel_is_wide_enough_for_it_the_tree_stays_well(pathology):
    tree = make_centreline('coronary', 0, None)
    thin = replace(tree, radii=0.1 * tree.radii)
    assert afflict(thin, pathology, range(tree.branch.max() + 1), np.random.default_rng(0)) is thin


def test_a_generator_gives_new_patients_and_new_diseases():
    rng = np.random.default_rng(0)
    trees = [make_centreline('aortic_arch', rng, 'stenosis') for _ in range(3)]
    assert len({round(float(tree.points[0, 2]), 9) for tree in trees}) == 3


@pytest.mark.parametrize('name, pathology', [('iliofemoral', 'gout'), ('aortic_root', 'kink')])
def test_an_unknown_pathology_is_refused_with_the_choice(name, pathology):
    with pytest.raises(ValueError, match='aneurysm, stenosis, occlusion'):
        make_anatomy(name, 0, pathology)


@pytest.mark.parametrize(
    'name, seed, pathology',
    [
        ('iliofemoral', 7, 'aneurysm'),
        ('aortic_arch', 2, 'occlusion'),
        ('iliofemoral', 4, 'kink'),
    ],
)
def test_surfaces_of_the_ill_are_closed_too(name, seed, pathology):
    model = make_anatomy(name, seed, pathology)
    mesh = trimesh.Trimesh(model.vertices, model.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert len(mesh.split(only_watertight=False)) == 1


def test_a_catheter_takes_another_way_where_only_a_collateral_leads():
    # The first occlusion of a right leg that is crossed by a collateral.
    for seed in range(40):
        healthy, tree = (make_centreline('iliofemoral', seed, p) for p in (None, 'occlusion'))
        shut = np.flatnonzero(tree.radii < 0.3 * healthy.radii) if len(tree.points) == len(healthy.points) else []
        if len(shut) and tree.branch[shut[0]] in (12, 14):
            break
    femoral = int(np.flatnonzero(tree.branch == 14)[-1])
    free = coaxial_catheter(healthy, 20, femoral, 0.0)
    assert np.linalg.norm(free[-1] - healthy.points[femoral]) < 0.01
    axis = coaxial_catheter(tree, 20, femoral, 0.0)
    ends = np.flatnonzero(np.bincount(tree.edges.ravel()) == 1)
    entry = ends[np.argmin(np.linalg.norm(tree.points[ends] - axis[-1], axis=1))]
    assert entry != femoral
    assert np.linalg.norm(axis[:, None] - tree.points[shut], axis=2).min() > 1e-3


@pytest.mark.parametrize('name', ANATOMIES)
def test_an_occlusion_leaves_a_third_of_the_vessels_at_least(name):
    for seed in range(40):
        healthy, ill = make_centreline(name, seed, None), make_centreline(name, seed, 'occlusion')
        assert len(ill.points) > 0.32 * len(healthy.points), seed
