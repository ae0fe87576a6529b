"""What the evidence of a fit is worth: monotone, refused with a reason, and learned as it should be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.registration import RegistrationSettings
from m2i_ros.registration.confidence import Confidence, Evidence, judge, judge_held

GOOD = Evidence(0.2, 0.3, 0.05, 0.05, 0.0)
amounts = st.builds(Evidence, *[st.floats(0, 10)] * 2, *[st.floats(0, 1)] * 3)


@settings(deadline=None)
@given(amounts, st.sampled_from(list(Evidence.__dataclass_fields__)), st.floats(0, 10), st.floats(0.1, 5))
def test_more_against_a_pose_never_makes_it_more_probable(evidence, name, more, limit):
    confidence = Confidence.shipped()
    worse = replace(evidence, **{name: getattr(evidence, name) + more})
    assert 0 <= confidence(worse, limit) <= confidence(evidence, limit) <= 1
    assert confidence(evidence, limit) <= confidence(evidence, 1.5 * limit)


def test_a_good_fit_is_believed_and_what_is_wrong_with_a_bad_one_is_told():
    s = RegistrationSettings()
    assert judge(GOOD, s).accepted and judge(GOOD, s).reason == ''
    lost = judge(replace(GOOD, model_unexplained=0.9, mask_unexplained=0.9, residual_mm=0.6), s)
    assert not lost.accepted and lost.reason.startswith('probability 0.')
    assert lost.probability < s.accept_probability <= judge(GOOD, s).probability


def test_the_reason_is_the_feature_that_weighs_most():
    confidence = Confidence(0.0, 1.0, np.ones(5), Confidence.features(GOOD))
    assert confidence.worst(replace(GOOD, model_unexplained=0.9)) == 2
    assert confidence.worst(replace(GOOD, rival=1.0)) == 4


def test_nothing_in_view_is_never_believed():
    nothing = Evidence(np.inf, np.inf, 1.0, 1.0, 0.0)
    assert judge(nothing, RegistrationSettings()).probability < 1e-3


def test_a_pose_held_is_believed_while_its_error_stays_below_the_limit():
    s = RegistrationSettings(accept_mm=1.0)
    assert judge_held(0.9, s).accepted and not judge_held(1.1, s).accepted
    # Rayleigh: 1 - 1/e of two normal components of root mean square 1 lie within 1.
    assert judge_held(1.0, s).probability == pytest.approx(1 - np.exp(-1))
