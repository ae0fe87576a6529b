"""The differentiable skeleton of vessels that clDice is about (Shit et al., CVPR 2021, algorithm 1)."""

import numpy as np
import torch
from numba import njit
from torch.nn import functional


def soft_skeleton(probability, iterations):
    """Skeleton of vessels up to 2 * iterations pixels wide: (B, 1, H, W), 0 to 1, as the probability is.

    On a CPU by compiled loops: pooling by torch took most of a training step there (docs/training_log.md).
    """
    if probability.device.type != 'cpu':
        return pooled_skeleton(probability, iterations)
    return _CompiledSkeleton.apply(probability, iterations)


def pooled_skeleton(probability, iterations):
    """The same by torch's pooling, on any device."""

    def erode(x):
        rows, columns = functional.max_pool2d(-x, (3, 1), 1, (1, 0)), functional.max_pool2d(-x, (1, 3), 1, (0, 1))
        return -torch.maximum(rows, columns)

    def top_hat(x, eroded):
        return functional.relu(x - functional.max_pool2d(eroded, 3, 1, 1))

    eroded = erode(probability)
    skeleton = top_hat(probability, eroded)
    for _ in range(iterations):
        probability, eroded = eroded, erode(eroded)
        rest = top_hat(probability, eroded)
        skeleton = skeleton + functional.relu(rest - skeleton * rest)
    return skeleton


class _CompiledSkeleton(torch.autograd.Function):
    @staticmethod
    def forward(context, probability, iterations):
        pictures = probability.detach().float().contiguous().numpy()[:, 0]
        kept = [_skeleton(picture, iterations) for picture in pictures]
        context.kept = kept
        made = np.stack([skeletons[-1] for skeletons, *_ in kept])
        return torch.from_numpy(made)[:, None].to(probability.dtype)

    @staticmethod
    def backward(context, gradient):
        gradients = gradient.float().contiguous().numpy()[:, 0]
        made = np.stack([_towards_picture(g, *kept) for g, kept in zip(gradients, context.kept)])
        return torch.from_numpy(made)[:, None].to(gradient.dtype), None


@njit(cache=True, nogil=True)
def _skeleton(picture, iterations):
    """Return of a picture (H, W) the skeletons after each iteration and the rests that were added, (iterations + 1, H,
    W), and from which pixel of their surroundings, as steps in flat (H, W), erosion and dilation took their values."""
    height, width = picture.shape
    shape = (iterations + 1, height, width)
    skeletons, rests = np.empty(shape, np.float32), np.empty(shape, np.float32)
    eroded_from, dilated_from = np.empty(shape, np.int16), np.empty(shape, np.int16)
    eroded, across, across_from = np.empty_like(picture), np.empty_like(picture), np.empty((height, width), np.int16)
    for k in range(iterations + 1):
        _least_of_cross(picture, eroded, eroded_from[k])
        _most_of_square(eroded, across, across_from, rests[k], dilated_from[k])
        for i in range(height):
            for j in range(width):
                rest = max(picture[i, j] - rests[k, i, j], np.float32(0))
                rests[k, i, j] = rest
                before = skeletons[k - 1, i, j] if k else np.float32(0)
                skeletons[k, i, j] = before + max(rest - before * rest, np.float32(0))
        # The picture that was given stays as it is.
        picture, eroded = eroded, np.empty_like(eroded) if k == 0 else picture
    return skeletons, rests, eroded_from, dilated_from


@njit(cache=True, nogil=True)
def _least_of_cross(x, least, taken_from):
    height, width = x.shape
    for i in range(height):
        up, down = max(i - 1, 0), min(i + 1, height - 1)
        for j in range(width):
            left, right = max(j - 1, 0), min(j + 1, width - 1)
            value, step = x[i, j], 0
            if x[up, j] < value:
                value, step = x[up, j], -width
            if x[down, j] < value:
                value, step = x[down, j], width
            if x[i, left] < value:
                value, step = x[i, left], -1
            if x[i, right] < value:
                value, step = x[i, right], 1
            least[i, j], taken_from[i, j] = value, step


@njit(cache=True, nogil=True)
def _most_of_square(x, across, across_from, most, taken_from):
    height, width = x.shape
    for i in range(height):
        for j in range(width):
            left, right = max(j - 1, 0), min(j + 1, width - 1)
            value, step = x[i, j], 0
            if x[i, left] > value:
                value, step = x[i, left], -1
            if x[i, right] > value:
                value, step = x[i, right], 1
            across[i, j], across_from[i, j] = value, step
    for i in range(height):
        up, down = max(i - 1, 0), min(i + 1, height - 1)
        for j in range(width):
            value, step = across[i, j], across_from[i, j]
            if across[up, j] > value:
                value, step = across[up, j], across_from[up, j] - width
            if across[down, j] > value:
                value, step = across[down, j], across_from[down, j] + width
            most[i, j], taken_from[i, j] = value, step


@njit(cache=True, nogil=True)
def _towards_picture(gradient, skeletons, rests, eroded_from, dilated_from):
    """Return the gradient (H, W) with respect to the picture of what has one, (H, W), with respect to its skeleton."""
    count, height, width = skeletons.shape
    pixels = height * width
    of_skeleton = gradient.copy().ravel()
    # With respect to the picture eroded so many times.
    of_eroded = np.zeros((count + 1, pixels), np.float32)
    for k in range(count - 1, -1, -1):
        rest, taken = rests[k].ravel(), dilated_from[k].ravel()
        for at in range(pixels):
            g, r = of_skeleton[at], rest[at]
            if g == 0 or r == 0:
                continue
            if k:
                before = skeletons[k - 1].ravel()[at]
                of_skeleton[at] = g * (1 - r)
                g *= 1 - before
            of_eroded[k, at] += g
            of_eroded[k + 1, at + taken[at]] -= g
    for k in range(count, 0, -1):
        taken = eroded_from[k - 1].ravel()
        for at in range(pixels):
            if of_eroded[k, at] != 0:
                of_eroded[k - 1, at + taken[at]] += of_eroded[k, at]
    return of_eroded[0].reshape(height, width)
