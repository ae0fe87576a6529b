"""`benchmark tracking` turns the C-arm, and tells what an earlier view brings."""

import json

from m2i_ros.evaluation.benchmark import main
from m2i_ros.simulation.patients import EVALUATION


def test_a_turned_c_arm_is_reported_with_and_without_what_it_saw_before(tmp_path, capsys):
    run = ['tracking', '--anatomies', 'aortic_root', '--patients', '1', '--masks', 'true', '--size', '192']
    assert main([*run, '--turned', '1', '--still', '--json', str(tmp_path / 'b.json')]) == 0
    report = json.loads((tmp_path / 'b.json').read_text())
    rows = report['turned']
    assert {row['seed'] for row in rows} == {EVALUATION[0]}
    assert [row['way'] for row in rows] == 30 * ['alone'] + 30 * ['kept']
    alone, kept = report['summary']['aortic_root, true masks'].values()
    assert alone['n'] == kept['n'] == 30 and alone['two_views'] == 0 and kept['two_views'] > 0.9
    assert kept['believed'] > 0.9 and kept['believed_mtre_mm'][0] < min(0.7, alone['believed_mtre_mm'][0])
    assert 'kept' in capsys.readouterr().out
