"""Lines of points: their length, even spacing, smoothness."""

import numpy as np


def arc_length(line):
    """Return how far along a polyline (N, 3) its points lie, (N,), from 0."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])


def resampled(line, spacing):
    """Return the polyline (N, 3) with points about `spacing` apart, metres, one for all or (N,); its ends are kept."""
    wide = np.broadcast_to(spacing, len(line))
    along = np.concatenate([[0.0], np.cumsum(np.diff(arc_length(line)) / (0.5 * (wide[1:] + wide[:-1])))])
    at = np.linspace(0, along[-1], max(2, round(along[-1]) + 1))
    return np.stack([np.interp(at, along, line[:, k]) for k in range(3)], axis=1)


def smoothed(line, sigma):
    """Return the polyline smoothed by a Gaussian along its length, of `sigma` (N,) metres, its ends kept."""
    n = len(line)
    if n < 3:
        return line
    # Reflected through its ends, so that they stay and the direction there is kept.
    long = np.vstack([2 * line[0] - line[:0:-1], line, 2 * line[-1] - line[-2::-1]])
    along = arc_length(long)
    weight = np.exp(-0.5 * ((along[n - 1 : 2 * n - 1, None] - along) / np.maximum(sigma, 1e-6)[:, None]) ** 2)
    return weight @ long / weight.sum(axis=1, keepdims=True)
