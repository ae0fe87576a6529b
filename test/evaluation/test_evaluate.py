"""`evaluate` scores what goes in, says what is missing, and writes what its contract promises.

The network is replaced by a threshold, so that the right figures are known; everything else is the real thing.
"""

import csv
import json
import math

import cv2
import numpy as np
import pytest

from m2i_ros.evaluation import evaluate
from m2i_ros.evaluation.evaluate import main, quartiles
from m2i_ros.geometry import Camera, apply, perturb, rigid
from m2i_ros.model.projection import silhouette
from m2i_ros.segmentation import VesselMask
from m2i_ros.simulation import make_anatomy
from m2i_ros.sources import SourceFrame, write_case


class DarkIsVessel:
    info = {'engine': 'threshold'}

    def __init__(self, **_):
        pass

    def segment(self, image):
        return VesselMask(np.where(image < 128, 255, 0).astype(np.uint8), np.ones(image.shape, bool))


@pytest.fixture(autouse=True)
def threshold_instead_of_network(monkeypatch):
    monkeypatch.setattr(evaluate, 'Segmenter', DarkIsVessel)


def picture(path, image):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def folders(tmp_path):
    """Three pictures: found exactly, found half, and one without vessels in which none is found."""
    truth = np.zeros((40, 50), np.uint8)
    truth[10:20, 5:45] = 255
    half = truth.copy()
    half[:, 25:] = 0
    for name, vessels, mask in (('a', truth, truth), ('b', half, truth), ('c', 0 * truth, 0 * truth)):
        picture(tmp_path / 'images' / f'{name}.png', 255 - vessels)
        picture(tmp_path / 'masks' / f'{name}.png', mask)
    return tmp_path


def run(folders, *more):
    out = folders / 'out.json'
    code = main(
        ['segmentation', '--images', f'{folders}/images', '--masks', f'{folders}/masks', '--json', str(out), *more]
    )
    return code, json.loads(out.read_text()) if out.exists() else None


def test_masks_are_scored_one_by_one_in_sum_and_pooled(folders, capsys):
    code, report = run(folders, '--save', str(folders / 'saved'))
    assert code == 0
    rows = {row['name']: row for row in report['images']}
    assert [rows[n]['dice'] for n in 'abc'] == [1.0, pytest.approx(2 / 3), 1.0]
    assert rows['b']['recall'] == 0.5 and rows['b']['precision'] == 1.0 and rows['b']['hd95_px'] > 15
    assert report['summary']['dice']['median'] == 1.0 and report['summary']['dice']['n'] == 3
    assert report['summary']['pooled']['recall'] == 0.75
    assert report['summary']['pooled']['dice'] == pytest.approx(2 * 600 / (600 + 800))
    saved = cv2.imread(str(folders / 'saved' / 'b.png'), cv2.IMREAD_UNCHANGED)
    assert saved.shape == (40, 50) and set(np.unique(saved)) == {0, 255} and np.count_nonzero(saved) == 200
    assert 'dice' in capsys.readouterr().out


def test_grey_masks_count_above_127_and_suffixes_may_differ(folders):
    mask = cv2.imread(str(folders / 'masks' / 'a.png'), cv2.IMREAD_UNCHANGED)
    (folders / 'masks' / 'a.png').unlink()
    picture(folders / 'masks' / 'a.bmp', np.where(mask > 0, 128, 127).astype(np.uint8))
    assert run(folders)[1]['images'][0]['dice'] == 1.0


def test_an_infinite_distance_is_null_in_json(folders):
    picture(folders / 'images' / 'c.png', np.zeros((40, 50), np.uint8))
    assert run(folders)[1]['images'][2]['hd95_px'] is None


@pytest.mark.parametrize(
    'harm, words',
    [
        (lambda d: (d / 'masks' / 'b.png').unlink(), 'no file is named b'),
        (lambda d: (d / 'images' / 'b.png').unlink(), 'no file is named b'),
        (lambda d: picture(d / 'masks' / 'b.png', np.zeros((9, 9), np.uint8)), 'mask is 9x9, its picture 50x40'),
        (lambda d: (d / 'images' / 'a.png').write_bytes(b'no picture'), 'a.png'),
        (lambda d: [p.unlink() for p in (d / 'images').iterdir()], 'holds no picture'),
        (lambda d: picture(d / 'images' / 'a.jpg', np.zeros((40, 50), np.uint8)), 'one name'),
    ],
)
def test_input_that_cannot_be_scored_is_refused_in_words(folders, harm, words, capsys):
    harm(folders)
    code, report = run(folders)
    assert code == 2 and report is None
    assert words in capsys.readouterr().err


def test_quartiles_leave_nan_out_and_keep_infinities():
    assert quartiles([1.0, 2.0, 3.0, math.nan]) == {'n': 3, 'median': 2.0, 'q1': 1.5, 'q3': 2.5}
    assert quartiles([1.0, 2.0, math.inf])['median'] == 2.0
    assert quartiles([])['n'] == 0 and math.isnan(quartiles([])['median'])


# Registration


class Recorded:
    """Five frames of a still vessel tree, its silhouette as the picture; the start is off by 5 mm and 2 degrees."""

    frame_rate = 10.0

    def __init__(self, mirrored=False):
        self.model = make_anatomy('iliofemoral', 0)
        self.camera = Camera.from_detector(192, 192, 1.1, 0.3 / 192, mirrored)
        middle = self.model.centreline.points[self.model.centreline.radii > 3e-3].mean(axis=0)
        turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        self.T = rigid(turn, (0, 0, 0.75)) @ rigid(translation=-middle)
        self.initial_pose = perturb(self.T, (5e-3, 0, 0, 0, 0, np.radians(2)), apply(self.T, middle))

    def __iter__(self):
        mask = silhouette(self.model, self.T, self.camera)
        for i in range(5):
            yield SourceFrame(255 - mask, i / self.frame_rate, '', self.camera, self.T, mask)


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
