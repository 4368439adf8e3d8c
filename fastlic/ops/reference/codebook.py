"""Nearest codewords in plain torch: the definition that every other implementation equals, index for index."""

from __future__ import annotations

import torch
from torch import Tensor

_DISTANCES_AT_ONCE = 1 << 22  # 32 MiB of float64


def codebook_nearest(x: Tensor, codebook: Tensor, threads: int) -> Tensor:
    """x [n, m, d], codebook [m, k, d], float32 -> int64 [n, m]; ``threads`` is torch's own business here."""
    n, m, d = x.shape
    k = codebook.shape[1]
    out = torch.empty((n, m), dtype=torch.int64, device=x.device)
    rows = max(1, _DISTANCES_AT_ONCE // max(k, 1))
    for group in range(m):
        words = codebook[group].double()
        for first in range(0, n, rows):
            some = x[first : first + rows, group].double()
            distance = torch.zeros(len(some), k, dtype=torch.float64, device=x.device)
            for i in range(d):  # channel by channel: a sum whose order, and so whose ties, are the same everywhere
                distance += (some[:, i, None] - words[None, :, i]).square_()
            # min over the indexes of the smallest: argmin alone leaves open which of equals it returns.
            smallest = distance == distance.min(1, keepdim=True).values
            out[first : first + rows, group] = smallest.to(torch.uint8).argmax(1)
    return out
