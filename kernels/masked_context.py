"""The causal 5x5 context and the 1x1 parameter network as one kernel: activations of the latent so far in, scale
indexes and means out; and on top of it the whole wavefront, in either direction.

One step body, ``_step``, serves two drivers. Its four layers are matrix products over the step's positions, one after
the other; a layer's column blocks are dealt to programs.

    launch       one launch per wavefront. A program takes 16 positions through all layers; between layers its threads
                 meet. No host decision depends on data, so the launches can be captured in a CUDA graph.
    persistent   one cooperative launch for the whole latent. All programs share every layer's columns, and the grid
                 meets between layers. The decoder's rANS runs inside, on one program for each image.

Everything is integer arithmetic (integer.py), so both drivers, any tiling and the C++ engine give the same bits.
Images of a batch may have any sizes. Their latents lie one after another, [positions, M]; the context's map is one
sheet on which they lie one under another. Kernels know no sizes: a step's positions come from a list, ``places``, step
by step and in a step image by image. An image that is finished has none in later steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
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
from fastlic.kernels.rans import DeviceTables, Streams, decode_image, decode_step

BORDER = 2  # reach of the context, in rows above and columns beside
_TAPS = tl.constexpr(len(TAPS))


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


@dataclass(frozen=True)
class Batch:
    """Latents of any sizes that go along the wavefront together.

    Attributes:
        places: int32 [4, positions], step by step and in a step image by image: where a position's latents are, its row
            on the sheet, where it comes in the order of coding, image after image, and its image.
        offsets: int32 [steps * images + 1]: where of ``places`` each image's positions of each step begin.
        begins: the same in main memory, of each step, [steps + 1].
        height, width: of the sheet, without its border.
    """

    images: int
    places: Tensor
    offsets: Tensor
    begins: np.ndarray
    height: int
    width: int

    @property
    def positions(self) -> int:
        return self.places.shape[1]

    @property
    def steps(self) -> int:
        return len(self.begins) - 1

    @property
    def largest(self) -> int:
        """Positions of the largest step."""
        return int(np.diff(self.begins).max())


@lru_cache(maxsize=16)
def batch_of(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Batch:
    """Of latents (height, width), in this order; copied to the device once."""
    waves = [wavefront(*size) for size in sizes]
    counts = np.zeros((max(len(begins) for _, begins in waves) - 1, len(sizes)), np.int64)
    for image, (_, begins) in enumerate(waves):
        counts[: len(begins) - 1, image] = np.diff(begins)
    offsets = np.concatenate([[0], counts.cumsum()])
    starts = offsets[:-1].reshape(counts.shape)
    rows, columns = sheet_of(sizes)
    places = np.empty((4, offsets[-1]), np.int32)
    first = above = 0
    for image, ((order, begins), (height, width)) in enumerate(zip(waves, sizes, strict=True)):
        step, n = np.repeat(np.arange(len(begins) - 1), np.diff(begins)), np.arange(height * width)
        to = starts[step, image] + n - begins[step]
        places[0, to] = first + order
        places[1, to] = (above + order // width + BORDER) * columns + order % width + BORDER
        places[2, to] = first + n
        places[3, to] = image
        first, above = first + height * width, above + height + 2 * BORDER
    begins = offsets[:: len(sizes)]
    listed, at = (torch.from_numpy(array.astype(np.int32)).to(device) for array in (places, offsets))
    return Batch(len(sizes), listed, at, begins, rows - 2 * BORDER, columns - 2 * BORDER)


def sheet_of(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Rows and columns of latents one under another, each with its border."""
    return sum(height + 2 * BORDER for height, _ in sizes), max(width for _, width in sizes) + 2 * BORDER


def together(sizes: Sequence[tuple[int, int]], channels: int) -> list[list[int]]:
    """Which latents (height, width) of so many channels go along the wavefront together; equal sizes are side by side.

    All of them, unless their sheet would be more than twice as large as they are, or hold 2^31 bytes, beyond which
    kernels do not count.
    """
    out: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i][1], -sizes[i][0])):
        own = [sizes[k] for k in (*(out[-1] if out else ()), i)]
        rows, columns = sheet_of(own)
        used = sum((height + 2 * BORDER) * (width + 2 * BORDER) for height, width in own)
        if out and rows * columns <= 2 * used and rows * columns * 2 * padded(channels) < 1 << 31:
            out[-1].append(i)
        else:
            out.append([i])
    return out


@triton.jit
def _where(block, count, P: tl.constexpr):
    """(valid, number) of a block of P positions of a step."""
    p = block * P + tl.arange(0, P)
    return p < count, tl.minimum(p, count - 1)


@triton.jit
def _step(
    begin, count, total, M, places, seen, share, target,
    taps, context_w, context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers,
    context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y, counter, round,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, MP: tl.constexpr, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, PERSISTENT: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Positions ``begin`` to ``begin`` + ``count`` of ``places`` [4, total]. Returns the barrier's round."""
    blocks = (count + P - 1) // P
    program = tl.program_id(0)
    stride = tl.num_programs(0) if PERSISTENT else 1

    for tile in range(program if PERSISTENT else program * (CX // N),
                      blocks * (CX // N) if PERSISTENT else (program + 1) * (CX // N), stride):  # fmt: skip
        valid, row = _where(tile // (CX // N), count, P)
        columns = tile % (CX // N) * N + tl.arange(0, N)
        centre = tl.load(places + (total + begin + row))
        acc = accumulate(seen, centre, taps, _TAPS, CY, context_w, columns, _TAPS * CY, P, N, K)
        acc += tl.load(context_n + columns)[None, :]
        value = requantise_columns(acc, context_n, columns, CX, context_limit)
        store_planes(x0 + row[:, None] * (2 * CX) + columns[None, :], CX, value, valid[:, None])
    round = meet(counter, round, PERSISTENT)

    for tile in range(program if PERSISTENT else program * (C0 // N),
                      blocks * (C0 // N) if PERSISTENT else (program + 1) * (C0 // N), stride):  # fmt: skip
        valid, row = _where(tile // (C0 // N), count, P)
        columns = tile % (C0 // N) * N + tl.arange(0, N)
        acc = accumulate(x0, row, taps + _TAPS, 1, CX, w0, columns, CX, P, N, K)
        at = tl.load(places + (begin + row)).to(tl.int64) * C0
        acc += tl.load(share + at[:, None] + columns[None, :])
        value = requantise_columns(acc, n0, columns, C0, limit0)
        store_planes(x1 + row[:, None] * (2 * C0) + columns[None, :], C0, value, valid[:, None])
    round = meet(counter, round, PERSISTENT)

    for tile in range(program if PERSISTENT else program * (C1 // N),
                      blocks * (C1 // N) if PERSISTENT else (program + 1) * (C1 // N), stride):  # fmt: skip
        valid, row = _where(tile // (C1 // N), count, P)
        columns = tile % (C1 // N) * N + tl.arange(0, N)
        acc = accumulate(x1, row, taps + _TAPS, 1, C0, w1, columns, C0, P, N, K)
        acc += tl.load(n1 + columns)[None, :]
        value = requantise_columns(acc, n1, columns, C1, limit1)
        store_planes(x2 + row[:, None] * (2 * C1) + columns[None, :], C1, value, valid[:, None])
    round = meet(counter, round, PERSISTENT)

    for tile in range(program if PERSISTENT else program * (MP // N),
                      blocks * (MP // N) if PERSISTENT else (program + 1) * (MP // N), stride):  # fmt: skip
        valid, row = _where(tile // (MP // N), count, P)
        columns = tile % (MP // N) * N + tl.arange(0, N)
        scale = accumulate(x2, row, taps + _TAPS, 1, C1, w2, columns, C1, P, N, K)
        scale = requantise_columns(scale + tl.load(n2 + columns)[None, :], n2, columns, 2 * MP, limit2)
        mean = accumulate(x2, row, taps + _TAPS, 1, C1, w2, MP + columns, C1, P, N, K)
        mean = requantise_columns(mean + tl.load(n2 + MP + columns)[None, :], n2, MP + columns, 2 * MP, limit2)
        inside = valid[:, None] & (columns < M)[None, :]
        index = scale_index(scale, thresholds, LEVELS)
        out = (tl.load(places + (2 * total + begin + row)).to(tl.int64) * M)[:, None] + columns[None, :]
        tl.store(indexes + out, index.to(tl.uint8), mask=inside)
        if ENCODE:
            zone = tl.load(places + (3 * total + begin + row)) << LEVELS
            zone = tl.load(zones + zone[:, None] + index, mask=inside, other=0)
            at = (tl.load(places + (begin + row)).to(tl.int64) * M)[:, None] + columns[None, :]
            symbol = quantise_down(tl.load(target + at, mask=inside, other=0), mean, zone)
            # Loaded again: kept, it would take registers that the loads above need.
            out = (tl.load(places + (2 * total + begin + row)).to(tl.int64) * M)[:, None] + columns[None, :]
            tl.store(symbols + out, symbol, mask=inside)
            latent = reconstruct(symbol, mean, y_offsets, index)
            tl.store(y + at, latent, mask=inside)
            activation = requantise_columns(latent, y_numbers, columns, CY, y_limit)
            centre = tl.load(places + (total + begin + row))
            store_planes(seen + (centre * (2 * CY))[:, None] + columns[None, :], CY, activation, inside)
        else:
            tl.store(means + out, mean, mask=inside)
    return meet(counter, round, PERSISTENT)


@triton.jit(do_not_specialize=["begin", "count", "total", "M"])
def _launch(
    begin, count, total, M, places, seen, share, target,
    taps, context_w, context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers,
    context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, MP: tl.constexpr, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One step; a program for each block of P positions."""
    _step(begin, count, total, M, places, seen, share, target, taps, context_w, context_n, w0, n0, w1, n1, w2, n2,
          thresholds, zones, y_offsets, y_numbers, context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes,
          means, symbols, y, taps, 0, CY, CX, C0, C1, MP, LEVELS, ENCODE, False, P, N, K)  # fmt: skip


@triton.jit(do_not_specialize=["steps", "images", "total", "M", "row_count"])
def _whole(
    offsets, steps, images, total, M, places, seen, share, target,
    taps, context_w, context_n, w0, n0, w1, n1, w2, n2, thresholds, zones, y_offsets, y_numbers,
    context_limit, limit0, limit1, limit2, y_limit, x0, x1, x2, indexes, means, symbols, y, counter,
    data, states, cursors, slots, rows, row_count,
    CY: tl.constexpr, CX: tl.constexpr, C0: tl.constexpr, C1: tl.constexpr, MP: tl.constexpr, LEVELS: tl.constexpr,
    ENCODE: tl.constexpr, PRECISION: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """All steps in one launch, the grid meeting between layers; all programs must run at the same time."""
    round = 0
    for step in range(0, steps):
        begin = tl.load(offsets + step * images)
        count = tl.load(offsets + (step + 1) * images) - begin
        round = _step(begin, count, total, M, places, seen, share, target, taps, context_w, context_n, w0, n0, w1, n1,
                      w2, n2, thresholds, zones, y_offsets, y_numbers, context_limit, limit0, limit1, limit2, y_limit,
                      x0, x1, x2, indexes, means, symbols, y, counter, round, CY, CX, C0, C1, MP, LEVELS, ENCODE, True,
                      P, N, K)  # fmt: skip
        if not ENCODE:
            for image in range(tl.program_id(0), images, tl.num_programs(0)):
                decode_image(data, states, cursors, slots, rows, row_count, indexes, means, y_offsets, offsets,
                             places, y, seen, y_numbers, step, images, image, y_limit, total, M, PRECISION,
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
    images, size = len(seen.planes), (seen.height, seen.width)
    places = _everywhere(images, *size, device) if where is None else _gathered(images, *size, where)
    n = places.shape[1] // max(images, 1)
    if images * n * 2 * max(layer.columns for layer in (network.context, *network.hidden)) >= 1 << 31:
        raise ValueError("activations of one layer hold less than 2^31 bytes: use smaller batches")
    indexes = torch.empty(images, n, network.M, dtype=torch.uint8, device=device)
    means = torch.empty(images, n, network.M, dtype=torch.int32, device=device)
    if not images * n:
        return indexes, means
    P = 16 if images * n <= 16 * launch.processors(device) else _large(launch.target_of(device))
    scratch = _scratch(network, images * n)
    launch.on(device, _launch)[(launch.ceil_div(images * n, P),)](
        0, images * n, images * n, network.M, places, seen.planes, share, share,
        *_network_arguments(network, seen.width, share), *scratch, indexes, means, means, means,
        **_constants(network), ENCODE=False, P=P, N=_columns(launch.target_of(device), P), K=64,
        **launch.options(_launch, _warps(P), _stages(launch.target_of(device), P)),
    )  # fmt: skip
    return indexes, means


@lru_cache(maxsize=16)
def _everywhere(images: int, height: int, width: int, device: torch.device) -> Tensor:
    """``_gathered`` of all positions, made once."""
    return _gathered(images, height, width, torch.arange(height * width, device=device))


def _gathered(images: int, height: int, width: int, where: Tensor) -> Tensor:
    """``places`` of raster positions, the same in images of one size, but for images, which encoders alone read."""
    image = torch.arange(images, device=where.device)[:, None]
    row = image * (height + 2 * BORDER) + where // width + BORDER
    at = image * (height * width) + where, row * (width + 2 * BORDER) + where % width + BORDER
    coded = image * len(where) + torch.arange(len(where), device=where.device)
    return torch.stack([*at, coded]).flatten(1).to(torch.int32)


def _stages(target: Target, P: int) -> int:
    return 2 if target.is_hip else 3 if P > 16 else 4


def _warps(P: int) -> int:
    return P // 8 if P > 16 else 4


def _columns(target: Target, P: int) -> int:
    """Columns of a tile of one launch; large tiles keep operands in registers too, but on Hopper."""
    return 32 if P > 16 and isinstance(target.arch, int) and target.arch != 90 else 64


def _cooperative(target: Target) -> dict[str, int]:
    """Of the persistent driver, whose programs are alone on their multiprocessors: registers that they may take. With
    as many as ptxas takes unasked it leaves some bytes on the stack."""
    if target.is_hip:
        return {}
    return {"maxnreg": 255 if isinstance(target.arch, int) and target.arch < 100 else 200}


def _large(target: Target) -> int:
    """Positions of a program where there are plenty: what 255 registers hold."""
    return 64 if target.is_hip or (isinstance(target.arch, int) and target.arch >= 90) else 32


def _prepare(network: ContextNetwork, batch: Batch, encode: bool, zones: Tensor | None = None) -> _Buffers:
    device, shape = network.device, (batch.positions, network.M)
    if zones is None:
        zones = torch.zeros(batch.images, 1 << network.levels, dtype=torch.int32, device=device)
    return _Buffers(
        seen=Map.zeros(1, batch.height, batch.width, network.M, BORDER, device),
        zones=zones,
        scratch=_scratch(network, batch.largest),
        indexes=torch.empty(shape, dtype=torch.uint8, device=device),
        means=torch.empty((1,) if encode else shape, dtype=torch.int32, device=device),
        symbols=torch.empty(shape if encode else (1,), dtype=torch.int32, device=device),
        y=torch.empty(shape, dtype=torch.int32, device=device),
    )


DRIVERS = ("persistent", "launch")


def _choose_driver(driver: str | None, device: torch.device) -> str:
    """Persistent where all programs surely run at once: cooperative launches on NVIDIA, one program interpreted."""
    if driver is None:
        return "launch" if launch.target_of(device).is_hip else "persistent"
    if driver not in DRIVERS:
        raise ValueError(f"driver must be one of {', '.join(DRIVERS)}, got {driver!r}")
    return driver


def _run_whole(
    network: ContextNetwork, share: Tensor, target: Tensor, buffers: _Buffers, batch: Batch, streams: Streams | None,
    tables: DeviceTables | None,
) -> None:  # fmt: skip
    device = share.device
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    constants = _constants(network)
    N = _block(_whole, 32)
    widest = max(constants[name] for name in ("CX", "C0", "C1", "MP"))
    blocks = launch.ceil_div(batch.largest, 16)
    programs = min(launch.processors(device), blocks * (widest // N))
    of_device = launch.target_of(device)
    if streams is None or tables is None:
        coder: tuple[Any, ...] = (buffers.indexes, share, batch.offsets, share, share, 1)
    else:
        coder = (streams.data, streams.states, streams.cursors, tables.slots, tables.rows, tables.rows.shape[1])
    launch.on(device, _whole)[(programs,)](
        batch.offsets, batch.steps, batch.images, batch.positions, network.M, batch.places, buffers.seen.planes, share,
        target, *_network_arguments(network, batch.width, buffers.zones), *buffers.scratch, buffers.indexes,
        buffers.means, buffers.symbols, buffers.y, counter, *coder, **constants, ENCODE=streams is None,
        PRECISION=12 if tables is None else tables.precision, P=16, N=N, K=64,
        **launch.options(_whole, 4, _stages(of_device, 16), cooperative=True),
        **({} if launch.interpreted(_whole) else _cooperative(of_device)),
    )  # fmt: skip


def _run_launches(
    network: ContextNetwork, share: Tensor, target: Tensor, buffers: _Buffers, batch: Batch, streams: Streams | None,
    tables: DeviceTables | None,
) -> None:  # fmt: skip
    device, total = share.device, batch.positions
    arguments, constants = _network_arguments(network, batch.width, buffers.zones), _constants(network)
    y_input = network.y_input
    for step, (begin, end) in enumerate(pairwise(batch.begins.tolist())):
        launch.on(device, _launch)[(launch.ceil_div(end - begin, 16),)](
            begin, end - begin, total, network.M, batch.places, buffers.seen.planes, share, target, *arguments,
            *buffers.scratch, buffers.indexes, buffers.means, buffers.symbols, buffers.y,
            **constants, ENCODE=streams is None, P=16, N=64, K=64,
            **launch.options(_launch, _warps(16), _stages(launch.target_of(device), 16)),
        )  # fmt: skip
        if streams is not None and tables is not None:
            launch.on(device, decode_step)[(batch.images,)](
                streams.data, streams.states, streams.cursors, tables.slots, tables.rows, tables.rows.shape[1],
                buffers.indexes, buffers.means, network.offsets, batch.offsets, batch.places, buffers.y,
                buffers.seen.planes, y_input.numbers, step, batch.images, y_input.limit, total, network.M,
                PRECISION=tables.precision, C=constants["CY"],
                **launch.options(decode_step, 1),
            )  # fmt: skip


_RUN = {"persistent": _run_whole, "launch": _run_launches}


def barriers(kernel: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> int:
    """How often the whole grid meets in such a launch: behind each layer of each step, and behind a decoder's coder."""
    return arguments[1] * (4 if named["ENCODE"] else 5) if kernel is _whole else 0


Sizes = tuple[tuple[int, int], ...]


def encode(
    network: ContextNetwork,
    sizes: Sizes,
    target: Tensor,
    share: Tensor,
    driver: str | None = None,
    zones: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise latents along the wavefront, those of all images together.

    Args:
        sizes: (height, width) of each image's latent.
        target: int32 [positions, M] in units of 2^-6, image after image in raster order.
        share: ``hyper_share`` int32 [positions, columns] in that order.
        zones: int32 [images, 2^levels], by how much differences come nearer to zero before they are rounded, for each
            scale index (fastlic.entropy.zones); None rounds to the nearest.

    Returns:
        (indexes uint8, symbols int32) [positions, M], image after image in coding order, and y int32 [positions, M] as
        the decoder will have it, in raster order.
    """
    device = launch.check_device(_launch, target, share, network.thresholds)
    batch = batch_of(sizes, device)
    buffers = _prepare(network, batch, encode=True, zones=zones)
    run = _RUN[_choose_driver(driver, device)]
    run(network, share.contiguous(), target.contiguous(), buffers, batch, None, None)
    return buffers.indexes, buffers.symbols, buffers.y


def decode(
    network: ContextNetwork,
    sizes: Sizes,
    streams: Streams,
    tables: DeviceTables,
    share: Tensor,
    driver: str | None = None,
) -> Tensor:
    """Latents from their streams, sizes and share as of ``encode``: y int32 [positions, M], image after image in raster
    order, to be trusted only after ``rans.finish``."""
    device = launch.check_device(_launch, share, streams.data, network.thresholds)
    batch = batch_of(sizes, device)
    buffers = _prepare(network, batch, encode=False)
    run = _RUN[_choose_driver(driver, device)]
    run(network, share.contiguous(), share, buffers, batch, streams, tables)
    return buffers.y


def variants(target: Target) -> list[Variant]:
    """JAHP with M = 192: widths 384, 640, 512, 192."""
    sizes = dict(CY=192, CX=384, C0=640, C1=512, MP=192, LEVELS=6)
    network = {**dict.fromkeys(("taps",), "*i32")}
    for name in ("context", "0", "1", "2"):
        w, n = ("context_w", "context_n") if name == "context" else (f"w{name}", f"n{name}")
        network |= {w: "*i8", n: "*i32"}
    network |= dict.fromkeys(("thresholds", "zones", "y_offsets", "y_numbers"), "*i32")
    limits = dict.fromkeys(("context_limit", "limit0", "limit1", "limit2", "y_limit"), "i32")
    maps = {"places": "*i32", "seen": "*i8", "share": "*i32", "target": "*i32"}
    results = {"x0": "*i8", "x1": "*i8", "x2": "*i8", "indexes": "*u8", "means": "*i32", "symbols": "*i32", "y": "*i32"}
    shape = dict.fromkeys(("total", "M"), "i32")
    one = dict.fromkeys(("begin", "count"), "i32") | shape | maps | network | limits | results
    coder = {"counter": "*i32", "data": "*u8", "states": "*i32", "cursors": "*i64", "slots": "*i32", "rows": "*i32",
             "row_count": "i32"}  # fmt: skip
    whole = {"offsets": "*i32", "steps": "i32", "images": "i32"} | shape | maps | network | limits | results | coder
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
        chosen |= _cooperative(target)
        found.append(Variant(f"context persistent {way}", _whole, {**whole, **dict.fromkeys(constants, "constexpr")},
                             constants, chosen, 255, 64 * 1024, aligned))  # fmt: skip
    return found
