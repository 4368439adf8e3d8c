"""Between network and coder in one pass: subtract the mean, round, choose the table; and back.

Heads hold scales in units of 2^-10 and means in units of 2^-6. The bits are the C++ engine's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.integer import quantise_down, reconstruct, scale_index
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, options, without_offsets

_BLOCK = 1024


@triton.jit
def _head(
    target, head, thresholds, zones, offsets, indexes, means, symbols, out, total, M, row, pitch, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Elements [positions, M]; head rows hold M scales, then M means, ``row`` numbers apart; images hold ``pitch``."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    position = i // M
    at = position * row + i - position * M
    scale = tl.load(head + at, mask=inside, other=0)
    mean = tl.load(head + at + M, mask=inside, other=0)
    index = scale_index(scale, thresholds, LEVELS)
    tl.store(indexes + i, index.to(tl.uint8), mask=inside)
    if ENCODE:
        zone = tl.load(zones + ((i // pitch) << LEVELS) + index, mask=inside, other=0)
        symbol = quantise_down(tl.load(target + i, mask=inside, other=0), mean, zone)
        tl.store(symbols + i, symbol, mask=inside)
        tl.store(out + i, reconstruct(symbol, mean, offsets, index), mask=inside)
    else:
        tl.store(means + i, mean, mask=inside)


@triton.jit
def _dequantise(symbols, means, indexes, offsets, out, total, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    symbol = tl.load(symbols + i, mask=inside, other=0)
    index = i if offsets is None else tl.load(indexes + i, mask=inside, other=0).to(tl.int32)
    tl.store(out + i, reconstruct(symbol, tl.load(means + i, mask=inside, other=0), offsets, index), mask=inside)


def _levels(thresholds: Tensor) -> int:
    levels = (thresholds.numel() + 1).bit_length() - 1
    if thresholds.numel() != (1 << levels) - 1:
        raise ValueError(f"thresholds are padded to 2^n - 1 numbers, got {thresholds.numel()}")
    return levels


def _grid(total: int) -> tuple[int]:
    return (ceil_div(total, _BLOCK),)


def _rows(head: Tensor) -> Tensor:
    """The head with neighbouring numbers next to each other and rows evenly apart."""
    images, height, width = head.shape[:3]
    evenly = head.stride(3) == 1 and head.stride(1) == width * head.stride(2) and (
        images == 1 or head.stride(0) == height * head.stride(1)
    )  # fmt: skip
    return head if evenly else head.contiguous()


def quantise_head(
    target: Tensor, head: Tensor, thresholds: Tensor, zones: Tensor | None = None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder: (indexes uint8, symbols int32) [images, h * w, M] and y int32 [images, h, w, M].

    Args:
        target: int32 [images, h, w, M] in units of 2^-6.
        head: int32 [images, h, w, 2M], scales in units of 2^-10 and means in units of 2^-6.
        thresholds: int32, ascending, padded to 2^n - 1 numbers.
        zones: int32 [images, 2^n] (fastlic.entropy.zones); None rounds to the nearest.
        offsets: int32 by scale index, in units of 2^-6: by how much symbols but 0 are moved away from it in y; or None.
    """
    device = check_device(_head, target, head, thresholds)
    if zones is None:
        zones = torch.zeros(len(target), thresholds.numel() + 1, dtype=torch.int32, device=device)
    images, height, width, m = target.shape
    target, head = target.contiguous(), _rows(head)
    shape = (images, height * width, m)
    indexes = torch.empty(shape, dtype=torch.uint8, device=device)
    symbols = torch.empty(shape, dtype=torch.int32, device=device)
    y = torch.empty_like(target)
    total = target.numel()
    if total:
        _head[_grid(total)](
            target, head, thresholds, zones, offsets, indexes, symbols, symbols, y, total, m, head.stride(2),
            height * width * m,
            LEVELS=_levels(thresholds), ENCODE=True, BLOCK=_BLOCK, **options(_head, 4),
        )  # fmt: skip
    return indexes, symbols, y


def head_indexes(head: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Decoder: (indexes uint8 [images, h * w, M], means int32 [images, h, w, M]) of a head."""
    device = check_device(_head, head, thresholds)
    images, height, width, channels = head.shape
    head, m = _rows(head), channels // 2
    indexes = torch.empty(images, height * width, m, dtype=torch.uint8, device=device)
    means = torch.empty(images, height, width, m, dtype=torch.int32, device=device)
    if means.numel():
        _head[_grid(means.numel())](
            head, head, thresholds, head, None, indexes, means, means, means, means.numel(), m, head.stride(2), 1,
            LEVELS=_levels(thresholds), ENCODE=False, BLOCK=_BLOCK, **options(_head, 4),
        )  # fmt: skip
    return indexes, means


def dequantise(symbols: Tensor, means: Tensor, indexes: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """y int32 in units of 2^-6 from symbols and means, int32 of one shape.

    Args:
        indexes, offsets: uint8, as many in the same order, and what ``quantise_head`` had; or neither.
    """
    check_device(_dequantise, symbols, means)
    symbols, means = symbols.contiguous(), means.contiguous()
    out = torch.empty_like(means)
    if out.numel():
        indexes = None if indexes is None or offsets is None else indexes.contiguous()
        _dequantise[_grid(out.numel())](
            symbols, means, indexes, offsets, out, out.numel(), BLOCK=_BLOCK, **options(_dequantise, 4)
        )
    return out


def variants(target: Target) -> list[Variant]:
    four = options(None, 4)
    pointers = {"target": "*i32", "head": "*i32", "thresholds": "*i32", "zones": "*i32", "offsets": "*i32",
                "indexes": "*u8", "means": "*i32", "symbols": "*i32", "out": "*i32", "total": "i32", "M": "i32",
                "row": "i32", "pitch": "i32"}  # fmt: skip
    found = []
    for way in ("encoder", "encoder, offsets", "decoder"):
        constants = dict(LEVELS=6, ENCODE=way != "decoder", BLOCK=_BLOCK, **without_offsets(way, "offsets"))
        found.append(Variant(f"quantize head, {way}", _head, {**pointers, **dict.fromkeys(constants, "constexpr")},
                             constants, four, 96, 8192))  # fmt: skip
    integers = {"symbols": "*i32", "means": "*i32", "indexes": "*u8", "offsets": "*i32", "out": "*i32", "total": "i32"}
    for way in ("", ", offsets"):
        constants = dict(BLOCK=_BLOCK, **without_offsets(way, "indexes", "offsets"))
        found.append(Variant(f"dequantize{way}", _dequantise, {**integers, **dict.fromkeys(constants, "constexpr")},
                             constants, four, 64, 8192))  # fmt: skip
    return found
