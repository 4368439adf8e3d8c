"""Twin of fastlic.kernels.integer: fixed-point arithmetic on int64 tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from fastlic.kernels.packing import Requantiser

LATENT_LIMIT = (1 << 26) - 1


def requantise(acc: Tensor, requantiser: Requantiser) -> Tensor:
    """clip((acc * m + 2^(shift-1)) >> shift, +-limit), m by the sign of acc; int64, channels last."""
    _, multiplier, negative, shift = requantiser.numbers.long()
    limit = requantiser.limit
    product = acc * torch.where(acc >= 0, multiplier, negative)
    return ((product + (torch.ones_like(shift) << (shift - 1))) >> shift).clamp(-limit, limit)


def scale_index(scale: Tensor, thresholds: Tensor) -> Tensor:
    """uint8: how many of the ascending ``thresholds`` are below each scale."""
    return torch.searchsorted(thresholds.long(), scale.long().contiguous()).to(torch.uint8)


def quantise(target: Tensor, mean: Tensor, zone: Tensor | None = None) -> Tensor:
    """Symbol nearest to target - mean, both in units of 2^-6, made smaller by ``zone`` first; halves round up."""
    difference = target - mean
    if zone is not None:
        difference = difference - difference.clamp(-zone, zone)
    return (difference + 32) >> 6


def reconstruct(symbol: Tensor, mean: Tensor, offset: Tensor | int = 0) -> Tensor:
    """The latent in units of 2^-6, clipped; int64. ``offset`` int64, by which symbols but 0 are moved away from it."""
    symbol = symbol.long()
    return ((symbol << 6) + mean.long() + symbol.sign() * offset).clamp(-LATENT_LIMIT, LATENT_LIMIT)


def values_of(planes: Tensor) -> Tensor:
    """Activations int64 [images, h, w, C] of a map's planes int8 [images, h, w, 2, C]."""
    return 128 * planes[..., 0, :].long() + planes[..., 1, :].long()
