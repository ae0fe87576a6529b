"""`evaluate registration` scores poses of recorded cases, and writes what its contract promises."""

import csv
import json

import cv2
import numpy as np
import pytest

from m2i_ros.evaluation.evaluate import main
from m2i_ros.geometry import Camera, CArm, apply, inverse, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.simulation import make_anatomy
from m2i_ros.sources import SourceFrame, write_case
from m2i_ros.sources.source_frame import SecondPicture

pytestmark = pytest.mark.usefixtures('threshold_instead_of_network')


class Recorded:
    """Five frames of a still vessel tree, its silhouette as the picture; the start is off by 5 mm and 2 degrees."""

    frame_rate = 10.0

    def __init__(self, mirrored=False, planes=1):
        self.planes = planes
        self.model = make_anatomy('iliofemoral', 0)
        self.camera = Camera.from_detector(192, 192, 1.1, 0.3 / 192, mirrored)
        middle = self.model.centreline.points[self.model.centreline.radii > 3e-3].mean(axis=0)
        turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        self.T = rigid(turn, (0, 0, 0.75)) @ rigid(translation=-middle)
        self.initial_pose = perturb(self.T, (5e-3, 0, 0, 0, 0, np.radians(2)), apply(self.T, middle))

    def __iter__(self):
        mask = silhouette(self.model, self.T, self.camera)
        T = CArm(np.radians(90)).T_image_isocentre @ inverse(CArm().T_image_isocentre)
        lateral = 255 - silhouette(self.model, T @ self.T, self.camera)
        for i in range(5):
            stamp = i / self.frame_rate
            second = SecondPicture(lateral, stamp, self.camera, T) if self.planes == 2 and i != 3 else None
            yield SourceFrame(255 - mask, stamp, '', self.camera, self.T, mask, second=second)


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    return write_case(tmp_path_factory.mktemp('cases') / 'patient', Recorded())


def test_poses_of_a_case_are_scored_and_saved(case, tmp_path):
    out, saved = tmp_path / 'out.json', tmp_path / 'saved'
    assert main(['registration', str(case), '--json', str(out), '--save', str(saved)]) == 0
    report = json.loads(out.read_text())
    frames = report['cases'][0]['frames']
    assert len(frames) == report['summary']['frames'] == 5
    for key in 'state accepted mtre_mm in_plane_mm depth_mm mpd_mm recall precision latency_ms'.split():
        assert key in frames[0]
    accepted = [row for row in frames if row['accepted']]
    assert len(accepted) >= 4 and all(row['mpd_mm'] < 1.0 and row['recall'] > 0.9 for row in accepted)
    assert report['summary']['mpd_mm']['n'] == len(accepted)
    assert report['summary']['accepted_within_mpd_mm']['2'] == 1.0
    source = Recorded()
    points = source.model.centreline.points
    with open(saved / 'poses.csv', newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:4] == ['stamp_s', 'state', 'accepted', 'probability'] and len(rows[0]) == 20
    for row, frame in zip(rows, frames):
        assert float(row['stamp_s']) == frame['stamp_s'] and row['state'] == frame['state']
        T = np.array([float(row[f't{i}{j}']) for i in range(4) for j in range(4)]).reshape(4, 4)
        error = np.linalg.norm(apply(T, points) - apply(source.T, points), axis=1)
        assert frame['mtre_mm'] == pytest.approx(1e3 * error.mean(), abs=1e-6)
    mask = cv2.imread(str(saved / '000000.png'), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (192, 192) and set(np.unique(mask)) == {0, 255}


def test_a_second_plane_of_a_case_is_used_where_a_frame_has_one(case, tmp_path):
    pair = write_case(tmp_path / 'pair', Recorded(planes=2))
    assert main(['registration', str(case), str(pair), '--json', str(tmp_path / 'out.json')]) == 0
    one, two = json.loads((tmp_path / 'out.json').read_text())['cases']
    assert [row['views'] for row in one['frames']] == [1] * 5 and one['summary']['two_views'] == 0
    assert [row['views'] for row in two['frames']] == [2, 2, 2, 1, 2] and two['summary']['two_views'] == 4
    for row in two['frames']:
        assert row['accepted'] and row['mtre_mm'] < 0.3
    assert two['summary']['depth_mm']['median'] < one['summary']['depth_mm']['median']


def test_a_case_without_what_a_registration_needs_is_refused(case, tmp_path, capsys):
    text = (case / 'case.yaml').read_text()
    lines = text.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith('initial_pose'))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith('-'))
    changed = case / 'without_start.yaml'
    changed.write_text(''.join(lines[:start] + lines[end:]))
    assert main(['registration', str(changed), '--json', str(tmp_path / 'out.json')]) == 2
    assert 'initial_pose: missing' in capsys.readouterr().err
    assert main(['registration', str(tmp_path / 'none'), '--json', str(tmp_path / 'out.json')]) == 2
    assert not (tmp_path / 'out.json').exists()
