"""Between network and coder in one pass: round, subtract the mean, clamp, choose the table; and back.

Integer heads hold scales in units of 2^-10 and means in units of 2^-6 (bit-exact with the C++ engine). Float heads hold
real numbers; there the table is the nearest scale's, by the same thresholds that the coder's tables were made with.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.integer import quantise_down, reconstruct, scale_index
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, options

_BLOCK = 1024
_SYMBOL_LIMIT = 2**31 - 1


@triton.jit
def _head(
    target, head, thresholds, zones, indexes, means, symbols, out, total, M, row, pitch, LEVELS: tl.constexpr,
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
        tl.store(out + i, reconstruct(symbol, mean), mask=inside)
    else:
        tl.store(means + i, mean, mask=inside)


@triton.jit
def _dequantise(symbols, means, out, total, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    symbol = tl.load(symbols + i, mask=inside, other=0)
    tl.store(out + i, reconstruct(symbol, tl.load(means + i, mask=inside, other=0)), mask=inside)


@triton.jit
def _round_even(x):
    """Nearest integer, halves to even, for |x| < 2^22; larger numbers of float32 hardly have fractions."""
    magic = 12582912.0  # 1.5 * 2^23: adding it leaves no fraction bits
    return tl.where(tl.abs(x) < 4194304.0, (x + magic) - magic, tl.floor(x + 0.5))


@triton.jit
def _quantise_float(
    y, scales, means, thresholds, symbols, indexes, y_hat, total, low, high, LEVELS: tl.constexpr, BLOCK: tl.constexpr
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    mean = tl.load(means + i, mask=inside, other=0.0).to(tl.float32)
    value = _round_even(tl.load(y + i, mask=inside, other=0.0).to(tl.float32) - mean)
    value = tl.minimum(tl.maximum(value, low), high)
    tl.store(symbols + i, value.to(tl.int32), mask=inside)
    tl.store(y_hat + i, value + mean, mask=inside)
    scale = tl.load(scales + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(indexes + i, _float_index(scale, thresholds, LEVELS).to(tl.uint8), mask=inside)


@triton.jit
def _float_index(scale, thresholds, LEVELS: tl.constexpr):
    index = tl.zeros_like(scale).to(tl.int32)
    for level in tl.static_range(LEVELS):
        half = 1 << (LEVELS - 1 - level)
        index = tl.where(tl.load(thresholds + index + (half - 1)) < scale, index + half, index)
    return index


@triton.jit
def _dequantise_float(symbols, means, out, total, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    symbol = tl.load(symbols + i, mask=inside, other=0).to(tl.float32)
    tl.store(out + i, symbol + tl.load(means + i, mask=inside, other=0.0), mask=inside)


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
    target: Tensor, head: Tensor, thresholds: Tensor, zones: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder: (indexes uint8, symbols int32) [images, h * w, M] and y int32 [images, h, w, M].

    Args:
        target: int32 [images, h, w, M] in units of 2^-6.
        head: int32 [images, h, w, 2M], scales in units of 2^-10 and means in units of 2^-6.
        thresholds: int32, ascending, padded to 2^n - 1 numbers.
        zones: int32 [images, 2^n] (fastlic.entropy.zones); None rounds to the nearest.
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
            target, head, thresholds, zones, indexes, symbols, symbols, y, total, m, head.stride(2),
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
            head, head, thresholds, head, indexes, means, means, means, means.numel(), m, head.stride(2), 1,
            LEVELS=_levels(thresholds), ENCODE=False, BLOCK=_BLOCK, **options(_head, 4),
        )  # fmt: skip
    return indexes, means


def dequantise(symbols: Tensor, means: Tensor) -> Tensor:
    """y int32 in units of 2^-6 from symbols and means, int32 of one shape."""
    check_device(_dequantise, symbols, means)
    symbols, means = symbols.contiguous(), means.contiguous()
    out = torch.empty_like(means)
    if out.numel():
        _dequantise[_grid(out.numel())](symbols, means, out, out.numel(), BLOCK=_BLOCK, **options(_dequantise, 4))
    return out


def quantise_float(
    y: Tensor, scales: Tensor, means: Tensor, thresholds: Tensor, limit: int = _SYMBOL_LIMIT
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder of a float model: (symbols int32, indexes uint8, y_hat float32), all shaped like y.

    Args:
        y, scales, means: float32 of one shape.
        thresholds: float32, ascending, padded to 2^n - 1 numbers with infinity; index = thresholds below the scale.
        limit: symbols are clamped to -limit - 1 .. limit, e.g. 127 for int8.
    """
    device = check_device(_quantise_float, y, scales, means, thresholds)
    y, scales, means = y.contiguous(), scales.contiguous(), means.contiguous()
    symbols = torch.empty(y.shape, dtype=torch.int32, device=device)
    indexes = torch.empty(y.shape, dtype=torch.uint8, device=device)
    y_hat = torch.empty(y.shape, dtype=torch.float32, device=device)
    high = float(limit) if limit < 1 << 24 else float(2**31 - 128)  # the largest float32 below 2^31
    if y.numel():
        _quantise_float[_grid(y.numel())](
            y, scales, means, thresholds, symbols, indexes, y_hat, y.numel(), -float(limit) - 1, high,
            LEVELS=_levels(thresholds), BLOCK=_BLOCK, **options(_quantise_float, 4),
        )  # fmt: skip
    return symbols, indexes, y_hat


def dequantise_float(symbols: Tensor, means: Tensor) -> Tensor:
    """Decoder of a float model: y_hat float32 = symbols + means."""
    check_device(_dequantise_float, symbols, means)
    symbols, means = symbols.contiguous(), means.contiguous()
    out = torch.empty(means.shape, dtype=torch.float32, device=means.device)
    if out.numel():
        _dequantise_float[_grid(out.numel())](
            symbols, means, out, out.numel(), BLOCK=_BLOCK, **options(_dequantise_float, 4)
        )
    return out


def variants(target: Target) -> list[Variant]:
    four = options(None, 4)
    pointers = {"target": "*i32", "head": "*i32", "thresholds": "*i32", "zones": "*i32", "indexes": "*u8",
                "means": "*i32", "symbols": "*i32", "out": "*i32", "total": "i32", "M": "i32", "row": "i32",
                "pitch": "i32"}  # fmt: skip
    found = []
    for encode in (True, False):
        constants = dict(LEVELS=6, ENCODE=encode, BLOCK=_BLOCK)
        found.append(Variant(f"quantize head, {'encoder' if encode else 'decoder'}", _head,
                             {**pointers, **dict.fromkeys(constants, "constexpr")}, constants,
                             four, 96, 8192))  # fmt: skip
    constants = dict(LEVELS=6, BLOCK=_BLOCK)
    floats = {**dict.fromkeys(("y", "scales", "means", "thresholds"), "*fp32"), "symbols": "*i32", "indexes": "*u8",
              "y_hat": "*fp32", "total": "i32", "low": "fp32", "high": "fp32"}  # fmt: skip
    found.append(Variant("quantize float", _quantise_float, {**floats, **dict.fromkeys(constants, "constexpr")},
                         constants, four, 96, 8192))  # fmt: skip
    block = dict(BLOCK=_BLOCK)
    integers = {"symbols": "*i32", "means": "*i32", "out": "*i32", "total": "i32", "BLOCK": "constexpr"}
    reals = {**integers, "means": "*fp32", "out": "*fp32"}
    found.append(Variant("dequantize", _dequantise, integers, block, four, 64, 8192))
    found.append(Variant("dequantize float", _dequantise_float, reals, block, four, 64, 8192))
    return found
