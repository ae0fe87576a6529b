"""The deep residual U-Net of Zhang, Liu, Wang, "Road Extraction by Deep Residual U-Net", 2018 (arXiv 1711.10684)."""

import torch
from torch import nn


class OneGroupNorm(nn.GroupNorm):
    """Group normalisation (Wu, He 2018, arXiv 1803.08494) with one group: over all channels and pixels of a picture.

    In an ONNX export it is written out as mean and variance, which inference engines recognise as one operation; the
    exporter's own way round by reshapes costs twice the time of the whole network.
    """

    def __init__(self, channels):
        super().__init__(1, channels)

    def forward(self, x):
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        centred = x - x.mean((1, 2, 3), keepdim=True)
        scaled = centred / torch.sqrt(centred.pow(2).mean((1, 2, 3), keepdim=True) + self.eps)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


NORMS = {'batch': nn.BatchNorm2d, 'group': OneGroupNorm}


class ResidualUnit(nn.Module):
    """Full pre-activation residual unit: (norm-ReLU-conv) twice, shortcut projected by a 1x1 convolution.

    (B, inputs, H, W) -> (B, outputs, H / stride, W / stride). The very first unit of the network works on the picture
    itself and so has no norm and ReLU before its first convolution (`first=True`).
    """

    def __init__(self, inputs, outputs, stride, norm, first=False):
        super().__init__()
        self.before = nn.Identity() if first else nn.Sequential(NORMS[norm](inputs), nn.ReLU(inplace=True))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.between = nn.Sequential(NORMS[norm](outputs), nn.ReLU(inplace=True))
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        return self.conv2(self.between(self.conv1(self.before(x)))) + self.shortcut(x)


class DeepResidualUNet(nn.Module):
    """Vessel logits of a grey picture: (B, pictures, H, W) -> (B, 1, H, W); H and W multiples of `multiple`.

    width: channels of the finest level, 64 in the paper, doubled at each of the three stride-2 steps.
    stem: 1 is the paper's network. With 2 or 4 the picture's stem x stem blocks become channels on the way in
        (pixel_unshuffle) and the head's channels become blocks on the way out (pixel_shuffle): the network works at a
        fraction of the resolution, and the time, without an input pixel discarded.
    norm: 'batch' (the paper's) or 'group' (the same in training and use, whatever the batch).
    pictures: 1, the picture alone, or 2: beside it what has changed since the reference, see `segmenter.network_input`.
    """

    def __init__(self, width=64, stem=1, norm='batch', pictures=1):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'norm {norm!r} is not one of {", ".join(NORMS)}')
        self.config = {'width': width, 'stem': stem, 'norm': norm, 'pictures': pictures}
        self.multiple = 8 * stem
        w = [width, 2 * width, 4 * width, 8 * width]
        self.unshuffle = nn.PixelUnshuffle(stem)
        self.encoder = nn.ModuleList(
            [
                ResidualUnit(pictures * stem * stem, w[0], 1, norm, first=True),
                ResidualUnit(w[0], w[1], 2, norm),
                ResidualUnit(w[1], w[2], 2, norm),
            ]
        )
        self.bridge = ResidualUnit(w[2], w[3], 2, norm)
        self.decoder = nn.ModuleList([ResidualUnit(w[i + 1] + w[i], w[i], 1, norm) for i in (2, 1, 0)])
        self.up = nn.Upsample(scale_factor=2, mode='nearest')
        self.head = nn.Conv2d(w[0], stem * stem, 1)
        self.shuffle = nn.PixelShuffle(stem)

    def load_widened(self, parameters):
        """Take the state dict of the same network for one picture; what the second one brings is nothing as yet."""
        parameters = dict(parameters)
        for name, own in self.state_dict().items():
            more = own.shape[1:2] and own.shape[1] - parameters[name].shape[1]
            if more:
                parameters[name] = nn.functional.pad(parameters[name], (0, 0, 0, 0, 0, more))
        self.load_state_dict(parameters)

    def forward(self, x):
        return self.shuffle(self.head(self.levels(x)[-1]))

    def levels(self, x):
        """Return the decoder's features, coarse to fine: (B, 4w, H/4s, W/4s), (B, 2w, H/2s, W/2s), (B, w, H/s, W/s)."""
        x = self.unshuffle(x)
        skips, features = [], []
        for unit in self.encoder:
            x = unit(x)
            skips.append(x)
        x = self.bridge(x)
        for unit, skip in zip(self.decoder, reversed(skips)):
            x = unit(torch.cat([self.up(x), skip], dim=1))
            features.append(x)
        return features
