"""Which simulated patients training never meets.

A patient is the number that `make_anatomy` and `Phantom` are given. Those of EVALUATION are for figures that are
reported: no training, no validation, no choice of a threshold or of settings may draw from them. `TrainingSamples`
takes no patient by number: it draws its vessels from streams of random numbers, which are seeded with two words where
patients are seeded with one, so that no stream begins as a patient does. `PhantomSamples` takes those of TRAINING.
"""

EVALUATION = range(1_000_000, 2_000_000)
# For what is learned from patients by number after training: how far a pose can be trusted, which weights are better.
CALIBRATION = range(500_000, 1_000_000)
# By name, for commands that take either.
OF = {'evaluation': EVALUATION, 'calibration': CALIBRATION}
# For training by number. Those below are free: for examples, tests and trials.
TRAINING = range(100_000, 500_000)


def training_stream(seed):
    """Return the seed, for `np.random.default_rng`, of training's stream `seed` (an integer from 0 on)."""
    return (int(seed), 3)
