"""Attention within windows, in plain float64."""

from __future__ import annotations

import torch
from torch import Tensor


def window_attention(qkv: Tensor, bias: Tensor, mask: Tensor | None, shift: int, scale: float, apart: float) -> Tensor:
    """As ``fastlic.ops.window_attention``: float64 [B, H, W, C]."""
    batch, height, width, channels = qkv.shape
    heads, side = bias.shape[0], round(bias.shape[1] ** 0.5)

    def cut(x: Tensor) -> Tensor:  # [B, H, W, ...] -> [B, windows, places, ...]
        rows = x.reshape(batch, height // side, side, width // side, side, -1)
        return rows.transpose(2, 3).reshape(batch, -1, side * side, rows.shape[-1])

    q, k, v = (
        part.unflatten(-1, (heads, -1)).transpose(2, 3)
        for part in cut(qkv.double().roll((-shift, -shift), (1, 2))).chunk(3, -1)
    )
    scores = q @ k.mT * scale + bias.double()
    if mask is not None:
        own = mask.double()[torch.arange(batch * q.shape[1]) % len(mask)]
        scores = scores + own.unflatten(0, (batch, -1))[:, :, None]
    if shift:
        here = torch.zeros(height, width)
        here[height - shift :] += 2
        here[:, width - shift :] += 1
        sides = cut(here.expand(batch, -1, -1)[..., None])[..., 0]
        away = (sides[..., :, None] != sides[..., None, :])[:, :, None]
        scores = torch.where(away, scores + apart, scores)
    out = (scores.softmax(-1) @ v).transpose(2, 3).flatten(3)  # [B, windows, places, C]
    out = out.reshape(batch, height // side, width // side, side, side, -1).transpose(2, 3)
    return out.reshape(batch, height, width, channels // 3).roll((shift, shift), (1, 2))
