"""Training pictures drawn through a CT: what surrounds its vessels, and the vessels themselves."""

import numpy as np
import pytest

from m2i_ros.model.volumes import Volume
from m2i_ros.simulation import TrainingSamples, samples
from m2i_ros.simulation.ct import CTPatient
from m2i_ros.simulation.ct_scene import ct_scene, own_vessels
from m2i_ros.simulation.visibility import seen_lumen


@pytest.fixture(scope='module')
def patient():
    """80 mm of water, endless from feet to head, and in it a ball of 32 mm of blood, labelled."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    at = np.stack(np.meshgrid(*map(np.arange, (60, 50, 50)), indexing='ij'), -1) * 2 - (59, 49, 49)
    hu = np.where((np.abs(at[..., :2]) < (50, 40)).all(-1), 0, -1000).astype(np.int16)
    ball = (np.linalg.norm(at, axis=-1) < 16).astype(np.uint8)
    return CTPatient(Volume('ct.nii', hu, affine, 'lps'), Volume('labels.nii', ball, affine, 'lps'))


def test_a_view_shows_the_block_and_the_ball_of_its_vessels(patient):
    balls = []
    for seed in range(12):
        scene, lumen, known = ct_scene(np.random.default_rng(seed), patient, (96, 96), 1e-3)
        assert known.shape == (96, 1) and scene.tissue.shape == scene.bone.shape == lumen.shape == (96, 96)
        # 80 mm of water, from any side and for any patient's size.
        assert 0.05 < np.median(scene.tissue[scene.tissue > 0.02]) < 0.2
        assert not scene.metal.any() and not scene.iodine.any()
        balls.append(lumen.max())
    # 32 mm of lumen, stretched by some 8% each way.
    assert np.median(balls) == pytest.approx(0.032, abs=0.003)
    assert len(set(balls)) == 12


def test_contrast_is_where_the_lumen_is_and_never_more_than_was_injected():
    lumen = np.zeros((64, 64), np.float32)
    lumen[16:48, 20:40] = 0.02
    amounts = []
    for seed in range(40):
        vessel, shown = own_vessels(np.random.default_rng(seed), lumen, 300.0)
        assert not vessel[lumen == 0].any() and not shown[lumen == 0].any()
        assert vessel.max() <= 0.02 * 300
        amounts.append(vessel[shown].mean() / 0.02 if shown.any() else 0.0)
    # An aorta's: from some 10 to 270 mg/ml.
    assert min(amounts) < 30 and max(amounts) > 180
    vessel, shown = own_vessels(np.random.default_rng(0), lumen, 0.0)
    assert shown is None and not vessel.any()


def test_what_no_eye_could_see_is_no_label():
    lumen = np.zeros((128, 128), bool)
    lumen[:, 40:90] = True
    depth = np.where(np.arange(128)[:, None] < 64, 0.1, 0.005) * np.ones((128, 128))
    seen = seen_lumen(lumen, depth, np.full((128, 128), 0.1))
    assert seen[:50, 40:90].all() and not seen[80:].any() and not (seen & ~lumen).any()
    # As bright and dark as it is around: nothing stands out.
    assert not seen_lumen(lumen, depth, np.full((128, 128), 0.5)).any()


def test_pictures_through_a_ct_are_labelled_where_they_have_become_darker(patient, monkeypatch):
    monkeypatch.setattr(samples, 'OWN', 1.0)
    monkeypatch.setattr(samples, 'EMPTY_CT', 0.0)
    images, masks, before = next(TrainingSamples(96, 3, 12, bright=0, cts=(patient,), ct_share=1.0))
    darker = [(b - i)[m > 0].mean() for i, m, b in zip(images, masks, before) if m.sum() > 100]
    assert len(darker) >= 8 and np.median(darker) > 0.05
    again = next(TrainingSamples(96, 3, 12, bright=0, cts=(patient,), ct_share=1.0))
    assert all((one == other).all() for one, other in zip((images, masks, before), again))


def test_without_cts_samples_are_what_they_were(patient):
    for one, other in zip(next(TrainingSamples(64, 5, 4)), next(TrainingSamples(64, 5, 4, cts=(patient,)))):
        assert (one == other).all()
