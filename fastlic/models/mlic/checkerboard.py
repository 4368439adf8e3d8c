"""The checkerboard of the MLIC family: anchors are coded first, everything else may look at them.

A position (row, column) is an anchor if row + column is odd. CompressAI's checkerboard models use the other parity;
weights trained for one give garbage with the other, and nothing would say so.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def _parity(height: int, width: int, device: torch.device) -> Tensor:
    rows = torch.arange(height, device=device)[:, None]
    return (rows + torch.arange(width, device=device)) % 2


def anchor_mask(x: Tensor) -> Tensor:
    """[h, w] of x's dtype: 1 at anchors, 0 elsewhere, for a map x [..., h, w]."""
    return _parity(x.shape[-2], x.shape[-1], x.device).to(x.dtype)


def anchors(x: Tensor) -> Tensor:
    """x [..., h, w] with everything but the anchors set to zero."""
    return x * anchor_mask(x)


def others(x: Tensor) -> Tensor:
    """x [..., h, w] with the anchors set to zero."""
    return x * (1 - anchor_mask(x))


def even_rows(x: Tensor) -> Tensor:
    """[h, 1] of x's dtype: 1 in even rows, 0 elsewhere, for a map x [..., h, w]; anchors there may go first."""
    return (1 - torch.arange(x.shape[-2], device=x.device) % 2).to(x.dtype)[:, None]


@lru_cache(maxsize=64)  # a GPU that is asked for them makes the host wait
def positions(height: int, width: int, parity: int, device: torch.device | str = "cpu") -> Tensor:
    """int64 [n]: raster positions of one parity (1: anchors, 0: the others), in raster order."""
    return torch.nonzero(_parity(height, width, torch.device(device)).flatten() == parity)[:, 0]
