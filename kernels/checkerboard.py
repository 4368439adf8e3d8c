"""One colour of a checkerboard: gather its positions, run the 1x1 parameter network on them, place what was decoded.

Positions of one parity, (row + column) % 2, are numbered in raster order, and a position's row and column follow from
its number: nothing is masked, no list of positions is read. Anchors are even in CompressAI and odd in the MLIC family
(``ANCHOR``). A network reads several maps at those positions, then runs any number of 1x1 layers. What looks around a
position, such as a 5x5 context, is a convolution (convolution.py) whose map the network reads.

Sizes of layers are read at run time from ``plan``, so that the ten slices of MLIC++, whose networks all differ, run the
same compiled kernel. A program takes its positions through all layers; activations between layers stay in the cache.
All arithmetic is integer (integer.py): the bits are those of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels import launch
from fastlic.kernels.integer import (
    quantise_down,
    reconstruct,
    requantise_columns,
    scale_index,
    store_planes,
)
from fastlic.kernels.launch import Target, Variant
from fastlic.kernels.packing import MAX_SOURCES, BoardNetwork, Map
from fastlic.kernels.reference.checkerboard import ANCHOR, count_of, positions

__all__ = ["ANCHOR", "BoardNetwork", "count_of", "encode", "parameters", "place", "positions", "refine"]

_BLOCK = 512
_FIELDS = 5  # of a layer in ``plan``: depth, columns, first weight, first number, limit and GELU in one
_PLANE = tl.constexpr(7)
_DEPTH, _COLUMNS, _WEIGHTS, _NUMBERS, _LIMIT = (tl.constexpr(i) for i in range(_FIELDS))
_HALF_TABLE = tl.constexpr(2048)


@triton.jit
def board(number, width, zone):
    """Row and column of a position of one parity. Two rows hold ``width`` of them, the upper ceil or floor half.

    zone: the parity; 2 or 3: parity 0 or 1 in even rows alone; 4 or 5: in odd rows; 6: every position.
    """
    parity = zone % 2
    pair = number // width
    rest = number - pair * width
    upper = (width + 1 - parity) // 2
    lower = (rest >= upper).to(tl.int32)
    column = tl.where(lower != 0, 2 * (rest - upper) + 1 - parity, 2 * rest + parity)
    row = 2 * pair + lower
    if zone >= 6:
        row, column = pair, rest
    elif zone >= 2:
        odd = zone // 2 - 1
        first = (parity + odd) % 2
        each = tl.maximum((width + 1 - first) // 2, 1)
        row = 2 * (number // each) + odd
        column = 2 * (number % each) + first
    return row, column


@triton.jit
def _multiply(source, rows, channels, span, pitch, weights, columns, depth, first, acc,
              P: tl.constexpr, N: tl.constexpr, K: tl.constexpr):  # fmt: skip
    """acc + int32 [P, N] sum over ``channels`` (a multiple of K) of map rows times weights from ``first``; planes are
    ``span`` bytes apart, rows ``pitch``."""
    inner = tl.arange(0, K)
    high = tl.zeros([P, N], tl.int32)
    low = tl.zeros([P, N], tl.int32)
    begin = tl.multiple_of(rows * pitch, 64)
    for step in range(0, channels // K):
        a = source + begin[:, None] + (step * K + inner)[None, :]
        w = tl.load(weights + tl.multiple_of(columns * depth, 64)[None, :] + (first + step * K + inner)[:, None])
        high = tl.dot(tl.load(a), w, acc=high, out_dtype=tl.int32)
        low = tl.dot(tl.load(a + tl.multiple_of(span, 64)), w, acc=low, out_dtype=tl.int32)
    return acc + (high << _PLANE) + low


@triton.jit
def _source(acc, source, places, s, image, row, column, height, width, weights, columns, depth, first,
            P: tl.constexpr, N: tl.constexpr, K: tl.constexpr):  # fmt: skip
    """Adds map number ``s``. places [sources, 3]: channels, border, channels of the map that it is a part of. Returns
    the sums and where the next map's weights begin."""
    channels = tl.multiple_of(tl.load(places + 3 * s), 64)
    border = tl.load(places + 3 * s + 1)
    span = tl.multiple_of(tl.load(places + 3 * s + 2), 64)
    rows = (image * (height + 2 * border) + row + border) * (width + 2 * border) + column + border
    acc = _multiply(source, rows, channels, span, 2 * span, weights, columns, depth, first, acc, P, N, K)
    return acc, first + channels


@triton.jit
def _activate(acc, layer, numbers, exponents, gelu, columns, total, GELU: tl.constexpr):
    """Requantised sums, through the GELU's table where the layer's limit is negative."""
    first = tl.load(layer + _NUMBERS) + columns
    limit = tl.load(layer + _LIMIT)
    value = requantise_columns(acc, numbers, first, total, tl.abs(limit))
    if GELU:
        table = tl.load(exponents + first).to(tl.int32)[None, :] * (2 * _HALF_TABLE) + value + _HALF_TABLE
        value = tl.where(limit < 0, tl.load(gelu + tl.where(limit < 0, table, 0)).to(tl.int32), value)
    return value


@triton.jit(do_not_specialize=["count", "images", "height", "width", "zone", "M", "layers", "widest", "y_pitch"])
def _network(
    s0, s1, s2, s3, s4, places, plan, weights, numbers, exponents, gelu, thresholds, x, widest,
    count, images, height, width, zone, M, layers, target, nearer, y_pitch, indexes, means, symbols, y,
    SOURCES: tl.constexpr, GELU: tl.constexpr, LEVELS: tl.constexpr, ENCODE: tl.constexpr,
    P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """A program takes P positions of one zone through all layers. x: int8 [2, images * count, 2 * widest]: rows of
    every layer begin at the same places, since programs may be at different layers when they share the buffers.
    target and y int32 [images, h, w, y_pitch], of which the first M channels count; nearer int32 [images, 2^LEVELS]."""
    p = tl.program_id(0) * P + tl.arange(0, P)
    valid = p < images * count
    q = tl.minimum(p, images * count - 1)
    image = q // count
    row, column = board(q - image * count, width, zone)
    raster = image.to(tl.int64) * (height * width) + row * width + column
    last = plan + (layers - 1) * 5
    total = tl.load(last + _NUMBERS) + tl.load(last + _COLUMNS)  # columns of all layers
    size = tl.multiple_of((images * count).to(tl.int64) * (2 * widest), 64)  # buffers take turns
    pitch = tl.multiple_of(2 * widest, 64)

    depth = tl.multiple_of(tl.load(plan + _DEPTH), 64)
    outputs = tl.load(plan + _COLUMNS)
    for start in range(0, outputs, N):
        columns = start + tl.arange(0, N)
        acc = tl.zeros([P, N], tl.int32) + tl.load(numbers + columns)[None, :]
        acc, first = _source(acc, s0, places, 0, image, row, column, height, width, weights, columns, depth, 0, P, N, K)
        if SOURCES > 1:
            acc, first = _source(acc, s1, places, 1, image, row, column, height, width, weights, columns, depth,
                                 first, P, N, K)  # fmt: skip
        if SOURCES > 2:
            acc, first = _source(acc, s2, places, 2, image, row, column, height, width, weights, columns, depth,
                                 first, P, N, K)  # fmt: skip
        if SOURCES > 3:
            acc, first = _source(acc, s3, places, 3, image, row, column, height, width, weights, columns, depth,
                                 first, P, N, K)  # fmt: skip
        if SOURCES > 4:
            acc, first = _source(acc, s4, places, 4, image, row, column, height, width, weights, columns, depth,
                                 first, P, N, K)  # fmt: skip
        value = _activate(acc, plan, numbers, exponents, gelu, columns, total, GELU)
        store_planes(x + (q * (2 * widest))[:, None] + columns[None, :], outputs, value, valid[:, None])
    tl.debug_barrier()

    for number in range(1, layers - 1):
        layer = plan + number * 5
        depth = tl.multiple_of(tl.load(layer + _DEPTH), 64)
        outputs = tl.load(layer + _COLUMNS)
        begin = weights + tl.load(layer + _WEIGHTS)
        given = x + (number + 1) % 2 * size
        result = x + number % 2 * size
        for start in range(0, outputs, N):
            columns = start + tl.arange(0, N)
            bias = tl.load(numbers + tl.load(layer + _NUMBERS) + columns)
            acc = tl.zeros([P, N], tl.int32) + bias[None, :]
            acc = _multiply(given, q, depth, depth, pitch, begin, columns, depth, 0, acc, P, N, K)
            value = _activate(acc, layer, numbers, exponents, gelu, columns, total, GELU)
            store_planes(result + (q * pitch)[:, None] + columns[None, :], outputs, value, valid[:, None])
        tl.debug_barrier()

    depth = tl.multiple_of(tl.load(last + _DEPTH), 64)
    half = tl.load(last + _COLUMNS) // 2
    begin = weights + tl.load(last + _WEIGHTS)
    given = x + layers % 2 * size
    for start in range(0, half, N):
        columns = start + tl.arange(0, N)
        bias = tl.load(numbers + tl.load(last + _NUMBERS) + columns)
        acc = tl.zeros([P, N], tl.int32) + bias[None, :]
        acc = _multiply(given, q, depth, depth, pitch, begin, columns, depth, 0, acc, P, N, K)
        scale = _activate(acc, last, numbers, exponents, gelu, columns, total, False)
        bias = tl.load(numbers + tl.load(last + _NUMBERS) + half + columns)
        acc = tl.zeros([P, N], tl.int32) + bias[None, :]
        acc = _multiply(given, q, depth, depth, pitch, begin, half + columns, depth, 0, acc, P, N, K)
        mean = _activate(acc, last, numbers, exponents, gelu, half + columns, total, False)
        inside = valid[:, None] & (columns < M)[None, :]
        out = (q.to(tl.int64) * M)[:, None] + columns[None, :]
        index = scale_index(scale, thresholds, LEVELS)
        tl.store(indexes + out, index.to(tl.uint8), mask=inside)
        if ENCODE:
            at = (raster * y_pitch)[:, None] + columns[None, :]
            by = tl.load(nearer + (image << LEVELS)[:, None] + index, mask=inside, other=0)
            symbol = quantise_down(tl.load(target + at, mask=inside, other=0), mean, by)
            tl.store(symbols + out, symbol, mask=inside)
            tl.store(y + at, reconstruct(symbol, mean), mask=inside)
        else:
            tl.store(means + out, mean, mask=inside)


@triton.jit(do_not_specialize=["count", "total", "height", "width", "zone", "M", "y_pitch"])
def _place(symbols, means, y, y_pitch, count, total, height, width, zone, M, BLOCK: tl.constexpr):
    """Latents of one zone from symbols and means [images * count, M] into y."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    number = i // M
    image = number // count
    row, column = board((number - image * count).to(tl.int32), width, zone)
    latent = reconstruct(tl.load(symbols + i, mask=inside, other=0), tl.load(means + i, mask=inside, other=0))
    at = (image * (height * width) + row * width + column) * y_pitch + (i - number * M)
    tl.store(y + at, latent, mask=inside)


@triton.jit(do_not_specialize=["total", "height", "width", "parity", "M", "pitch", "y_pitch"])
def _refine(arguments, tanh, y, total, height, width, parity, M, pitch, y_pitch, BLOCK: tl.constexpr):
    """Adds to the latents of one parity what the table says of ``arguments`` int32 [images, h, w, pitch]."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    position = i // M
    channel = i - position * M
    here = (i < total) & ((position // width % height + position % width) % 2 == parity)
    argument = tl.load(arguments + position * pitch + channel, mask=here, other=0)
    residue = tl.load(tanh + argument + _HALF_TABLE, mask=here, other=0).to(tl.int32)
    at = y + position * y_pitch + channel
    tl.store(at, tl.load(at, mask=here, other=0) + residue, mask=here)


def _tiles(target: Target, positions: int, encode: bool = False) -> tuple[int, int, int, int]:
    """(positions, columns, warps, stages) of one program; its depth is 64."""
    if target.is_hip:
        return 16, 64, 4, 2
    # Each program reads all weights, so that more positions are better where every multiprocessor still has some: an
    # H100 took 264, 304 and 1259 us at 512x768, 1080p and 4K; with (16, 32, 4, 3) for all of them 353, 462, 1938.
    # (64, 64, 8, 3) took 989 at 4K, but spills; so do 32 positions on sm_100, and a third stage with 32 positions.
    wide = positions >= 2048 and target.arch != 100
    return 32 if wide else 16, 64, 8, 2 if wide else 3


def _run(
    network: BoardNetwork,
    maps: Sequence[Map],
    parity: int,
    rows: int | None,
    target: Tensor | None = None,
    y: Tensor | None = None,
    zones: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    images, height, width = len(maps[0].planes), maps[0].height, maps[0].width
    if any(m.planes.numel() // m.planes.shape[-1] * m.span >= 1 << 31 for m in maps):
        raise ValueError("maps hold less than 2^31 bytes: use smaller batches")
    device = launch.check_device(_network, network.thresholds, *(m.planes for m in maps))
    count = count_of(height, width, parity, rows)
    shape = (images, count, network.M)
    indexes = torch.empty(shape, dtype=torch.uint8, device=device)
    numbers = torch.empty(shape, dtype=torch.int32, device=device)  # means, or the encoder's symbols
    if not indexes.numel():
        return indexes, numbers
    weights, requantisers, exponents, plan, gelu, widest = network.packed
    places = [(c, given.border, given.span) for c, given in zip(network.channels, maps, strict=True)]
    layout = launch.small_tensor(tuple(v for place in places for v in place), device)
    encode = target is not None and y is not None
    P, N, warps, stages = _tiles(launch.target_of(device), images * count, encode)
    if launch.interpreted(_network):
        P, N = 64, 64
    scratch = torch.empty(2, images * count, 2 * widest, dtype=torch.int8, device=device)
    if scratch.numel() >= 1 << 32:
        raise ValueError("activations of one layer hold less than 2^31 bytes: use smaller batches")
    given_maps = [m.planes for m in maps] + [weights] * (MAX_SOURCES - len(maps))
    pitch = y.stride(2) if y is not None else 0
    if encode and zones is None:
        zones = torch.zeros(images, 1 << network.levels, dtype=torch.int32, device=device)
    none = numbers
    launch.on(device, _network)[(launch.ceil_div(images * count, P),)](
        *given_maps, layout, plan, weights, requantisers, exponents, gelu, network.thresholds, scratch, widest,
        count, images, height, width, zone_of(parity, rows), network.M, len(network.layers),
        target if encode else none, none if zones is None else zones, pitch, indexes,
        numbers, numbers, y if encode else none,
        SOURCES=len(maps), GELU=network.gelu is not None, LEVELS=network.levels,
        ENCODE=encode, P=P, N=N, K=64, **launch.options(_network, warps, stages),
    )  # fmt: skip
    return indexes, numbers


def zone_of(parity: int, rows: int | None = None) -> int:
    """What ``board`` calls the positions of one parity, in even rows (0) or odd ones (1) alone or in all of them."""
    return parity if rows is None else 2 + 2 * rows + parity


def parameters(
    network: BoardNetwork, maps: Sequence[Map], parity: int, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Scale indexes uint8 and means int32 (units of 2^-6) [images, n, M] at the n positions of one parity."""
    return _run(network, maps, parity, rows)


def encode(
    network: BoardNetwork,
    maps: Sequence[Map],
    parity: int,
    target: Tensor,
    y: Tensor,
    rows: int | None = None,
    zones: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Quantise the latents of one parity: (indexes uint8, symbols int32) [images, n, M]; y is filled there.

    Args:
        target, y: int32 [images, h, w, M] in units of 2^-6, with the same strides; slices of wider tensors will do.
    """
    return _run(network, maps, parity, rows, target, y, zones)


def place(symbols: Tensor, means: Tensor, y: Tensor, parity: int, rows: int | None = None) -> None:
    """Write latents = symbols + means at the positions of one parity.

    Args:
        symbols, means: int32 [images, n, M], means in units of 2^-6.
        y: int32 [images, h, w, M], changed in place.
    """
    device = launch.check_device(_place, symbols, means, y)
    height, width, M = y.shape[1:]
    total = symbols.numel()
    if not total:
        return
    launch.on(device, _place)[(launch.ceil_div(total, _BLOCK),)](
        symbols.contiguous(), means.contiguous(), y, y.stride(2), count_of(height, width, parity, rows), total, height,
        width, zone_of(parity, rows), M, BLOCK=_BLOCK, **launch.options(_place, 4),
    )  # fmt: skip


def refine(arguments: Tensor, tanh: Tensor, y: Tensor, parity: int) -> None:
    """Add residues to the latents at the positions of one parity.

    Args:
        arguments: int32 [images, h, w, at least M], -2047..2047.
        tanh: int8 [4096], the residue in units of 2^-6 of each argument.
        y: int32 [images, h, w, M], changed in place.
    """
    device = launch.check_device(_refine, arguments, tanh, y)
    height, width, M = y.shape[1:]
    total = y.numel()
    launch.on(device, _refine)[(launch.ceil_div(total, _BLOCK),)](
        arguments, tanh, y, total, height, width, parity, M, arguments.stride(2), y.stride(2), BLOCK=_BLOCK,
        **launch.options(_refine, 4),
    )  # fmt: skip


def variants(target: Target) -> list[Variant]:
    """MLIC++'s widest network: five maps, GELU."""
    pointers = {
        **dict.fromkeys(("s0", "s1", "s2", "s3", "s4"), "*i8"), "places": "*i32",
        "plan": "*i32", "weights": "*i8", "numbers": "*i32", "exponents": "*u8", "gelu": "*i16", "thresholds": "*i32",
        "x": "*i8", "target": "*i32", "nearer": "*i32", "indexes": "*u8", "means": "*i32", "symbols": "*i32",
        "y": "*i32",
    }  # fmt: skip
    sizes = ("widest", "count", "images", "height", "width", "zone", "M", "layers", "y_pitch")
    aligned = tuple(name for name in pointers if name not in ("target", "y"))
    found = []
    for name, count, way in (
        ("MLIC++ network, 512x768", 768, False),
        ("MLIC++ network, 1080p", 4080, False),
        ("MLIC++ encoder, 1080p", 4080, True),
    ):
        P, N, warps, stages = _tiles(target, count, way)
        constants = dict(SOURCES=5, GELU=True, LEVELS=6, ENCODE=way, P=P, N=N, K=64)
        signature = {**pointers, **dict.fromkeys(sizes, "i32"), **dict.fromkeys(constants, "constexpr")}
        found.append(Variant(f"checkerboard {name}", _network, signature, constants,
                             launch.options(None, warps, stages), 255, 64 * 1024, aligned))  # fmt: skip
    constants = dict(BLOCK=_BLOCK)
    for name, kernel, own, numbers in (
        ("place", _place, {"symbols": "*i32", "means": "*i32"}, ("count", "total", "zone", "y_pitch")),
        ("refine", _refine, {"arguments": "*i32", "tanh": "*i8"}, ("total", "parity", "pitch", "y_pitch")),
    ):
        signature = {**own, "y": "*i32", **dict.fromkeys((*numbers, "height", "width", "M"), "i32"),
                     "BLOCK": "constexpr"}  # fmt: skip
        found.append(Variant(f"checkerboard {name}", kernel, signature, constants, launch.options(None, 4), 128, 4096,
                             tuple(own)))  # fmt: skip
    return found
