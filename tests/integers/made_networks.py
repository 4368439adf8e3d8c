"""Small networks of integers drawn at random: every kind of step, sizes that fit no vector, numbers at their limits."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastlic.integers.fixed import LATENT_LIMIT, Requantiser, largest
from fastlic.integers.functions import CURVE_BITS, Curve
from fastlic.integers.layer import HALVED, INT32, PLAIN, SHUFFLED, TRANSPOSED, Kind, Layer, phases
from fastlic.integers.network import (
    CurveStep,
    DepthwiseStep,
    GateStep,
    LayerStep,
    Network,
    NormStep,
    ProductStep,
    Step,
    SumStep,
)
from fastlic.integers.shapes import Factors, Shape
from fastlic.integers.windows import SCORES, LayerNormStep, MapMeanStep, SoftmaxStep, WindowStep

CHANNELS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 40, 48, 64, 65, 97)
WINOGRAD = 2**29 - 1  # the bound on sums below which layers may be transformed (docs/engine.md)
TYPES = {np.dtype(t): number for number, t in enumerate((np.int8, np.uint8, np.int16, np.int32))}


def write_arrays(arrays: dict[str, np.ndarray], path: Path) -> Path:
    """Arrays as csrc/tests/model_file.hpp reads them."""
    parts = [struct.pack("<I", len(arrays))]
    for name, array in arrays.items():
        head = (len(name), name.encode(), TYPES[array.dtype], array.ndim, *array.shape)
        parts.append(struct.pack(f"<I{len(name)}sII{array.ndim}I", *head))
        parts.append(np.ascontiguousarray(array).tobytes())
    path.write_bytes(b"".join(parts))
    return path


def chain(steps: Sequence[Step], entry: Requantiser | None = None) -> Network:
    """The network of steps each of which reads the one before."""
    return Network(tuple(steps), tuple((i,) for i in range(len(steps))), entry)


@dataclass(frozen=True)
class Draw:
    """Draws parts of networks.

    Attributes:
        rng: where from.
        extreme: whether numbers stand at their limits, or are such that outputs spread over their range.
    """

    rng: np.random.Generator
    extreme: bool = False

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one(self, *of: int) -> int:
        return int(self.rng.choice(of))

    def requantiser(self, channels: int, bits: int, reach: np.ndarray) -> Requantiser:
        """Of accumulators up to ``reach``; of extreme ones any factors and shifts."""
        if not self.extreme:
            factors = largest(bits) / np.maximum(reach, 1) * self.rng.uniform(0.3, 6, channels)
            slope = float(self.rng.choice([1.0, 0.0, 0.01, -0.3]))
            return Requantiser.from_factors(factors.clip(2.0**-32, 2.0**28), bits, slope)
        edges = np.array([-(2**30), 1 - 2**30, -1, 0, 1, 2**30 - 1, 2**30])
        any_of = self.rng.integers(-(2**30), 2**30 + 1, (2, channels))
        multiplier, negative = np.where(
            self.rng.random((2, channels)) < 0.3, self.rng.choice(edges, (2, channels)), any_of
        ).astype(np.int32)
        shift = self.rng.choice(np.array([1, 2, 24, 31, 32, 33, 40, 45, 61, 62], np.uint8), channels)
        return Requantiser(multiplier, negative, shift, bits)

    def weights(self, kind: Kind, shape: tuple[int, int, int], wide: bool, limit: int, most: int) -> np.ndarray:
        """Of a kernel (outputs, inputs, side), as torch stores them; no sum over a phase's taps exceeds ``most``."""
        outputs, inputs, side = shape
        highest = 32767 if wide else 127
        taps = [own for own, _ in phases(kind, side)] if kind.transposed else [np.arange(side * side)]
        # Of transposed kinds the proof of int32 is over the whole kernel, too.
        longest = side * side if most == INT32 else max(map(len, taps))
        each = min(highest, (most - 1) // limit // (inputs * longest))
        if each == 0:  # one tap in a few may be other than zero
            w = np.zeros((outputs, inputs, side * side), np.int64)
            w[:, 0, side * side // 2] = self.rng.integers(-1, 2, outputs)
        elif self.extreme:
            w = self.rng.choice([-each, each, -each, each, 0], (outputs, inputs, side * side))
            if each == highest and self.chance(0.5):
                w[self.rng.random(w.shape) < 0.05] = -highest - 1
            if self.chance(0.3):
                w[...] = each * self.one(-1, 1)
        else:
            w = self.rng.integers(-each, each + 1, (outputs, inputs, side * side))
        sums = np.abs(w).sum((1, 2)) * limit
        w[sums > (INT32 if kind.transposed else most) - 1] = 0  # the few -128 may have been too many
        w = w.reshape(outputs, inputs, side, side).astype(np.int16 if wide else np.int8)
        return np.ascontiguousarray(w.swapaxes(0, 1)) if kind.transposed else w

    def layer(
        self,
        x: Shape,
        outputs: int,
        kind: Kind = PLAIN,
        side: int = 3,
        bits: int = 14,
        *,
        wide: bool = False,
        fits: bool = True,
        reflect: bool = False,
        curve: Curve | None = None,
        rectified: bool = False,
    ) -> LayerStep:
        """``fits``: whether sums stay below Winograd's bound."""
        input_bits = self.one(*range(x.bits, min(x.bits + 3, 17)))
        limit = largest(input_bits)
        out = outputs * kind.cells
        weight = self.weights(kind, (out, x.channels, side), wide, limit, WINOGRAD if fits else INT32)
        sums = np.abs(weight.astype(np.int64)).sum((0 if kind.transposed else 1, 2, 3)) * limit
        room = INT32 - sums
        bias = room * self.rng.choice([-1, 1], out)
        if not self.extreme or self.chance(0.5):
            small = np.minimum(room, sums // 10)
            bias = self.rng.integers(-small, small + 1)
        exponents = None
        if curve is not None:
            bits = min(bits, CURVE_BITS)
            exponents = np.repeat(self.rng.integers(0, 16, outputs), kind.cells).astype(np.uint8)
        requantiser = self.requantiser(out, bits, sums / 3)
        if rectified:
            requantiser = Requantiser(
                np.abs(requantiser.multiplier), np.zeros(out, np.int32), requantiser.shift, requantiser.bits
            )
        own = Layer(
            weight, bias.astype(np.int32), requantiser, kind, 1, exponents, input_bits, curve or Curve.GELU, reflect
        )
        return LayerStep(own)

    def any_layer(self, x: Shape, outputs: int, kind: Kind, bits: int, **how: bool) -> LayerStep:
        side = self.one(1, 3, 5, 7, 9) if x.channels < 20 else self.one(1, 3, 5)
        curve = Curve.numbered(self.one(0, 1)) if self.chance(0.4) and bits <= CURVE_BITS else None
        reflect = not kind.transposed and self.chance(0.2)
        wide, fits = self.chance(0.5), self.chance(0.7)
        own = {"wide": wide, "fits": fits, "reflect": reflect, "rectified": self.chance(0.2), **how}
        return self.layer(x, outputs, kind, side, bits, curve=curve, **own)

    def depthwise(self, x: Shape, side: int, bits: int, curve: Curve | None = None, wide: bool = True) -> DepthwiseStep:
        """Layers of one channel each, side by side."""
        each = [self.layer(Shape(1, x.bits), 1, PLAIN, side, bits, wide=wide, fits=False) for _ in range(x.channels)]
        one = each[0].layer
        input_bits = x.bits  # of all of them, which have drawn more
        exponents = self.exponents(x.channels) if curve is not None and one.requantiser.bits <= CURVE_BITS else None
        parts = [own.layer.requantiser for own in each]
        requantiser = Requantiser(
            *(np.concatenate([getattr(own, name) for own in parts]) for name in ("multiplier", "negative", "shift")),
            one.requantiser.bits,
        )
        weight, bias = (np.concatenate([getattr(own.layer, name) for own in each]) for name in ("weight", "bias"))
        return DepthwiseStep(
            Layer(weight, bias, requantiser, PLAIN, x.channels, exponents, input_bits, curve or Curve.GELU)
        )

    def product(self, a: Shape, b: Shape) -> ProductStep:
        reach = np.full(a.channels, a.limit * b.limit / 3)
        return ProductStep(self.requantiser(a.channels, self.one(2, 9, 14, 16), reach))

    def norm(self, x: Shape) -> NormStep:
        c, input_bits = x.channels, max(9, self.one(*range(x.bits, min(x.bits + 2, 17))))
        most = (INT32 - 1) // 32767 // c
        if self.extreme:
            gamma = self.rng.choice([0, min(most, 32767)], (c, c))
            beta = np.where(self.rng.random(c) < 0.5, 1, INT32 - gamma.sum(1) * 32767)
            multiplier, shift = self.rng.choice([0, 1, 2**24 - 1], c), self.rng.choice([0, 1, 23, 24, 61, 62], c)
        else:
            gamma = self.rng.integers(0, min(most, 300) + 1, (c, c))
            beta = self.rng.integers(1, 1 << 20, c)
            multiplier = self.rng.integers(1 << 23, 1 << 24, c)
            shift = 23 + self.rng.integers(-3, 9, c) + (0 if (inverse := self.chance(0.5)) else -9)
            return NormStep(
                inverse, input_bits, self.one(9, 13, 14, 16), *(
                    gamma.astype(np.int16), beta.astype(np.int32),
                    multiplier.astype(np.int32), (shift + 9 * inverse).astype(np.uint8),
                )
            )  # fmt: skip
        return NormStep(
            self.chance(0.5), input_bits, self.one(2, 14, 16), gamma.astype(np.int16),
            beta.astype(np.int32), multiplier.astype(np.int32), shift.astype(np.uint8),
        )  # fmt: skip

    def sum(self, a: Shape, b: Shape) -> SumStep:
        shift = self.one(1, 30) if self.extreme else self.one(10, 12, 14)
        most = min((INT32 - (1 << (shift - 1))) // (a.limit + b.limit), 32767)
        if self.extreme:
            left, right = self.rng.choice([-most, most], (2, a.channels))
        else:
            left, right = self.rng.integers(-most, most + 1, (2, a.channels)) >> self.one(0, 2, 3)
        return SumStep(shift, self.one(2, 13, 14, 16), left.astype(np.int16), right.astype(np.int16))

    def factors(self, count: int, low: float, high: float, signed: bool = False) -> Factors:
        """Between two numbers; extreme ones are any that there are."""
        if self.extreme:
            multiplier = self.rng.choice([-(2**24) + 1, 0, 1, 2**24 - 1] if signed else [0, 1, 2**24 - 1], count)
            return Factors(
                multiplier.astype(np.int32), self.rng.choice(np.array([0, 1, 23, 24, 61, 62], np.uint8), count)
            )
        sign = self.rng.choice([-1, 1], count) if signed else 1
        return Factors.nearest(sign * self.rng.uniform(low, high, count))

    def layer_norm(self, x: Shape) -> LayerNormStep:
        c, input_bits, bits = x.channels, self.one(*range(x.bits, 17)), self.one(2, 9, 13, 14, 16)
        if self.extreme:
            weight, epsilon = self.rng.choice([0, 1, 32767], c), [self.one(1, 2**31 - 1), self.one(0, 30)]
            bias = self.rng.choice([1 - 2**24, 0, 2**24 - 1], c)
        else:
            weight, epsilon = self.rng.integers(1000, 32768, c), [self.one(1, 1000, 10**6), self.one(0, 3)]
            bias = self.rng.integers(-256, 257, c) * largest(bits) // 4
        return LayerNormStep(
            input_bits, bits, weight.astype(np.int16), np.array(epsilon, np.int32),
            self.factors(c, 0.1, 4.0), self.factors(c, 0.1 * largest(bits), 0.4 * largest(bits), signed=True),
            bias.astype(np.int32),
        )  # fmt: skip

    def windows(self, x: Shape, sizes: Sequence[int] = (1, 2, 3, 4), heads: int = 0) -> WindowStep:
        """Of a value of 3 C channels, whose products of queries and keys may be added."""
        p, channels = self.one(*sizes), x.channels // 3
        heads = heads or self.one(*(h for h in range(1, channels + 1) if channels % h == 0))
        dims, wide = channels // heads, range(x.bits, 17)
        input_bits = self.one(*(b for b in wide if dims * largest(b) ** 2 < SCORES))
        room = SCORES - dims * largest(input_bits) ** 2
        size = (heads, (2 * p - 1) ** 2)
        bias = (
            self.rng.choice([-room, 0, room], size)
            if self.extreme
            else self.rng.integers(-(room >> 4), room >> 4, size)
        )
        spread = 2.0**15 / (np.sqrt(dims) * largest(input_bits) ** 2)
        return WindowStep(
            p, self.one(*range(p)), heads, input_bits, self.one(2, 9, 14, 16), bias.astype(np.int32),
            self.factors(heads, spread / 30, spread * 2), self.factors(channels, 0.2, 3.0),
        )  # fmt: skip

    def softmax(self, x: Shape, groups: int = 0) -> SoftmaxStep:
        groups = groups or self.one(*(g for g in range(1, x.channels + 1) if x.channels % g == 0))
        bits, spread = self.one(2, 9, 14, 16), 2.0**14 / x.limit
        top = largest(bits)
        return SoftmaxStep(
            groups, bits, self.factors(groups, spread / 10, spread), self.factors(x.channels, top / 4, top)
        )

    def map_mean(self, x: Shape) -> MapMeanStep:
        bits = self.one(2, 9, 14, 16)
        most = 4 * largest(bits) / x.limit
        return MapMeanStep(bits, self.factors(x.channels, most / 4, most))

    def fits_windows(self, x: Shape) -> bool:
        """Whether some attention may read it; heads of one channel are the smallest."""
        return x.channels % 3 == 0 and all(
            (x.channels // 3 // h) * x.limit**2 < SCORES
            for h in range(1, x.channels // 3 + 1)
            if x.channels // 3 % h == 0
        )

    def exponents(self, channels: int) -> np.ndarray:
        return self.rng.integers(0, 16, channels).astype(np.uint8)

    def network(self, steps: int, latents: bool, last: str) -> Network:
        """Any steps in any order, the last one a layer of ``last``: "pixels", "latents" or "activations"."""
        channels = self.one(*CHANNELS) if latents else self.one(1, 3, 3, 4)
        entry = self.requantiser(channels, self.one(9, 13, 14, 16), np.full(channels, 20000.0)) if latents else None
        shapes = [Shape(channels, entry.bits if entry is not None else 9)]
        made: list[Step] = []
        reads: list[tuple[int, ...]] = []

        def add(step: Step, *of: int) -> None:
            made.append(step)
            reads.append(of)
            shapes.append(step.shape(*(shapes[k] for k in of)))

        while len(made) < steps:
            v = len(shapes) - 1 if self.chance(0.7) else self.one(*range(len(shapes)))
            x, alike = shapes[v], [k for k in range(len(shapes)) if self.alike(shapes[k], shapes[v])]
            other = self.one(*alike)
            match self.one(0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) if made or latents else 0:
                case 0:
                    kinds = [PLAIN, PLAIN, HALVED] + [TRANSPOSED, SHUFFLED] * (sum(x.sizes) < 2)
                    outputs = [x.channels, self.one(1, 2, 3, 5, 8), self.one(*CHANNELS)][self.one(0, 0, 1, 2)]
                    kind = kinds[self.one(*range(len(kinds)))]
                    add(self.any_layer(x, outputs, kind, self.one(2, 9, 12, 13, 14, 14, 16)), v)
                case 1:
                    add(self.norm(x), v)
                case 2:
                    add(self.sum(x, shapes[other]), v, other)
                case 3 if shapes[other].bits <= CURVE_BITS:
                    add(GateStep(self.exponents(x.channels)), v, other)
                case 4 if x.bits <= CURVE_BITS:
                    add(CurveStep(Curve.numbered(self.one(0, 1)), self.exponents(x.channels)), v)
                case 5:
                    add(self.layer_norm(x), v)
                case 6 if self.fits_windows(x):
                    add(self.windows(x), v)
                case 7:
                    curve, wide = Curve.numbered(self.one(0, 1)) if self.chance(0.5) else None, self.chance(0.5)
                    add(self.depthwise(x, self.one(1, 3, 3, 5, 9), self.one(2, 9, 13, 14, 16), curve, wide), v)
                case 8:
                    add(self.product(x, shapes[other]), v, other)
                case 9:
                    add(self.softmax(x), v)
                case 10:
                    add(self.map_mean(x), v)
        x, bits = shapes[-1], {"pixels": 9, "latents": 27, "activations": self.one(9, 14, 16)}[last]
        kinds = [PLAIN, HALVED, TRANSPOSED, SHUFFLED]
        outputs = self.one(1, 3, 3, 5, 8, 16, 33)
        kind = kinds[self.one(*range(4))]
        add(self.any_layer(x, outputs, kind, bits, rectified=last == "pixels"), len(shapes) - 1)
        return Network(tuple(made), tuple(reads), entry)

    @staticmethod
    def alike(a: Shape, b: Shape) -> bool:
        return a.channels == b.channels and a.sizes == b.sizes

    def input(self, network: Network, height: int, width: int) -> Tensor:
        """int64 [C, height, width] that the network reads: any numbers, or those at the ends."""
        size = (network.shapes[0].channels, height, width)
        low, high = (-LATENT_LIMIT, LATENT_LIMIT) if network.entry is not None else (0, 255)
        if self.extreme:
            ends = np.array([[low, high], [low, low], [high, high], [0, high]])[self.one(0, 1, 2, 3)]
            return torch.from_numpy(self.rng.choice(ends, size))
        if network.entry is not None and self.chance(0.8):
            return torch.from_numpy((self.rng.normal(size=size) * 6000).astype(np.int64))
        return torch.from_numpy(self.rng.integers(low, high + 1, size))
