"""Channel context, entropy parameters and latent residual prediction: stacks of convolutions with GELU between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models.mlic.transforms import conv3


def gelu_stack(layers: Sequence[nn.Module]) -> nn.Sequential:
    """The layers with a GELU between any two: they keep the even indexes."""
    joined = [part for layer in layers for part in (nn.GELU(), layer)]
    return nn.Sequential(*joined[1:])


class ChannelContext(nn.Module):
    """From all earlier slices [B, c, h, w] to [B, sizes[-1], h, w]. The official keys spell it ``fushion``."""

    def __init__(self, channels: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.fushion = gelu_stack([conv3(a, b) for a, b in pairwise([channels, *sizes])])

    def forward(self, decoded: Tensor) -> Tensor:
        out: Tensor = self.fushion(decoded)
        return out


class EntropyParameters(nn.Module):
    """1x1 convolutions from joined contexts to (scales, means), [B, c, h, w] -> [B, out, h, w]."""

    def __init__(self, channels: int, sizes: Sequence[int], out: int) -> None:
        super().__init__()
        self.fusion = gelu_stack([nn.Conv2d(a, b, 1) for a, b in pairwise([channels, *sizes, out])])

    def forward(self, contexts: Tensor) -> Tensor:
        out: Tensor = self.fusion(contexts)
        return out


class LatentResidualPrediction(nn.Module):
    """An estimate, within +-1/2, of what rounding took away: [B, c, h, w] -> [B, out, h, w]."""

    def __init__(self, channels: int, sizes: Sequence[int], out: int) -> None:
        super().__init__()
        self.lrp_transform = gelu_stack([conv3(a, b) for a, b in pairwise([channels, *sizes, out])])

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * torch.tanh(self.lrp_transform(x))


def residual_sizes_2023(channels: int, out: int) -> tuple[int, ...]:
    """Inner channels of the predictors in the checkpoints of 2023: evenly spaced between input and output."""
    gap = abs(channels - out)
    return tuple(channels - gap * step // 4 for step in (1, 2, 3))
