"""Blocks of the kinds that CompressAI's main branch has in CCA and MLICv2, rebuilt from what they compute."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class ChannelNorm(nn.LayerNorm):
    """Over the channels of maps [B, C, h, w]; its class is no one's but the model's."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)
        nn.init.uniform_(self.weight, 0.5, 1.5)
        nn.init.normal_(self.bias, std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


class Halves(nn.Module):
    """One half of the channels times the other."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return a * b


class Pooled(nn.Module):
    """Free of activations: depthwise layers, products of halves, and a product with the mean of the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.wide = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, 2 * channels, 3, 1, 1, groups=2 * channels)
        )
        self.halves = Halves()
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.narrow = nn.Conv2d(channels, channels, 1)
        self.after = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), Halves(), nn.Conv2d(channels, channels, 1))
        self.beta, self.gamma = (nn.Parameter(torch.randn(1, channels, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        own = self.halves(self.wide(self.norm1(x)))
        x = x + self.beta * self.narrow(own * self.attention(own))
        return x + self.gamma * self.after(self.norm2(x))


class Projected(nn.Module):
    """Such blocks beside their input, between two layers."""

    def __init__(self, inputs: int, outputs: int, channels: int = 10) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(inputs, channels, 1), nn.Conv2d(channels, outputs, 1)
        self.blocks = nn.Sequential(Pooled(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.blocks(x))


class Mixing(nn.Module):
    """Depthwise layers of two sizes, and a gate on its own input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.near = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
        )
        self.far = nn.Sequential(
            nn.Conv2d(channels, channels, 5, 1, 2, groups=channels), nn.Conv2d(channels, channels, 1)
        )
        self.gate = nn.Sequential(
            ChannelNorm(channels), nn.Conv2d(channels, channels, 1), nn.GELU(),
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        near = self.norm1(x)
        near = near + self.near(near)
        x = x + self.far(near)
        own = self.norm2(x)
        return x + self.gate(own) * own
