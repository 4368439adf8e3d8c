"""Local context: what the anchors around a position tell about it."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fastlic.models.mlic.checkerboard import anchor_mask

WINDOW = 5
TOKENS = WINDOW * WINDOW
HEADS = 2
MASKED = -100.0


def relative_position_index() -> Tensor:
    """int64 [25, 25]: row of the bias table for (query, key), both in raster order of the window."""
    rows, columns = torch.arange(TOKENS) // WINDOW, torch.arange(TOKENS) % WINDOW
    down, right = rows[:, None] - rows, columns[:, None] - columns
    return (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1


class _Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class LocalContext(nn.Module):
    """Attention inside the 5x5 window of every position (MLIC+, MLIC++): [B, C, h, w] -> [B, out, h, w].

    All 25 tokens of a window are queries and keys. An anchor sees anchors only; the score of any other pair is lowered
    by 100, which for a query that is no anchor lowers its whole row, so that it sees all 25 tokens. Tokens outside the
    map are zeros after the projection and take part. Channels enter the heads interleaved (channel = 2 d + head) and
    leave them one after the other (channel = 16 head + d): an official quirk that its weights depend on.

    Args:
        sizes: channels inside the MLP, and at the output.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, sizes: tuple[int, int]) -> None:
        super().__init__()
        hidden, out = sizes
        self.scale = (channels // HEADS) ** -0.5
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(out)
        self.qkv_proj = nn.Linear(channels, 3 * channels)
        self.relative_position_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, HEADS))
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index())
        self.fusion = nn.Conv2d(channels, out, WINDOW)
        self.proj = nn.Linear(out, out)
        self.mlp = _Mlp(out, hidden)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv_proj(self.norm1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        windows = F.unfold(qkv, WINDOW, padding=WINDOW // 2).reshape(b, 3, c // HEADS, HEADS, TOKENS, h * w)
        q, k, v = windows.permute(1, 0, 5, 3, 4, 2)  # [B, positions, heads, 25, C / heads] each
        bias = self.relative_position_table[self.relative_position_index].permute(2, 0, 1)
        is_anchor = F.unfold(anchor_mask(x)[None, None], WINDOW, padding=WINDOW // 2)[0].T > 0  # [positions, 25]
        apart = ~(is_anchor[:, :, None] & is_anchor[:, None])
        scores = (q * self.scale) @ k.transpose(3, 4) + bias + (apart * MASKED)[:, None]
        attended = scores.softmax(4) @ v  # [B, positions, heads, 25, C / heads]
        tokens = attended.permute(0, 1, 2, 4, 3).reshape(b * h * w, c, WINDOW, WINDOW)
        out = self.proj(self.fusion(tokens).reshape(b, h, w, -1))
        out = out + self.mlp(self.norm2(out))
        return out.permute(0, 3, 1, 2)


class StackedLocalContext(nn.Sequential):
    """Three 5x5 convolutions with GELU between them, on the anchors alone (MLIC).

    Args:
        out: channels at the output.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, WINDOW, 1, WINDOW // 2),
            nn.GELU(),
            nn.Conv2d(channels, channels, WINDOW, 1, WINDOW // 2),
            nn.GELU(),
            nn.Conv2d(channels, out, WINDOW, 1, WINDOW // 2),
        )
