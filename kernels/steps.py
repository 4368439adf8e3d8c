"""Steps of transforms between layers, element by element: sums, products, gates and curves of whole maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.integer import curve, load_planes, requantise, share_of, store_made, tail_of
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, interpreted, on, options
from fastlic.kernels.packing import Map, padded, room

_SUM, _GATE, _CURVE, _RESIDUAL, _PRODUCT = range(5)
_BLOCK = 64
_SIZES = ["images", "height", "width", "a_border", "b_border", "out_border", "shift", "limit", "fine"]


@dataclass(frozen=True)
class Step:
    """A sum, product, gate or curve, packed; or a residual, the sum of one value requantised and another as it is.

    Attributes:
        numbers: int32 [3, C]: of sums both factors; of residuals and products multiplier, that of negative values, and
            shift; of the others, the exponents.
        tail, fine: of a curve, int32 [65] and its F (docs/transforms.md); of residuals, fine is the limit of what is
            requantised.
        shift: of sums; limit: of the outputs.
    """

    kind: int
    numbers: Tensor
    channels: int
    tail: Tensor
    fine: int = 0
    shift: int = 0
    limit: int = 0

    @classmethod
    def sum(cls, left: np.ndarray, right: np.ndarray, shift: int, bits: int, device: Any) -> Step:
        numbers = _numbers(device, left, right)
        return cls(_SUM, numbers, len(left), numbers, shift=shift, limit=(1 << (bits - 1)) - 1)

    @classmethod
    def residual(
        cls, multiplier: np.ndarray, negative: np.ndarray, shift: np.ndarray, between: int, bits: int, device: Any
    ) -> Step:
        """between, bits: of the requantised value, and of the outputs."""
        numbers = _numbers(device, multiplier, negative, shift)
        first, last = ((1 << (b - 1)) - 1 for b in (between, bits))
        return cls(_RESIDUAL, numbers, len(shift), numbers, fine=first, limit=last)

    @classmethod
    def product(cls, multiplier: np.ndarray, negative: np.ndarray, shift: np.ndarray, bits: int, device: Any) -> Step:
        numbers = _numbers(device, multiplier, negative, shift)
        return cls(_PRODUCT, numbers, len(shift), numbers, limit=(1 << (bits - 1)) - 1)

    @classmethod
    def gate(cls, exponents: np.ndarray, tail: Tensor, fine: int, device: Any) -> Step:
        return cls(_GATE, _numbers(device, exponents), len(exponents), tail, fine)

    @classmethod
    def curve(cls, exponents: np.ndarray, tail: Tensor, fine: int, device: Any) -> Step:
        return cls(_CURVE, _numbers(device, exponents), len(exponents), tail, fine)


def _numbers(device: Any, *rows: np.ndarray) -> Tensor:
    numbers = np.zeros((3, padded(len(rows[0]))), np.int32)
    numbers[2] = 1  # a shift of what is padded
    for own, row in zip(numbers, rows, strict=False):
        own[: len(row)] = row
    return torch.from_numpy(numbers).to(device)


@triton.jit(do_not_specialize=_SIZES)
def _combine(
    left, right, numbers, tail, out, images, height, width, a_border, b_border, out_border, shift, limit, fine,
    C: tl.constexpr, P: tl.constexpr, KIND: tl.constexpr, A: tl.constexpr, B: tl.constexpr, MADE: tl.constexpr,
):  # fmt: skip
    """Programs (position blocks, blocks of 64 channels) over maps of A and B planes. MADE: planes of the map that is
    made; 0: int32 [images, height, width, C]."""
    p = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    channel = tl.program_id(1) * 64 + tl.arange(0, 64)
    q = tl.minimum(p, images * height * width - 1)
    image, row, column = q // (height * width), q // width % height, q % width
    at = (image * (height + 2 * a_border) + row + a_border) * (width + 2 * a_border) + column + a_border
    a = load_planes(left + (at * (A * C))[:, None] + channel[None, :], C, A)
    first = tl.load(numbers + channel)[None, :]
    if KIND == 2:
        value = curve(a, first, tail, fine)
    else:
        at = (image * (height + 2 * b_border) + row + b_border) * (width + 2 * b_border) + column + b_border
        b = load_planes(right + (at * (B * C))[:, None] + channel[None, :], C, B)
        if KIND == 0:
            sum = a * first + b * tl.load(numbers + C + channel)[None, :]
            value = (sum + (1 << (shift - 1))) >> shift
            value = tl.minimum(tl.maximum(value, -limit), limit)
        elif KIND >= 3:
            negative, places = tl.load(numbers + C + channel)[None, :], tl.load(numbers + 2 * C + channel)[None, :]
            if KIND == 4:
                value = requantise(a * b, first, negative, places, limit)
            else:
                value = requantise(a, first, negative, places, fine) + b
                value = tl.minimum(tl.maximum(value, -limit), limit)
        else:
            small = share_of(a, tail_of(tl.abs(b), first, tail, fine))
            value = tl.where(b >= 0, a - small, small)
    at = (image * (height + 2 * out_border) + row + out_border) * (width + 2 * out_border) + column + out_border
    store_made(out, at, channel, C, value, (p < images * height * width)[:, None], MADE)


def combine(step: Step, a: Map, b: Map, border: int = 0, planes: int = 0) -> Map | Tensor:
    """A step over whole maps of one size: a Map of so many planes, or, of 0, int32 [images, h, w, C].

    Args:
        b: the second value; curves read ``a`` alone.
    """
    device = check_device(_combine, a.planes, b.planes, step.numbers)
    images, C = len(a.planes), a.planes.shape[-1]
    height, width = a.height, a.width
    made, out = room(images, height, width, step.channels, border, device, planes)
    block = 1024 if interpreted(_combine) else _BLOCK
    on(device, _combine)[(ceil_div(images * height * width, block), C // 64)](
        a.planes, b.planes, step.numbers, step.tail, out, images, height, width, a.border, b.border,
        border if planes else 0, step.shift, step.limit, step.fine, C=C, P=block, KIND=step.kind, A=a.count, B=b.count,
        MADE=planes, **options(_combine, 4),
    )  # fmt: skip
    return made


def variants(target: Target) -> list[Variant]:
    found = []
    for kind, name in enumerate(("sum", "gate", "curve", "residual", "product")):
        constants = dict(C=64, P=_BLOCK, KIND=kind, A=2, B=2, MADE=2)
        signature = {"left": "*i8", "right": "*i8", "numbers": "*i32", "tail": "*i32", "out": "*i8",
                     **dict.fromkeys(_SIZES, "i32"), **dict.fromkeys(constants, "constexpr")}  # fmt: skip
        found.append(Variant(f"{name} of maps", _combine, signature, constants, options(None, 4), 128, 4096,
                             ("left", "right", "numbers", "out")))  # fmt: skip
    return found
