"""The matching network itself, and the solution for the motion through which it is trained."""

import torch
from torch import nn
from torch.nn import functional

from m2i_ros.registration.matching import CHANNELS, GAUSS_NEWTON, PRIOR_SIGMA

_LOG_RANGE = (-3.0, 5.0)  # of the logarithm of a cell's certainty, one over halves of the window


class _Unit(nn.Module):
    """Two convolutions with a shortcut: (B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


class MatchingNetwork(nn.Module):
    """For each cell where it belongs and how surely: (B, CHANNELS, SIDE, SIDE) -> (B, 5, SIDE / 4, SIDE / 4).

    Channels out: the motion (x, y) in halves of the window, and the lower triangle L (xx, yx, yy) of the cell's
    information L @ L.T as the sum over all cells takes it: cells beside each other err alike, and count less for it.
    """

    def __init__(self, widths=(16, 24, 40, 64, 96)):
        super().__init__()
        self.config = {'widths': list(widths)}
        w = widths
        self.stem = nn.Sequential(nn.Conv2d(CHANNELS, w[0], 5, 2, 2, bias=False), nn.BatchNorm2d(w[0]), nn.ReLU())
        self.down = nn.ModuleList([_Unit(w[i], w[i + 1], 2) for i in range(4)])
        self.up = nn.ModuleList([_Unit(w[i + 1] + w[i], w[i], 1) for i in (3, 2, 1)])
        self.head = nn.Conv2d(w[1], 5, 1)
        self.log_independence = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x):
        x = self.stem(x)
        levels = []
        for unit in self.down:
            x = unit(x)
            levels.append(x)
        for unit, level in zip(self.up, levels[-2::-1]):
            x = unit(torch.cat([functional.interpolate(x, scale_factor=2, mode='nearest'), level], dim=1))
        x = self.head(x)
        certainty = torch.exp(torch.clamp(x[:, 2:4] + 1.0, *_LOG_RANGE) + self.log_independence)
        slant = x[:, 4:] * certainty[:, :1]
        return torch.cat([x[:, :2], certainty[:, :1], slant, certainty[:, 1:]], dim=1)


def exp_so3(w):
    """Return rotation matrices (B, 3, 3) of rotation vectors (B, 3) (Rodrigues)."""
    angle2 = (w * w).sum(dim=1)[:, None, None] + 1e-12
    angle = angle2.sqrt()
    zero = torch.zeros_like(w[:, 0])
    K = torch.stack([zero, -w[:, 2], w[:, 1], w[:, 2], zero, -w[:, 0], -w[:, 1], w[:, 0], zero], 1).view(-1, 3, 3)
    return torch.eye(3) + torch.sin(angle) / angle * K + (1 - torch.cos(angle)) / angle2 * (K @ K)


def project(q, theta, window):
    """Return where points end in the window, (B, N, 2), and the moved points (B, N, 3) and rotated arms (B, N, 3).

    q: (B, N, 3), as `Cells.points`. theta: (B, 6). window: (B, 3): tangents of the ray through the middle, and half.
    """
    arm = q @ exp_so3(theta[:, 3:]).transpose(1, 2)
    ray, k = window[:, :2], window[:, 2:]
    far = torch.expm1(theta[:, 2:3]) / k
    shift = torch.cat([theta[:, :2] + far * ray, far], dim=1)
    moved = arm + shift[:, None]
    z = torch.clamp(1 + k * moved[..., 2], min=0.1)
    return ((ray[:, None] + k[:, None] * moved[..., :2]) / z[..., None] - ray[:, None]) / k[:, None], moved, arm


def solve(out, share, q, window):
    """Return theta (B, 6) and its information (B, 6, 6): the motion that the cells agree on, by Gauss-Newton.

    out: (B, 5, N) of the network. share: (B, N). q: (B, N, 3). window: (B, 3). See `project`.
    """
    start = project(q, torch.zeros(len(q), 6), window)[0]
    target = start + out[:, :2].transpose(1, 2)
    W = torch.diag(torch.as_tensor(PRIOR_SIGMA, dtype=torch.float32) ** -2)
    theta = torch.zeros(len(q), 6)
    weight = share.sqrt()
    lxx, lyx, lyy = (out[:, i] * weight for i in (2, 3, 4))
    for _ in range(GAUSS_NEWTON):
        p, moved, arm = project(q, theta, window)
        r = p - target
        J = _jacobian(theta, p, moved, arm, window)
        r = torch.cat([lxx * r[..., 0] + lyx * r[..., 1], lyy * r[..., 1]], dim=1)
        A = torch.cat([lxx[..., None] * J[0] + lyx[..., None] * J[1], lyy[..., None] * J[1]], dim=1)
        H = A.transpose(1, 2) @ A + W
        g = (A.transpose(1, 2) @ r[..., None])[..., 0] + theta @ W
        theta = theta - torch.linalg.solve(H, g)
    return theta, H


def _jacobian(theta, p, moved, arm, window):
    """Return the derivatives (B, N, 6) of x and of y of `project` by theta."""
    ray, k = window[:, None, :2], window[:, None, 2]
    depth = torch.clamp(1 + k * moved[..., 2], min=0.1)
    one, zero = 1 / depth, torch.zeros_like(depth)
    slope = -(ray + k[..., None] * p) / depth[..., None]
    far = torch.exp(theta[:, 2:3]) / k
    x, y, z = arm.unbind(-1)
    out = []
    for axis in (0, 1):
        dz = slope[..., axis]
        dxy = (one, zero) if axis == 0 else (zero, one)
        depth_column = far * (dxy[0] * ray[..., 0] + dxy[1] * ray[..., 1] + dz)
        turn = (dz * y - dxy[1] * z, dxy[0] * z - dz * x, dxy[1] * x - dxy[0] * y)
        out.append(torch.stack([*(d.expand_as(dz) for d in dxy), depth_column, *turn], dim=-1))
    return out
