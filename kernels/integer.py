"""Integer arithmetic of networks as device functions: products, requantisation, curves, scale indexes, latents.

Tensor cores multiply int8 by int8, but activations have up to 16 bits and weights up to 16: both are stored as planes,
digits of base 128 of which the lowest ones are in -64..63. Two planes hold 14 bits, three hold all; weights of up to
8 bits are one plane. Products of planes are added by the power of 128 that they count, and a sum is 128^k times
the k-th of these, all of them modulo 2^32: exact, because the true accumulator is proven to fit int32 when a model is
made. GDN's squares and their weights are in 0..32767: two planes of base 256 hold both once they are negated.

A map is int8 [rows, planes, C]: for each position the highest plane first, C padded to a multiple of 64 with zeros.
Weights are int8 [columns, planes, taps * C], the lowest plane first, as both operands of an integer tensor-core product
want their depth contiguous. A layer's ``numbers`` are int32 [4 or 5, columns]: bias, multiplier, multiplier for
negative sums, shift, and of layers with a curve the exponent; those of a GDN are the addend and the factor's float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastlic.kernels.packing import PLANE_BITS, SQUARE_BITS

_PLANE = tl.constexpr(PLANE_BITS)
_HALF_PLANE = tl.constexpr(1 << (PLANE_BITS - 1))
_SQUARE = tl.constexpr(SQUARE_BITS)
_HALF_SQUARE = tl.constexpr(1 << (SQUARE_BITS - 1))
_MEAN_BITS = tl.constexpr(6)
_HALF_UNIT = tl.constexpr(32)
_ROUNDER = tl.constexpr(1.5 * 2**23)
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
def nearest(y, bound):
    """Floats, clipped, to the nearest int32, halves to the even one: up there float32 has no digit below 1."""
    return ((tl.minimum(tl.maximum(y, -bound), bound) + _ROUNDER) - _ROUNDER).to(tl.int32)


@triton.jit
def pixel(image, row, column, height, width, border):
    """Number of a position in a map with border."""
    return (image.to(tl.int64) * (height + 2 * border) + row + border) * (width + 2 * border) + column + border


@triton.jit
def store_planes(pointers, channels: tl.constexpr, value, mask, PLANES: tl.constexpr = 2):
    """Write activations as planes, the highest first, ``channels`` bytes apart."""
    high = (value + _HALF_PLANE) >> _PLANE
    if PLANES == 3:
        highest = (high + _HALF_PLANE) >> _PLANE
        tl.store(pointers, highest.to(tl.int8), mask=mask)
        tl.store(pointers + channels, (high - (highest << _PLANE)).to(tl.int8), mask=mask)
    else:
        tl.store(pointers, high.to(tl.int8), mask=mask)
    tl.store(pointers + (PLANES - 1) * channels, (value - (high << _PLANE)).to(tl.int8), mask=mask)


@triton.jit
def store_made(out, at, channel, C: tl.constexpr, value, inside, MADE: tl.constexpr):
    """Write what is made at positions ``at`` of a map of ``MADE`` planes or, of 0, of int32 [positions, C]."""
    if MADE == 0:
        tl.store(out + (at * C)[:, None] + channel[None, :], value, mask=inside)
    else:
        store_planes(out + (at * (MADE * C))[:, None] + channel[None, :], C, value, inside, MADE)


@triton.jit
def load_planes(pointers, channels: tl.constexpr, PLANES: tl.constexpr):
    """int32 activations of what ``store_planes`` wrote."""
    value = tl.load(pointers).to(tl.int32)
    for plane in tl.static_range(1, PLANES):
        value = (value << _PLANE) + tl.load(pointers + plane * channels).to(tl.int32)
    return value


@triton.jit
def multiply(s0, s1, s2, s3, s4, a0, a1, a2, w0, w1, w2, PLANES: tl.constexpr, WEIGHTS: tl.constexpr):
    """Add the products of planes, the lowest being number 0, to the sums of the powers that they count."""
    s1 = tl.dot(a1, w0, acc=s1, out_dtype=tl.int32)
    s0 = tl.dot(a0, w0, acc=s0, out_dtype=tl.int32)
    if PLANES == 3:
        s2 = tl.dot(a2, w0, acc=s2, out_dtype=tl.int32)
    if WEIGHTS > 1:
        s1 = tl.dot(a0, w1, acc=s1, out_dtype=tl.int32)
        s2 = tl.dot(a1, w1, acc=s2, out_dtype=tl.int32)
        if PLANES == 3:
            s3 = tl.dot(a2, w1, acc=s3, out_dtype=tl.int32)
    if WEIGHTS > 2:
        s2 = tl.dot(a0, w2, acc=s2, out_dtype=tl.int32)
        s3 = tl.dot(a1, w2, acc=s3, out_dtype=tl.int32)
        if PLANES == 3:
            s4 = tl.dot(a2, w2, acc=s4, out_dtype=tl.int32)
    return s0, s1, s2, s3, s4


@triton.jit
def add_tap(s0, s1, s2, s3, s4, source, rows, tap, C: tl.constexpr, SPAN: tl.constexpr, weights, columns, depth, drop,
            K: tl.constexpr, PLANES: tl.constexpr, WEIGHTS: tl.constexpr, SQUARES: tl.constexpr):  # fmt: skip
    """Add to the sums what one tap contributes: map ``rows`` times weights of ``columns``, over C channels of a map
    that has ``SPAN``.

    SQUARES: in place of the map's activations their squares, of which ``drop`` bits are rounded away, negated as the
    weights are.
    """
    inner = tl.arange(0, K)
    from_row = source + (rows * (PLANES * SPAN))[:, None]
    of_tap = weights + (columns * (WEIGHTS * depth) + tap * C)[None, :]
    for start in range(0, C, K):
        w = of_tap + (start + inner)[:, None]
        a = from_row + (start + inner)[None, :]
        w0 = tl.load(w)
        w1, w2 = w0, w0
        if WEIGHTS > 1:
            w1 = tl.load(w + depth)
        if WEIGHTS > 2:
            w2 = tl.load(w + 2 * depth)
        if SQUARES:
            x = load_planes(a, SPAN, PLANES)
            square = -((x * x + (1 << (drop - 1))) >> drop)
            high = (square + _HALF_SQUARE) >> _SQUARE
            a0, a1 = (square - (high << _SQUARE)).to(tl.int8), high.to(tl.int8)
            s0, s1, s2, s3, s4 = multiply(s0, s1, s2, s3, s4, a0, a1, a0, w0, w1, w2, 2, WEIGHTS)
        else:
            a1, a0 = tl.load(a + (PLANES - 2) * SPAN), tl.load(a + (PLANES - 1) * SPAN)
            a2 = a0
            if PLANES == 3:
                a2 = tl.load(a)
            s0, s1, s2, s3, s4 = multiply(s0, s1, s2, s3, s4, a0, a1, a2, w0, w1, w2, PLANES, WEIGHTS)
    return s0, s1, s2, s3, s4


@triton.jit
def total(s0, s1, s2, s3, s4, SUMS: tl.constexpr, BASE: tl.constexpr):
    """The accumulators of ``SUMS`` sums of powers of 2^BASE."""
    acc = s0 + (s1 << BASE)
    if SUMS > 2:
        acc += s2 << (2 * BASE)
    if SUMS > 3:
        acc += s3 << (3 * BASE)
    if SUMS > 4:
        acc += s4 << (4 * BASE)
    return acc


@triton.jit
def accumulate(source, rows, taps, tap_count, C: tl.constexpr, weights, columns, depth, P: tl.constexpr,
               N: tl.constexpr, K: tl.constexpr):  # fmt: skip
    """int32 [P, N]: sum over taps and channels of map rows (rows + tap) times weights of ``columns``, of one plane.

    A loop of its own, and not ``add_tap``'s: in the persistent drivers, which have few registers to spare, that spills.

    source: map of C channels and two planes, at most 2^31 bytes. rows: int32 [P], all valid. depth: bytes of one column
    of weights, tap_count * C.
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
def tail_of(magnitude, exponent, table, fine):
    """The tail of a curve in units of 2^-15 at magnitudes below 2^13 in units of 2^-exponent; ``table`` int32 [65].

    fine: fractional bits of what the table's lines are drawn over (docs/transforms.md, F).
    """
    at = tl.minimum((magnitude << fine) >> exponent, (1 << 14) - 1)
    line, part = at >> 8, at & 255
    start = tl.load(table + line)
    return start - (((start - tl.load(table + line + 1)) * part + 128) >> 8)


@triton.jit
def share_of(x, share):
    """x times a share of 2^15, halves rounded up; x has 16 bits, a share is at most 2^14."""
    return (x * share + (1 << 14)) >> 15


@triton.jit
def curve(x, exponent, table, fine):
    """max(x, 0) - |x| tail(|x|), of up to 14 bits."""
    magnitude = tl.abs(x)
    return tl.maximum(x, 0) - share_of(magnitude, tail_of(magnitude, exponent, table, fine))


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
def quantise_down(target, mean, zone):
    """Symbol nearest to target - mean, both in units of 2^-6, halves rounded up; the difference comes nearer to zero by
    ``zone`` >= 0 first, but not past it."""
    difference = target - mean
    left = difference - tl.minimum(tl.maximum(difference, -zone), zone)
    return (left + _HALF_UNIT) >> _MEAN_BITS


@triton.jit
def reconstruct(symbol, mean, offsets=None, index=None):
    """The latent in units of 2^-6, clipped; any int32 symbol.

    offsets: int32 by scale ``index``, in units of 2^-6: by how much symbols but 0 are moved away from it; None: not.
    """
    latent = (symbol.to(tl.int64) << _MEAN_BITS) + mean.to(tl.int64)
    if offsets is not None:
        latent += tl.load(offsets + index) * ((symbol > 0).to(tl.int32) - (symbol < 0).to(tl.int32))
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
