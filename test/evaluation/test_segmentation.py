"""`evaluate segmentation` scores what goes in, says what is missing, stops and goes on, and shows what it found.

The network is replaced by a threshold, so that the right figures are known; everything else is the real thing.
"""

import json
import math
import re
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from m2i_ros.evaluation import segmentation
from m2i_ros.evaluation.evaluate import main
from m2i_ros.evaluation.pictures import CT_SHARES, PHASES, EvaluationError, SimulatedView, ct_views, simulated_views
from m2i_ros.evaluation.report import COLOURS, agreement, choose
from m2i_ros.evaluation.segmentation import score, summarise, summarise_patients
from m2i_ros.evaluation.terminal import quartiles
from m2i_ros.simulation.patients import CALIBRATION, EVALUATION

pytestmark = pytest.mark.usefixtures('threshold_instead_of_network')


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
    assert report['complete'] and report['summary']['dice']['n'] == 2
    assert report['summary']['dice']['median'] == pytest.approx((1 + 2 / 3) / 2)
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


def test_a_picture_without_vessels_counts_by_what_was_falsely_found_alone(folders):
    report = run(folders)[1]
    assert report['summary']['without_contrast']['n'] == 1 and report['summary']['without_contrast']['clean'] == 1.0
    dark = np.full((40, 50), 255, np.uint8)
    dark[:2, :5] = 0
    picture(folders / 'images' / 'c.png', dark)
    again = run(folders)[1]
    assert again['images'][2]['false_positive_share'] == 10 / 2000 and again['images'][2]['hd95_px'] is None
    assert again['summary']['without_contrast']['clean'] == 0.0
    for metric in ('dice', 'precision', 'hd95_px', 'pooled'):
        assert again['summary'][metric] == report['summary'][metric]


def test_a_vessel_of_which_nothing_is_found_counts_as_infinitely_far(folders):
    picture(folders / 'images' / 'a.png', np.full((40, 50), 255, np.uint8))
    picture(folders / 'images' / 'b.png', np.full((40, 50), 255, np.uint8))
    report = run(folders)[1]
    assert report['summary']['hd95_px'] == dict(n=2, median=None, q1=None, q3=None, p95=None)


def test_distances_are_in_millimetres_where_the_spacing_is_given(folders):
    row = run(folders, '--spacing-mm', '0.5')[1]['images'][1]
    assert row['hd95_mm'] == row['hd95_px'] / 2 and row['assd_mm'] == row['assd_px'] / 2 > 0
    assert run(folders)[1]['images'][1]['hd95_mm'] is None


@pytest.mark.parametrize('spacing', [(), ('--spacing-mm', '0.5')])
def test_a_stopped_run_keeps_what_is_done_and_goes_on_to_the_same_figures(folders, spacing, monkeypatch, capsys):
    picture(folders / 'images' / 'a.png', np.full((40, 50), 255, np.uint8))  # nothing found: infinite distances
    whole = run(folders, *spacing)[1]
    scored = []

    def stopping(source, *rest):
        if source.name == 'b' and 'b' not in scored:
            scored.append('b')
            raise KeyboardInterrupt
        scored.append(source.name)
        return score(source, *rest)

    monkeypatch.setattr(segmentation, 'score', stopping)
    code, report = run(folders, *spacing)
    assert code == 130 and not report['complete'] and [row['name'] for row in report['images']] == ['a']
    assert '1 of 3 scored' in capsys.readouterr().err
    code, report = run(folders, *spacing, '--resume')
    assert code == 0 and report['complete'] and scored == ['a', 'b', 'b', 'c']
    for summary in (whole['summary'], report['summary']):
        summary.pop('latency_ms')
    assert report['summary'] == whole['summary']
    assert run(folders, '--resume', '--spacing-mm', '0.7')[0] == 2
    assert 'give a new file' in capsys.readouterr().err


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


def test_two_processes_score_as_one_does(folders, monkeypatch):
    monkeypatch.undo()  # processes of their own have the real network
    for name in 'abc':
        picture(folders / 'images' / f'{name}.png', np.full((64, 64), 255, np.uint8) - 99 * np.eye(64, dtype=np.uint8))
        picture(folders / 'masks' / f'{name}.png', 255 * np.eye(64, dtype=np.uint8))
    rows = [run(folders, '--threads', '1', '--jobs', jobs)[1]['images'] for jobs in ('1', '2')]
    for row in sum(rows, []):
        row.pop('latency_ms')
    assert [row['name'] for row in rows[0]] == ['a', 'b', 'c'] and rows[0] == rows[1]


# Simulated patients


def made_up(patient, dice, phase='filled', true_px=100, false=0.0):
    row = dict.fromkeys((*segmentation.OVERLAPS, *segmentation.DISTANCES, 'found_px', 'both_px', 'latency_ms'), 1.0)
    row.update(patient=patient, dice=dice, phase=phase, true_px=true_px, false_positive_share=false)
    return {**row, 'name': f'{patient} {dice} {false}', 'source': str(patient)}


def test_patients_count_alike_however_many_of_their_frames_show_contrast():
    rows = [made_up(1, 0.9)] * 8 + [made_up(2, 0.5), made_up(2, 0.7, 'filling'), made_up(2, 0.0, 'before', 0, 0.01)]
    summary = summarise_patients(rows)
    assert summary['dice']['median'] == 0.9 and summary['by_patient']['dice']['median'] == pytest.approx(0.75)
    assert [(p['patient'], p['pictures']) for p in summary['patients']] == [(1, 8), (2, 2)]
    assert summary['phases']['filling']['dice']['median'] == 0.7 and summary['phases']['before']['dice']['n'] == 0
    assert summary['phases']['before']['without_contrast']['clean'] == 0.0


def test_clean_means_below_a_five_hundredth_of_the_picture():
    rows = [made_up(1, 0.0, true_px=0, false=share) for share in (0.0, 0.0019, 0.002, 0.5)]
    assert summarise(rows)['without_contrast']['clean'] == 0.5


def test_a_view_holds_every_phase_its_frames_come_again_and_views_differ():
    view = SimulatedView('aortic_root', EVALUATION[0], 0, frames=6, size=64)
    pictures = list(view.pictures())
    assert [p.about['phase'] for p in pictures] == [PHASES[i] for i in (0, 0, 1, 1, 2, 3)]
    assert not pictures[0].truth.any() and pictures[4].truth.any()
    contrast = [p.about['contrast'] for p in pictures]
    assert max(contrast[:2]) < 1e-3 and contrast[4] > 0.9 > contrast[5]
    assert len({p.name for p in pictures}) == 6
    (again,) = view.pictures({pictures[4].name})
    assert np.array_equal(again.image, pictures[4].image) and np.array_equal(again.truth, pictures[4].truth)
    other = next(SimulatedView('aortic_root', EVALUATION[0], 1, 6, 64).pictures())
    assert other.about['primary_deg'] != pictures[0].about['primary_deg']
    # 0.3 m of detector, at 0.75 of 1.1 m from the source.
    assert pictures[0].spacing_mm == pytest.approx(300 / 64 * 0.75 / 1.1)


def test_patients_that_training_may_meet_are_refused():
    with pytest.raises(EvaluationError, match='kept from training'):
        SimulatedView('iliofemoral', 7, 0, 8, 64)


def test_weights_may_be_chosen_by_patients_that_no_figure_is_about():
    chosen, reported = (
        {view.patient for view in simulated_views(['coronary'], 3, 1, 4, 64, of)}
        for of in ('calibration', 'evaluation')
    )
    assert chosen <= set(CALIBRATION) and reported <= set(EVALUATION) and len(chosen) == len(reported) == 3


def test_more_frames_than_a_phase_has_are_refused():
    with pytest.raises(EvaluationError, match="'before', which has 15"):
        next(SimulatedView('aortic_root', EVALUATION[0], 0, frames=64, size=64).pictures())


def test_simulated_patients_become_figures_and_one_page_that_needs_nothing_else(tmp_path):
    out, page = tmp_path / 'new' / 'out.json', tmp_path / 'page' / 'out.html'
    command = ['segmentation', '--simulated', '--patients', '1', '--views', '1', '--frames', '4', '--size', '64']
    assert main([*command, '--json', str(out), '--html', str(page)]) == 0
    report = json.loads(out.read_text())
    assert list(report['anatomies']) == ['iliofemoral', 'aortic_root'] and report['summary']['pictures'] == 8
    root = report['anatomies']['aortic_root']
    assert root['pictures'] == 4 and root['paper'] == dict(dice=0.71, precision=0.56, recall=0.74)
    rows = [row for row in report['images'] if row['anatomy'] == 'aortic_root' and row['true_px']]
    assert root['dice']['median'] == pytest.approx(np.median([row['dice'] for row in rows]))
    text = page.read_text(encoding='utf-8')
    assert 'not on patients' in text and 'femoral artery' in text and ' '.join(command) in text
    links = re.findall(r'(?:src|href)="([^"]{5})', text)
    assert links and set(links) == {'data:'} and not re.search(r'url\(|<link|<script', text)
    best = max(rows, key=lambda row: row['dice'])
    assert f'<b>Dice {best["dice"]:.3f}</b>' in text


def ct_files(folder, slices=60):
    """A block of water with a lumen across it, as NIfTI, and its label map."""
    labels = np.zeros((50, 40, slices), np.uint8)
    labels[20:28, 16:24] = 3
    hu = np.full(labels.shape, 40, np.int16)
    hu[:4] = hu[-4:] = -1000
    hu[labels > 0] = 350
    for name, data in (('ct', hu), ('labels', labels)):
        nibabel.save(nibabel.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0])), folder / f'{name}.nii.gz')
    return ['segmentation', '--ct', str(folder / 'ct.nii.gz')], ['--labels', str(folder / 'labels.nii.gz')]


def test_frames_are_drawn_through_a_ct_with_its_lumen_as_truth(tmp_path):
    ct, labels = ct_files(tmp_path)
    out, page = tmp_path / 'out.json', tmp_path / 'out.html'
    assert main([*ct, *labels, '--views', '2', '--size', '96', '--json', str(out), '--html', str(page)]) == 0
    report = json.loads(out.read_text())
    rows = report['images']
    assert [row['name'] for row in rows] == [f'ct_view{v}_frame{f}' for v in (0, 1) for f in range(len(CT_SHARES))]
    assert [row['iodine_mg_ml'] for row in rows[:4]] == [60 * share for share in CT_SHARES]
    assert report['complete'] and report['summary']['without_contrast']['n'] == 2
    # The lumen is 32 mm wide, of a picture that sees 205 mm, and goes from edge to edge.
    assert all(0.12 < row['true_px'] / 96**2 < 0.2 for row in rows if row['iodine_mg_ml'])
    assert 'ct_view' in page.read_text()


def test_views_through_a_ct_come_again_and_show_contrast_as_a_darker_lumen(tmp_path):
    (_, _, ct), (_, labels) = ct_files(tmp_path)
    views = ct_views(Path(ct), Path(labels), [3.0], 2, 60.0, 96)
    once, again, other = (list(view.pictures()) for view in (views[0], views[0], views[1]))
    for one, two in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.truth, two.truth)
    assert (once[1].image != other[1].image).any()
    lumen = [picture.image[once[1].truth].mean() for picture in once]
    assert lumen[1] < lumen[2] < lumen[3] < lumen[0] - 5
    (picture,) = views[0].pictures([once[2].name])
    np.testing.assert_array_equal(picture.image, once[2].image)


def test_what_a_ct_is_too_short_to_tell_is_black_and_no_truth(tmp_path):
    (_, _, ct), (_, labels) = ct_files(tmp_path, slices=35)  # 140 mm, of a picture that sees 205 mm
    for view in ct_views(Path(ct), Path(labels), [3.0], 4, 60.0, 96):
        empty, filled, *_ = view.pictures()
        rows = (empty.image > 0).any(axis=1)
        assert 0.3 < rows.mean() < 0.75 and np.count_nonzero(np.diff(rows)) == 2  # one opening, straight
        assert not filled.image[~rows].any() and not filled.truth[~rows].any()
        assert filled.truth[rows].any(axis=1).all()
    (tmp_path / 'short').mkdir()
    (_, _, ct), (_, labels) = ct_files(tmp_path / 'short', slices=3)
    with pytest.raises(EvaluationError, match='too short from feet to head'):
        next(ct_views(Path(ct), Path(labels), [3.0], 1, 60.0, 96)[0].pictures())


@pytest.mark.parametrize(
    'more, words', [([], '--ct needs --labels'), (['--label', '4'], 'label 4 is not in it: it holds 3')]
)
def test_a_ct_that_cannot_be_used_is_refused_in_words(tmp_path, more, words, capsys):
    ct, labels = ct_files(tmp_path)
    assert main([*ct, *(labels if more else []), *more, '--json', str(tmp_path / 'out.json')]) == 2
    assert words in capsys.readouterr().err


def test_the_gallery_shows_extremes_and_middle_of_different_patients():
    rows = [made_up(patient, patient / 10 + frame / 100) for patient in range(1, 8) for frame in range(3)]
    rows += [made_up(1, 0.0, 'before', 0, share) for share in (0.1, 0.3, 0.2, 0.0)]
    kinds = {kind.split()[0]: [row['dice'] for row in rows] for kind, rows in choose(rows).items()}
    assert (
        kinds['Best'] == [0.72, 0.62, 0.52]
        and kinds['Worst'] == [0.1, 0.2, 0.3]
        and kinds['Median'][0] == pytest.approx(0.41)
    )
    falsely = choose(rows)['Without vessels: most taken for vessel']
    assert [row['false_positive_share'] for row in falsely] == [0.3, 0.2, 0.1]


def test_agreement_is_drawn_in_its_colours():
    picture_ = np.full((1, 4, 3), 100, np.uint8)
    mask, truth = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    drawn = agreement(picture_, mask, truth)[0].astype(int)
    for pixel, kind in zip(drawn, COLOURS):
        colour = np.array([int(COLOURS[kind][i : i + 2], 16) for i in (5, 3, 1)])
        assert ((pixel - 100) * (colour - 100) >= 0).all() and np.abs(pixel - 100).sum() > 50
    assert (drawn[3] == 100).all()
