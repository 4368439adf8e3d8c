"""Steps of Swin-like networks: layer norm and softmax over channels, attention within windows, means of maps.

Sums are integers, exact in any order. From there on every operation is one of IEEE 754, rounded once: of float32, or
of float64 where that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.integers.fixed import largest
from fastlic.integers.functions import FAR, WEIGHT_BITS, Curves
from fastlic.integers.layer import INT32
from fastlic.integers.shapes import (
    ACTIVATIONS,
    FACTOR_BITS,
    Arrays,
    Factors,
    Shape,
    is_array,
    numbers_of,
    require,
)

MAX_WINDOW = 16
_MAX_CHANNELS = 1 << 14
_MAX_PLACES = 1 << 22  # numbers that engines keep of all heads' biases
# Scores below this differ by less than 2^31.
SCORES = 2**30 - 1
BIAS_BITS = 8  # of a layer norm's bias, below the unit of its outputs


@dataclass(frozen=True)
class LayerNormStep:
    """(x - mean) / sqrt(variance + epsilon) over the channels of a position, times a factor, and a bias.

    Attributes:
        input_bits, bits: widths of inputs and outputs, 2 to 16.
        weight: int16 [C] >= 0, brings channels to one unit: r(x 2^(16 - input_bits), weight), of which sums are made.
        epsilon: int32 [2], a number from 1 and how many bits it is shifted up, to 30: C^2 epsilon in squares of that.
        scale: of each channel, real values in that unit.
        factor: of each channel, may be below 0.
        bias: int32 [C], in units of 2^-8 of the outputs, below 2^24.
    """

    op: ClassVar[int] = 5
    input_bits: int
    bits: int
    weight: np.ndarray
    epsilon: np.ndarray
    scale: Factors
    factor: Factors
    bias: np.ndarray

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of activations int64 [C, h, w]: sums int64 [h, w], and C^2 times the variance and epsilon."""
        weight = torch.from_numpy(self.weight.astype(np.int64)).to(x.device)[:, None, None]
        even = ((x << (16 - self.input_bits)) * weight + (1 << 14)) >> 15
        sums = even.sum(0)
        low, up = (int(v) for v in self.epsilon)
        return sums, len(x) * (even * even).sum(0) - sums * sums + (low << up)

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        sums, squares = (a.cpu().numpy().astype(np.float64) for a in self.moments(x))
        # float64, each rounded to float32 at the end.
        mean = torch.from_numpy((sums / len(x)).astype(np.float32)).to(x.device)
        rate = torch.from_numpy((len(x) / np.sqrt(squares)).astype(np.float32)).to(x.device)
        bias = np.ldexp(self.bias.astype(np.float32), -BIAS_BITS).astype(np.float32)
        out = (x.float() * self.scale.over(x) - mean) * rate
        out = out * self.factor.over(x) + torch.from_numpy(bias).to(x.device)[:, None, None]
        limit = largest(self.bits)
        return out.clamp(-limit, limit).round().long()

    def shape(self, x: Shape) -> Shape:
        """Of its output; ValueError: it does not go with that input."""
        c = x.channels
        require(c <= _MAX_CHANNELS, f"layer norms serve up to {_MAX_CHANNELS} channels")
        require(2 <= self.input_bits <= ACTIVATIONS and x.bits <= self.input_bits, "inputs have 2 to 16 bits")
        require(2 <= self.bits <= ACTIVATIONS, "outputs have 2 to 16 bits")
        require(is_array(self.weight, np.int16, c) and bool((self.weight >= 0).all()), "weight is int16 [C], >= 0")
        require(is_array(self.epsilon, np.int32, 2), "epsilon is int32 [2]")
        require(bool(self.epsilon[0] >= 1 and 0 <= self.epsilon[1] <= 30), "epsilon is at least 1, shifted by 0 to 30")
        self.scale.check(c)
        self.factor.check(c, signed=True)
        small = is_array(self.bias, np.int32, c) and (np.abs(self.bias.astype(np.int64)) < 1 << FACTOR_BITS).all()
        require(bool(small), "bias is int32 [C], below 2^24")
        return Shape(c, self.bits, x.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        own = {f"{prefix}.weight": self.weight, f"{prefix}.epsilon": self.epsilon, f"{prefix}.bias": self.bias}
        factors = self.scale.to_arrays(f"{prefix}.scale") | self.factor.to_arrays(prefix)
        return numbers_of(prefix, self.op, self.input_bits, self.bits) | own | factors

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, input_bits: int, bits: int) -> LayerNormStep:
        """Read what ``to_arrays`` wrote under the same prefix."""
        weight, epsilon, bias = (arrays[f"{prefix}.{name}"] for name in ("weight", "epsilon", "bias"))
        scale, factor = Factors.from_arrays(arrays, f"{prefix}.scale"), Factors.from_arrays(arrays, prefix)
        return cls(input_bits, bits, weight, epsilon, scale, factor, bias)


@dataclass(frozen=True)
class WindowStep:
    """Attention of the positions of a window to each other: softmax(queries keys + bias) values, head by head.

    It reads queries, keys and values of 3 C channels, C of each, the heads one after the other. Windows begin at
    ``offset`` + k ``size`` in both directions; those at the edges of a map are cut.

    Attributes:
        size: p of windows of p x p positions, 1 to 16. Sides of maps are multiples of it.
        offset: less than that.
        heads: that divide C.
        input_bits, bits: widths of inputs and outputs, 2 to 16.
        bias: int32 [heads, (2 p - 1)^2], by how many rows, then columns, a query lies behind its key, plus p - 1; in
            units of products.
        sharpness: of each head, units of 2^-11 of a halved weight in one unit of products.
        factor: of each channel, from a mean of values to outputs.
    """

    op: ClassVar[int] = 6
    size: int
    offset: int
    heads: int
    input_bits: int
    bits: int
    bias: np.ndarray
    sharpness: Factors
    factor: Factors

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        height, width = require_windows(self.size, (x.shape[1], x.shape[2]))
        whole, there = on_grid(x, self.size, self.offset)
        above = (self.size - self.offset) % self.size
        rows = [self._row(curves, *of) for of in zip(whole.split(self.size, 1), there.split(self.size), strict=True)]
        return torch.cat(rows, 1)[:, above : above + height, above : above + width]

    def _row(self, curves: Curves, x: Tensor, there: Tensor) -> Tensor:
        """Of a row of windows; ``there`` says which positions the map has."""
        p, dims = self.size, len(x) // 3 // self.heads
        # [windows, heads, tokens, dims] of queries, keys and values
        q, k, v = x.view(3, self.heads, dims, p, -1, p).permute(0, 4, 1, 3, 5, 2).flatten(3, 4).double()
        keys = there.view(p, -1, p).permute(1, 0, 2).flatten(1)[:, None, None]
        bias = torch.from_numpy(self.bias.astype(np.int64)[:, places(p)]).to(x.device)
        sums = (q @ k.transpose(-1, -2)).long() + bias  # exact below 2^53
        highest = torch.where(keys, sums, -(1 << 40)).amax(-1, keepdim=True)
        distances = (highest - sums).clamp(min=0).float() * self.sharpness.over(sums[0])
        weights = curves.weights(distances.clamp(max=FAR).round().long()) * keys
        weights = _reduced(weights, INT32 // largest(self.input_bits) - p * p)
        totals = weights.sum(-1, keepdim=True).float()
        inverse = torch.ones_like(totals) / totals
        means = (weights.double() @ v).float() * inverse
        out = means.permute(1, 3, 2, 0).reshape(len(x) // 3, p, p, -1).movedim(3, 2).flatten(2)
        limit = largest(self.bits)
        return (out * self.factor.over(out)).clamp(-limit, limit).round().long()

    def shape(self, x: Shape) -> Shape:
        """As ``LayerNormStep.shape``; ValueError, too: a score could leave 31 bits."""
        p, channels = self.size, x.channels // 3
        require(1 <= p <= MAX_WINDOW and 0 <= self.offset < p, f"windows have sides of 1 to {MAX_WINDOW}")
        require(self.heads >= 1 and x.channels % (3 * self.heads) == 0, "heads share queries, keys and values evenly")
        require(channels <= _MAX_CHANNELS, f"windows serve up to {_MAX_CHANNELS} channels")
        require(self.heads * p**2 * (-(-(p**2) // 32) * 32) <= _MAX_PLACES, "windows of that size have fewer heads")
        require(2 <= self.input_bits <= ACTIVATIONS and x.bits <= self.input_bits, "inputs have 2 to 16 bits")
        require(2 <= self.bits <= ACTIVATIONS, "outputs have 2 to 16 bits")
        require(is_array(self.bias, np.int32, self.heads, (2 * p - 1) ** 2), "bias is int32 [heads, (2 p - 1)^2]")
        self.sharpness.check(self.heads)
        self.factor.check(channels)
        reach = channels // self.heads * largest(self.input_bits) ** 2 + int(np.abs(self.bias.astype(np.int64)).max())
        require(reach <= SCORES, "a score could leave 31 bits")
        return Shape(channels, self.bits, x.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        numbers = numbers_of(prefix, self.op, self.size, self.offset, self.heads, self.input_bits, self.bits)
        factors = self.sharpness.to_arrays(f"{prefix}.sharpness") | self.factor.to_arrays(prefix)
        return numbers | {f"{prefix}.bias": self.bias} | factors

    @classmethod
    def from_arrays(
        cls, arrays: Arrays, prefix: str, size: int, offset: int, heads: int, input_bits: int, bits: int
    ) -> WindowStep:
        """Read what ``to_arrays`` wrote under the same prefix."""
        sharpness, factor = Factors.from_arrays(arrays, f"{prefix}.sharpness"), Factors.from_arrays(arrays, prefix)
        return cls(size, offset, heads, input_bits, bits, arrays[f"{prefix}.bias"], sharpness, factor)


@dataclass(frozen=True)
class SoftmaxStep:
    """Softmax over each of several groups of channels, one after the other: attention to what is fixed.

    Attributes:
        groups: that share the channels evenly.
        bits: width of outputs, 2 to 16.
        sharpness: of each group, units of 2^-11 of a halved weight in one unit of its inputs.
        factor: of each channel, from weights whose sum is 1 to outputs.
    """

    op: ClassVar[int] = 9
    groups: int
    bits: int
    sharpness: Factors
    factor: Factors

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        own = x.unflatten(0, (self.groups, -1))
        distances = (own.amax(1, keepdim=True) - own).float() * self.sharpness.over(own)
        weights = curves.weights(distances.clamp(max=FAR).round().long())
        totals = weights.sum(1, keepdim=True).float()
        out = (weights.float() * (torch.ones_like(totals) / totals)).flatten(0, 1) * self.factor.over(x)
        limit = largest(self.bits)
        return out.clamp(-limit, limit).round().long()

    def shape(self, x: Shape) -> Shape:
        """As ``LayerNormStep.shape``; sums of weights are below 2^14 times the channels."""
        require(x.channels <= _MAX_CHANNELS, f"softmax serves up to {_MAX_CHANNELS} channels")
        require(self.groups >= 1 and x.channels % self.groups == 0, "groups share channels evenly")
        require(2 <= self.bits <= ACTIVATIONS, "outputs have 2 to 16 bits")
        self.sharpness.check(self.groups)
        self.factor.check(x.channels)
        return Shape(x.channels, self.bits, x.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        factors = self.sharpness.to_arrays(f"{prefix}.sharpness") | self.factor.to_arrays(prefix)
        return numbers_of(prefix, self.op, self.groups, self.bits) | factors

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, groups: int, bits: int) -> SoftmaxStep:
        """Read what ``to_arrays`` wrote under the same prefix."""
        sharpness, factor = Factors.from_arrays(arrays, f"{prefix}.sharpness"), Factors.from_arrays(arrays, prefix)
        return cls(groups, bits, sharpness, factor)


@dataclass(frozen=True)
class MapMeanStep:
    """The mean of a map's positions, at each of them.

    Attributes:
        bits: width of outputs, 2 to 16.
        factor: of each channel, from a mean to outputs.
    """

    op: ClassVar[int] = 10
    bits: int
    factor: Factors

    def __call__(self, curves: Curves, x: Tensor) -> Tensor:
        sums = x.flatten(1).sum(1).cpu().numpy().astype(np.float64)
        mean = torch.from_numpy((sums / x[0].numel()).astype(np.float32)).to(x.device)
        limit = largest(self.bits)
        out = (mean * self.factor.over(mean)).clamp(-limit, limit).round().long()
        return out[:, None, None].expand(x.shape).contiguous()

    def shape(self, x: Shape) -> Shape:
        """As ``LayerNormStep.shape``."""
        require(x.channels <= _MAX_CHANNELS, f"means of maps serve up to {_MAX_CHANNELS} channels")
        require(2 <= self.bits <= ACTIVATIONS, "outputs have 2 to 16 bits")
        self.factor.check(x.channels)
        return Shape(x.channels, self.bits, x.sizes)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        return numbers_of(prefix, self.op, self.bits) | self.factor.to_arrays(prefix)

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, bits: int) -> MapMeanStep:
        """Read what ``to_arrays`` wrote under the same prefix."""
        return cls(bits, Factors.from_arrays(arrays, prefix))


def places(size: int) -> np.ndarray:
    """int64 [p^2, p^2]: (2 p - 1) rows + columns by which each position of a window lies behind each, from -(p - 1)."""
    row, column = np.divmod(np.arange(size * size), size)
    behind = row[:, None] - row, column[:, None] - column
    return (behind[0] + size - 1) * (2 * size - 1) + behind[1] + size - 1


def on_grid(x: Tensor, size: int, offset: int) -> tuple[Tensor, Tensor]:
    """[..., h, w] with zeros around it, so that windows are whole; and bool [h', w'], where the map is."""
    above = (size - offset) % size
    below = [-(above + n) % size for n in x.shape[-2:]]
    pad = (above, below[1], above, below[0])
    return F.pad(x, pad), F.pad(torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device), pad)


def require_windows(size: int, sides: tuple[int, int]) -> tuple[int, int]:
    """These sides; raises ValueError unless both are multiples of a window's."""
    if sides[0] % size or sides[1] % size:
        raise ValueError(
            f"windows of {size} x {size} need a map whose sides are multiples of {size}, it is {sides[0]} x {sides[1]}"
        )
    return sides


def _reduced(weights: Tensor, most: int) -> Tensor:
    """Weights int64 [..., keys] shifted down as far as their sum must be for products with values to fit int32."""
    total = weights.sum(-1, keepdim=True)
    shift = torch.stack([(total >> e) > most for e in range(WEIGHT_BITS)]).sum(0)  # the least that will do
    return torch.where(shift > 0, (weights + (1 << (shift - 1).clamp(min=0))) >> shift, weights)
