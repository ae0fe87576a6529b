"""The intensity baseline looks at the model from where our own projection does, and says what it lacks."""

from dataclasses import replace

import numpy as np
import pytest

from m2i_ros.evaluation import baselines
from m2i_ros.evaluation.benchmark import main
from m2i_ros.evaluation.metrics import dice, pose_errors
from m2i_ros.evaluation.trials import BANDS, cases, planes_of, start
from m2i_ros.geometry import apply
from m2i_ros.model.projection import silhouette
from m2i_ros.simulation.path_length import path_length
from m2i_ros.simulation.patients import CALIBRATION


def test_without_its_package_the_benchmark_names_the_command_that_brings_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, 'find_spec', lambda name: None)
    run = ['registration', '--patients', '1', '--json', str(tmp_path / 'b.json'), '--baselines']
    assert main([*run, 'planar', 'drr']) == 2
    assert 'pip install nanodrr' in capsys.readouterr().err
    assert not (tmp_path / 'b.json').exists(), 'said before any patient is registered'


@pytest.fixture(scope='module')
def drr():
    pytest.importorskip('nanodrr', reason='nanodrr is optional and not installed (python3 -m pip install nanodrr)')
    from m2i_ros.evaluation import drr

    return drr


@pytest.mark.parametrize('seed', [0, 1], ids=['as the source sees it', 'mirrored'])
def test_a_radiograph_shows_the_lumen_where_the_projection_has_it(drr, seed):
    (phantom,) = planes_of('aortic_root', CALIBRATION[seed], 256)
    T, model, camera = phantom[0].T_image_model, phantom.model, phantom.camera
    assert camera.mirrored == bool(CALIBRATION[seed] % 2)
    radiograph = drr.render(model, T, camera)
    assert dice(radiograph > 0.5, silhouette(model, T, camera)) > 0.97
    thickness = 1e3 * path_length(apply(T, model.vertices), model.faces, camera)
    thick = thickness > 5
    assert np.median(np.abs(radiograph - thickness)[thick] / thickness[thick]) < 0.05


def test_gradients_lead_to_the_pose_on_a_picture(drr):
    """On the subtracted picture, given in place of the mask: no network is needed."""
    (case,) = cases('aortic_root', CALIBRATION[0], 256, ['true'], None)
    picture = drr.render(case.model, case.T_truth, case.camera)
    noise = np.random.default_rng(0).normal(0, 0.1 * picture.max(), picture.shape)
    case = replace(case, subtracted=(picture + noise).astype(np.float32))
    pose = start(np.random.default_rng(0), case.T_truth, case.model, BANDS['near'])
    before, after = (
        pose_errors(T, case.T_truth, case.model, case.camera)['mpd_mm'] for T in (pose, drr.match(case, pose))
    )
    assert before > 5 and after < 1
