"""Steps of Swin-like networks: layer norm and softmax over channels, attention within windows, means of maps.

Sums are integers, exact in any order. From there on every operation is one of IEEE 754, rounded once, as
docs/transforms.md has it: of float32, or of float64 where that is said. Launchers forbid contraction, and float32 is
divided by tl.div_rn; roots and quotients of float64 are never others than the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.integer import load_planes, multiply, nearest, pixel, share_of, store_made, total
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, interpreted, on, options
from fastlic.kernels.packing import PLANE_BITS, Map, fill, padded, room

_PLANE = tl.constexpr(PLANE_BITS)
_HALF_PLANE = tl.constexpr(1 << (PLANE_BITS - 1))
_WEIGHT_BITS = tl.constexpr(14)
_FAR = tl.constexpr(32767.0)
_NOTHING = tl.constexpr(-(1 << 30))  # below every score
_CHANNELS = 64  # that programs take at a time
_MAP = ["images", "height", "width", "in_border", "out_border"]


def factors(multiplier: np.ndarray, shift: np.ndarray, device: Any, columns: int = 0) -> Tensor:
    """multiplier 2^-shift as float32, with zeros up to so many."""
    numbers = np.zeros(max(columns, len(shift)), np.float32)
    numbers[: len(shift)] = np.ldexp(multiplier.astype(np.float32), -shift.astype(np.int32))
    return torch.from_numpy(numbers).to(device)


@triton.jit
def _weight_of(below, sharpness, powers):
    """2^-distance in units of 2^-14 of scores so far, >= 0, below the highest."""
    distance = nearest(tl.minimum(below.to(tl.float32) * sharpness, _FAR), _FAR)
    line, part = (distance & 2047) >> 5, distance & 31
    start = tl.load(powers + line)
    along = start - (((start - tl.load(powers + line + 1)) * part + 16) >> 5)
    return share_of(along, 1 << (15 - (distance >> 11)))


@triton.jit
def _inverse(total):
    """1 / float32(total)."""
    return tl.div_rn(tl.zeros_like(total).to(tl.float32) + 1.0, total.to(tl.float32))


@triton.jit
def _pixel(image, row, column, height, width, border):
    """As ``pixel`` in int32, which takes fewer registers: maps have less than 2^31 bytes."""
    return pixel(image, row, column, height, width, border).to(tl.int32)


@triton.jit
def _places(images, height, width, in_border, out_border, P: tl.constexpr):
    """Of a program's P positions: which there are, and their numbers in a map that is read and in one that is made."""
    p = tl.program_id(0) * P + tl.arange(0, P)
    q = tl.minimum(p, images * height * width - 1)
    image, row, column = q // (height * width), q // width % height, q % width
    here = _pixel(image, row, column, height, width, in_border)
    return p < images * height * width, here, _pixel(image, row, column, height, width, out_border)


@triton.jit(do_not_specialize=[*_MAP, "limit"])
def _softmax(
    x, sharpness, factor, powers, out, images, height, width, in_border, out_border, own, limit,
    C: tl.constexpr, P: tl.constexpr, K: tl.constexpr, PLANES: tl.constexpr, MADE: tl.constexpr,
):  # fmt: skip
    """Programs (position blocks, groups of ``own`` channels)."""
    there, here, to = _places(images, height, width, in_border, out_border, P)
    first = tl.program_id(1) * own
    sharp = tl.load(sharpness + tl.program_id(1))
    from_row = x + (here * (PLANES * C) + first)[:, None]
    highest = tl.full([P], _NOTHING, tl.int32)
    for start in range(0, own, K):
        channel = tl.minimum(start + tl.arange(0, K), own - 1)
        highest = tl.maximum(highest, tl.max(load_planes(from_row + channel[None, :], C, PLANES), axis=1))
    sum = tl.zeros([P], tl.int32)
    for start in range(0, own, K):
        channel = start + tl.arange(0, K)
        score = load_planes(from_row + tl.minimum(channel, own - 1)[None, :], C, PLANES)
        weight = _weight_of(highest[:, None] - score, sharp, powers)
        sum += tl.sum(tl.where((channel < own)[None, :], weight, 0), axis=1)
    inverse = _inverse(sum)[:, None]
    for start in range(0, own, K):
        channel = start + tl.arange(0, K)
        kept = tl.minimum(channel, own - 1)
        weight = _weight_of(highest[:, None] - load_planes(from_row + kept[None, :], C, PLANES), sharp, powers)
        y = weight.to(tl.float32) * inverse * tl.load(factor + first + kept)[None, :]
        inside = there[:, None] & (channel < own)[None, :]
        store_made(out, to, first + channel, C, nearest(y, limit.to(tl.float32)), inside, MADE)


@triton.jit(do_not_specialize=[*_MAP, "channels", "up", "low", "raised", "limit"])
def _layer_norm(
    x, weights, factors, out, images, height, width, in_border, out_border, channels, up, low, raised, limit,
    C: tl.constexpr, P: tl.constexpr, K: tl.constexpr, PLANES: tl.constexpr, MADE: tl.constexpr,
):  # fmt: skip
    """Programs (position blocks). weights: int32 [C]; factors: float32 [3, C], scale, factor and bias. Padding has
    zeros in all of them, so sums do not see it, and it stays zero. up: bits that inputs lack to 16."""
    there, here, to = _places(images, height, width, in_border, out_border, P)
    from_row = x + (here * (PLANES * C))[:, None]
    sum = tl.zeros([P], tl.int64)
    squares = tl.zeros([P], tl.int64)
    for start in range(0, C, K):
        channel = start + tl.arange(0, K)
        even = share_of(load_planes(from_row + channel[None, :], C, PLANES) << up, tl.load(weights + channel)[None, :])
        sum += tl.sum(even.to(tl.int64), axis=1)
        squares += tl.sum((even * even).to(tl.int64), axis=1)
    variance = squares * channels - sum * sum + (low.to(tl.int64) << raised)
    count = tl.zeros([P], tl.float64) + channels.to(tl.float64)
    mean = (sum.to(tl.float64) / count).to(tl.float32)[:, None]
    rate = (count / tl.sqrt(variance.to(tl.float64))).to(tl.float32)[:, None]
    for start in range(0, C, K):
        channel = start + tl.arange(0, K)
        own = load_planes(from_row + channel[None, :], C, PLANES).to(tl.float32)
        y = (own * tl.load(factors + channel)[None, :] - mean) * rate
        y = y * tl.load(factors + C + channel)[None, :] + tl.load(factors + 2 * C + channel)[None, :]
        store_made(out, to, channel, C, nearest(y, limit.to(tl.float32)), there[:, None], MADE)


@triton.jit
def _digits(source, at, channel, span, inside, PLANES: tl.constexpr):
    """A map's planes, the lowest first, at channels of pixels, 0 where not inside; of 2 planes the last is none."""
    first = source + at * (PLANES * span) + channel
    lowest = tl.load(first + (PLANES - 1) * span, mask=inside, other=0)
    above = tl.load(first + (PLANES - 2) * span, mask=inside, other=0)
    return lowest, above, tl.load(first, mask=inside, other=0) if PLANES == 3 else lowest


@triton.jit
def _scores(
    qkv, bias, query, key, i, j, there, own, first, channels, side, SPAN: tl.constexpr, D: tl.constexpr,
    PLANES: tl.constexpr,
):  # fmt: skip
    """int32 [Q, K]: products of queries and keys at pixels, numbers i and j of their window, and biases."""
    s0 = tl.zeros([i.shape[0], j.shape[0]], tl.int32)
    s1, s2, s3, s4 = s0, s0, s0, s0
    for start in range(0, own, D):
        d = start + tl.arange(0, D)
        a0, a1, a2 = _digits(qkv, query[:, None], (first + d)[None, :], SPAN, (d < own)[None, :], PLANES)
        inside = (d < own)[:, None] & there[None, :]
        b0, b1, b2 = _digits(qkv, key[None, :], (channels + first + d)[:, None], SPAN, inside, PLANES)
        s0, s1, s2, s3, s4 = multiply(s0, s1, s2, s3, s4, a0, a1, a2, b0, b1, b2, PLANES, PLANES)
    down, right = (i // side)[:, None] - (j // side)[None, :], (i % side)[:, None] - (j % side)[None, :]
    place = (down + side - 1) * (2 * side - 1) + right + side - 1
    return total(s0, s1, s2, s3, s4, 2 * PLANES - 1, _PLANE) + tl.load(bias + place, mask=there[None, :], other=0)


@triton.jit(do_not_specialize=[*_MAP[1:], "side", "above", "rows", "columns", "most", "limit"])
def _windows(
    qkv, bias, sharpness, factor, powers, out, height, width, in_border, out_border, side, above, rows, columns,
    channels, own, most, limit, SPAN: tl.constexpr, C: tl.constexpr, Q: tl.constexpr, K: tl.constexpr,
    N: tl.constexpr, D: tl.constexpr, PLANES: tl.constexpr, MADE: tl.constexpr,
):  # fmt: skip
    """Programs (windows of all images, heads and blocks of N of their values' channels, blocks of Q queries).

    Keys are seen three times: for the highest score, for the sum of weights, which says how many bits they lose, and
    for the mean. above: rows and columns by which the first window begins before the map. rows, columns: of windows.
    most: what weights may add up to.
    """
    window = tl.program_id(0)
    head, block = tl.program_id(1) // tl.cdiv(own, N), tl.program_id(1) % tl.cdiv(own, N)
    image, count = window // (rows * columns), side * side
    top, left = window // columns % rows * side - above, window % columns * side - above
    first = head * own
    bias += head * (2 * side - 1) * (2 * side - 1)
    sharp = tl.load(sharpness + head)
    i = tl.minimum(tl.program_id(2) * Q + tl.arange(0, Q), count - 1)
    row, column = top + i // side, left + i % side
    seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row, column = tl.minimum(tl.maximum(row, 0), height - 1), tl.minimum(tl.maximum(column, 0), width - 1)
    query = _pixel(image, row, column, height, width, in_border)
    to = _pixel(image, row, column, height, width, out_border)

    highest = tl.full([Q], _NOTHING, tl.int32)
    for start in range(0, count, K):
        j, key, there = _keys(start, image, top, left, side, height, width, in_border, K)
        score = _scores(qkv, bias, query, key, i, j, there, own, first, channels, side, SPAN, D, PLANES)
        highest = tl.maximum(highest, tl.max(tl.where(there[None, :], score, _NOTHING), axis=1))
    sum = tl.zeros([Q], tl.int32)
    for start in range(0, count, K):
        j, key, there = _keys(start, image, top, left, side, height, width, in_border, K)
        score = _scores(qkv, bias, query, key, i, j, there, own, first, channels, side, SPAN, D, PLANES)
        weight = _weight_of(tl.where(there[None, :], highest[:, None] - score, 0), sharp, powers)
        sum += tl.sum(tl.where(there[None, :], weight, 0), axis=1)
    fewer = tl.zeros([Q], tl.int32)
    for bits in tl.static_range(0, _WEIGHT_BITS):
        fewer += ((sum >> bits) > most).to(tl.int32)

    channel = block * N + tl.arange(0, N)
    sum = tl.zeros([Q], tl.int32)
    s0 = tl.zeros([Q, N], tl.int32)
    s1, s2, s3, s4 = s0, s0, s0, s0
    for start in range(0, count, K):
        j, key, there = _keys(start, image, top, left, side, height, width, in_border, K)
        score = _scores(qkv, bias, query, key, i, j, there, own, first, channels, side, SPAN, D, PLANES)
        weight = _weight_of(tl.where(there[None, :], highest[:, None] - score, 0), sharp, powers)
        weight = (weight + ((1 << fewer) >> 1)[:, None]) >> fewer[:, None]
        weight = tl.where(there[None, :], weight, 0)
        sum += tl.sum(weight, axis=1)
        # Negated, as the largest, 2^14, is none of two planes.
        high = (_HALF_PLANE - weight) >> _PLANE
        a0, a1 = (-weight - (high << _PLANE)).to(tl.int8), high.to(tl.int8)
        inside = there[:, None] & (channel < own)[None, :]
        place = (2 * channels + first + channel)[None, :]
        b0, b1, b2 = _digits(qkv, key[:, None], place, SPAN, inside, PLANES)
        s0, s1, s2, s3, s4 = multiply(s0, s1, s2, s3, s4, a0, a1, a0, b0, b1, b2, 2, PLANES)
    y = (-total(s0, s1, s2, s3, s4, PLANES + 1, _PLANE)).to(tl.float32) * _inverse(sum)[:, None]
    y = y * tl.load(factor + first + channel, mask=channel < own, other=0.0)[None, :]
    mine = seen & (tl.program_id(2) * Q + tl.arange(0, Q) < count)
    inside = mine[:, None] & (channel < own)[None, :]
    store_made(out, to, first + channel, C, nearest(y, limit.to(tl.float32)), inside, MADE)


@triton.jit
def _keys(start, image, top, left, side, height, width, border, K: tl.constexpr):
    """Numbers of a block of keys in their window, their pixels, and which there are."""
    j = start + tl.arange(0, K)
    row, column = top + j // side, left + j % side
    there = (j < side * side) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row, column = tl.where(there, row, 0), tl.where(there, column, 0)
    return tl.minimum(j, side * side - 1), _pixel(image, row, column, height, width, border), there


# ---- launchers


def _room(x: Map, channels: int, border: int, planes: int) -> tuple[Map | Tensor, Tensor, tuple[int, ...], int]:
    """As ``room`` of the size of a map; and the sizes that every kernel takes, and blocks of how many positions."""
    device = check_device(_softmax, x.planes)
    images, height, width = len(x.planes), x.height, x.width
    made, out = room(images, height, width, channels, border, device, planes, whole=False)
    block = 512 if interpreted(_softmax) else 16
    return made, out, (images, height, width, x.border, border if planes else 0), block


@dataclass(frozen=True)
class Mean:
    """The mean of a map's positions, at each of them, by torch's operations: integers add up alike in any order.

    Attributes:
        factor: float32 [C].
        limit: of outputs, here and below.
    """

    factor: Tensor
    limit: int

    def __call__(self, x: Map, border: int, planes: int) -> Map | Tensor:
        """The step over a whole map: a Map of so many planes or, of 0, int32 [images, h, w, C]."""
        sums = x.inner.sum((1, 2), dtype=torch.int64)  # [images, planes, C]
        whole = sums[:, 0]
        for plane in range(1, x.count):
            whole = (whole << PLANE_BITS) + sums[:, plane]
        # A divisor on the device: CUDA's torch multiplies with the reciprocal of a number of the host's.
        mean = (whole.double() / torch.full_like(whole, x.height * x.width).double()).float()
        value = (mean * self.factor).clamp(-self.limit, self.limit).round().int()[:, None, None]
        if planes:
            size = len(x.planes), x.height, x.width, len(self.factor)
            return fill(Map.zeros(*size, border, x.planes.device, planes), value)
        return value.expand(-1, x.height, x.width, -1).contiguous()


@dataclass(frozen=True)
class Softmax:
    """Softmax over each of several groups of channels.

    Attributes:
        sharpness: float32 [groups]; factor: float32 [channels].
        powers: int32 [65], 2^-t in units of 2^-14 (docs/transforms.md, P).
    """

    sharpness: Tensor
    factor: Tensor
    powers: Tensor
    limit: int

    def __call__(self, x: Map, border: int, planes: int) -> Map | Tensor:
        """As of ``Mean``."""
        groups, channels = len(self.sharpness), len(self.factor)
        made, out, sizes, block = _room(x, channels, border, planes)
        on(x.planes.device, _softmax)[(ceil_div(sizes[0] * x.height * x.width, block), groups)](
            x.planes, self.sharpness, self.factor, self.powers, out, *sizes, channels // groups, self.limit,
            C=padded(channels), P=block, K=_CHANNELS, PLANES=x.count, MADE=planes,
            **options(_softmax, 4, fusion=False),
        )  # fmt: skip
        return made


@dataclass(frozen=True)
class LayerNorm:
    """Layer norm over the channels of a position.

    Attributes:
        weights: int32 [C]; factors: float32 [3, C], scale, factor and bias.
        up: bits that inputs lack to 16.
        epsilon: a number and how many bits it is shifted up.
    """

    weights: Tensor
    factors: Tensor
    channels: int
    up: int
    epsilon: tuple[int, int]
    limit: int

    def __call__(self, x: Map, border: int, planes: int) -> Map | Tensor:
        """As of ``Mean``."""
        made, out, sizes, block = _room(x, self.channels, border, planes)
        on(x.planes.device, _layer_norm)[(ceil_div(sizes[0] * x.height * x.width, block),)](
            x.planes, self.weights, self.factors, out, *sizes, self.channels, self.up, *self.epsilon, self.limit,
            C=padded(self.channels), P=block, K=_CHANNELS, PLANES=x.count, MADE=planes,
            **options(_layer_norm, 4, fusion=False),
        )  # fmt: skip
        return made


@dataclass(frozen=True)
class Windows:
    """Attention of the positions of a window to each other.

    Attributes:
        side, offset: of windows, and where the first one that the map has whole begins.
        bias: int32 [heads, (2 side - 1)^2]; sharpness: float32 [heads]; factor: float32 [channels].
        most: what the weights of a query may add up to.
    """

    side: int
    offset: int
    bias: Tensor
    sharpness: Tensor
    factor: Tensor
    powers: Tensor
    most: int
    limit: int

    def __call__(self, x: Map, border: int, planes: int) -> Map | Tensor:
        """As of ``Mean``."""
        heads, channels = len(self.sharpness), len(self.factor)
        made, out, sizes, _ = _room(x, channels, border, planes)
        own, above = channels // heads, (self.side - self.offset) % self.side
        rows, columns = (ceil_div(above + length, self.side) for length in (x.height, x.width))
        Q, K = (64, 64) if interpreted(_windows) else (16, 32)  # more at once spill, as do more warps
        N = D = 32
        on(x.planes.device, _windows)[(sizes[0] * rows * columns, heads * ceil_div(own, N), ceil_div(self.side**2, Q))](
            x.planes, self.bias, self.sharpness, self.factor, self.powers, out, *sizes[1:], self.side, above, rows,
            columns, channels, own, self.most, self.limit, SPAN=x.span, C=padded(channels), Q=Q, K=K, N=N, D=D,
            PLANES=x.count, MADE=planes, **options(_windows, 2, fusion=False),
        )  # fmt: skip
        return made


def variants(target: Target) -> list[Variant]:
    tables = {"sharpness": "*fp32", "factor": "*fp32", "powers": "*i32", "out": "*i8"}
    found = []
    for planes in (2, 3):
        of_maps = dict(PLANES=planes, MADE=planes)
        for name, kernel, pointers, sizes, constants, warps, registers, shared in (
            ("softmax over channels", _softmax, {"x": "*i8", **tables}, (*_MAP, "own", "limit"),
             dict(C=192, P=16, K=_CHANNELS), 4, 128, 4096),
            ("layer norm", _layer_norm, {"x": "*i8", "weights": "*i32", "factors": "*fp32", "out": "*i8"},
             (*_MAP, "channels", "up", "low", "raised", "limit"), dict(C=192, P=16, K=_CHANNELS), 4, 128, 4096),
            ("attention in windows", _windows, {"qkv": "*i8", "bias": "*i32", **tables},
             (*_MAP[1:], "side", "above", "rows", "columns", "channels", "own", "most", "limit"),
             dict(SPAN=576, C=192, Q=16, K=32, N=32, D=32), 2, 255, 32 * 1024),
        ):  # fmt: skip
            chosen = {**constants, **of_maps}
            signature = {**pointers, **dict.fromkeys(sizes, "i32"), **dict.fromkeys(chosen, "constexpr")}
            wide = "" if planes == 2 else ", 16 bits"
            own = options(None, warps, fusion=False)
            found.append(Variant(f"{name}{wide}", kernel, signature, chosen, own, registers, shared,
                                 (*pointers, *(("own", "channels") if "own" in sizes else ()))))  # fmt: skip
    return found
