"""Blocks of the kinds that CompressAI's main branch has in CCA, DCAE and MLICv2, rebuilt from what they compute."""

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


# ---- attention to a dictionary, of rows [B, h, w, C] between maps [B, C, h, w]


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Depthwise(nn.Module):
    """Of rows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class GatedMlp(nn.Module):
    """A linear layer, one half of whose outputs goes through a depthwise one and is multiplied by the other half."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.dwconv = nn.Linear(channels, 2 * hidden), Depthwise(hidden)
        self.act, self.fc2 = nn.GELU(), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.fc1(x).chunk(2, -1)
        return self.fc2(self.act(self.dwconv(x)) * gate)


class Dense(nn.Module):
    """Each layer behind the one before, and one over the input and all of theirs."""

    def __init__(self, channels: int, count: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GELU(), nn.Conv2d(channels, channels, 1), nn.GELU(),
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.GELU(),
            ) for _ in range(count)
        )  # fmt: skip
        self.proj = nn.Conv2d(channels * (count + 1), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(layer(parts[-1]))
        return self.proj(torch.cat(parts, dim=1))


class Spatial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class Aggregated(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s, self.dense, self.spatial_atte = nn.Conv2d(channels, channels, 1), Dense(channels), Spatial()

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense(self.s(x.permute(0, 3, 1, 2)))
        return (x * self.spatial_atte(x)).permute(0, 2, 3, 1)


class Dictionary(nn.Module):
    def __init__(self, words: int, channels: int) -> None:
        super().__init__()
        self.dt = nn.Parameter(torch.randn(words, channels))


class ToDictionary(nn.Module):
    """Attention of ``inputs`` channels to words of ``channels``, under the names that the branch has for its parts."""

    def __init__(self, inputs: int, outputs: int, channels: int = 10, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.scale = heads, nn.Parameter(1 + torch.rand(heads, 1, 1))
        self.x_trans, self.output_trans = nn.Linear(inputs, channels), nn.Sequential(nn.Linear(channels, outputs))
        self.q_trans, self.k, self.linear = (nn.Linear(channels, channels) for _ in range(3))
        self.ln_scale, self.lnx, self.dict_ln, self.ln_mlp = (nn.LayerNorm(channels) for _ in range(4))
        self.msa, self.mlp = Aggregated(channels), GatedMlp(channels, 12)
        self.res_scale_1, self.res_scale_2, self.res_scale_3 = (Scale(channels) for _ in range(3))

    def forward(self, x: Tensor, dictionary: Tensor) -> Tensor:
        x = self.x_trans(x.permute(0, 2, 3, 1))
        x = self.msa(self.ln_scale(x)) + self.res_scale_1(x)
        words = self.dict_ln(dictionary)
        queries = self.q_trans(self.lnx(x)).flatten(1, 2)
        q, k, v = (own.unflatten(2, (self.heads, -1)).transpose(1, 2) for own in (queries, self.k(words), words))
        found = ((q @ k.mT * self.scale).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        x = self.linear(found) + self.res_scale_2(x)
        x = self.mlp(self.ln_mlp(x)) + self.res_scale_3(x)
        return self.output_trans(x).permute(0, 3, 1, 2)
