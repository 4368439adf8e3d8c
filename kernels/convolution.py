"""Integer convolutions over whole maps: hyper synthesis, and the hyperprior's share of the first parameter layer.

A convolution is one phase, a transposed convolution of stride 2 four: an output at (2u + a, 2v + b) reads the input at
(u, v) through those taps of the kernel whose parity fits (a, b). A phase is a matrix product over gathered rows, so all
layers run the same loop on int8 tensor cores. Outputs are the padded map that the next layer reads, or accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.integer import (
    accumulate,
    reconstruct,
    requantise,
    requantise_columns,
    store_planes,
)
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, interpreted, options, target_of
from fastlic.kernels.packing import MAX_ACTIVATION_BITS, Map, Requantiser, pack_matrix, padded

_SIZES = ["images", "height", "width", "in_stride", "in_border", "out_height", "out_width", "out_border", "up"]


@dataclass(frozen=True)
class Layer:
    """One integer layer, packed.

    Attributes:
        weights: int8 [sum over phases of columns * depth], each phase [columns, taps * C].
        phases: int32 [count, 4]: output row and column parity, number of taps, first tap.
        taps: int32 [all taps, 2], (row, column) offsets into the input.
        begins: int64 [count], where each phase's weights start.
        requantiser: with bias.
        up: 1, or 2 for a transposed layer. reach: the largest offset of any tap.
    """

    weights: Tensor
    phases: Tensor
    taps: Tensor
    begins: Tensor
    requantiser: Requantiser
    inputs: int
    outputs: int
    up: int
    reach: int

    @property
    def C(self) -> int:
        return padded(self.inputs)

    @property
    def columns(self) -> int:
        return padded(self.outputs)


def pack_layer(
    weight: np.ndarray, stride: int, transposed: bool, input_bits: int, requantiser: Requantiser, device: Any
) -> Layer:
    """From a torch-shaped int8 kernel: [out, in, k, k], transposed [in, out, k, k]; padding k // 2.

    Raises:
        ValueError: activations that two int8 planes cannot hold.
    """
    if input_bits > MAX_ACTIVATION_BITS:
        raise ValueError(f"kernels read activations of up to {MAX_ACTIVATION_BITS} bits, this layer has {input_bits}")
    k = weight.shape[-1]
    kernel = weight.transpose(1, 0, 2, 3) if transposed else weight  # [out, in, k, k]
    outputs, inputs = kernel.shape[:2]
    up = stride if transposed else 1
    phases, blocks, begins = [], [], []
    taps: list[tuple[int, int]] = []
    begin = 0
    for a in range(up):
        for b in range(up):
            chosen = []
            for i in range(k):
                for j in range(k):
                    if transposed:  # output y = up * input + i - k // 2
                        rows, columns = a + k // 2 - i, b + k // 2 - j
                        if rows % up or columns % up:
                            continue
                        chosen.append((rows // up, columns // up, i, j))
                    else:
                        chosen.append((i - k // 2, j - k // 2, i, j))
            matrix = np.concatenate([kernel[:, :, i, j].T for _, _, i, j in chosen])
            block = pack_matrix(matrix, len(chosen))
            phases.append((a, b, len(chosen), len(taps)))
            taps += [(r, c) for r, c, _, _ in chosen]
            blocks.append(block.ravel())
            begins.append(begin)
            begin += block.size
    return Layer(
        weights=torch.from_numpy(np.concatenate(blocks)).to(device),
        phases=torch.tensor(phases, dtype=torch.int32, device=device),
        taps=torch.tensor(taps, dtype=torch.int32, device=device),
        begins=torch.tensor(begins, dtype=torch.int64, device=device),
        requantiser=requantiser,
        inputs=inputs,
        outputs=outputs,
        up=up,
        reach=max(max(abs(r), abs(c)) for r, c in taps),
    )


@triton.jit
def _enter(values, median, numbers, out, images, height, width, M, limit, border, C: tl.constexpr, P: tl.constexpr):
    """Symbols int32 [images, height, width, M] around a median -> activations of a map with border."""
    rows = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    channel = tl.program_id(1) * 64 + tl.arange(0, 64)
    inside = (rows[:, None] < images * height * width) & (channel[None, :] < M)
    symbol = tl.load(values + rows[:, None] * M + channel[None, :], mask=inside, other=0)
    middle = tl.load(median + channel, mask=channel < M, other=0)
    latent = reconstruct(symbol, middle[None, :] + tl.zeros_like(symbol))
    multiplier = tl.load(numbers + C + channel)[None, :]
    negative = tl.load(numbers + 2 * C + channel)[None, :]
    shift = tl.load(numbers + 3 * C + channel)[None, :]
    activation = requantise(latent, multiplier, negative, shift, limit)
    image = rows // (height * width)
    row = rows // width % height
    stride = width + 2 * border
    at = (image * (height + 2 * border) + row + border) * stride + rows % width + border
    store_planes(out + at[:, None] * (2 * C) + channel[None, :], C, activation, inside)


@triton.jit(do_not_specialize=_SIZES)
def _convolve(
    source, weights, phases, begins, taps, numbers, out, images, height, width, in_stride, in_border,
    out_height, out_width, out_border, up, limit,
    C: tl.constexpr, COLUMNS: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr, MODE: tl.constexpr,
):  # fmt: skip
    """Programs (position blocks, column blocks, phases). height, width: of the input; outputs beyond out_height x
    out_width are dropped. MODE 0: requantised planes; 1: requantised int32; 2: accumulators int32 [rows, COLUMNS]."""
    phase = tl.program_id(2)
    a, b = tl.load(phases + phase * 4), tl.load(phases + phase * 4 + 1)
    count, first = tl.load(phases + phase * 4 + 2), tl.load(phases + phase * 4 + 3)
    total = images * height * width
    p = tl.program_id(0) * P + tl.arange(0, P)
    q = tl.minimum(p, total - 1)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    image, u, v = q // (height * width), q // width % height, q % width
    in_rows = (image * (height + 2 * in_border) + u + in_border) * in_stride + v + in_border
    # taps: flat offsets of this map, made by the launcher
    acc = accumulate(source, in_rows, taps + first, count, C, weights + tl.load(begins + phase), columns, count * C,
                     P, N, K)  # fmt: skip
    acc += tl.load(numbers + columns)[None, :]
    row, column = up * u + a, up * v + b
    inside = ((p < total) & (row < out_height) & (column < out_width))[:, None]
    at = (image.to(tl.int64) * (out_height + 2 * out_border) + row + out_border) * (out_width + 2 * out_border)
    at = at + column + out_border
    if MODE == 0:
        value = requantise_columns(acc, numbers, columns, COLUMNS, limit)
        store_planes(out + at[:, None] * (2 * COLUMNS) + columns[None, :], COLUMNS, value, inside)
    elif MODE == 1:
        value = requantise_columns(acc, numbers, columns, COLUMNS, limit)
        tl.store(out + at[:, None] * COLUMNS + columns[None, :], value, mask=inside)
    else:
        tl.store(out + at[:, None] * COLUMNS + columns[None, :], acc, mask=inside)


def _tiles(target: Target) -> tuple[int, int, int, int, int]:
    """(positions, columns, depth, warps, stages) of one program."""
    if target.is_hip:
        return 64, 64, 64, 4, 2
    if isinstance(target.arch, int) and target.arch < 90:  # wider accumulators spill where they stand beside operands
        return 64, 32, 64, 4, 3
    return 64, 64, 64, 4, 4


def enter(symbols: Tensor, median: Tensor, requantiser: Requantiser, border: int) -> Map:
    """Symbols int32 [images, h, w, channels], contiguous, as the first activations of hyper synthesis."""
    device = check_device(_enter, symbols, median)
    images, height, width, channels = symbols.shape
    out = Map.zeros(images, height, width, channels, border, device)
    C = padded(channels)
    _enter[(ceil_div(images * height * width, 16), C // 64)](
        symbols.contiguous(), median, requantiser.numbers, out.planes, images, height, width, channels,
        requantiser.limit, border, C=C, P=16, **options(_enter, 4),
    )  # fmt: skip
    return out


def convolve(
    source: Map, layer: Layer, mode: str = "planes", crop: tuple[int, int] | None = None, border: int = 0
) -> Map | Tensor:
    """One integer layer over a whole map.

    Args:
        mode: ``planes`` returns the requantised map, ``values`` int32 [images, h, w, columns] after requantisation,
            ``accumulators`` the same before it.
        crop: keep only so many rows and columns of the result.
        border: of the resulting map.
    """
    device = check_device(_convolve, source.planes, layer.weights)
    if source.planes.numel() >= 1 << 31:
        raise ValueError(f"maps hold less than 2^31 bytes, this one {source.planes.numel()}: use smaller batches")
    if source.planes.shape[-1] != layer.C or source.border < layer.reach:
        raise ValueError(f"the layer reads {layer.C} channels and {layer.reach} positions beyond the edge")
    images, height, width = len(source.planes), source.height, source.width
    out_height, out_width = crop or (layer.up * height, layer.up * width)
    if mode == "planes":
        result = Map.zeros(images, out_height, out_width, layer.outputs, border, device)
        out = result.planes
    else:
        border = 0
        out = torch.empty(images, out_height, out_width, layer.columns, dtype=torch.int32, device=device)
    stride = width + 2 * source.border
    taps = (layer.taps[:, 0] * stride + layer.taps[:, 1]).contiguous()
    positions, columns, depth, warps, stages = _tiles(target_of(device))
    if interpreted(_convolve):
        columns = layer.columns
        columns = columns if columns & (columns - 1) == 0 else 64
    _convolve[(ceil_div(images * height * width, positions), layer.columns // columns, len(layer.phases))](
        source.planes, layer.weights, layer.phases, layer.begins, taps, layer.requantiser.numbers, out, images,
        height, width, stride, source.border, out_height, out_width, border, layer.up, layer.requantiser.limit,
        C=layer.C, COLUMNS=layer.columns, P=positions, N=columns, K=depth,
        MODE={"planes": 0, "values": 1, "accumulators": 2}[mode], **options(_convolve, warps, stages),
    )  # fmt: skip
    return result if mode == "planes" else out


def variants(target: Target) -> list[Variant]:
    positions, columns, depth, warps, stages = _tiles(target)
    found = []
    for mode, name in enumerate(("planes", "values", "accumulators")):
        constants = dict(C=192, COLUMNS=384, P=positions, N=columns, K=depth, MODE=mode)
        signature = {"source": "*i8", "weights": "*i8", "phases": "*i32", "begins": "*i64", "taps": "*i32",
                     "numbers": "*i32", "out": "*i8" if mode == 0 else "*i32",
                     **dict.fromkeys((*_SIZES, "limit"), "i32"), **dict.fromkeys(constants, "constexpr")}  # fmt: skip
        found.append(Variant(f"convolution to {name}", _convolve, signature, constants, options(None, warps, stages),
                             255, 64 * 1024, ("source", "weights", "numbers", "out")))  # fmt: skip
    constants = dict(C=192, P=16)
    signature = {"values": "*i32", "median": "*i32", "numbers": "*i32", "out": "*i8",
                 **dict.fromkeys(("images", "height", "width", "M", "limit", "border"), "i32"),
                 **dict.fromkeys(constants, "constexpr")}  # fmt: skip
    found.append(Variant("z to activations", _enter, signature, constants, options(None, 4), 128, 4096))
    return found
