"""How models lie in a device's memory: what kernels and their torch twins read. Loads no triton.

Channels are padded to multiples of 64, the depth of one tensor-core product, with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

PAD = 64
MAX_ACTIVATION_BITS = 14  # two int8 planes of 7 bits
MAX_SOURCES = 5  # maps that one network reads
# Rows and columns from a position to what the causal 5x5 context sees.
TAPS = tuple((i - 2, j - 2) for i in range(5) for j in range(5) if (i, j) < (2, 2))


def padded(channels: int) -> int:
    """Channels of a map, a multiple of 64."""
    return -(-channels // PAD) * PAD


@dataclass(frozen=True)
class Requantiser:
    """A layer's ``numbers`` int32 [4, columns] on the device, and the largest magnitude that it lets through."""

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
    ) -> Requantiser:
        """From arrays per channel; padding multiplies by zero, so it stays zero."""
        numbers = np.zeros((4, padded(len(multiplier))), np.int32)
        numbers[3] = 1
        for row, array in enumerate((bias, multiplier, negative, shift)):
            if array is not None:
                numbers[row, : len(array)] = array
        return cls(torch.from_numpy(numbers).to(device), (1 << (bits - 1)) - 1)


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


def pack_matrix(matrix: np.ndarray, taps: int) -> np.ndarray:
    """int8 [taps * inputs, outputs], tap by tap -> [padded outputs, taps * padded inputs]."""
    inputs, outputs = matrix.shape[0] // taps, matrix.shape[1]
    out = np.zeros((padded(outputs), taps, padded(inputs)), np.int8)
    out[:outputs, :, :inputs] = matrix.reshape(taps, inputs, outputs).transpose(2, 0, 1)
    return out.reshape(out.shape[0], -1)


def pad_halves(array: np.ndarray, half: int) -> np.ndarray:
    """[2M, ...] -> [2 half, ...]: each half followed by zeros."""
    m = len(array) // 2
    out = np.zeros((2 * half, *array.shape[1:]), array.dtype)
    out[:m], out[half : half + m] = array[:m], array[m:]
    return out


@dataclass(frozen=True)
class Map:
    """Activations as planes: int8 [images, height + 2 border, width + 2 border, 2, C], border and padding zero."""

    planes: Tensor
    height: int
    width: int
    border: int

    @classmethod
    def zeros(cls, images: int, height: int, width: int, channels: int, border: int, device: Any) -> Map:
        shape = (images, height + 2 * border, width + 2 * border, 2, padded(channels))
        return cls(torch.zeros(shape, dtype=torch.int8, device=device), height, width, border)


def as_map(values: Tensor, border: int) -> Map:
    """Activations int [images, h, w, channels] as planes, with plain tensor operations."""
    images, height, width, channels = values.shape
    out = Map.zeros(images, height, width, channels, border, values.device)
    high = (values + 64) >> 7
    inner = out.planes[:, border : border + height, border : border + width]
    inner[..., 0, :channels] = high.to(torch.int8)
    inner[..., 1, :channels] = (values - (high << 7)).to(torch.int8)
    return out


@dataclass(frozen=True)
class Source:
    """How a network reads one map: ``taps`` (row, column) offsets, each over all the map's padded channels."""

    channels: int
    taps: tuple[tuple[int, int], ...] = ((0, 0),)


@dataclass(frozen=True)
class BoardNetwork:
    """A parameter network of one parity, packed for a device.

    Attributes:
        sources: the maps that the first layer reads, in the order of its weights.
        layers: weights int8 [columns, depth] and requantisers with bias; of the last one, the head, columns are M
            scales padded to a multiple of 64, then the means. A first layer that is given a share has its bias in it.
        exponents: per layer, uint8 [columns] for a GELU in units of 2^-exponent, or None.
        gelu: int16 [16 * 4096], table of a GELU of 12-bit activations, or None.
        thresholds: int32 [2^levels - 1], ascending, padded with large numbers.
        M: channels of the latent.
    """

    sources: tuple[Source, ...]
    layers: tuple[Dense, ...]
    exponents: tuple[Tensor | None, ...]
    gelu: Tensor | None
    thresholds: Tensor
    M: int

    def __post_init__(self) -> None:
        if not 0 <= len(self.sources) <= MAX_SOURCES:
            raise ValueError(f"a network reads at most {MAX_SOURCES} maps, this one {len(self.sources)}")
        if len(self.layers) < 2:
            raise ValueError("a network has at least two layers")
        if len(self.exponents) != len(self.layers) or (
            self.gelu is None and any(e is not None for e in self.exponents)
        ):
            raise ValueError("every layer needs exponents or None, and GELU its table")
        depth = sum(s.channels * len(s.taps) for s in self.sources)
        for i, layer in enumerate(self.layers):
            if layer.weights.shape[1] != max(depth, 64):
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
