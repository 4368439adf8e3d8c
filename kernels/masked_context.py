"""The causal 5x5 context and the 1x1 parameter network as one kernel: activations of the latent so far in, scale
indexes and means out; and on top of it the whole wavefront, in either direction.

One step body, ``_step``, serves two drivers. Its four layers are matrix products over the step's positions, one after
the other; a layer's column blocks are dealt to programs.

    launch       one launch per wavefront. A program takes 16 positions through all layers; between layers its threads
                 meet. No host decision depends on data, so the launches can be captured in a CUDA graph.
    persistent   one cooperative launch for the whole latent. All programs share every layer's columns, and the grid
                 meets between layers. The decoder's rANS runs inside, on one program for each image.

Everything is integer arithmetic (integer.py), so both drivers, any tiling and the C++ engine give the same bits.
Positions of one step come from ``order``: raster positions sorted by wavefront, or any others to gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels import launch
from fastlic.kernels.convolution import convolve
from fastlic.kernels.integer import (
    accumulate,
    meet,
    quantise_down,
    reconstruct,
    requantise_columns,
    scale_index,
    store_planes,
)
from fastlic.kernels.launch import Target, Variant
from fastlic.kernels.packing import TAPS, Dense, Map, Requantiser, padded
from fastlic.kernels.rans import DeviceTables, Streams, decode_run, decode_step

BORDER = 2  # reach of the context, in rows above and columns beside
_TAPS = tl.constexpr(len(TAPS))
_LANES = tl.constexpr(64)
PARAMETER_LAYERS = 3


@dataclass(frozen=True)
class ContextNetwork:
    """Context and parameter layers of one model on one device.

    Attributes:
        context: over 12 taps of M channels. hidden: the first two parameter layers; the first reads the context's
            outputs only, its bias comes with the hyperprior's share. head: the last, its columns being M scales padded
            to a multiple of 64, then the means.
        y_input: from latents to the activations that the context reads.
        thresholds: int32 [2^levels - 1], ascending, padded with large numbers.
        M: channels of the latent.
        offsets: reconstruction offsets int32 by scale index, in units of 2^-6; or None.
    """

    context: Dense
    hidden: tuple[Dense, Dense]
    head: Dense
    y_input: Requantiser
    thresholds: Tensor
    M: int
    offsets: Tensor | None = None

    @cached_property
    def levels(self) -> int:
        return int(self.thresholds.numel() + 1).bit_length() - 1

    @property
    def device(self) -> torch.device:
        return self.thresholds.device


@lru_cache(maxsize=64)
def wavefront(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(order int32 [height * width], offsets int32 [steps + 1]): raster positions sorted by t = c + 3r, row by row."""
    rows, columns = np.divmod(np.arange(height * width), width)
    t = columns + 3 * rows
    order = np.argsort(t, kind="stable").astype(np.int32)
    offsets = np.searchsorted(t[order], np.arange(width + 3 * (height - 1) + 1)).astype(np.int32)
    return order, offsets[np.r_[True, np.diff(offsets) > 0]]  # with one or two columns some t have no position


@lru_cache(maxsize=64)
def _on_device(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``wavefront`` as tensors, copied once."""
    order, offsets = wavefront(height, width)
    return torch.from_numpy(order).to(device), torch.from_numpy(offsets).to(device)


@triton.jit
def _where(block, begin, count, images, order, P: tl.constexpr):
    """(valid, row of scratch, image, coded position, raster position) of a block of P positions of a step."""
    p = block * P + tl.arange(0, P)
    q = tl.minimum(p, images * count - 1)
    image = q // count
    coded = begin + q - image * count
    return p < images * count, q, image, coded, tl.load(order + coded)


@triton.jit
def _centre(image, raster, height, width):
    """Row of the context's map, which has two more rows above and below and two more columns on either side."""
    return (image * (height + 4) + raster // width + 2) * (width + 4) + raster % width + 2


@triton.jit
def _step(
    begin, count, images, coded_pitch, height, width, M, order, seen, share, target,
    taps, context_w, context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers,
    context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y, counter, round,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, MP: tl.constexpr, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, PERSISTENT: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Positions order[begin : begin + count] of every image. Returns the barrier's round."""
    blocks = (images * count + P - 1) // P
    program = tl.program_id(0)
    stride = tl.num_programs(0) if PERSISTENT else 1

    for tile in range(program if PERSISTENT else program * (CX // N),
                      blocks * (CX // N) if PERSISTENT else (program + 1) * (CX // N), stride):  # fmt: skip
        valid, row, image, coded, raster = _where(tile // (CX // N), begin, count, images, order, P)
        columns = tile % (CX // N) * N + tl.arange(0, N)
        acc = accumulate(seen, _centre(image, raster, height, width), taps, _TAPS, CY, context_w, columns, _TAPS * CY,
                         P, N, K)  # fmt: skip
        acc += tl.load(context_n + columns)[None, :]
        value = requantise_columns(acc, context_n, columns, CX, context_limit)
        store_planes(x0 + row[:, None] * (2 * CX) + columns[None, :], CX, value, valid[:, None])
    round = meet(counter, round, PERSISTENT)

    for tile in range(program if PERSISTENT else program * (C0 // N),
                      blocks * (C0 // N) if PERSISTENT else (program + 1) * (C0 // N), stride):  # fmt: skip
        valid, row, image, coded, raster = _where(tile // (C0 // N), begin, count, images, order, P)
        columns = tile % (C0 // N) * N + tl.arange(0, N)
        acc = accumulate(x0, row, taps + _TAPS, 1, CX, w0, columns, CX, P, N, K)
        at = (image.to(tl.int64) * (height * width) + raster) * C0
        acc += tl.load(share + at[:, None] + columns[None, :])
        value = requantise_columns(acc, n0, columns, C0, limit0)
        store_planes(x1 + row[:, None] * (2 * C0) + columns[None, :], C0, value, valid[:, None])
    round = meet(counter, round, PERSISTENT)

    for tile in range(program if PERSISTENT else program * (C1 // N),
                      blocks * (C1 // N) if PERSISTENT else (program + 1) * (C1 // N), stride):  # fmt: skip
        valid, row, image, coded, raster = _where(tile // (C1 // N), begin, count, images, order, P)
        columns = tile % (C1 // N) * N + tl.arange(0, N)
        acc = accumulate(x1, row, taps + _TAPS, 1, C0, w1, columns, C0, P, N, K)
        acc += tl.load(n1 + columns)[None, :]
        value = requantise_columns(acc, n1, columns, C1, limit1)
        store_planes(x2 + row[:, None] * (2 * C1) + columns[None, :], C1, value, valid[:, None])
    round = meet(counter, round, PERSISTENT)

    for tile in range(program if PERSISTENT else program * (MP // N),
                      blocks * (MP // N) if PERSISTENT else (program + 1) * (MP // N), stride):  # fmt: skip
        valid, row, image, coded, raster = _where(tile // (MP // N), begin, count, images, order, P)
        columns = tile % (MP // N) * N + tl.arange(0, N)
        scale = accumulate(x2, row, taps + _TAPS, 1, C1, w2, columns, C1, P, N, K)
        scale = requantise_columns(scale + tl.load(n2 + columns)[None, :], n2, columns, 2 * MP, limit2)
        mean = accumulate(x2, row, taps + _TAPS, 1, C1, w2, MP + columns, C1, P, N, K)
        mean = requantise_columns(mean + tl.load(n2 + MP + columns)[None, :], n2, MP + columns, 2 * MP, limit2)
        inside = valid[:, None] & (columns < M)[None, :]
        out = ((image.to(tl.int64) * coded_pitch + coded) * M)[:, None] + columns[None, :]
        index = scale_index(scale, thresholds, LEVELS)
        tl.store(indexes + out, index.to(tl.uint8), mask=inside)
        if ENCODE:
            at = ((image.to(tl.int64) * (height * width) + raster) * M)[:, None] + columns[None, :]
            zone = tl.load(zones + (image << LEVELS)[:, None] + index, mask=inside, other=0)
            symbol = quantise_down(tl.load(target + at, mask=inside, other=0), mean, zone)
            tl.store(symbols + out, symbol, mask=inside)
            latent = reconstruct(symbol, mean, y_offsets, index)
            tl.store(y + at, latent, mask=inside)
            activation = requantise_columns(latent, y_numbers, columns, CY, y_limit)
            centre = _centre(image, raster, height, width)
            store_planes(seen + (centre * (2 * CY))[:, None] + columns[None, :], CY, activation, inside)
        else:
            tl.store(means + out, mean, mask=inside)
    return meet(counter, round, PERSISTENT)


@triton.jit(do_not_specialize=["begin", "count", "images", "coded_pitch", "height", "width", "M"])
def _launch(
    begin, count, images, coded_pitch, height, width, M, order, seen, share, target,
    taps, context_w, context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers,
    context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, MP: tl.constexpr, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One step; a program for each block of P positions."""
    _step(begin, count, images, coded_pitch, height, width, M, order, seen, share, target, taps, context_w, context_n,
          w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers, context_limit, limit0, limit1, limit2,
          y_limit, x0, x1, x2, indexes, means, symbols, y, taps, 0, CY, CX, C0, C1, MP, LEVELS, ENCODE, False, P, N,
          K)  # fmt: skip


@triton.jit(do_not_specialize=["steps", "images", "height", "width", "M", "row_count"])
def _whole(
    offsets, steps, images, height, width, M, order, seen, share, target,
    taps, context_w, context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers,
    context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y, counter,
    data, states, cursors, slots, rows, row_count,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, MP: tl.constexpr, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, PRECISION: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """All steps in one launch, the grid meeting between layers; all programs must run at the same time."""
    round = 0
    positions = height * width
    for step in range(0, steps):
        begin = tl.load(offsets + step)
        count = tl.load(offsets + step + 1) - begin
        round = _step(begin, count, images, positions, height, width, M, order, seen, share, target, taps, context_w,
                      context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers, context_limit,
                      limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y, counter, round, CY, CX,
                      C0, C1, MP, LEVELS, ENCODE, True, P, N, K)  # fmt: skip
        if not ENCODE:
            for image in range(tl.program_id(0), images, tl.num_programs(0)):
                b = tl.cast(image, tl.int64)
                start = (b * positions + begin) * M
                decode_run(data, states + b * _LANES, cursors + b * 8, slots, rows, row_count, indexes + start,
                           means + start, count * M, PRECISION, means + start, y_offsets, order + begin,
                           y + b * positions * M,
                           seen + b * (height + 4) * (width + 4) * 2 * CY, y_numbers, y_limit, width, M, True,
                           CY)  # fmt: skip
            round = meet(counter, round, True)


@dataclass
class _Buffers:
    """Arguments of a run and what of them is a result; zones: int32 [images, 2^levels], for encoders."""

    seen: Map
    zones: Tensor
    scratch: tuple[Tensor, Tensor, Tensor]
    indexes: Tensor
    means: Tensor
    symbols: Tensor
    y: Tensor


def _flat_taps(network: ContextNetwork, width: int) -> Tensor:
    stride = width + 2 * BORDER
    return launch.small_tensor((*(i * stride + j for i, j in TAPS), 0), network.device)


def _network_arguments(network: ContextNetwork, width: int, zones: Tensor) -> tuple[Any, ...]:
    layers = (network.context, *network.hidden, network.head)
    weights = [t for layer in layers for t in (layer.weights, layer.requantiser.numbers)]
    limits = [layer.requantiser.limit for layer in layers]
    own = (network.thresholds, zones, network.offsets, network.y_input.numbers)
    return (_flat_taps(network, width), *weights, *own, *limits, network.y_input.limit)


def _constants(network: ContextNetwork) -> dict[str, int]:
    context, first, second = network.context, *network.hidden
    return dict(CY=padded(network.M), CX=context.columns, C0=first.columns, C1=second.columns,
                MP=network.head.columns // 2, LEVELS=network.levels)  # fmt: skip


def _scratch(network: ContextNetwork, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    widths = (network.context.columns, *(layer.columns for layer in network.hidden))
    x0, x1, x2 = (torch.empty(rows, 2, w, dtype=torch.int8, device=network.device) for w in widths)
    return x0, x1, x2


def _block(kernel: Any, columns: int) -> int:
    """Columns of a tile; the interpreter takes more, since it pays per operation."""
    return columns if not launch.interpreted(kernel) else 64


def hyper_share(features: Map, layer: Any) -> Tensor:
    """int32 [images, h, w, columns]: what the hyperprior adds to the first parameter layer's sums, bias included."""
    share = convolve(features, layer, "accumulators")
    assert isinstance(share, Tensor)
    return share


def empty_map(network: ContextNetwork, images: int, height: int, width: int) -> Map:
    """The context's view of a latent of which nothing is known."""
    return Map.zeros(images, height, width, network.M, BORDER, network.device)


def parameters(network: ContextNetwork, seen: Map, share: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scale indexes and means at given positions, from whatever ``seen`` holds of the causal neighbourhood.

    Args:
        seen: the latent's activations, border 2.
        share: ``hyper_share`` int32 [images, h, w, columns].
        where: int32 [n], raster positions, the same in all images; None for all.

    Returns:
        uint8 and int32 [images, n, M]; means in units of 2^-6.
    """
    device = launch.check_device(_launch, seen.planes, share, network.thresholds)
    images, height, width = len(seen.planes), seen.height, seen.width
    order = torch.arange(height * width, device=device) if where is None else where
    order = order.to(torch.int32).contiguous()
    n = len(order)
    indexes = torch.empty(images, n, network.M, dtype=torch.uint8, device=device)
    means = torch.empty(images, n, network.M, dtype=torch.int32, device=device)
    if not images * n:
        return indexes, means
    P = 16 if images * n <= 16 * launch.processors(device) else _large(launch.target_of(device))
    scratch = _scratch(network, images * n)
    _launch[(launch.ceil_div(images * n, P),)](
        0, n, images, n, height, width, network.M, order, seen.planes, share, share,
        *_network_arguments(network, width, share), *scratch, indexes, means, means, means,
        **_constants(network), ENCODE=False, P=P, N=_columns(launch.target_of(device), P), K=64,
        **launch.options(_launch, _warps(P), _stages(launch.target_of(device), P)),
    )  # fmt: skip
    return indexes, means


def _stages(target: Target, P: int) -> int:
    return 2 if target.is_hip else 3 if P > 16 else 4


def _warps(P: int) -> int:
    return P // 8 if P > 16 else 4


def _columns(target: Target, P: int) -> int:
    """Columns of a tile of one launch; large tiles keep operands in registers too, but on Hopper."""
    return 32 if P > 16 and isinstance(target.arch, int) and target.arch != 90 else 64


def _large(target: Target) -> int:
    """Positions of a program where there are plenty: what 255 registers hold."""
    return 64 if target.is_hip or (isinstance(target.arch, int) and target.arch >= 90) else 32


def _prepare(
    network: ContextNetwork, share: Tensor, encode: bool, zones: Tensor | None = None
) -> tuple[_Buffers, Tensor, np.ndarray]:
    images, height, width = share.shape[:3]
    offsets = wavefront(height, width)[1]
    device, count = share.device, height * width
    largest = int(np.diff(offsets).max())
    shape = (images, count, network.M)
    if zones is None:
        zones = torch.zeros(images, 1 << network.levels, dtype=torch.int32, device=device)
    buffers = _Buffers(
        seen=empty_map(network, images, height, width),
        zones=zones,
        scratch=_scratch(network, images * largest),
        indexes=torch.empty(shape, dtype=torch.uint8, device=device),
        means=torch.empty((1,) if encode else shape, dtype=torch.int32, device=device),
        symbols=torch.empty(shape if encode else (1,), dtype=torch.int32, device=device),
        y=torch.empty(shape, dtype=torch.int32, device=device),
    )
    return buffers, _on_device(height, width, device)[0], offsets


DRIVERS = ("persistent", "launch")


def _choose_driver(driver: str | None, device: torch.device) -> str:
    """Persistent where all programs surely run at once: cooperative launches on NVIDIA, one program interpreted."""
    if driver is None:
        return "launch" if launch.target_of(device).is_hip else "persistent"
    if driver not in DRIVERS:
        raise ValueError(f"driver must be one of {', '.join(DRIVERS)}, got {driver!r}")
    return driver


def _run_whole(
    network: ContextNetwork, share: Tensor, target: Tensor, buffers: _Buffers, order: Tensor, offsets: np.ndarray,
    streams: Streams | None, tables: DeviceTables | None,
) -> None:  # fmt: skip
    images, height, width = share.shape[:3]
    device = share.device
    on_device = _on_device(height, width, device)[1]
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    constants = _constants(network)
    N = _block(_whole, 32)
    widest = max(constants[name] for name in ("CX", "C0", "C1", "MP"))
    blocks = launch.ceil_div(images * int(np.diff(offsets).max()), 16)
    programs = min(launch.processors(device), blocks * (widest // N))
    if streams is None or tables is None:
        coder: tuple[Any, ...] = (buffers.indexes, share, on_device, share, share, 1)
    else:
        coder = (streams.data, streams.states, streams.cursors, tables.slots, tables.rows, tables.rows.shape[1])
    _whole[(programs,)](
        on_device, len(offsets) - 1, images, height, width, network.M, order, buffers.seen.planes, share, target,
        *_network_arguments(network, width, buffers.zones), *buffers.scratch, buffers.indexes, buffers.means,
        buffers.symbols,
        buffers.y, counter, *coder, **constants, ENCODE=streams is None,
        PRECISION=12 if tables is None else tables.precision, P=16, N=N, K=64,
        **launch.options(_whole, 4, _stages(launch.target_of(device), 16), cooperative=True),
    )  # fmt: skip


def _run_launches(
    network: ContextNetwork, share: Tensor, target: Tensor, buffers: _Buffers, order: Tensor, offsets: np.ndarray,
    streams: Streams | None, tables: DeviceTables | None,
) -> None:  # fmt: skip
    images, height, width = share.shape[:3]
    device, positions = share.device, height * width
    arguments, constants = _network_arguments(network, width, buffers.zones), _constants(network)
    y_input = network.y_input
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        count = end - begin
        _launch[(launch.ceil_div(images * count, 16),)](
            begin, count, images, positions, height, width, network.M, order, buffers.seen.planes, share, target,
            *arguments, *buffers.scratch, buffers.indexes, buffers.means, buffers.symbols, buffers.y,
            **constants, ENCODE=streams is None, P=16, N=64, K=64,
            **launch.options(_launch, _warps(16), _stages(launch.target_of(device), 16)),
        )  # fmt: skip
        if streams is not None and tables is not None:
            decode_step[(images,)](
                streams.data, streams.states, streams.cursors, tables.slots, tables.rows, tables.rows.shape[1],
                buffers.indexes, buffers.means, network.offsets, order, buffers.y, buffers.seen.planes,
                y_input.numbers, begin, count, y_input.limit, positions, height, width, network.M,
                PRECISION=tables.precision, C=constants["CY"],
                **launch.options(decode_step, 1),
            )  # fmt: skip


_RUN = {"persistent": _run_whole, "launch": _run_launches}


def encode(
    network: ContextNetwork, target: Tensor, share: Tensor, driver: str | None = None, zones: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise latents along the wavefront.

    Args:
        target: int32 [images, h, w, M] in units of 2^-6.
        share: ``hyper_share`` int32 [images, h, w, columns].
        zones: int32 [images, 2^levels], by how much differences come nearer to zero before they are rounded, for each
            scale index (fastlic.entropy.zones); None rounds to the nearest.

    Returns:
        (indexes uint8, symbols int32) [images, h * w, M] in coding order, y int32 [images, h, w, M] as the decoder
        will have it.
    """
    device = launch.check_device(_launch, target, share, network.thresholds)
    buffers, order, offsets = _prepare(network, share, encode=True, zones=zones)
    run = _RUN[_choose_driver(driver, device)]
    run(network, share.contiguous(), target.contiguous(), buffers, order, offsets, None, None)
    return buffers.indexes, buffers.symbols, buffers.y.reshape(target.shape)


def decode(
    network: ContextNetwork, streams: Streams, tables: DeviceTables, share: Tensor, driver: str | None = None
) -> Tensor:
    """Latents from their streams: y int32 [images, h, w, M], to be trusted only after ``rans.finish``."""
    device = launch.check_device(_launch, share, streams.data, network.thresholds)
    images, height, width = share.shape[:3]
    buffers, order, offsets = _prepare(network, share, encode=False)
    run = _RUN[_choose_driver(driver, device)]
    run(network, share.contiguous(), share, buffers, order, offsets, streams, tables)
    return buffers.y.reshape(images, height, width, network.M)


def variants(target: Target) -> list[Variant]:
    """JAHP with M = 192: widths 384, 640, 512, 192."""
    sizes = dict(CY=192, CX=384, C0=640, C1=512, MP=192, LEVELS=6)
    network = {**dict.fromkeys(("taps",), "*i32")}
    for name in ("context", "0", "1", "2"):
        w, n = ("context_w", "context_n") if name == "context" else (f"w{name}", f"n{name}")
        network |= {w: "*i8", n: "*i32"}
    network |= dict.fromkeys(("thresholds", "zones", "y_offsets", "y_numbers"), "*i32")
    limits = dict.fromkeys(("context_limit", "limit0", "limit1", "limit2", "y_limit"), "i32")
    maps = {"order": "*i32", "seen": "*i8", "share": "*i32", "target": "*i32"}
    results = {"x0": "*i8", "x1": "*i8", "x2": "*i8", "indexes": "*u8", "means": "*i32", "symbols": "*i32", "y": "*i32"}
    shape = dict.fromkeys(("images", "height", "width", "M"), "i32")
    one = dict.fromkeys(("begin", "count", "coded_pitch"), "i32") | shape | maps | network | limits | results
    coder = {"counter": "*i32", "data": "*u8", "states": "*i32", "cursors": "*i64", "slots": "*i32", "rows": "*i32",
             "row_count": "i32"}  # fmt: skip
    whole = {"offsets": "*i32", "steps": "i32"} | shape | maps | network | limits | results | coder
    aligned = tuple(name for name, kind in whole.items() if kind.startswith("*"))
    found = []
    ways = (16, "step, network"), (16, "step, encoder"), (16, "step, encoder, offsets")
    for P, way in (*ways, (_large(target), "whole latent, network")):
        constants = {**sizes, "ENCODE": "encoder" in way, "P": P, "N": _columns(target, P), "K": 64,
                     **launch.without_offsets(way, "y_offsets")}  # fmt: skip
        found.append(Variant(f"context {way}", _launch, {**one, **dict.fromkeys(constants, "constexpr")}, constants,
                             launch.options(None, _warps(P), _stages(target, P)), 255, 64 * 1024, aligned))  # fmt: skip
    for way in ("encoder", "encoder, offsets", "decoder", "decoder, offsets"):
        constants = {**sizes, "ENCODE": "encoder" in way, "PRECISION": 12, "P": 16, "N": 32, "K": 64,
                     **launch.without_offsets(way, "y_offsets")}  # fmt: skip
        chosen = launch.options(None, 4, _stages(target, 16)) | {"launch_cooperative_grid": True}
        found.append(Variant(f"context persistent {way}", _whole, {**whole, **dict.fromkeys(constants, "constexpr")},
                             constants, chosen, 255, 64 * 1024, aligned))  # fmt: skip
    return found
