"""How good a network is while it learns, and from which probability a pixel is best called vessel."""

import numpy as np
import torch
from torch.nn import functional

from m2i_ros.evaluation.metrics import cldice, dice

THRESHOLDS = np.arange(0.1, 0.91, 0.05).round(2)


def threshold_scores(probability, truth):
    """Return Dice and clDice at each of THRESHOLDS, (T, 2), of a probability map (H, W) against a mask (H, W) bool."""
    return np.array([[metric(probability >= at, truth) for metric in (dice, cldice)] for at in THRESHOLDS])


def best_threshold(scores):
    """Return the threshold at which the mean of Dice and clDice, (T, 2), is highest, and its index."""
    index = int(scores.mean(axis=1).argmax())
    return float(THRESHOLDS[index]), index


@torch.inference_mode()
def mean_scores(network, batches, device, all_reduce=None):
    """Return the mean `threshold_scores` (T, 2) of a network over the pictures of batches that show vessels.

    all_reduce: sums an array over the processes of a training, which have shared the batches out.
    Raises ValueError where no picture shows a vessel.
    """
    network.eval()
    total, count = np.zeros((len(THRESHOLDS), 2)), 0
    for image, target in batches:
        probability = torch.sigmoid(_padded(network, image.to(device))).float().cpu()
        for p, t in zip(probability[:, 0].numpy(), target[:, 0].numpy() > 0.5):
            if t.any():
                total, count = total + threshold_scores(p, t), count + 1
    both = np.append(total, count)
    both = all_reduce(both) if all_reduce else both
    if not both[-1]:
        raise ValueError('no validation frame shows a vessel: raise validation_frames')
    return (both[:-1] / both[-1]).reshape(total.shape)


def _padded(network, image):
    """Logits of pictures of any size."""
    rows, columns = image.shape[-2:]
    padding = (0, -columns % network.multiple, 0, -rows % network.multiple)
    return network(functional.pad(image, padding, mode='reflect'))[..., :rows, :columns]
