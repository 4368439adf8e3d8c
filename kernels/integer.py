"""Integer arithmetic of the entropy path as device functions: products, requantisation, scale indexes, latents.

Activations have up to 14 bits and weights 8, but tensor cores multiply int8 by int8: an activation a is stored as two
planes, a = 128 * high + low with low in -64..63, and a sum is 128 * (sum of high) + (sum of low). Both sums are exact
in int32 (at most 2^14 terms below 2^14), and their combination is exact modulo 2^32, which is exact because the true
accumulator is proven to fit int32 when a model is made.

A map is int8 [rows, 2, C]: for each position the high plane, then the low one, C padded to a multiple of 64 with zeros.
Weights are int8 [columns, taps * C], as both operands of an integer tensor-core product want their depth contiguous.
A layer's ``numbers`` are int32 [4, columns]: bias, multiplier, multiplier for negative sums, shift.
"""

from __future__ import annotations

import triton
import triton.language as tl

PLANE_BITS = 7

_PLANE = tl.constexpr(PLANE_BITS)
_HALF_PLANE = tl.constexpr(1 << (PLANE_BITS - 1))
_MEAN_BITS = tl.constexpr(6)
_HALF_UNIT = tl.constexpr(32)
_LATENT_LIMIT = tl.constexpr((1 << 26) - 1)


@triton.jit
def requantise(acc, multiplier, negative, shift, limit):
    """clip((acc * m + 2^(shift-1)) >> shift, +-limit) in int64, m by the sign of acc; returns int32.

    Halving twice rounds the same way and cannot overflow: floor((floor(p / 2^(s-1)) + 1) / 2).
    """
    product = acc.to(tl.int64) * tl.where(acc >= 0, multiplier, negative).to(tl.int64)
    rounded = ((product >> (shift.to(tl.int64) - 1)) + 1) >> 1
    return tl.minimum(tl.maximum(rounded, -limit), limit).to(tl.int32)


@triton.jit
def store_planes(pointers, channels: tl.constexpr, value, mask):
    """Write activations as a high and a low plane, ``channels`` bytes apart."""
    high = (value + _HALF_PLANE) >> _PLANE
    tl.store(pointers, high.to(tl.int8), mask=mask)
    tl.store(pointers + channels, (value - (high << _PLANE)).to(tl.int8), mask=mask)


@triton.jit
def accumulate(source, rows, taps, tap_count, C: tl.constexpr, weights, columns, depth, P: tl.constexpr,
               N: tl.constexpr, K: tl.constexpr):  # fmt: skip
    """int32 [P, N]: sum over taps and channels of map rows (rows + tap) times weights of ``columns``.

    source: map of C channels, at most 2^31 bytes. rows: int32 [P], all valid. depth: bytes of one column of weights,
    tap_count * C.
    """
    inner = tl.arange(0, K)
    high = tl.zeros([P, N], tl.int32)
    low = tl.zeros([P, N], tl.int32)
    for tap in range(0, tap_count):
        from_row = (rows + tl.load(taps + tap)) * (2 * C)
        of_tap = columns * depth + tap * C
        for start in range(0, C, K):
            w = tl.load(weights + of_tap[None, :] + (start + inner)[:, None])
            a = source + from_row[:, None] + (start + inner)[None, :]
            high = tl.dot(tl.load(a), w, acc=high, out_dtype=tl.int32)
            low = tl.dot(tl.load(a + C), w, acc=low, out_dtype=tl.int32)
    return (high << _PLANE) + low


@triton.jit
def requantise_columns(acc, numbers, columns, total, limit):
    """Requantise accumulators [P, N] that already hold their bias."""
    multiplier = tl.load(numbers + total + columns)[None, :]
    negative = tl.load(numbers + 2 * total + columns)[None, :]
    shift = tl.load(numbers + 3 * total + columns)[None, :]
    return requantise(acc, multiplier, negative, shift, limit)


@triton.jit
def scale_index(scale, thresholds, LEVELS: tl.constexpr):
    """int32: how many of the ascending ``thresholds`` (padded to 2^LEVELS - 1 with large numbers) are below scale."""
    index = tl.zeros_like(scale)
    for level in tl.static_range(LEVELS):
        half = 1 << (LEVELS - 1 - level)
        index = tl.where(tl.load(thresholds + index + (half - 1)) < scale, index + half, index)
    return index


@triton.jit
def quantise(target, mean):
    """Symbol nearest to target - mean, both in units of 2^-6; halves round up."""
    return (target - mean + _HALF_UNIT) >> _MEAN_BITS


@triton.jit
def quantise_down(target, mean, zone):
    """The same of a difference that comes nearer to zero by ``zone`` >= 0 first, but not past it."""
    difference = target - mean
    left = difference - tl.minimum(tl.maximum(difference, -zone), zone)
    return (left + _HALF_UNIT) >> _MEAN_BITS


@triton.jit
def reconstruct(symbol, mean):
    """The latent in units of 2^-6, clipped; any int32 symbol."""
    latent = (symbol.to(tl.int64) << _MEAN_BITS) + mean.to(tl.int64)
    return tl.minimum(tl.maximum(latent, -_LATENT_LIMIT), _LATENT_LIMIT).to(tl.int32)


@triton.jit
def meet(counter, round, PERSISTENT: tl.constexpr):
    """Wait until every program of the grid (PERSISTENT), or every thread of this program, has come here.

    What was written to memory before is visible after. ``counter``: int32, zero at launch. Returns the next round.
    """
    tl.debug_barrier()
    if PERSISTENT:
        goal = (round + 1) * tl.num_programs(0)
        arrived = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") + 1
        while arrived < goal:
            arrived = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
        tl.debug_barrier()
    return round + 1
