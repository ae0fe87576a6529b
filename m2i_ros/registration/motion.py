"""How the vessels move in the picture: breath and heart beat, learned from the track itself, and where they lead."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numba import njit

MEMORY = 8.0  # seconds of track that are looked at: two breaths
ENOUGH = 1.5  # seconds of track below which there is nothing to learn from
BREATHS = np.linspace(0.15, 0.45, 13)  # Hz
BEATS = np.linspace(0.8, 2.2, 29)  # Hz: 48 to 132 a minute
HARMONICS = 2, 3  # of breath and of beat
AMPLITUDE = 3e-3  # metres: standard deviation of a first harmonic before anything is known; of the k-th, 1/k of it
PLACE = 2e-2  # metres: the same of the mean place about the last one
NOISE = 2e-4  # metres of error of a tracked place, at least
SCAN = 15  # frames from one look at all frequencies to the next; in between they are followed
FOLLOW = 3  # frames from one look at the frequencies nearby to the next
NEAR = np.array([-1.0, 0.0, 1.0])  # of the steps below
BREATH_STEP, BEAT_STEP = 0.01, 0.015  # Hz
DRIFT = 0.05  # of the time ahead: by so much breath and beat come early or late
PULL = 0.1  # seconds for which a place beside the curve stays beside it
TRIAL = 0.5  # seconds ahead at which predictions are compared with what came
TRIALS = 15  # of these before a curve is used at all; four times as many are remembered
_PRECISION = np.array(
    [PLACE**-2] + [(k / AMPLITUDE) ** 2 for n in HARMONICS for k in range(1, n + 1) for _ in range(2)]
)


@njit(cache=True, nogil=True)
def _basis(times, breath, beat, harmonics):
    """Return (N, 1 + 2 * all harmonics): 1, then cosine and sine of each harmonic."""
    out = np.empty((times.shape[0], 1 + 2 * (harmonics[0] + harmonics[1])))
    for i in range(times.shape[0]):
        out[i, 0] = 1.0
        n = 1
        for which in range(2):
            angle = 2 * np.pi * times[i] * (breath if which == 0 else beat)
            turn = complex(np.cos(angle), np.sin(angle))
            now = complex(1.0, 0.0)
            for _ in range(harmonics[which]):
                now *= turn
                out[i, n] = now.real
                out[i, n + 1] = now.imag
                n += 2
    return out


@njit(cache=True, nogil=True)
def _root(basis, precision, noise):
    """Return the lower triangular root (M, M) of the information, times noise squared, that a basis (N, M) and the
    amplitudes' precision (M,) give (Cholesky)."""
    count = basis.shape[1]
    L = np.zeros((count, count))
    for n in range(basis.shape[0]):
        for i in range(count):
            for j in range(i + 1):
                L[i, j] += basis[n, i] * basis[n, j]
    for i in range(count):
        L[i, i] += precision[i] * noise * noise
        for j in range(i + 1):
            for k in range(j):
                L[i, j] -= L[i, k] * L[j, k]
            L[i, j] = L[i, j] / L[j, j] if j < i else np.sqrt(L[i, i])
    return L


@njit(cache=True, nogil=True)
def _whitened(L, right):
    """Return X (M, K) with L @ X == right, which is written over."""
    for i in range(L.shape[0]):
        for k in range(right.shape[1]):
            for j in range(i):
                right[i, k] -= L[i, j] * right[j, k]
            right[i, k] /= L[i, i]
    return right


@njit(cache=True, nogil=True)
def _misfit(times, places, breath, beat, harmonics, precision, noise):
    """Return -2 log evidence, but for a constant, of two frequencies: linear regression with normal amplitudes."""
    basis = _basis(times, breath, beat, harmonics)
    L = _root(basis, precision, noise)
    explained = _whitened(L, basis.T @ places)
    logs = 0.0
    for k in range(L.shape[0]):
        logs += np.log(L[k, k])
    return 2 * places.shape[1] * logs + ((places**2).sum() - (explained**2).sum()) / (noise * noise)


@njit(cache=True, nogil=True)
def _regression(times, places, breath, beat, harmonics, precision, noise):
    """Return the weights (M, 2) of the `_basis` that fit the places, their covariance (M, M) for a unit of noise, and
    what is left of the places."""
    basis = _basis(times, breath, beat, harmonics)
    inverse_root = _whitened(_root(basis, precision, noise), np.eye(basis.shape[1]))
    covariance = inverse_root.T @ inverse_root
    weights = covariance @ (basis.T @ places)
    return weights, covariance, places - basis @ weights


@njit(cache=True, nogil=True)
def _scan(times, places, breaths, beats, breath, harmonics, precision, noise):
    """Return the frequencies of breath and beat that explain most: first among the beats, then among the breaths."""
    best, beat = np.inf, beats[0]
    for f in beats:
        misfit = _misfit(times, places, breath, f, harmonics, precision, noise)
        if misfit < best:
            best, beat = misfit, f
    best = np.inf
    for f in breaths:
        misfit = _misfit(times, places, f, beat, harmonics, precision, noise)
        if misfit < best:
            best, breath = misfit, f
    return breath, beat


@dataclass(frozen=True)
class _Curve:
    """The sum of two periodic motions of a model point in the picture's plane, metres from its place at `stamp`."""

    stamp: float
    T_image_model: np.ndarray
    point: np.ndarray
    breath: float
    beat: float
    weights: np.ndarray
    posterior: np.ndarray
    beside: np.ndarray

    def at(self, stamp):
        """Return how far the point will have moved (2,), and the variance of each component if the periods stay."""
        later = stamp - self.stamp
        basis = _basis(np.array([later]), self.breath, self.beat, HARMONICS)[0]
        return basis @ self.weights + np.exp(-later / PULL) * self.beside, float(basis @ self.posterior @ basis)

    def late(self, stamp):
        """Return the standard deviation, in each direction, that a change of the periods adds."""
        rates = [k * f for n, f in zip(HARMONICS, (self.breath, self.beat)) for k in range(1, n + 1) for _ in range(2)]
        speed = np.sqrt(((2 * np.pi * np.array(rates)[:, None] * self.weights[1:]) ** 2).sum() / 4)
        return DRIFT * (stamp - self.stamp) * speed


class Motion:
    """Predicts how far the model moves in the picture's plane, from its track of the last `MEMORY` seconds.

    Two periodic motions, breath and beat, of unknown periods and forms are fitted to the track by linear regression
    whose amplitudes are normal in advance; the periods are those of most evidence. Every curve is tried: `TRIAL`
    seconds later it is compared with what came. Only while it errs less than the last place would is it believed, and
    its variance is raised to what it was seen to err.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        """Forget the track."""
        self._stamps, self._poses = np.empty(0), np.empty((0, 4, 4))
        self._breath, self._beat = BREATHS[3], BEATS[6]
        self._curve, self._on_trial, self._added = None, deque(), 0
        self._trials, self._ratio, self._still, self._erred = 0, 1.0, 0.0, 0.0

    def carry(self, T_new_old):
        """Take over that the image frame has moved: T_new_old (4, 4) maps its old coordinates into the new ones."""
        self._poses = T_new_old @ self._poses
        self._curve, self._on_trial = None, deque()

    def add(self, stamp, T_image_model, point):
        """Take a tracked pose (4, 4). point: (3,) of the model, whose motion in the picture is to be predicted."""
        while self._on_trial and self._on_trial[0].stamp <= stamp - TRIAL:
            self._try(self._on_trial.popleft(), stamp, T_image_model)
        first = np.searchsorted(self._stamps, stamp - MEMORY)
        self._stamps = np.append(self._stamps[first:], stamp)
        self._poses = np.concatenate([self._poses[first:], T_image_model[None]])
        if stamp - self._stamps[0] < ENOUGH:
            return
        self._curve = self._fitted(point)
        self._on_trial.append(self._curve)

    def places(self, point, since):
        """Return the stamps (N,) of the track from `since` on, seconds, and where a model point (3,) lay in the picture
        then: (N, 2) metres at its last depth."""
        first = np.searchsorted(self._stamps, since)
        return self._stamps[first:], _places(self._poses[first:], point)

    def predict(self, stamp):
        """Return the shift (2,) since the last pose, metres along x and y, and its standard deviation in each; or None
        where nothing periodic is to be seen."""
        if self._curve is None or self._trials < TRIALS or self._erred > self._still:
            return None
        shift, variance = self._curve.at(stamp)
        return shift, float(np.sqrt(variance * max(1.0, self._ratio) + self._curve.late(stamp) ** 2))

    def _try(self, curve, stamp, T_image_model):
        if stamp > curve.stamp + 2 * TRIAL:
            return  # unseen in between
        came = np.subtract(*_places(np.stack([T_image_model, curve.T_image_model]), curve.point))
        shift, variance = curve.at(stamp)
        erred = ((shift - came) ** 2).sum() / 2
        self._trials = min(self._trials + 1, 4 * TRIALS)
        share = 1 / self._trials
        self._ratio += share * (erred / variance - self._ratio)
        self._erred += share * (erred - self._erred)
        self._still += share * ((came**2).sum() / 2 - self._still)

    def _fitted(self, point):
        times, places = self._stamps - self._stamps[-1], _places(self._poses, point)
        places -= places[-1]
        known = HARMONICS, _PRECISION, NOISE
        if self._added % FOLLOW == 0:
            breaths, beats = self._breath + BREATH_STEP * NEAR, self._beat + BEAT_STEP * NEAR
            if self._added % SCAN == 0:
                breaths, beats = np.append(breaths, BREATHS), np.append(beats, BEATS)
            self._breath, self._beat = _scan(times, places, breaths, beats, self._breath, *known)
        self._added += 1
        weights, covariance, rest = _regression(times, places, self._breath, self._beat, *known)
        noise = max((rest**2).sum() / (2 * max(len(times) - len(_PRECISION) / 2, 1)), NOISE**2)
        posterior = noise * covariance
        posterior[0, 0] += noise  # that of a place about the curve
        return _Curve(
            self._stamps[-1], self._poses[-1], point, self._breath, self._beat, weights, posterior, rest[-1]
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _places(poses, point):
    """Return where a model point (3,) lies in the picture under poses (N, 4, 4): (N, 2) metres at its last depth."""
    out = np.empty((poses.shape[0], 2))
    z = 1.0
    for i in range(poses.shape[0]):
        T = poses[i]
        z = T[2, 0] * point[0] + T[2, 1] * point[1] + T[2, 2] * point[2] + T[2, 3]
        for k in range(2):
            out[i, k] = (T[k, 0] * point[0] + T[k, 1] * point[1] + T[k, 2] * point[2] + T[k, 3]) / z
    return out * z
