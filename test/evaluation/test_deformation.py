"""What a bend brings is measured against vessels that were bent by a known amount."""

from m2i_ros.evaluation import deformation
from m2i_ros.simulation.patients import EVALUATION


def test_a_bend_follows_a_wire_and_leaves_straight_vessels_alone(monkeypatch):
    monkeypatch.setattr(deformation, 'DEFORMATIONS', {k: deformation.DEFORMATIONS[k] for k in ('none', 'wire 5 mm')})
    monkeypatch.setattr(deformation, '_TIMES', 1)
    rows = deformation.trials('aortic_root', EVALUATION.start, 512, masks=('true',))
    straight, wire = rows
    assert straight['accepted'] and wire['accepted']
    assert abs(straight['bent_mm'] - straight['rigid_mm']) < 0.05
    assert wire['bent_mm'] < 0.7 * wire['rigid_mm']
    (summary, _) = deformation.summarise(rows)
    assert summary['worse'] == 0 and summary['n'] == summary['accepted'] == 1
