"""Transforms as STF has them: neither g_a nor g_s, but stages of transformers that the model calls one by one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor


def relative(side: int) -> Tensor:
    """[P^2, P^2, 2]: rows and columns between two places, from 0."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    return place[:, None] - place + side - 1


class CutWindows(nn.Module):
    """As Swin has it: windows come cut, the mask comes with them."""

    def __init__(self, channels: int, heads: int, side: int, wrong: bool = False) -> None:
        super().__init__()
        self.window_size, self.num_heads, self.wrong = (side, side), heads, wrong
        self.scale = (channels // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        apart = relative(side)
        self.register_buffer("relative_position_index", apart[..., 0] * (2 * side - 1) + apart[..., 1])
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        windows, places, _ = x.shape
        q, k, v = self.qkv(x).reshape(windows, places, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = q * self.scale @ k.mT + (bias.mT if self.wrong else bias)
        if mask is not None:
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        return self.proj((self.softmax(scores) @ v).transpose(1, 2).flatten(2))


class Stage(nn.Module):
    """From rows [B, h w, C] and the sides of their map to others."""

    def __init__(self, channels: int, layer: nn.Module) -> None:
        super().__init__()
        self.windows, self.layer = CutWindows(channels, 2, 2), layer

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        rows = (x + self.windows(x.reshape(-1, 4, x.shape[-1])).reshape(x.shape)).unflatten(1, (height, width))
        out = self.layer(rows.permute(0, 3, 1, 2))
        return out.flatten(2).mT, *out.shape[2:]


class Block(nn.Module):
    """A transformer's block over rows, its windows rolled by ``shift_size``."""

    def __init__(self, channels: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn, self.side, self.shift_size = CutWindows(channels, heads, side), side, shift
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def _cut(self, x: Tensor) -> Tensor:
        """[B, h, w, C] to [windows, places, C]."""
        shift, side = self.shift_size, self.side
        x = x.roll((-shift, -shift), (1, 2)).unflatten(2, (-1, side)).unflatten(1, (-1, side))
        return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        shift, side = self.shift_size, self.side
        mask = None
        if shift:
            parts = [(torch.arange(n) >= n - side).int() + (torch.arange(n) >= n - shift) for n in (height, width)]
            where = (3 * parts[0][:, None] + parts[1])[None, :, :, None]
            places = self._cut(where.roll((shift, shift), (1, 2)))[..., 0]
            mask = torch.where(places[:, :, None] != places[:, None], -100.0, 0.0)
        found = self.attn(self._cut(self.norm1(x).unflatten(1, (height, width))), mask)
        found = found.unflatten(1, (side, side)).unflatten(0, (-1, height // side, width // side)).transpose(2, 3)
        x = x + found.flatten(3, 4).flatten(1, 2).roll((shift, shift), (1, 2)).flatten(1, 2)
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    """Four neighbours as one position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        x = x.unflatten(1, (height // 2, 2, width // 2, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x)).flatten(1, 2), height // 2, width // 2


class Split(nn.Module):
    """And back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(channels), nn.Linear(channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        x = nn.functional.pixel_shuffle(self.reduction(self.norm(x)).mT.unflatten(2, (height, width)), 2)
        return x.flatten(2).mT, 2 * height, 2 * width


class Blocks(nn.Module):
    """A stage as Swin has it."""

    def __init__(self, channels: int, shift: int, downsample: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(channels, 2, 4, shift)])
        self.downsample = None if downsample is None else downsample(channels)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        for block in self.blocks:
            x = block(x, height, width)
        return (x, height, width) if self.downsample is None else self.downsample(x, height, width)


class Embedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, channels, 2, 2), nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def swin(channels: int) -> dict[str, nn.Module]:
    """Stages of Swin's blocks, whose latent has eight times as many channels."""
    steps = [(channels, 0, Merge), (2 * channels, 2, Merge), (4 * channels, 0, Merge), (8 * channels, 2, None)]
    back = [(8 * channels, 0, Split), (4 * channels, 2, Split), (2 * channels, 0, Split), (channels, 2, None)]
    end = [nn.Conv2d(channels, 4 * channels, 5, padding=2), nn.PixelShuffle(2), nn.Conv2d(channels, 3, 3, padding=1)]
    return {
        "patch_embed": Embedding(channels),
        "layers": nn.ModuleList(Blocks(*step) for step in steps),
        "syn_layers": nn.ModuleList(Blocks(*step) for step in back),
        "end_conv": nn.Sequential(*end),
    }


class InStages:
    """The transforms of a model that holds ``stages``, as lines of its own."""

    def analyse(self: Any, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        rows, height, width = x.flatten(2).mT, *x.shape[2:]
        for layer in self.layers:
            rows, height, width = layer(rows, height, width)
        return rows.mT.unflatten(2, (height, width))

    def synthesise(self: Any, y: Tensor) -> Tensor:
        rows, height, width = y.flatten(2).mT, *y.shape[2:]
        for layer in self.syn_layers:
            rows, height, width = layer(rows, height, width)
        return self.end_conv(rows.mT.unflatten(2, (height, width)))


def stages(latent: int) -> dict[str, nn.Module]:
    """Those of a model whose latent has so many channels, at a sixteenth of the image's size."""
    down = [Stage(a, nn.Conv2d(a, b, 2, 2)) for a, b in ((8, 12), (12, 12), (12, latent))]
    up = [Stage(latent, nn.ConvTranspose2d(latent, 8, 2, 2)), Stage(8, nn.ConvTranspose2d(8, 8, 2, 2))]
    end = nn.Sequential(nn.Conv2d(8, 3 * 16, 1), nn.PixelShuffle(4))
    return {
        "patch_embed": nn.Sequential(nn.Conv2d(3, 8, 2, 2)),
        "layers": nn.ModuleList(down),
        "syn_layers": nn.ModuleList(up),
        "end_conv": end,
    }
