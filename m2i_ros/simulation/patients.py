"""Which simulated patients training never meets.

A patient is the number that `make_anatomy` and `Phantom` are given. The patients of EVALUATION are shown to nobody but
evaluations: no training, no validation, no choice of a threshold or of settings draws from them. Training draws its
vessels from streams of random numbers (`TrainingSamples`) and no patient by number; should it ever, then outside of
EVALUATION. The streams are seeded with two words, patients with one, so that no stream begins as a patient does.
"""

EVALUATION = range(1_000_000, 2_000_000)


def training_stream(seed):
    """Return the seed, for `np.random.default_rng`, of training's stream `seed` (an integer from 0 on)."""
    return (int(seed), 3)
