"""Twin of fastlic.kernels.quantize: the same functions on whole tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from fastlic.kernels.reference import integer


def quantise_head(
    target: Tensor, head: Tensor, thresholds: Tensor, zones: Tensor | None = None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder: (indexes uint8, symbols int32) [images, h * w, M] and y int32 [images, h, w, M]."""
    scales, means = head.chunk(2, 3)
    indexes = integer.scale_index(scales, thresholds)
    own = None if zones is None else torch.stack([z[i.long()] for z, i in zip(zones.long(), indexes, strict=True)])
    symbols = integer.quantise(target.long(), means.long(), own)
    y = dequantise(symbols, means, indexes, offsets)
    return indexes.flatten(1, 2), symbols.int().flatten(1, 2), y


def head_indexes(head: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Decoder: (indexes uint8 [images, h * w, M], means int32 [images, h, w, M]) of a head."""
    scales, means = head.chunk(2, 3)
    return integer.scale_index(scales, thresholds).flatten(1, 2), means.contiguous()


def dequantise(symbols: Tensor, means: Tensor, indexes: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """y int32 in units of 2^-6 from symbols and means, int32 of one shape."""
    own = 0 if indexes is None or offsets is None else offsets.long()[indexes.long()].reshape(symbols.shape)
    return integer.reconstruct(symbols, means, own).int()
