"""Global contexts: attention of a slice to everything that is decoded before it.

``intra`` looks inside the slice in flight, guided by the slice before: where the previous slice's others resemble its
anchors, the current slice's others may resemble its own anchors. ``inter`` looks at all earlier slices at once.

MLIC and MLIC+ weigh keys by softmax(q k / sqrt d); MLIC++ by softmax(q) softmax(k), which is linear in the number of
positions. Both are one module here, told apart by ``linear``.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models.mlic.checkerboard import anchors, others, positions

HEADS_INTRA = 2
# Keys that local context sees anyway are masked in MLIC's and MLIC+'s intra attention.
LOCAL_REACH = 2
MASKED = -100.0
# Scores of one block of queries, all heads together: bounds the memory of softmax attention at any image size.
_BLOCK_SCORES = 1 << 22


def linear_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """q [B, d, n], k and v [B, d, m] -> [B, d, n]: keys normalised over positions, queries over a head's channels."""
    b, d, n = q.shape
    queries = q.reshape(b, heads, d // heads, n).softmax(2)
    keys = k.reshape(b, heads, d // heads, -1).softmax(3)
    context = keys @ v.reshape(b, heads, d // heads, -1).transpose(2, 3)
    return (context.transpose(2, 3) @ queries).reshape(b, d, n)


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, places: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """q [B, d, n], k and v [B, d, m] -> [B, d, n], block by block of queries: memory grows with m, never with n * m.

    Args:
        places: (rows, columns) int64 [2, n] of the queries and [2, m] of the keys; keys within ``LOCAL_REACH`` of a
            query in both directions are masked for it.
    """
    b, d, n = q.shape
    m = k.shape[2]
    queries, keys, values = (t.reshape(b, heads, d // heads, -1) for t in (q, k, v))
    queries = queries.transpose(2, 3) * (d // heads) ** -0.5
    block = max(_BLOCK_SCORES // max(b * heads * m, 1), 1)
    out = []
    for first in range(0, n, block):
        scores = queries[:, :, first : first + block] @ keys
        if places is not None:
            near = (places[0][:, first : first + block, None] - places[1][:, None]).abs().amax(0) <= LOCAL_REACH
            scores = scores + near * MASKED
        out.append(scores.softmax(3) @ values.transpose(2, 3))
    return torch.cat(out, 2).transpose(2, 3).reshape(b, d, n)


def _projection(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3, 1, 1, groups=channels))


def _mlp(cin: int, hidden: int, cout: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden),
        nn.GELU(),
        nn.Conv2d(hidden, cout, 1),
    )


class GlobalInterContext(nn.Module):
    """Attention over all decoded slices: [B, d, h, w] -> [B, out, h, w], one head per slice.

    Args:
        sizes: channels after the 5x5 projection, inside the MLP, and at the output.
    """

    def __init__(self, channels: int, heads: int, sizes: tuple[int, int, int], linear: bool) -> None:
        super().__init__()
        projected, hidden, out = sizes
        self.heads, self.linear = heads, linear
        self.keys = _projection(channels)
        self.queries = _projection(channels)
        self.values = _projection(channels)
        self.reprojection = nn.Conv2d(channels, projected, 5, 1, 2)
        self.mlp = _mlp(projected, hidden, out)
        self.skip = nn.Conv2d(projected, out, 1)

    def forward(self, decoded: Tensor) -> Tensor:
        attend = linear_attention if self.linear else softmax_attention
        q, k, v = (net(decoded).flatten(2) for net in (self.queries, self.keys, self.values))
        x = self.reprojection(attend(q, k, v, self.heads).reshape(decoded.shape))
        out: Tensor = self.skip(x) + self.mlp(x)
        return out


class GlobalIntraContext(nn.Module):
    """Attention inside a slice, guided by the one before: two [B, C, h, w] -> [B, out, h, w].

    Queries are the previous slice's others, keys its anchors, values the current slice's anchors. The other parity is
    zeroed before the projections, whose biases and 3x3 taps therefore see those zeros.

    Args:
        sizes: channels inside the MLP, and at the output.
    """

    def __init__(self, channels: int, sizes: tuple[int, int], linear: bool) -> None:
        super().__init__()
        hidden, out = sizes
        self.linear = linear
        self.keys = _projection(channels)
        self.queries = _projection(channels)
        self.values = _projection(channels)
        self.reprojection = nn.Conv2d(channels, out, 5, 1, 2)
        self.mlp = _mlp(out, hidden, out)

    def forward(self, previous: Tensor, current_anchors: Tensor) -> Tensor:
        height, width = previous.shape[-2:]
        to, at = (positions(height, width, parity, previous.device) for parity in (0, 1))
        q = self.queries(others(previous)).flatten(2)[..., to]
        k = self.keys(anchors(previous)).flatten(2)[..., at]
        v = self.values(current_anchors).flatten(2)[..., at]
        if self.linear:
            attended = linear_attention(q, k, v, HEADS_INTRA)
        else:
            places = tuple(torch.stack([p // width, p % width]) for p in (to, at))
            attended = softmax_attention(q, k, v, HEADS_INTRA, (places[0], places[1]))
        scattered = torch.zeros_like(previous).flatten(2)
        scattered[..., to] = attended.to(scattered.dtype)
        x = self.reprojection(scattered.reshape(previous.shape))
        out: Tensor = x + self.mlp(x)
        return out
