"""The ablation gives every variant the same start and mask, and counts what it says."""

import numpy as np
import pytest

from m2i_ros.evaluation import ablation
from m2i_ros.evaluation.ablation import BANDS, summarise


def test_a_patients_trials_are_the_same_whatever_else_is_asked_for():
    one = ablation.trials('aortic_root', 0, 128, chosen=['search, 1 start'])
    two = ablation.trials('aortic_root', 0, 128, chosen=['search, 1 start', 'network, 1 start'])
    key = ('mask', 'band', 'variant')
    found = {tuple(row[k] for k in key): row for row in two}
    for row in one:
        again = found.pop(tuple(row[k] for k in key))
        assert row.get('mpd_mm') == again.get('mpd_mm') and row.get('recall') == again.get('recall')
    assert {variant for _, _, variant in found} == {'network, 1 start'} and len(found) == 2 * len(BANDS)
    near = next(row for row in one if (row['mask'], row['band'], row['variant']) == ('true', 'near', 'search, 1 start'))
    start = next(row for row in one if (row['mask'], row['band'], row['variant']) == ('true', 'near', 'start'))
    assert near['mpd_mm'] < 1 < 5 < start['mpd_mm']


def test_the_summary_counts_what_its_words_say():
    own = {'mask': 'true', 'variant': 'a', 'band': 'far'}
    rows = [{**own, 'mpd_mm': mm, 'depth_mm': 1.0, 'ms': 10.0 * mm} for mm in (0.5, 1.9, 2.1, np.inf)]
    (summary,) = summarise(rows)
    assert summary['n'] == 4 and summary['right'] == 0.5
    assert summary['mpd_mm'] == pytest.approx(2.0) and summary['ms'] == pytest.approx(20.0)
