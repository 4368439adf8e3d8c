"""Attention of the MLIC family on integers: in windows around the positions that are no anchors, and over whole maps.

Units and roundings are those of fastlic.integers.functions: scores count 2^-8 and have 16 bits, weights are read of a
table of exp relative to the highest score and have 15, means carry 8 bits below the values' unit. Queries, keys and
values are channels of maps, of 12 bits in two planes; where weights are those of queries and of keys apart (MLIC++), of
16 bits in three.

Products run on tensor cores, two planes by two. A weight, negated, is two digits of base 256; sums of weights times
values are added in int64. No order of addition matters, so what several programs sum up is one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.checkerboard import board
from fastlic.kernels.integer import load_planes, pixel, requantise, store_planes
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, interpreted, on, options, power_of_two
from fastlic.kernels.packing import Map, Requantiser, padded
from fastlic.kernels.reference.checkerboard import count_of

_HEADS = tl.constexpr(2)  # of local attention
_TOKENS = tl.constexpr(25)
_REACH = tl.constexpr(2)  # keys no further away than this in both directions are left out of attention in a slice
_NOTHING = tl.constexpr(-(1 << 30))  # below every score
EVERYWHERE = 6  # the zone of all positions


@triton.jit
def _divided(a, b):
    """floor(a / b) of int64, b positive: quotients of Triton round to zero."""
    magnitude = tl.where(a >= 0, a, b - 1 - a)
    return tl.where(a >= 0, magnitude // b, -(magnitude // b))


@triton.jit
def _products(a_high, a_low, b_high, b_low):
    """int32 [A, B]: int8 planes [A, D] times [D, B], of numbers of up to 14 bits whose sums fit int32."""
    high = tl.dot(a_high, b_high, out_dtype=tl.int32)
    middle = tl.dot(a_high, b_low, out_dtype=tl.int32)
    middle = tl.dot(a_low, b_high, acc=middle, out_dtype=tl.int32)
    return (high << 14) + (middle << 7) + tl.dot(a_low, b_low, out_dtype=tl.int32)


@triton.jit
def _weighed(weights, high, low):
    """int64 [A, D]: weights 0..32767 [A, B] times values of two planes [B, D]."""
    negative = -weights
    above = (negative + 128) >> 8
    a, b = above.to(tl.int8), (negative - (above << 8)).to(tl.int8)
    total = tl.dot(a, high, out_dtype=tl.int32).to(tl.int64) << 15
    total += tl.dot(a, low, out_dtype=tl.int32).to(tl.int64) << 8
    total += tl.dot(b, high, out_dtype=tl.int32).to(tl.int64) << 7
    return -(total + tl.dot(b, low, out_dtype=tl.int32).to(tl.int64))


@triton.jit
def _pair(source, at, channels, span, inside):
    """Both planes of a map's channels at pixels ``at``, 0 where not inside; tensors of one shape."""
    first = source + at * (2 * span) + channels
    return tl.load(first, mask=inside, other=0), tl.load(first + span, mask=inside, other=0)


@triton.jit(do_not_specialize=["rows", "channels", "pitch", "epsilon"])
def _normalise(values, out, rows, channels, pitch, epsilon, C: tl.constexpr, BLOCK: tl.constexpr, P: tl.constexpr):
    """Layer norm without its affine part of int32 rows, clipped to 21 bits, ``pitch`` apart -> a map of two planes."""
    p = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    channel = tl.arange(0, BLOCK)
    inside = (p < rows)[:, None] & (channel < channels)[None, :]
    x = tl.load(values + (p * pitch)[:, None] + channel[None, :], mask=inside, other=0)
    x = tl.minimum(tl.maximum(x, -1048575), 1048575).to(tl.int64)
    distance = tl.where(inside, x * channels - tl.sum(x, axis=1)[:, None], 0)
    variance = tl.sum(distance * distance, axis=1) // channels + epsilon
    square = variance << 8
    root = tl.sqrt(square.to(tl.float64)).to(tl.int64)
    root -= (root * root > square).to(tl.int64)
    root += ((root + 1) * (root + 1) <= square).to(tl.int64)
    scaled = _divided((distance << 13) + root[:, None], (root << 1)[:, None])
    value = tl.minimum(tl.maximum(scaled, -2047), 2047).to(tl.int32)
    store_planes(out + (p * (2 * C))[:, None] + channel[None, :], C, value, inside)


@triton.jit(do_not_specialize=["count", "height", "width", "limit", "out_limit", "last"])
def _windows(
    qkv, bias, score, attended, exp, out, count, height, width, channels, limit, out_limit, last,
    SPAN: tl.constexpr, OUT: tl.constexpr, COLUMNS: tl.constexpr, SCORES: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Program (position that is no anchor, head) of the attention inside its 5x5 window, all 25 tokens being queries.

    qkv: a map of ``SPAN`` channels with a border of 2: queries, keys, values, the heads of each interleaved. bias:
    int32 [heads, 81]. score, attended: numbers by head and by channel; channels leave the heads one after the other.
    out: planes of OUT channels for each position, by channel and token. D: a head's channels, padded.
    """
    q = tl.program_id(0)
    head = tl.program_id(1)
    image = q // count
    row, column = board(q - image * count, width, 0)
    own = channels // _HEADS
    token, d = tl.arange(0, 32), tl.arange(0, D)
    down, right = token // 5, token % 5
    r, c = row + down - 2, column + right - 2
    at = pixel(image, r, c, height, width, 2)
    there = (token < _TOKENS)[:, None] & (d < own)[None, :]
    place = (d * _HEADS + head)[None, :]
    q_high, q_low = _pair(qkv, at[:, None], place, SPAN, there)
    k_high, k_low = _pair(qkv, at[:, None], place + channels, SPAN, there)
    v_high, v_low = _pair(qkv, at[:, None], place + 2 * channels, SPAN, there)
    products = _products(q_high, q_low, tl.trans(k_high), tl.trans(k_low))
    multiplier, negative = tl.load(score + SCORES + head), tl.load(score + 2 * SCORES + head)
    scores = requantise(products, multiplier, negative, tl.load(score + 3 * SCORES + head), limit)
    index = (down[:, None] - down[None, :] + 4) * 9 + right[:, None] - right[None, :] + 4
    both = (token < _TOKENS)[:, None] & (token < _TOKENS)[None, :]
    scores += tl.load(bias + head * 81 + index, mask=both, other=0)
    anchor = (token < _TOKENS) & (r >= 0) & (r < height) & (c >= 0) & (c < width) & ((r + c + 2) % 2 == 1)
    # An anchor sees anchors; every other query sees all.
    seen = both & ((anchor.to(tl.int32)[None, :] > 0) | (anchor.to(tl.int32)[:, None] == 0))
    scores = tl.where(seen, scores, _NOTHING)
    distance = tl.max(scores, axis=1)[:, None] - scores
    weights = tl.load(exp + tl.minimum(distance, last), mask=seen, other=0)
    totals = tl.maximum(tl.sum(weights, axis=1), 1).to(tl.int64)
    inverse = (tl.zeros_like(totals) + (1 << 40)) // totals
    mean = (_weighed(weights, v_high, v_low) * inverse[:, None] + (1 << 31)) >> 32
    number = attended + head * own + d
    multiplier = tl.load(number + COLUMNS, mask=d < own, other=0)[None, :]
    negative = tl.load(number + 2 * COLUMNS, mask=d < own, other=0)[None, :]
    shift = tl.load(number + 3 * COLUMNS, mask=d < own, other=1)[None, :]
    value = requantise(mean, multiplier, negative, shift, out_limit)
    to = out + q.to(tl.int64) * (2 * OUT) + (head * own + d)[None, :] * _TOKENS + token[:, None]
    store_planes(to, OUT, value, there)


@triton.jit(do_not_specialize=["count", "rows", "height", "width", "border", "limit"])
def _place_sum(a, b, numbers, out, count, rows, height, width, border, limit, C: tl.constexpr, P: tl.constexpr):
    """Programs (blocks of positions that are no anchors, of 64 channels): int32 a + b [rows, C], requantised, to their
    places in a map of two planes."""
    p = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.program_id(1) * 64 + tl.arange(0, 64)
    inside = (p < rows)[:, None]
    q = tl.minimum(p, rows - 1)
    image = q // count
    row, column = board(q - image * count, width, 0)
    at = (q.to(tl.int64) * C)[:, None] + channel[None, :]
    multiplier = tl.load(numbers + C + channel)[None, :]
    negative = tl.load(numbers + 2 * C + channel)[None, :]
    shift = tl.load(numbers + 3 * C + channel)[None, :]
    value = requantise(tl.load(a + at) + tl.load(b + at), multiplier, negative, shift, limit)
    to = pixel(image, row, column, height, width, border)
    store_planes(out + (to * (2 * C))[:, None] + channel[None, :], C, value, inside)


@triton.jit
def _of_head(numbers, columns, first, d, own):
    """Multiplier, negative and shift of a head's channels, each [1, D]."""
    at = numbers + first + d
    multiplier = tl.load(at + columns, mask=d < own, other=0)[None, :]
    negative = tl.load(at + 2 * columns, mask=d < own, other=0)[None, :]
    return multiplier, negative, tl.load(at + 3 * columns, mask=d < own, other=1)[None, :]


@triton.jit
def _scores(q_high, q_low, k, at, head, own, d, inside, C: tl.constexpr, multiplier, negative, shift, limit):
    """Scores [P, K] of queries and the keys at pixels ``at``."""
    k_high, k_low = _pair(k, at[None, :], (head * own + d)[:, None], C, (d < own)[:, None] & inside[None, :])
    return requantise(_products(q_high, q_low, k_high, k_low), multiplier, negative, shift, limit)


@triton.jit(do_not_specialize=["n", "m", "height", "width", "to", "of", "border", "limit", "out_limit", "last"])
def _softmax(
    q, k, v, score, attended, exp, out, n, m, height, width, to, of, own, border, limit, out_limit, last,
    C: tl.constexpr, SCORES: tl.constexpr, NEAR: tl.constexpr, P: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Programs (blocks of n queries, heads, images). Keys are seen twice: for the highest score, then for the means.

    to, of: zones of queries and keys. NEAR: keys close by are left out, unless there are no others.
    """
    head, image = tl.program_id(1), tl.program_id(2)
    d = tl.arange(0, D)
    p = tl.program_id(0) * P + tl.arange(0, P)
    row, column = board(tl.minimum(p, n - 1), width, to)
    place = (head * own + d)[None, :]
    mine = pixel(image, row, column, height, width, 0)
    q_high, q_low = _pair(q, mine[:, None], place, C, (p < n)[:, None] & (d < own)[None, :])
    multiplier, negative = tl.load(score + SCORES + head), tl.load(score + 2 * SCORES + head)
    shift = tl.load(score + 3 * SCORES + head)
    best = tl.full([P], _NOTHING, tl.int32)
    best_far = tl.full([P], _NOTHING, tl.int32)
    for start in range(0, m, K):
        key = start + tl.arange(0, K)
        r, c = board(tl.minimum(key, m - 1), width, of)
        s = _scores(q_high, q_low, k, pixel(image, r, c, height, width, 0), head, own, d, key < m, C, multiplier,
                    negative, shift, limit)  # fmt: skip
        s = tl.where((key < m)[None, :], s, _NOTHING)
        best = tl.maximum(best, tl.max(s, axis=1))
        if NEAR:
            away = tl.maximum(tl.abs(row[:, None] - r[None, :]), tl.abs(column[:, None] - c[None, :])) > _REACH
            best_far = tl.maximum(best_far, tl.max(tl.where(away, s, _NOTHING), axis=1))
    lonely = best_far == _NOTHING
    if NEAR:
        best = tl.where(lonely, best, best_far)
    totals = tl.zeros([P], tl.int64)
    sums = tl.zeros([P, D], tl.int64)
    for start in range(0, m, K):
        key = start + tl.arange(0, K)
        r, c = board(tl.minimum(key, m - 1), width, of)
        at = pixel(image, r, c, height, width, 0)
        s = _scores(q_high, q_low, k, at, head, own, d, key < m, C, multiplier, negative, shift, limit)
        seen = tl.zeros([P, K], tl.int32) + (key < m).to(tl.int32)[None, :]
        if NEAR:
            away = tl.maximum(tl.abs(row[:, None] - r[None, :]), tl.abs(column[:, None] - c[None, :])) > _REACH
            seen = tl.where(away | lonely[:, None], seen, 0)
        weights = tl.load(exp + tl.minimum(best[:, None] - s, last), mask=seen > 0, other=0)
        totals += tl.sum(weights, axis=1).to(tl.int64)
        v_high, v_low = _pair(v, at[:, None], place, C, (key < m)[:, None] & (d < own)[None, :])
        sums += _weighed(weights, v_high, v_low)
    totals = tl.maximum(totals, 1)
    mean = _divided((sums << 9) + totals[:, None], (totals << 1)[:, None])
    multiplier, negative, shift = _of_head(attended, C, head * own, d, own)
    value = requantise(mean, multiplier, negative, shift, out_limit)
    at = pixel(image, row, column, height, width, border)[:, None]
    store_planes(out + at * (2 * C) + place, C, value, (p < n)[:, None] & (d < own)[None, :])


@triton.jit(do_not_specialize=["m", "height", "width", "of", "channels"])
def _peaks(k, best, m, height, width, of, channels, C: tl.constexpr, P: tl.constexpr):
    """Programs (blocks of m keys, of 64 channels, images): the highest score of each channel of keys, int32 [images,
    C]."""
    image = tl.program_id(2)
    p = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.program_id(1) * 64 + tl.arange(0, 64)
    row, column = board(tl.minimum(p, m - 1), width, of)
    at = pixel(image, row, column, height, width, 0)
    score = load_planes(k + (at * (3 * C))[:, None] + channel[None, :], C, 3)
    tl.atomic_max(best + image * C + channel, tl.max(score, axis=0), sem="relaxed")


@triton.jit(do_not_specialize=["m", "height", "width", "of", "last", "steps"])
def _collect(
    k, v, best, exp, sums, m, height, width, of, own, last, steps, C: tl.constexpr, P: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Programs (``steps`` blocks of m keys, heads, images) add to int64 sums [images, heads, D + 1, D]: of weights of
    keys times values, and in the last row of weights."""
    head, image = tl.program_id(1), tl.program_id(2)
    d = tl.arange(0, D)
    place = head * own + d
    highest = tl.load(best + image * C + place, mask=d < own, other=0)
    sum = tl.zeros([D, D], tl.int64)
    total = tl.zeros([D], tl.int64)
    for step in range(0, steps):
        key = (tl.program_id(0) * steps + step) * P + tl.arange(0, P)
        row, column = board(tl.minimum(key, m - 1), width, of)
        at = pixel(image, row, column, height, width, 0)
        inside = (d < own)[:, None] & (key < m)[None, :]
        k_at = k + tl.where(inside, (at * (3 * C))[None, :] + place[:, None], 0)
        distance = tl.minimum(highest[:, None] - load_planes(k_at, C, 3), last)
        weights = tl.load(exp + distance, mask=inside, other=0)
        v_high, v_low = _pair(v, at[:, None], place[None, :], C, (key < m)[:, None] & (d < own)[None, :])
        sum += _weighed(weights, v_high, v_low)
        total += tl.sum(weights, axis=1).to(tl.int64)
    sums += (image * tl.num_programs(1) + head).to(tl.int64) * ((D + 1) * D)
    tl.atomic_add(sums + d[:, None] * D + d[None, :], sum, sem="relaxed")
    tl.atomic_add(sums + D * D + d, total, sem="relaxed")


@triton.jit
def _means(sums, context, D: tl.constexpr, P: tl.constexpr):
    """Programs (blocks of P channels of keys, images * heads): what ``_collect`` added up -> means int32 [images,
    heads, D, D] in units of 2^-8."""
    own = tl.program_id(1).to(tl.int64)
    of_key = tl.program_id(0) * P + tl.arange(0, P)
    at = of_key[:, None] * D + tl.arange(0, D)[None, :]
    sums += own * ((D + 1) * D)
    weights = tl.maximum(tl.load(sums + D * D + of_key), 1)[:, None]
    mean = _divided((tl.load(sums + at) << 9) + weights, weights << 1)
    tl.store(context + own * (D * D) + at, mean.to(tl.int32))


@triton.jit(do_not_specialize=["n", "height", "width", "to", "border", "out_limit", "last"])
def _answer(
    q, context, attended, exp, out, n, height, width, to, own, border, out_limit, last, C: tl.constexpr,
    P: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Programs (blocks of n queries, heads, images): means int32 ``context`` [images, heads, D, D] in units of 2^-8,
    weighed by the query's channels."""
    head, image = tl.program_id(1), tl.program_id(2)
    d = tl.arange(0, D)
    p = tl.program_id(0) * P + tl.arange(0, P)
    row, column = board(tl.minimum(p, n - 1), width, to)
    from_row = q + pixel(image, row, column, height, width, 0) * (3 * C) + head * own
    best = tl.full([P], _NOTHING, tl.int32)
    for i in range(0, own):
        best = tl.maximum(best, load_planes(from_row + i, C, 3))
    totals = tl.zeros([P], tl.int64)
    sums = tl.zeros([P, D], tl.int64)
    rows = context + (image * tl.num_programs(1) + head) * D * D + d
    for i in range(0, own):
        weights = tl.load(exp + tl.minimum(best - load_planes(from_row + i, C, 3), last)).to(tl.int64)
        totals += weights
        sums += weights[:, None] * tl.load(rows + i * D).to(tl.int64)[None, :]
    # As they are: the highest weight is positive. But Triton 3.6 compiles no division by what a loop carries.
    totals = tl.maximum(totals, 1)
    if own > 64:
        mean = _divided((sums << 1) + totals[:, None], (totals << 1)[:, None])
    else:
        inverse = (tl.zeros_like(totals) + (1 << 40)) // totals
        mean = (sums * inverse[:, None] + (1 << 39)) >> 40
    multiplier, negative, shift = _of_head(attended, C, head * own, d, own)
    value = requantise(mean, multiplier, negative, shift, out_limit)
    at = pixel(image, row, column, height, width, border)[:, None]
    to_row = out + at * (2 * C) + (head * own + d)[None, :]
    store_planes(to_row, C, value, (p < n)[:, None] & (d < own)[None, :])


# ---- launchers

MOST_CHANNELS = 64  # of a head, which a program holds whole


def check_heads(channels: int) -> None:
    """Raises ValueError for heads of more channels than kernels hold."""
    if channels > MOST_CHANNELS:
        raise ValueError(f"kernels have attention of up to {MOST_CHANNELS} channels a head, this one has {channels}")


def _depth(channels: int) -> int:
    """A head's channels, padded to what tensor cores multiply at once."""
    check_heads(channels)
    return max(32, power_of_two(channels))


def _warps(D: int) -> int:
    """Of a program that holds products of all channels of a head: with four, those of 64 spill."""
    return 4 if D <= 32 else 8


def count_in(zone: int, height: int, width: int) -> int:
    """Positions of a zone: of a parity, or of all."""
    return height * width if zone == EVERYWHERE else count_of(height, width, zone)


def normalise(values: Tensor, channels: int, epsilon: int) -> Map:
    """Layer norm without its affine part over the first channels of int32 [images, h, w, at least channels], evenly
    apart; activations in units of 2^-8."""
    device = check_device(_normalise, values)
    images, height, width = values.shape[:3]
    out = Map.zeros(images, height, width, channels, 0, device)
    rows, block = images * height * width, 64 if interpreted(_normalise) else 16
    on(device, _normalise)[(ceil_div(rows, block),)](
        values, out.planes, rows, channels, values.stride(2), epsilon, C=padded(channels),
        BLOCK=power_of_two(channels), P=block, **options(_normalise, 4),
    )  # fmt: skip
    return out


def windows(qkv: Map, channels: int, bias: Tensor, score: Requantiser, attended: Requantiser, exp: Tensor) -> Map:
    """Attention in the windows around all positions that are no anchors: for each, of all images one after the other,
    activations by channel and token, a map of one row.

    Args:
        qkv: queries, keys and values of so many channels each, border 2.
        bias: int32 [2, 81], of a head by where the key is from the query.
        exp: int32, the table.
    """
    device = check_device(_windows, qkv.planes, bias, exp)
    images, height, width = len(qkv.planes), qkv.height, qkv.width
    count = count_of(height, width, 0)
    out = Map.zeros(1, 1, images * count, 25 * channels, 0, device)
    D = _depth(channels // 2)
    on(device, _windows)[(images * count, 2)](
        qkv.planes, bias, score.numbers, attended.numbers, exp, out.planes, count, height, width, channels,
        score.limit, attended.limit, exp.numel() - 1, SPAN=qkv.span, OUT=padded(25 * channels),
        COLUMNS=attended.numbers.shape[1], SCORES=score.numbers.shape[1], D=D, **options(_windows, 4),
    )  # fmt: skip
    return out


def place_sum(a: Tensor, b: Tensor, channels: int, requantiser: Requantiser, images: int, size: tuple[int, int]) -> Map:
    """a + b, requantised, at the positions that are no anchors of a map without border, which has zeros elsewhere.

    Args:
        a, b: int32 [1, 1, positions of all images, columns].
    """
    device = check_device(_place_sum, a, b, requantiser.numbers)
    out = Map.zeros(images, *size, channels, 0, device)
    rows, block = a.shape[2], 1024 if interpreted(_place_sum) else 32
    on(device, _place_sum)[(ceil_div(rows, block), padded(channels) // 64)](
        a, b, requantiser.numbers, out.planes, count_of(*size, 0), rows, *size, 0, requantiser.limit,
        C=padded(channels), P=block, **options(_place_sum, 4),
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class Where:
    """Zones of queries and of keys, and whether keys close by are left out."""

    queries: int = EVERYWHERE
    keys: int = EVERYWHERE
    far: bool = False


def softmax(
    q: Map, k: Map, v: Map, channels: int, heads: int, where: Where, score: Requantiser, attended: Requantiser,
    exp: Tensor, border: int,
) -> Map:  # fmt: skip
    """Values weighed by exp(q k / sqrt d), at the positions of the queries of a map with that border.

    Args:
        q, k, v: maps of so many channels, without border.
        score, attended: by head, from products to scores; by channel, from means to activations.
    """
    device = check_device(_softmax, q.planes, k.planes, v.planes, exp)
    images, height, width = len(q.planes), q.height, q.width
    n, m = (count_in(zone, height, width) for zone in (where.queries, where.keys))
    out = Map.zeros(images, height, width, channels, border, device)
    own = channels // heads
    P, K, D = *((64, 64) if interpreted(_softmax) else (32, 32)), _depth(own)  # more keys at once spill
    on(device, _softmax)[(ceil_div(n, P), heads, images)](
        q.planes, k.planes, v.planes, score.numbers, attended.numbers, exp, out.planes, n, m, height, width,
        where.queries, where.keys, own, border, score.limit, attended.limit, exp.numel() - 1, C=padded(channels),
        SCORES=score.numbers.shape[1], NEAR=where.far, P=P, K=K, D=D, **options(_softmax, _warps(D)),
    )  # fmt: skip
    return out


def linear(
    q: Map, k: Map, v: Map, channels: int, heads: int, where: Where, attended: Requantiser, exp: Tensor, border: int
) -> Map:
    """Values weighed by softmax(q) over a head's channels times softmax(k) over positions; arguments as above, q and k
    of three planes."""
    device = check_device(_answer, q.planes, k.planes, v.planes, exp)
    images, height, width = len(q.planes), q.height, q.width
    n, m = (count_in(zone, height, width) for zone in (where.queries, where.keys))
    own, C = channels // heads, padded(channels)
    D, last, P = _depth(own), exp.numel() - 1, 64
    few = P if interpreted(_collect) else 32  # keys at once: more spill
    best = torch.full((images, C), -(1 << 30), dtype=torch.int32, device=device)
    on(device, _peaks)[(ceil_div(m, P), C // 64, images)](
        k.planes, best, m, height, width, where.keys, channels, C=C, P=P, **options(_peaks, 4)
    )
    sums = torch.zeros(images, heads, D + 1, D, dtype=torch.int64, device=device)
    steps = min(16, ceil_div(m, few))
    on(device, _collect)[(ceil_div(m, few * steps), heads, images)](
        k.planes, v.planes, best, exp, sums, m, height, width, where.keys, own, last, steps, C=C, P=few, D=D,
        **options(_collect, _warps(D)),
    )  # fmt: skip
    context = torch.empty(images, heads, D, D, dtype=torch.int32, device=device)
    rows = D if interpreted(_means) else 8
    on(device, _means)[(D // rows, images * heads)](sums, context, D=D, P=rows, **options(_means, 4))
    out = Map.zeros(images, height, width, channels, border, device)
    block = 64 if interpreted(_answer) else 32
    on(device, _answer)[(ceil_div(n, block), heads, images)](
        q.planes, context, attended.numbers, exp, out.planes, n, height, width, where.queries, own, border,
        attended.limit, last, C=C, P=block, D=D, **options(_answer, 4),
    )  # fmt: skip
    return out


def variants(target: Target) -> list[Variant]:
    """Of 32 channels a slice, and of MLIC++'s last slice; of heads of 32 channels, and of the widest."""
    maps = {"q": "*i8", "k": "*i8", "v": "*i8"}
    numbers = {"score": "*i32", "attended": "*i32", "exp": "*i32"}
    softmax: Any = (_softmax, {**maps, **numbers, "out": "*i8"}, (
        "n", "m", "height", "width", "to", "of", "own", "border", "limit", "out_limit", "last"
    ))  # fmt: skip
    collect: Any = (_collect, {"k": "*i8", "v": "*i8", "best": "*i32", "exp": "*i32", "sums": "*i64"}, (
        "m", "height", "width", "of", "own", "last", "steps"
    ))  # fmt: skip
    found = []
    for name, kernel, pointers, sizes, constants, registers, shared in (
        ("layer norm", _normalise, {"values": "*i32", "out": "*i8"}, ("rows", "channels", "pitch", "epsilon"),
         dict(C=64, BLOCK=32, P=16), 128, 8192),
        ("windows", _windows, {"qkv": "*i8", "bias": "*i32", **numbers, "out": "*i8"},
         ("count", "height", "width", "channels", "limit", "out_limit", "last"),
         dict(SPAN=128, OUT=832, COLUMNS=64, SCORES=64, D=32), 255, 32 * 1024),
        ("sum to its places", _place_sum, {"a": "*i32", "b": "*i32", "numbers": "*i32", "out": "*i8"},
         ("count", "rows", "height", "width", "border", "limit"), dict(C=64, P=32), 128, 4096),
        ("softmax over a map", *softmax, dict(C=320, SCORES=64, NEAR=False, P=32, K=32, D=32), 255, 64 * 1024),
        ("softmax within a slice", *softmax, dict(C=64, SCORES=64, NEAR=True, P=32, K=32, D=32), 255, 64 * 1024),
        ("softmax over a map, wide", *softmax, dict(C=320, SCORES=64, NEAR=False, P=32, K=32, D=64), 255, 64 * 1024),
        ("softmax within a slice, wide", *softmax, dict(C=64, SCORES=64, NEAR=True, P=32, K=32, D=64), 255, 64 * 1024),
        ("highest keys", _peaks, {"k": "*i8", "best": "*i32"}, ("m", "height", "width", "of", "channels"),
         dict(C=320, P=64), 128, 8192),
        ("keys and values", *collect, dict(C=320, P=32, D=32), 255, 64 * 1024),
        ("keys and values, wide", *collect, dict(C=320, P=32, D=64), 255, 64 * 1024),
        ("means of values", _means, {"sums": "*i64", "context": "*i32"}, (), dict(D=32, P=8), 128, 4096),
        ("queries", _answer, {"q": "*i8", "context": "*i32", "attended": "*i32", "exp": "*i32", "out": "*i8"},
         ("n", "height", "width", "to", "own", "border", "out_limit", "last"), dict(C=320, P=32, D=32), 192, 16 * 1024),
    ):  # fmt: skip
        signature = {**pointers, **dict.fromkeys(sizes, "i32"), **dict.fromkeys(constants, "constexpr")}
        warps = _warps(constants["D"]) if kernel in (_softmax, _collect) else 4
        found.append(Variant(f"attention: {name}", kernel, signature, constants, options(None, warps), registers,
                             shared, tuple(pointers)))  # fmt: skip
    return found
