"""Deep supervision (Lee et al., "Deeply-Supervised Nets", AISTATS 2015): the coarse levels learn from the label too."""

from torch import nn
from torch.nn import functional

from m2i_ros.training.losses import segmentation_loss


class CoarseHeads(nn.Module):
    """Logits of a network and of its coarser decoder levels: (B, 1, H, W) -> [(B, 1, H, W), (.. H/2 ..), (.. H/4 ..)].

    The heads serve the training alone: what is exported is the network in here.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network
        width, stem = network.config['width'], network.config['stem']
        self.heads = nn.ModuleList([nn.Conv2d(width * factor, stem * stem, 1) for factor in (2, 4)])

    def forward(self, x):
        *coarse, finest = self.network.levels(x)
        heads = [self.network.head, *self.heads]
        return [self.network.shuffle(head(level)) for head, level in zip(heads, (finest, *reversed(coarse)))]


def coarse_loss(coarse_logits, target):
    """Mean of Dice loss plus cross entropy over coarse logits, against the share of vessel in each of their pixels."""
    terms = {'dice': 1.0, 'bce': 1.0}
    losses = [
        segmentation_loss(logits, functional.adaptive_avg_pool2d(target, logits.shape[-2:]), terms)
        for logits in coarse_logits
    ]
    return sum(losses) / len(losses)
