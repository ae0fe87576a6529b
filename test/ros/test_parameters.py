"""One table: the nodes, config/pipeline.yaml and README say the same."""

import math
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from m2i_ros.registration.settings import RegistrationSettings
from m2i_ros.ros import parameters
from m2i_ros.ros.parameters import PARAMETERS

TOP = Path(__file__).parents[2]
TABLE = {row.name: row for row in PARAMETERS}


def flat(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


def test_the_annotated_file_holds_every_parameter_with_its_default():
    text = (TOP / 'config' / 'pipeline.yaml').read_text()
    assert text == parameters.yaml()
    values = dict(flat(yaml.safe_load(text)['/**']['ros__parameters']))
    assert values == {row.name: row.default for row in PARAMETERS}
    assert {name: type(value) for name, value in values.items()} == {row.name: type(row.default) for row in PARAMETERS}


def test_readme_shows_the_table():
    assert parameters.markdown() in (TOP / 'README.md').read_text()


def test_every_default_is_allowed_and_described():
    assert len(TABLE) == len(PARAMETERS)
    for row in PARAMETERS:
        assert row.refusal(row.default) == ''
        assert row.description.endswith('.')
        assert (row.minimum is not None) == (type(row.default) in (int, float))


def test_every_setting_of_the_registration_is_a_parameter():
    values = parameters.group({row.name: row.default for row in PARAMETERS}, 'registration')
    assert set(values) == {field.name for field in fields(RegistrationSettings)}
    assert RegistrationSettings(**values) == RegistrationSettings()


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('segmentation.threshold', 1.5, '1.5 must be from 0 to 0.999'),
        ('segmentation.threshold', -0.1, 'must be from'),
        ('segmentation.threshold', math.nan, 'finite'),
        ('segmentation.threshold', 1, r'write 1\.0, not 1'),
        ('segmentation.threads', 0, 'from 1 to 64'),
        ('segmentation.threads', True, 'of type int'),
        ('segmentation.engine', 'abacus', '"abacus" must be one of auto, openvino'),
        ('model.units', 'inch', 'mm, cm, m'),
        ('registration.accept_mm', math.inf, 'finite'),
        ('view.primary_angle_deg', 181.0, '-180 to 180 deg'),
    ],
)
def test_a_wrong_value_is_refused_with_the_right_ones(name, value, words):
    with pytest.raises(AssertionError, match=words):
        refusal = TABLE[name].refusal(value)
        assert not refusal, refusal


def test_a_group_is_named_without_its_prefix():
    assert parameters.group({'a.b': 1, 'a.c.d': 2, 'ab.c': 3}, 'a') == {'b': 1, 'c.d': 2}
