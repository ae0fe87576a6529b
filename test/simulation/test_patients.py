"""Training never meets the patients that are kept for evaluation."""

from numbers import Integral

import numpy as np

from m2i_ros.simulation import TrainingSamples, make_anatomy, samples
from m2i_ros.simulation.patients import EVALUATION


def test_training_draws_none_of_the_patients_kept_for_evaluation(monkeypatch):
    drawn = []

    def spied(kind, seed):
        tree = make_centreline(kind, seed)
        drawn.append((kind, seed, tree))
        return tree

    make_centreline = samples.make_centreline
    monkeypatch.setattr(samples, 'make_centreline', spied)
    patient = EVALUATION[0]
    for stream in (0, patient):
        next(TrainingSamples(size=64, seed=stream, batch_size=8))
    assert len(drawn) > 8
    kept = {kind: make_anatomy(kind, patient).centreline.points for kind in {kind for kind, _, _ in drawn}}
    for kind, seed, tree in drawn:
        if isinstance(seed, Integral):  # a patient by number
            assert seed not in EVALUATION
        else:
            # A patient's stream begins with one word, training's with two.
            assert len(np.atleast_1d(seed.bit_generator.seed_seq.entropy)) > 1
        assert not np.array_equal(tree.points, kept[kind])
