"""How models lie in a device's memory: what kernels and their torch twins read. Loads no triton.

Channels are padded to multiples of 64, the depth of one tensor-core product, with zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

PAD = 64
MAX_ACTIVATION_BITS = 14  # two int8 planes of 7 bits
PLANE_BITS = 7
SQUARE_BITS = 8  # of the planes of GDN's squares and weights
MAX_SOURCES = 5  # maps that one network reads
# Rows and columns from a position to what the causal 5x5 context sees.
TAPS = tuple((i - 2, j - 2) for i in range(5) for j in range(5) if (i, j) < (2, 2))


def padded(channels: int, pad: int = PAD) -> int:
    """Channels of a map, a multiple of 64."""
    return -(-channels // pad) * pad


def planes_of(bits: int) -> int:
    """Planes that activations of so many bits are stored in."""
    return 2 if bits <= MAX_ACTIVATION_BITS else 3


def digits(values: np.ndarray, bits: int, planes: int) -> list[np.ndarray]:
    """int8 planes of base 2^bits, the lowest first, all but the highest balanced around zero.

    Raises:
        ValueError: numbers that so many planes do not hold.
    """
    left, out = values.astype(np.int64), []
    for _ in range(planes - 1):
        above = (left + (1 << (bits - 1))) >> bits
        out.append(left - (above << bits))
        left = above
    if left.size and (left.min() < -128 or left.max() > 127):
        raise ValueError(f"{planes} planes of {bits} bits do not hold numbers of {values.min()} to {values.max()}")
    return [plane.astype(np.int8) for plane in (*out, left)]


def planes_of_weights(weight: np.ndarray) -> int:
    """The fewest planes of ``PLANE_BITS`` that hold these integers, of at most 16 bits."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    if low >= -128 and high <= 127:
        return 1
    half = 1 << (PLANE_BITS - 1)
    return 2 if (low + half) >> PLANE_BITS >= -128 and (high + half) >> PLANE_BITS <= 127 else 3


@dataclass(frozen=True)
class Requantiser:
    """A layer's ``numbers`` int32 [4 or 5, columns] on the device, and the largest magnitude that it lets through."""

    numbers: Tensor
    limit: int

    @classmethod
    def of(
        cls,
        multiplier: np.ndarray,
        negative: np.ndarray,
        shift: np.ndarray,
        bits: int,
        device: Any,
        bias: np.ndarray | None = None,
        exponents: np.ndarray | None = None,
        cells: int = 1,
        pad: int = PAD,
    ) -> Requantiser:
        """From arrays per channel; padding multiplies by zero, so it stays zero.

        Args:
            exponents: of the curve that follows.
            cells: of a pixel shuffle, whose channels stand side by side: ``numbers`` are [cells, 4 or 5, columns].
            pad: columns are a multiple of so many.
        """
        rows = (bias, multiplier, negative, shift, *(() if exponents is None else (exponents,)))
        count = len(multiplier) // cells
        numbers = np.zeros((cells, len(rows), padded(count, pad)), np.int32)
        numbers[:, 3] = 1
        for row, array in enumerate(rows):
            if array is not None:
                numbers[:, row, :count] = array.reshape(count, cells).T
        return cls(torch.from_numpy(numbers if cells > 1 else numbers[0]).to(device), (1 << (bits - 1)) - 1)


@dataclass(frozen=True)
class Dense:
    """A matrix layer: weights int8 [columns, taps * C], its requantiser with bias."""

    weights: Tensor
    requantiser: Requantiser

    @property
    def columns(self) -> int:
        return self.weights.shape[0]


def pad_thresholds(thresholds: np.ndarray, device: Any) -> Tensor:
    """Ascending int32 thresholds, filled up to 2^n - 1 with numbers that no scale exceeds."""
    full = np.full((1 << len(thresholds).bit_length()) - 1, 2**31 - 1, np.int32)
    full[: len(thresholds)] = thresholds
    return torch.from_numpy(full).to(device)


def pack_matrix(matrix: np.ndarray, taps: int, pad: int = PAD) -> np.ndarray:
    """int8 [taps * inputs, outputs], tap by tap -> [padded outputs, taps * padded inputs]."""
    inputs, outputs = matrix.shape[0] // taps, matrix.shape[1]
    out = np.zeros((padded(outputs, pad), taps, padded(inputs)), np.int8)
    out[:outputs, :, :inputs] = matrix.reshape(taps, inputs, outputs).transpose(2, 0, 1)
    return out.reshape(out.shape[0], -1)


def pack_planes(matrix: np.ndarray, taps: int, bits: int, planes: int, pad: int = PAD) -> np.ndarray:
    """int8 or int16, shaped as for ``pack_matrix`` -> int8 [padded outputs, planes, taps * padded inputs]."""
    return np.stack([pack_matrix(plane, taps, pad) for plane in digits(matrix, bits, planes)], 1)


def pad_halves(array: np.ndarray, half: int) -> np.ndarray:
    """[2M, ...] -> [2 half, ...]: each half followed by zeros."""
    m = len(array) // 2
    out = np.zeros((2 * half, *array.shape[1:]), array.dtype)
    out[:m], out[half : half + m] = array[:m], array[m:]
    return out


@dataclass(frozen=True)
class Map:
    """Activations as 2 or 3 planes: int8 [images, height + 2 border, width + 2 border, planes, C], border and padding
    zero. A part of a wider map has some of its channels, and behind them, where C is more, others."""

    planes: Tensor
    height: int
    width: int
    border: int

    @classmethod
    def zeros(
        cls, images: int, height: int, width: int, channels: int, border: int, device: Any, planes: int = 2
    ) -> Map:
        """Raises ValueError for 2^31 bytes and more, beyond which kernels do not count."""
        return cls._made(torch.zeros, images, height, width, channels, border, device, planes)

    @classmethod
    def to_fill(
        cls, images: int, height: int, width: int, channels: int, border: int, device: Any, planes: int = 2
    ) -> Map:
        """As ``zeros``, for a kernel that writes every position and channel: without a border nothing is cleared."""
        make = torch.zeros if border else torch.empty
        return cls._made(make, images, height, width, channels, border, device, planes)

    @classmethod
    def _made(
        cls, make: Any, images: int, height: int, width: int, channels: int, border: int, device: Any, planes: int
    ) -> Map:
        shape = (images, height + 2 * border, width + 2 * border, planes, padded(channels))
        if (size := math.prod(shape)) >= 1 << 31:
            raise ValueError(f"maps hold less than 2^31 bytes, this one {size}: use smaller batches or images")
        return cls(make(shape, dtype=torch.int8, device=device), height, width, border)

    @property
    def count(self) -> int:
        """Planes."""
        return self.planes.shape[3]

    @property
    def span(self) -> int:
        """Channels from one plane to the next: C, or those of the map that it is a part of."""
        return self.planes.stride(3)

    @property
    def inner(self) -> Tensor:
        """Its planes without the border."""
        rows, columns = slice(self.border, self.border + self.height), slice(self.border, self.border + self.width)
        return self.planes[:, rows, columns]

    def part(self, first: int, channels: int) -> Map:
        """Channels from ``first`` on, in the same memory."""
        behind = first + padded(channels)
        if behind > self.planes.shape[-1]:
            raise ValueError(f"a map of {self.planes.shape[-1]} channels has no part that ends at {behind}")
        return replace(self, planes=self.planes[..., first:behind])


def fill(out: Map, values: Tensor) -> Map:
    """Activations int [images, h or 1, w or 1, channels] to their places, or to every place, with plain tensor
    operations; returns the map."""
    inner, left, channels = out.inner, values, values.shape[-1]
    for plane in range(out.count - 1, 0, -1):
        above = (left + (1 << (PLANE_BITS - 1))) >> PLANE_BITS
        inner[..., plane, :channels] = (left - (above << PLANE_BITS)).to(torch.int8)
        left = above
    inner[..., 0, :channels] = left.to(torch.int8)
    return out


def as_map(values: Tensor, border: int) -> Map:
    """Activations int [images, h, w, channels] as planes, with plain tensor operations."""
    images, height, width, channels = values.shape
    return fill(Map.zeros(images, height, width, channels, border, values.device), values)


def room(
    images: int, height: int, width: int, channels: int, border: int, device: Any, planes: int, whole: bool = True
) -> tuple[Map | Tensor, Tensor]:
    """What a kernel makes, a map of so many planes or, of 0, int32 [images, height, width, C]; and where it writes.

    Args:
        whole: whether it writes a map's padding too.
    """
    if planes:
        make = Map.to_fill if whole else Map.zeros
        made = make(images, height, width, channels, border, device, planes)
        return made, made.planes
    values = torch.empty(images, height, width, padded(channels), dtype=torch.int32, device=device)
    return values, values


@dataclass(frozen=True)
class BoardNetwork:
    """A parameter network of one parity, packed for a device.

    Attributes:
        channels: of each map that the first layer reads, padded, in the order of its weights.
        layers: weights int8 [columns, depth] and requantisers with bias; of the last one, the head, columns are M
            scales padded to a multiple of 64, then the means.
        exponents: per layer, uint8 [columns] for a GELU in units of 2^-exponent, or None.
        gelu: int16 [16 * 4096], table of a GELU of 12-bit activations, or None.
        thresholds: int32 [2^levels - 1], ascending, padded with large numbers.
        M: channels of the latent.
    """

    channels: tuple[int, ...]
    layers: tuple[Dense, ...]
    exponents: tuple[Tensor | None, ...]
    gelu: Tensor | None
    thresholds: Tensor
    M: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= MAX_SOURCES:
            raise ValueError(f"a network reads 1 to {MAX_SOURCES} maps, this one {len(self.channels)}")
        if len(self.layers) < 2:
            raise ValueError("a network has at least two layers")
        if len(self.exponents) != len(self.layers) or (
            self.gelu is None and any(e is not None for e in self.exponents)
        ):
            raise ValueError("every layer needs exponents or None, and GELU its table")
        depth = sum(self.channels)
        for i, layer in enumerate(self.layers):
            if layer.weights.shape[1] != depth:
                raise ValueError(f"layer {i} reads {layer.weights.shape[1]} channels but is given {depth}")
            depth = layer.columns

    @property
    def levels(self) -> int:
        return int(self.thresholds.numel() + 1).bit_length() - 1

    @cached_property
    def packed(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]:
        """(weights int8, numbers int32, exponents uint8, plan int32 [layers, 5], GELU table, widest layer)."""
        device = self.thresholds.device
        plan, at, row = [], 0, 0
        exponents = [
            torch.zeros(layer.columns, dtype=torch.uint8, device=device) if e is None else e
            for layer, e in zip(self.layers, self.exponents, strict=True)
        ]
        for layer, of_gelu in zip(self.layers, self.exponents, strict=True):
            limit = layer.requantiser.limit if of_gelu is None else -layer.requantiser.limit
            plan.append((layer.weights.shape[1], layer.columns, at, row, limit))
            at, row = at + layer.weights.numel(), row + layer.columns
        return (
            torch.cat([layer.weights.flatten() for layer in self.layers]),
            torch.cat([layer.requantiser.numbers for layer in self.layers], 1).contiguous(),
            torch.cat(exponents),
            torch.tensor(plan, dtype=torch.int32).to(device),
            self.thresholds if self.gelu is None else self.gelu,
            max(layer.columns for layer in self.layers[:-1]),
        )
