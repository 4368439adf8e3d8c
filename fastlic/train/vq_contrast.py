"""What a bit may cost, block by block: MS-SSIM divides errors by the contrast around them, so contrast buys fewer bits.

The structural term of SSIM for an error e beside a signal x is about var(e) / (2 var(x) + C): the same error hides in
a block of high contrast and shows in a smooth one. A search that makes error plus price times information least
follows it if the price grows with the contrast. The first block of a level's quantisation head, silent until then,
learns to estimate the price. It begins with what a sum of absolute values needs: the first convolution gives the
leading detail components with either sign, and the SiLU of both sums to about the absolute value.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models.mcquic.layers import Conv3, ResidualBlock
from fastlic.train.least_squares import solve

_FLOOR = 0.005  # energy that every block is said to have at least
# This power of the energy, not energy itself, costs least bits at equal MS-SSIM on photographs.
_POWER = 0.6
_BLOCK, _LEAST_VARIANCE = 16, 3e-4  # of pixels
_STEEPNESS = 6.0  # of the argument of SiLU, in standard deviations of the component
_MEANS = 3  # leading components of blocks of luma and two chromas: their means, no contrast
GAIN = 1.5  # of attention whose branches do nothing yet: x + x * sigmoid(0)
_BATCH = 16  # images at a time
_STEPS, _RATE = 1000, 3e-3


def price(z: Tensor) -> Tensor:
    """Price of a bit for components z [n, C, h, w] of blocks, by their energy but the means; [n, 1, h, w], mean 1."""
    detail = z.var((0, 2, 3)).argsort(descending=True)[_MEANS:]
    paid = (z[:, detail].square().sum(1, keepdim=True) + _FLOOR) ** _POWER
    return paid / paid.mean()


def visibility(x: Tensor) -> Tensor:
    """What the squared error of images x [n, 3, H, W] in [0, 1] weighs at each pixel, [n, 1, H, W].

    1 at a standard deviation of 0.1 around it, more where there is less contrast.
    """
    half, side = _BLOCK // 2, x.shape[-2:]
    mean, power = (F.avg_pool2d(y, _BLOCK, half).mean(1, keepdim=True) for y in (x, x * x))
    variance = (power - mean.square()).clamp_min(0) + _LEAST_VARIANCE
    return F.interpolate((variance / 0.01) ** -_POWER, size=side, mode="bilinear")


@torch.no_grad()
def fit(head: nn.Sequential, z: Tensor, spare: int, rows: slice, unit: float) -> None:
    """Set ``head`` so that its outputs ``rows`` are ``unit`` times the price, in place.

    Args:
        head: a level's quantisation head whose branches are silent.
        z: [n, C, h, w], what it reads.
        spare: channel of z that no other output reads: the estimate travels there.
    """
    channels, block, last = z.shape[1], head[0], head[2]
    assert isinstance(block, ResidualBlock) and isinstance(last, Conv3) and last.bias is not None
    branch = list(block._branch)
    first, second, estimate = branch[1], branch[3], Conv3(channels, 1)
    assert isinstance(first, Conv3) and isinstance(second, Conv3) and second.bias is not None
    assert first.bias is not None and estimate.bias is not None
    for parameter in (first.weight, first.bias, estimate.weight, estimate.bias):
        nn.init.zeros_(parameter)
    leading = z.var((0, 2, 3)).argsort(descending=True)[_MEANS : _MEANS + channels // 2]
    slope = _STEEPNESS / F.silu(z[:, leading]).std((0, 2, 3)).clamp_min(1e-6)
    for index, channel in enumerate(leading.tolist()):
        first.weight[2 * index, channel, 1, 1] = slope[index]
        first.weight[2 * index + 1, channel, 1, 1] = -slope[index]
    wanted, absolute = price(z / GAIN), nn.Sequential(*branch[:3])
    solve([estimate], [torch.cat([absolute(part) for part in z.split(_BATCH)])], wanted)
    _polish(nn.Sequential(absolute, estimate), z, wanted)
    second.weight[spare] = estimate.weight[0] * unit
    second.bias[spare] = estimate.bias[0] * unit
    last.weight[rows], last.bias[rows] = 0, 0
    last.weight[rows, spare, 1, 1] = 1 / GAIN


def _polish(estimate: nn.Module, z: Tensor, wanted: Tensor) -> None:
    """Train ``estimate`` for some seconds: the SiLU in front flattens what is negative, to which the weights adapt."""
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        parameters = [p.requires_grad_() for p in estimate.parameters()]
        optimiser = torch.optim.Adam(parameters, _RATE)
        for step in range(_STEPS):
            optimiser.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
            drawn = torch.randint(len(z), (_BATCH,), generator=generator)
            loss = ((estimate(z[drawn]) - wanted[drawn]).square() / wanted[drawn]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
