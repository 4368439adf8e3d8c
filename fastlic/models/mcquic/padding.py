"""Reflect padding around an image of any size, one pixel included, and the crop that undoes it."""

from __future__ import annotations

import torch
from torch import Tensor


def reflected_indexes(size: int, before: int, after: int) -> Tensor:
    """int64 [before + size + after]: positions in 0..size-1, mirrored at the first and the last as often as needed."""
    period = max(2 * (size - 1), 1)
    where = torch.arange(-before, size + after) % period
    return torch.minimum(where, period - where) if size > 1 else torch.zeros_like(where)


def padded_size(size: int, multiple: int, least: int) -> int:
    """``size`` rounded up to a multiple, and at least ``least``."""
    return max(-(-size // multiple) * multiple, least)


def pad(x: Tensor, multiple: int, least: int) -> Tensor:
    """[..., H, W] with reflected borders: the smaller half of what is missing at the top and left."""
    for axis in (-2, -1):
        size = x.shape[axis]
        missing = padded_size(size, multiple, least) - size
        if missing:
            where = reflected_indexes(size, missing // 2, missing - missing // 2)
            x = x.index_select(axis, where.to(x.device))
    return x


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The [..., height, width] in the middle of x, as ``pad`` placed it."""
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
