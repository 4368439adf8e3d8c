"""Integer convolutions over whole maps: hyper synthesis, the hyperprior's share of the first parameter layer, and all
layers of transforms.

A convolution is one phase, a transposed convolution of stride 2 four: an output at (2u + a, 2v + b) reads the input at
(u, v) through those taps of the kernel whose parity fits (a, b); so is one with a pixel shuffle, whose phases have the
same taps and weights of their own. A phase is a matrix product over gathered rows, so all layers run the same loop on
int8 tensor cores; GDN is that product over squares. Outputs are the padded map that the next layer reads, activations,
accumulators or pixels.
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
    add_tap,
    curve,
    load_planes,
    nearest,
    reconstruct,
    requantise,
    requantise_columns,
    store_made,
    store_planes,
    total,
)
from fastlic.kernels.launch import (
    Target,
    Variant,
    ceil_div,
    check_device,
    interpreted,
    on,
    options,
    power_of_two,
    target_of,
)
from fastlic.kernels.packing import (
    PAD,
    PLANE_BITS,
    SQUARE_BITS,
    Map,
    Requantiser,
    pack_planes,
    padded,
    planes_of_weights,
    room,
)

_SIZES = ["images", "height", "width", "in_height", "in_width", "in_border", "out_height", "out_width", "out_border",
          "outputs", "up", "down", "own", "extra", "limit"]  # fmt: skip
# What is done with accumulators, and where results go.
_LEFT, _REQUANTISED, _CURVED, _DIVIDED, _MULTIPLIED = range(5)
_PLANES, _VALUES, _PIXELS = range(3)
MODES = {"planes": _PLANES, "values": _VALUES, "accumulators": _VALUES, "pixels": _PIXELS}


@dataclass(frozen=True)
class Layer:
    """One integer layer, packed.

    Attributes:
        weights: int8 [sum over phases of columns * planes * depth], each phase [columns, planes, taps * C].
        planes: of the weights.
        phases: int32 [count, 4]: output row and column parity, number of taps, first tap.
        taps: int32 [all taps, 2], (row, column) offsets into the input.
        begins: int64 [count], where each phase's weights start.
        requantiser: with bias; numbers of its own for each phase of a pixel shuffle.
        columns: of the weights, at least ``outputs``.
        up: 1, or 2 if outputs have twice the sides; down: 1, or 2 of stride 2.
        reach: the largest offset of any tap.
        reflect: whether the map is reflected at its edges; otherwise its border is read.
        after: what is made of accumulators.
        tail, fine: of a curve, int32 [65] and its F (docs/transforms.md).
        drop: of a GDN, the bits of squares that are rounded away.
        depthwise: whether each output reads its own channel alone; weights are int8 or int16 [taps, C] then.
    """

    weights: Tensor
    planes: int
    phases: Tensor
    taps: Tensor
    begins: Tensor
    requantiser: Requantiser
    inputs: int
    outputs: int
    columns: int
    up: int
    down: int
    reach: int
    reflect: bool = False
    after: int = _REQUANTISED
    tail: Tensor | None = None
    fine: int = 0
    drop: int = 0
    depthwise: bool = False

    @property
    def C(self) -> int:
        return padded(self.inputs)

    @property
    def border(self) -> int:
        """What the map that it reads must have."""
        return 0 if self.reflect else self.reach


def pack_layer(
    weight: np.ndarray,
    stride: int,
    transposed: bool,
    requantiser: Requantiser,
    device: Any,
    *,
    shuffle: int = 1,
    reflect: bool = False,
    curve: tuple[Tensor, int] | None = None,
    pad: int = PAD,
    depthwise: bool = False,
) -> Layer:
    """From a torch-shaped int8 or int16 kernel: [out, in, k, k], transposed [in, out, k, k]; padding k // 2.

    Args:
        requantiser: with bias, and exponents if there is a curve; its columns padded as here, with the cells of a
            shuffle.
        curve: its tail, and its F.
        depthwise: [out, 1, k, k], stride 1, each output of its own channel.
    """
    if depthwise:
        return _pack_depthwise(weight, requantiser, device, curve)
    k = weight.shape[-1]
    kernel = weight.transpose(1, 0, 2, 3) if transposed else weight  # [out, in, k, k]
    outputs, inputs = kernel.shape[0] // shuffle**2, kernel.shape[1]
    up = stride if transposed else shuffle
    planes = planes_of_weights(weight)
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
            own = kernel[shuffle * a + b :: shuffle**2] if shuffle > 1 else kernel
            block = np.zeros(0, np.int8)  # of a phase that no tap of a transposed 1x1 kernel fits
            if chosen:
                matrix = np.concatenate([own[:, :, i, j].T for _, _, i, j in chosen])
                block = pack_planes(matrix, len(chosen), PLANE_BITS, planes, pad)
            phases.append((a, b, len(chosen), len(taps)))
            taps += [(r, c) for r, c, _, _ in chosen]
            blocks.append(block.ravel())
            begins.append(begin)
            begin += block.size
    return Layer(
        weights=torch.from_numpy(np.concatenate(blocks)).to(device),
        planes=planes,
        phases=torch.tensor(phases, dtype=torch.int32, device=device),
        taps=torch.tensor(taps, dtype=torch.int32, device=device),
        begins=torch.tensor(begins, dtype=torch.int64, device=device),
        requantiser=requantiser,
        inputs=inputs,
        outputs=outputs,
        columns=padded(outputs, pad),
        up=up,
        down=1 if transposed else stride,
        reach=max(max(abs(r), abs(c)) for r, c in taps),
        reflect=reflect,
        after=_REQUANTISED if curve is None else _CURVED,
        tail=None if curve is None else curve[0],
        fine=0 if curve is None else curve[1],
    )


def _pack_depthwise(
    weight: np.ndarray, requantiser: Requantiser, device: Any, curve: tuple[Tensor, int] | None
) -> Layer:
    channels, k = len(weight), weight.shape[-1]
    taps = [(i - k // 2, j - k // 2) for i in range(k) for j in range(k)]
    matrix = np.zeros((len(taps), padded(channels)), weight.dtype)
    matrix[:, :channels] = weight.reshape(channels, -1).T
    return Layer(
        weights=torch.from_numpy(matrix).to(device),
        planes=1,
        phases=torch.tensor([[0, 0, len(taps), 0]], dtype=torch.int32, device=device),
        taps=torch.tensor(taps, dtype=torch.int32, device=device),
        begins=torch.zeros(1, dtype=torch.int64, device=device),
        requantiser=requantiser,
        inputs=channels,
        outputs=channels,
        columns=padded(channels),
        up=1,
        down=1,
        reach=k // 2,
        after=_REQUANTISED if curve is None else _CURVED,
        tail=None if curve is None else curve[0],
        fine=0 if curve is None else curve[1],
        depthwise=True,
    )


def pack_norm(
    gamma: np.ndarray, beta: np.ndarray, factors: np.ndarray, inverse: bool, input_bits: int, bits: int, device: Any
) -> Layer:
    """GDN as a layer of one tap: gamma int16 [C, C], a row for each output, beta int32 and factors float32 [C]."""
    c = len(gamma)
    numbers = np.zeros((2, padded(c)), np.int32)
    numbers[0] = 1  # beside what is padded with zeros, so that no quotient is undefined
    numbers[0, :c], numbers[1, :c] = beta, factors.astype(np.float32).view(np.int32)
    # Negated, as squares are: two planes of 8 bits hold -32768..32639.
    weights = pack_planes(-gamma.T.astype(np.int32), 1, SQUARE_BITS, 2)
    return Layer(
        weights=torch.from_numpy(weights.ravel()).to(device),
        planes=2,
        phases=torch.tensor([[0, 0, 1, 0]], dtype=torch.int32, device=device),
        taps=torch.zeros(1, 2, dtype=torch.int32, device=device),
        begins=torch.zeros(1, dtype=torch.int64, device=device),
        requantiser=Requantiser(torch.from_numpy(numbers).to(device), (1 << (bits - 1)) - 1),
        inputs=c,
        outputs=c,
        columns=padded(c),
        up=1,
        down=1,
        reach=0,
        after=_MULTIPLIED if inverse else _DIVIDED,
        drop=2 * input_bits - 17,
    )


@triton.jit(do_not_specialize=["images", "height", "width", "of_image", "of_row"])
def _enter(
    values, median, numbers, out, images, height, width, M, of_image, of_row, of_column, of_channel, limit, border,
    span, parity, C: tl.constexpr, P: tl.constexpr, PLANES: tl.constexpr, SYMBOLS: tl.constexpr,
):  # fmt: skip
    """int32 values, so far apart by image, row, column and channel -> activations of a map with border and ``span``
    channels. They are latents, or symbols around a median. parity: of row + column, 0 elsewhere; 2: everywhere."""
    rows = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    channel = tl.program_id(1) * 64 + tl.arange(0, 64)
    inside = (rows[:, None] < images * height * width) & (channel[None, :] < M)
    image, row, column = rows // (height * width), rows // width % height, rows % width
    at = image * of_image + row * of_row + column * of_column
    latent = tl.load(values + at[:, None] + (channel.to(tl.int64) * of_channel)[None, :], mask=inside, other=0)
    if SYMBOLS:
        middle = tl.load(median + channel, mask=channel < M, other=0)
        latent = reconstruct(latent, middle[None, :] + tl.zeros_like(latent))
    multiplier = tl.load(numbers + C + channel)[None, :]
    negative = tl.load(numbers + 2 * C + channel)[None, :]
    shift = tl.load(numbers + 3 * C + channel)[None, :]
    activation = requantise(latent, multiplier, negative, shift, limit)
    here = (parity == 2) | ((row + column) % 2 == parity)
    activation = tl.where(here[:, None], activation, 0)
    to = (image * (height + 2 * border) + row + border) * (width + 2 * border) + column + border
    store_planes(out + to[:, None] * (PLANES * span) + channel[None, :], span, activation, inside, PLANES)


@triton.jit
def _mirrored(i, count):
    """Positions up to count - 1 beyond the edges of a line of ``count``, reflected into it."""
    last = count - 1
    return last - tl.abs(last - tl.abs(i))


@triton.jit(do_not_specialize=["images", "rows", "columns", "height", "width"])
def _gather(
    pixels, out, images, rows, columns, height, width, channels, down, side, border,
    C: tl.constexpr, P: tl.constexpr, REFLECT: tl.constexpr,
):  # fmt: skip
    """Pixels uint8 [images, channels, height, width] -> for each output of a convolution of stride ``down`` all that it
    reads, tap by tap, as a map of side^2 * channels. Side 1 is the image itself, with a border."""
    p = tl.program_id(0) * P + tl.arange(0, P)
    place = tl.program_id(1) * 64 + tl.arange(0, 64)
    inside = (p[:, None] < images * rows * columns) & (place[None, :] < side * side * channels)
    image, row, column = p // (rows * columns), p // columns % rows, p % columns
    tap, channel = place // channels, place % channels
    i = (down * row)[:, None] + (tap // side - side // 2)[None, :]
    j = (down * column)[:, None] + (tap % side - side // 2)[None, :]
    if REFLECT:
        i, j = _mirrored(i, height), _mirrored(j, width)
    there = inside & (i >= 0) & (i < height) & (j >= 0) & (j < width)
    at = ((image * channels)[:, None] + channel[None, :]) * height + i
    value = tl.load(pixels + at * width + j, mask=there, other=0).to(tl.int32)
    to = (image * (rows + 2 * border) + row + border) * (columns + 2 * border) + column + border
    store_planes(out + to[:, None] * (2 * C) + place[None, :], C, value, inside)


@triton.jit(do_not_specialize=_SIZES)
def _convolve(
    source, weights, phases, begins, taps, numbers, tail, out, images, height, width, in_height, in_width, in_border,
    out_height, out_width, out_border, outputs, up, down, own, extra, limit,
    C: tl.constexpr, SPAN: tl.constexpr, COLUMNS: tl.constexpr, P: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    AFTER: tl.constexpr, TO: tl.constexpr, PITCH: tl.constexpr, PLANES: tl.constexpr, WEIGHTS: tl.constexpr,
    MADE: tl.constexpr, REFLECT: tl.constexpr,
):  # fmt: skip
    """Programs (position blocks, column blocks, phases). height, width: outputs of one phase; those beyond out_height x
    out_width are dropped. own: from one phase's numbers to the next one's. extra: a curve's F or the bits that squares
    lose. C: channels that are read of the map's ``SPAN``. AFTER, TO: above; planes are ``MADE`` of ``PITCH`` channels,
    activations and accumulators int32 [rows, PITCH], pixels uint8 [images, outputs, out_height, out_width]."""
    phase = tl.program_id(2)
    a, b = tl.load(phases + phase * 4), tl.load(phases + phase * 4 + 1)
    count, first = tl.load(phases + phase * 4 + 2), tl.load(phases + phase * 4 + 3)
    numbers += phase * own
    everything = images * height * width
    p = tl.program_id(0) * P + tl.arange(0, P)
    q = tl.minimum(p, everything - 1)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    image, u, v = q // (height * width), q // width % height, q % width
    in_stride = in_width + 2 * in_border
    corner = image * (in_height + 2 * in_border) + in_border
    in_rows = (corner + down * u) * in_stride + down * v + in_border
    block = weights + tl.load(begins + phase)
    zero = tl.zeros([P, N], tl.int32)
    s0, s1, s2, s3, s4 = zero, zero, zero, zero, zero
    for tap in range(0, count):
        r, c = tl.load(taps + 2 * (first + tap)), tl.load(taps + 2 * (first + tap) + 1)
        if REFLECT:
            rows = (corner + _mirrored(down * u + r, in_height)) * in_stride + in_border
            rows += _mirrored(down * v + c, in_width)
        else:
            rows = in_rows + r * in_stride + c
        s0, s1, s2, s3, s4 = add_tap(s0, s1, s2, s3, s4, source, rows, tap, C, SPAN, block, columns, count * C, extra,
                                     K, PLANES, WEIGHTS, AFTER >= 3)  # fmt: skip
    if AFTER >= 3:
        acc = total(s0, s1, s2, s3, s4, 3, _SQUARE)
    else:
        acc = total(s0, s1, s2, s3, s4, PLANES + WEIGHTS - 1, _PLANE)
    acc += tl.load(numbers + columns)[None, :]
    row, column = up * u + a, up * v + b
    inside = ((p < everything) & (row < out_height) & (column < out_width))[:, None]

    if AFTER == 0:
        value = acc
    elif AFTER < 3:
        value = requantise_columns(acc, numbers, columns, COLUMNS, limit)
        if AFTER == 2:
            value = curve(value, tl.load(numbers + 4 * COLUMNS + columns)[None, :], tail, extra)
    else:
        # Conversion, root, quotient or product, and product are each rounded once, as IEEE 754 has it: the launcher
        # forbids contraction, and tl.sqrt_rn and tl.div_rn are the ones that round correctly. The root of float32 is
        # the reference's, which takes it in float64 and rounds again: with more than 2 * 24 + 1 digits between, both
        # roundings give the nearest (Figueroa 1995).
        x = load_planes(source + (in_rows * (PLANES * SPAN))[:, None] + columns[None, :], SPAN, PLANES).to(tl.float32)
        root = tl.sqrt_rn(acc.to(tl.float32))
        y = x * root if AFTER == 4 else tl.div_rn(x, root)
        y = y * tl.load(numbers + COLUMNS + columns).to(tl.float32, bitcast=True)[None, :]
        value = nearest(y, limit.to(tl.float32))

    if TO == 2:
        at = ((image.to(tl.int64) * outputs)[:, None] + columns[None, :]) * out_height + row[:, None]
        tl.store(out + at * out_width + column[:, None], value.to(tl.uint8), mask=inside & (columns < outputs)[None, :])
    else:
        at = (image.to(tl.int64) * (out_height + 2 * out_border) + row + out_border) * (out_width + 2 * out_border)
        at = (at + column + out_border)[:, None]
        if TO == 0:
            store_planes(out + at * (MADE * PITCH) + columns[None, :], PITCH, value, inside, MADE)
        else:
            tl.store(out + at * PITCH + columns[None, :], value, mask=inside)


@triton.jit(do_not_specialize=["images", "height", "width", "in_border", "out_border", "count", "fine", "limit"])
def _depthwise(
    source, weights, taps, numbers, tail, out, images, height, width, in_border, out_border, count, fine, limit, span,
    C: tl.constexpr, P: tl.constexpr, CURVED: tl.constexpr, PLANES: tl.constexpr, MADE: tl.constexpr,
):  # fmt: skip
    """Programs (position blocks, blocks of 64 channels). Each output reads ``count`` taps of its own channel, of a map
    of ``span``. MADE: planes of the map that is made; 0: int32 [images, height, width, C]."""
    p = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    channel = tl.program_id(1) * 64 + tl.arange(0, 64)
    q = tl.minimum(p, images * height * width - 1)
    image, row, column = q // (height * width), q // width % height, q % width
    pitch = width + 2 * in_border
    at = (image * (height + 2 * in_border) + row + in_border) * pitch + column + in_border
    acc = tl.zeros([P, 64], tl.int32) + tl.load(numbers + channel)[None, :]
    for tap in range(0, count):
        place = at + tl.load(taps + 2 * tap) * pitch + tl.load(taps + 2 * tap + 1)
        x = load_planes(source + (place * (PLANES * span))[:, None] + channel[None, :], span, PLANES)
        acc += x * tl.load(weights + tap * C + channel).to(tl.int32)[None, :]
    value = requantise_columns(acc, numbers, channel, C, limit)
    if CURVED:
        value = curve(value, tl.load(numbers + 4 * C + channel)[None, :], tail, fine)
    inside = (p < images * height * width)[:, None]
    to = (image * (height + 2 * out_border) + row + out_border) * (width + 2 * out_border) + column + out_border
    store_made(out, to, channel, C, value, inside, MADE)


_PLANE = tl.constexpr(PLANE_BITS)
_SQUARE = tl.constexpr(SQUARE_BITS)


def _tiles(target: Target, sums: int = 2) -> tuple[int, int, int, int, int]:
    """(positions, columns, depth, warps, stages) of one program that keeps so many accumulators."""
    if target.is_hip:
        return 64, 64 if sums < 4 else 32, 64, 4, 2
    if isinstance(target.arch, int) and target.arch < 90:  # wider accumulators spill where they stand beside operands
        return 64, 32, 64, 4, 3
    return 64, 64 if sums < 4 else 32, 64, 4 if sums == 2 else 8, 4


def enter(
    values: Tensor,
    median: Tensor | None,
    requantiser: Requantiser,
    border: int,
    planes: int = 2,
    *,
    parity: int | None = None,
    into: Map | None = None,
) -> Map:
    """int32 [images, h, w, channels] in any order, as the first activations of a network.

    Args:
        values: symbols around ``median`` int32 [channels], or, without one, latents.
        parity: of row + column, where values are; elsewhere activations are 0. None: everywhere.
        into: a part of a map, whose channels from the first on are written; ``border`` and ``planes`` are its own then.
    """
    device = check_device(_enter, values, requantiser.numbers)
    images, height, width, channels = values.shape
    out = Map.zeros(images, height, width, channels, border, device, planes) if into is None else into
    C = padded(channels)
    block = 1024 if interpreted(_enter) else 16
    on(device, _enter)[(ceil_div(images * height * width, block), C // 64)](
        values, values if median is None else median, requantiser.numbers, out.planes, images, height, width, channels,
        *values.stride(), requantiser.limit, out.border, out.span, 2 if parity is None else parity, C=C, P=block,
        PLANES=out.count, SYMBOLS=median is not None, **options(_enter, 4),
    )  # fmt: skip
    return out


def gather(pixels: Tensor, side: int, down: int, reflect: bool, border: int = 0) -> Map:
    """Pixels uint8 [images, channels, H, W], contiguous, -> the map whose channels are what each output of a layer of
    side x side and that stride reads, tap by tap.

    Of three channels a tap is a small part of what tensor cores multiply at once; together they fill it.

    Raises:
        ValueError: it shall be reflected, and is smaller than what is.
    """
    device = check_device(_gather, pixels)
    images, channels, height, width = pixels.shape
    if reflect:
        _require_reflected(side // 2, height, width)
    rows, columns = ceil_div(height, down), ceil_div(width, down)
    depth = side * side * channels
    out = Map.zeros(images, rows, columns, depth, border, device)
    block = 1024 if interpreted(_gather) else 32
    on(device, _gather)[(ceil_div(images * rows * columns, block), padded(depth) // 64)](
        pixels, out.planes, images, rows, columns, height, width, channels, down, side, border, C=padded(depth),
        P=block, REFLECT=reflect, **options(_gather, 4),
    )  # fmt: skip
    return out


def _require_reflected(reach: int, height: int, width: int) -> None:
    if min(height, width) <= reach:
        raise ValueError(f"{reach} rows and columns are reflected, the map is {height} x {width}")


def gathered(weight: np.ndarray) -> np.ndarray:
    """A kernel [out, in, k, k] as [out, k * k * in, 1, 1], which reads what ``gather`` made."""
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(len(weight), -1, 1, 1)


def convolve(
    source: Map,
    layer: Layer,
    mode: str = "planes",
    crop: tuple[int, int] | None = None,
    border: int = 0,
    planes: int = 2,
) -> Map | Tensor:
    """One integer layer over a whole map.

    Args:
        mode: ``planes`` returns the activations' map, ``values`` int32 [images, h, w, columns], ``accumulators`` the
            same before requantisation, ``pixels`` uint8 [images, outputs, h, w].
        crop: keep only so many rows and columns of the result.
        border, planes: of the resulting map.

    Raises:
        ValueError: another map than the layer reads.
    """
    device = check_device(_convolve, source.planes, layer.weights)
    if source.planes.shape[-1] != layer.C or source.border < layer.border:
        raise ValueError(f"the layer reads {layer.C} channels and {layer.border} positions beyond the edge")
    if layer.reflect:
        _require_reflected(layer.reach, source.height, source.width)
    if layer.depthwise:
        return _convolve_depthwise(source, layer, mode, border, planes)
    images = len(source.planes)
    height, width = ceil_div(source.height, layer.down), ceil_div(source.width, layer.down)
    out_height, out_width = crop or (layer.up * height, layer.up * width)
    numbers, to, pitch = layer.requantiser.numbers, MODES[mode], layer.columns
    result = None
    if to == _PLANES:
        make = Map.to_fill if layer.columns == padded(layer.outputs) else Map.zeros
        result = make(images, out_height, out_width, layer.outputs, border, device, planes)
        out, pitch = result.planes, result.planes.shape[-1]
    elif to == _PIXELS:
        out = torch.empty(images, layer.outputs, out_height, out_width, dtype=torch.uint8, device=device)
    else:
        out = torch.empty(images, out_height, out_width, pitch, dtype=torch.int32, device=device)
    norm = layer.after >= _DIVIDED
    sums = 3 if norm else source.count + layer.planes - 1
    positions, columns, depth, warps, stages = _tiles(target_of(device), sums)
    columns = min(columns, layer.columns)
    if interpreted(_convolve):
        positions, depth = min(1024, max(16, power_of_two(images * height * width))), layer.C & -layer.C
        columns = layer.columns
        columns = columns if columns & (columns - 1) == 0 else 64
    on(device, _convolve)[(ceil_div(images * height * width, positions), layer.columns // columns, len(layer.phases))](
        source.planes, layer.weights, layer.phases, layer.begins, layer.taps, numbers,
        numbers if layer.tail is None else layer.tail, out, images, height, width, source.height, source.width,
        source.border, out_height, out_width, border if to == _PLANES else 0, layer.outputs, layer.up, layer.down,
        numbers[0].numel() if numbers.ndim == 3 else 0, layer.drop if norm else layer.fine, layer.requantiser.limit,
        C=layer.C, SPAN=source.span, COLUMNS=layer.columns, P=positions, N=columns, K=depth,
        AFTER=_LEFT if mode == "accumulators" else layer.after, TO=to, PITCH=pitch, PLANES=source.count,
        WEIGHTS=layer.planes, MADE=planes, REFLECT=layer.reflect, **options(_convolve, warps, stages, fusion=False),
    )  # fmt: skip
    return out if result is None else result


def _convolve_depthwise(source: Map, layer: Layer, mode: str, border: int, planes: int) -> Map | Tensor:
    """``convolve`` of a depthwise layer, to planes or values."""
    device = check_device(_depthwise, source.planes, layer.weights)
    images, height, width = len(source.planes), source.height, source.width
    if mode not in ("planes", "values"):
        raise ValueError(f"depthwise layers give planes or values, not {mode}")
    border, planes = (border, planes) if mode == "planes" else (0, 0)
    made, out = room(images, height, width, layer.outputs, border, device, planes)
    numbers = layer.requantiser.numbers
    block = 1024 if interpreted(_depthwise) else 32
    on(device, _depthwise)[(ceil_div(images * height * width, block), layer.C // 64)](
        source.planes, layer.weights, layer.taps, numbers, numbers if layer.tail is None else layer.tail, out, images,
        height, width, source.border, border, len(layer.taps), layer.fine, layer.requantiser.limit, source.span,
        C=layer.C, P=block, CURVED=layer.tail is not None, PLANES=source.count, MADE=planes, **options(_depthwise, 4),
    )  # fmt: skip
    return made


# Name, and of the layer: channels read, columns, planes of activations and weights, what is made, and where it goes.
_VARIANTS = (
    ("convolution to planes", 192, 384, 2, 1, _REQUANTISED, _PLANES, False),
    ("convolution to values", 192, 384, 2, 1, _REQUANTISED, _VALUES, False),
    ("convolution to accumulators", 192, 384, 2, 1, _LEFT, _VALUES, False),
    ("convolution of a transform", 128, 64, 2, 2, _REQUANTISED, _PLANES, False),
    ("convolution of a transform, reflected, curve", 64, 64, 2, 2, _CURVED, _PLANES, True),
    ("convolution of a transform, 16 bits", 64, 64, 3, 3, _REQUANTISED, _PLANES, False),
    ("convolution to latents", 128, 192, 2, 2, _REQUANTISED, _VALUES, False),
    ("convolution to pixels", 64, 16, 2, 2, _REQUANTISED, _PIXELS, False),
    ("GDN", 64, 64, 2, 2, _DIVIDED, _PLANES, False),
    ("inverse GDN", 128, 128, 2, 2, _MULTIPLIED, _PLANES, False),
)


def variants(target: Target) -> list[Variant]:
    found = []
    for name, channels, wide, planes, weights, after, to, reflect in _VARIANTS:
        sums = 3 if after >= _DIVIDED else planes + weights - 1
        positions, columns, depth, warps, stages = _tiles(target, sums)
        constants = dict(C=channels, SPAN=channels, COLUMNS=wide, P=positions, N=min(columns, wide), K=depth,
                         AFTER=after, TO=to, PITCH=wide, PLANES=planes, WEIGHTS=weights, MADE=planes,
                         REFLECT=reflect)  # fmt: skip
        signature = {"source": "*i8", "weights": "*i8", "phases": "*i32", "begins": "*i64", "taps": "*i32",
                     "numbers": "*i32", "tail": "*i32", "out": ("*i8", "*i32", "*u8")[to],
                     **dict.fromkeys(_SIZES, "i32"), **dict.fromkeys(constants, "constexpr")}  # fmt: skip
        found.append(Variant(name, _convolve, signature, constants, options(None, warps, stages, fusion=False),
                             255, 64 * 1024, ("source", "weights", "numbers", "out")))  # fmt: skip
    sizes = ("images", "height", "width", "in_border", "out_border", "count", "fine", "limit", "span")
    for name, type_, planes in (("curve", "*i8", 2), ("16 bits", "*i16", 3)):
        constants = dict(C=192, P=32, CURVED=planes == 2, PLANES=planes, MADE=planes)
        signature = {"source": "*i8", "weights": type_, "taps": "*i32", "numbers": "*i32", "tail": "*i32",
                     "out": "*i8", **dict.fromkeys(sizes, "i32"), **dict.fromkeys(constants, "constexpr")}  # fmt: skip
        found.append(Variant(f"convolution by channel, {name}", _depthwise, signature, constants, options(None, 4), 128,
                             4096, ("source", "weights", "numbers", "out", "span")))  # fmt: skip
    strides = ("of_image", "of_row", "of_column", "of_channel")
    for name, symbols in (("z to activations", True), ("latents to activations", False)):
        constants = dict(C=192, P=16, PLANES=2, SYMBOLS=symbols)
        signature = {"values": "*i32", "median": "*i32", "numbers": "*i32", "out": "*i8",
                     **dict.fromkeys(("images", "height", "width", "M", *strides, "limit", "border", "span", "parity"),
                                     "i32"),
                     **dict.fromkeys(constants, "constexpr")}  # fmt: skip
        found.append(Variant(name, _enter, signature, constants, options(None, 4), 128, 4096))
    constants = dict(C=128, P=32, REFLECT=True)
    sizes = ("images", "rows", "columns", "height", "width", "channels", "down", "side", "border")
    signature = {"pixels": "*u8", "out": "*i8", **dict.fromkeys(sizes, "i32"),
                 **dict.fromkeys(constants, "constexpr")}  # fmt: skip
    found.append(Variant("pixels to activations", _gather, signature, constants, options(None, 4), 128, 4096))
    return found
