"""Losses of vessel segmentation. Logits and targets: (B, 1, H, W) float32, targets 0 or 1. Answer: a scalar."""

import torch
from torch.nn import functional

from m2i_ros.training.skeleton import soft_skeleton


def soft_dice_loss(logits, target, smooth=1.0):
    """1 - Dice over the whole batch, so that a picture without vessels counts by its false pixels."""
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + smooth) / (probability.sum() + target.sum() + smooth)


def soft_cldice_loss(logits, target, iterations=8, smooth=1.0):
    """1 - centreline Dice (Shit et al., "clDice", CVPR 2021): rewards unbroken vessels, whatever their width."""
    probability = torch.sigmoid(logits)
    found, true = soft_skeleton(probability, iterations), soft_skeleton(target, iterations)
    precision = ((found * target).sum() + smooth) / (found.sum() + smooth)
    recall = ((true * probability).sum() + smooth) / (true.sum() + smooth)
    return 1 - 2 * precision * recall / (precision + recall)


def tolerant_dice_loss(logits, target, tolerance=2, smooth=1.0):
    """1 - Dice that forgives borders up to `tolerance` pixels off: what people who draw vessels differ by."""
    probability = torch.sigmoid(logits)

    def near(x):
        return functional.max_pool2d(x, 2 * tolerance + 1, 1, tolerance)

    precision = ((probability * near(target)).sum() + smooth) / (probability.sum() + smooth)
    recall = ((target * near(probability)).sum() + smooth) / (target.sum() + smooth)
    return 1 - 2 * precision * recall / (precision + recall)


def distillation_loss(logits, teacher_logits, temperature):
    """Cross entropy with a teacher's probabilities, both softened (Hinton et al., 2015, arXiv 1503.02531)."""
    soft = torch.sigmoid(teacher_logits / temperature)
    # The square keeps the gradient's size whatever the temperature, as Hinton et al. have it.
    return temperature**2 * functional.binary_cross_entropy_with_logits(logits / temperature, soft)


TERMS = {
    'dice': soft_dice_loss,
    'bce': functional.binary_cross_entropy_with_logits,
    'cldice': soft_cldice_loss,
    'tolerant': tolerant_dice_loss,
}


def segmentation_loss(logits, target, weights):
    """Weighted sum of the TERMS in `weights`, a dict. A term of weight 0 is not computed."""
    return sum(weight * TERMS[name](logits, target) for name, weight in weights.items() if weight)
