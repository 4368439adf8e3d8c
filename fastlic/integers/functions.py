"""Functions of the integer paths that are not linear: exp, GELU, SiLU, gates, tanh, softmax means, layer norm.

Every table is made once, when a model is converted, and travels with the model: nobody evaluates exp or erf again. What
is left are integer sums, products, shifts and floor divisions, which every device and every order computes alike.

    score       real = s * 2^-8     arguments of softmax and tanh
    normalised  real = n * 2^-8     outputs of a layer norm
    weight      real = p / 32767    relative to the largest weight of its softmax
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from fastlic.forks import cached_property
from fastlic.integers.fixed import ACTIVATION_BITS, MEAN_BITS, WIDE_BITS

# A score is off by at most 2^-9, so a weight by 0.2 %.
SCORE_BITS = 8
NORM_BITS = 8
_WEIGHT = 32767
# Weighted means carry 8 bits below the unit of what they average: means are much smaller than the largest value.
VALUE_BITS = 8
_RECIPROCAL_BITS = 40
# More weights than this, and the reciprocal of their sum is too coarse: means over whole maps divide.
RECIPROCAL_TOKENS = 64
# Curves read x from activations in units of 2^-exponent.
EXPONENTS = 16
# Tails are drawn as 64 straight lines; that of GELU is off by at most 1.3e-4, that of SiLU by 1.9e-4. Vectors of 32
# activations find their lines in registers, without a memory access.
_TAIL_LINES = 64
_TAIL_BITS = 15
_TAIL_STEP = 8  # a line is 2^8 fine units wide
_HALF = 1 << (ACTIVATION_BITS - 1)
# Weights of windows are powers of two: they count 2^-14, their distances from the highest score 2^-11.
WEIGHT_BITS = 14
_DISTANCE_BITS = 11
FAR = 32767  # what is further away than so many units weighs nothing
# Behind a curve stand at most so many bits, so that magnitudes and tails multiply as int16.
CURVE_BITS = 14


class Curve(Enum):
    """max(x, 0) - |x| tail(|x|): its number where stored, fractional bits of what the tail reads, and its reach."""

    GELU = (0, 12, 5.0)  # the tail is 1 less the normal distribution, on 0..4
    SILU = (1, 11, 10.0)  # the logistic function of -t, on 0..8

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def fine(self) -> int:
        return self.value[1]

    @property
    def reach(self) -> float:
        """The curve of anything below minus this is 0 to the precision of its outputs."""
        return self.value[2]

    @classmethod
    def numbered(cls, number: int) -> Curve:
        """By its number; ValueError for one that is no curve's."""
        for curve in cls:
            if curve.number == number:
                return curve
        raise ValueError(f"there is no curve {number}")

    def tail(self) -> np.ndarray:
        """int32 [65], 32768 times the tail at the ends of its lines, evaluated in float64."""
        t = np.arange(_TAIL_LINES + 1) * 2.0 ** (_TAIL_STEP - self.fine)
        normal = self is Curve.GELU
        tail = [math.erfc(v / math.sqrt(2)) / 2 if normal else 1 / (1 + math.exp(v)) for v in t]
        return np.rint(np.array(tail) * 2**_TAIL_BITS).astype(np.int32)


def powers_of_two() -> np.ndarray:
    """int32 [65], 2^14 times 2^-t for t = 0, 1/64, ..., 1, evaluated in float64."""
    return np.rint(np.exp2(WEIGHT_BITS - np.arange(_TAIL_LINES + 1) / _TAIL_LINES)).astype(np.int32)


@dataclass(frozen=True)
class Curves:
    """Curves, gates and weights of windows by integers alone.

    Attributes:
        tails: int32 [65] of each curve, as ``Curve.tail`` makes it.
        powers: int32 [65], as ``powers_of_two`` makes it.
    """

    tails: Mapping[Curve, np.ndarray]
    powers: np.ndarray = field(default_factory=powers_of_two)

    def tail(self, curve: Curve, magnitudes: Tensor, exponents: Tensor) -> Tensor:
        """The tail in units of 2^-15 at int64 magnitudes >= 0 in units of 2^-exponent, of a shape to go with them."""
        tail = torch.from_numpy(self.tails[curve].astype(np.int64)).to(magnitudes.device)
        fine = (magnitudes << curve.fine >> exponents).clamp(max=(_TAIL_LINES << _TAIL_STEP) - 1)
        line, part = fine >> _TAIL_STEP, fine & ((1 << _TAIL_STEP) - 1)
        start = tail[line]
        return start - (((start - tail[line + 1]) * part + (1 << (_TAIL_STEP - 1))) >> _TAIL_STEP)

    def activate(self, curve: Curve, x: Tensor, exponents: np.ndarray) -> Tensor:
        """Activations int64 [..., C] in units of 2^-exponent, uint8 [C] -> the curve of them in the same units."""
        e = torch.from_numpy(exponents.astype(np.int64)).to(x.device)
        magnitude = x.abs()
        return x.clamp(min=0) - _share(magnitude, self.tail(curve, magnitude, e))

    def gate(self, x: Tensor, by: Tensor, exponents: np.ndarray) -> Tensor:
        """x times the logistic function of ``by``, int64 [..., C] both; ``by`` in units of 2^-exponent, uint8 [C]."""
        e = torch.from_numpy(exponents.astype(np.int64)).to(x.device)
        small = _share(x, self.tail(Curve.SILU, by.abs(), e))
        return torch.where(by >= 0, x - small, small)

    def weights(self, distances: Tensor) -> Tensor:
        """2^-distance in units of 2^-14, of int64 0 to 32767 units of 2^-11: how far scores lie below the highest."""
        lines = torch.from_numpy(self.powers.astype(np.int64)).to(distances.device)
        fine = distances & ((1 << _DISTANCE_BITS) - 1)
        line, part = fine >> (_DISTANCE_BITS - 6), fine & 31
        start = lines[line]
        along = start - (((start - lines[line + 1]) * part + 16) >> 5)
        return _share(along, torch.ones_like(along) << (_TAIL_BITS - (distances >> _DISTANCE_BITS)))


def _share(x: Tensor, share: Tensor) -> Tensor:
    """x times a share of 2^15, halves rounded up."""
    return (x * share + (1 << (_TAIL_BITS - 1))) >> _TAIL_BITS


@dataclass(frozen=True)
class Tables:
    """The three tables.

    Attributes:
        exp: int32 [n], 32767 * exp(-d / 256) for d = 0, 1, ...; the last entry is 0 and serves everything beyond.
        tail: int32 [65], 32768 * Q(t / 16) for t = 0 ... 64, Q being 1 less the normal distribution.
        tanh: int8 [4096], 64 * tanh(a / 256) / 2 for a = -2048 ... 2047: a residue in the units of latents.
    """

    exp: np.ndarray
    tail: np.ndarray
    tanh: np.ndarray

    @classmethod
    def make(cls) -> Tables:
        """Evaluated in float64."""
        reach = math.ceil(math.log(2 * _WEIGHT) * 2**SCORE_BITS)  # beyond it, weights round to 0
        exp = np.rint(_WEIGHT * np.exp(-np.arange(reach + 1) / 2**SCORE_BITS))
        exp[-1] = 0
        tanh = np.tanh(np.arange(-_HALF, _HALF) / 2**SCORE_BITS) / 2 * 2**MEAN_BITS
        return cls(exp.astype(np.int32), Curve.GELU.tail(), np.rint(tanh).astype(np.int8))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for storage."""
        return {"tables.exp": self.exp, "tables.tail": self.tail, "tables.tanh": self.tanh}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Tables:
        """Read what ``to_arrays`` wrote."""
        return cls(arrays["tables.exp"], arrays["tables.tail"], arrays["tables.tanh"])

    @cached_property
    def gelu_table(self) -> np.ndarray:
        """int16 [16 * 4096]: GELU of a 2^-e in units of 2^-e at [4096 e + a + 2048], by integers alone from ``tail``.

        a Phi(a) is max(a, 0) - |a| Q(|a|).
        """
        a = torch.arange(-_HALF, _HALF)[:, None]
        rows = Curves({Curve.GELU: self.tail}).activate(Curve.GELU, a, np.arange(EXPONENTS, dtype=np.uint8))
        return rows.T.flatten().numpy().astype(np.int16)

    def gelu(self, x: Tensor, exponents: np.ndarray) -> Tensor:
        """Activations int64 [..., C] in units of 2^-exponent, uint8 [C] -> GELU of them in the same units."""
        table = torch.from_numpy(self.gelu_table.astype(np.int64)).to(x.device)
        first = torch.from_numpy(exponents.astype(np.int64) * 2 * _HALF + _HALF).to(x.device)
        return table[x + first]

    def activate(self, curve: Curve, x: Tensor, exponents: np.ndarray) -> Tensor:
        """As ``Curves.activate``, of 12 bits; the only curve is GELU."""
        if curve is not Curve.GELU:
            raise ValueError(f"these tables have no {curve.name}")
        return self.gelu(x, exponents)

    def residue(self, x: Tensor) -> Tensor:
        """Activations int64 in units of 2^-8 -> 0.5 tanh of them in units of 2^-6."""
        return torch.from_numpy(self.tanh.astype(np.int64)).to(x.device)[x + _HALF]

    def weights(self, scores: Tensor, dim: int, allowed: Tensor | None = None) -> Tensor:
        """Softmax weights int64, up to their common factor, of scores along ``dim``; 0 where not allowed."""
        if allowed is not None:
            scores = torch.where(allowed, scores, torch.full_like(scores, -(1 << 40)))
        return self.exp_of(scores.amax(dim, keepdim=True) - scores)

    def exp_of(self, distances: Tensor) -> Tensor:
        """exp(-d / 256) times 32767 for d int64 >= 0."""
        table = torch.from_numpy(self.exp.astype(np.int64)).to(distances.device)
        return table[distances.clamp(max=len(self.exp) - 1)]


def mean_of_few(sums: Tensor, totals: Tensor) -> Tensor:
    """Weighted sums over total weights, int64, in units of 2^-8 of the values'; at most 64 weights went in."""
    inverse = torch.div(torch.full_like(totals, 1 << _RECIPROCAL_BITS), totals, rounding_mode="floor")
    shift = _RECIPROCAL_BITS - VALUE_BITS
    return (sums * inverse + (1 << (shift - 1))) >> shift


def mean_of_many(sums: Tensor, totals: Tensor) -> Tensor:
    """As ``mean_of_few`` for any number of weights."""
    return torch.div((sums << (VALUE_BITS + 1)) + totals, totals << 1, rounding_mode="floor")


def square_root(x: Tensor) -> Tensor:
    """floor(sqrt(x)) of int64 0 <= x < 2^62."""
    root = x.double().sqrt().long()
    root = root - (root * root > x).long()
    return root + ((root + 1) * (root + 1) <= x).long()


def epsilon_of(real: float, channels: int, unit: float) -> int:
    """The layer norm's epsilon for ``normalise``: inputs in units of ``unit``."""
    return min(max(round(real * channels**2 / unit**2), 1), 2**31 - 1)


def normalise(x: Tensor, epsilon: int) -> Tensor:
    """Layer norm without its affine part: int64 [..., C], clipped to 21 bits -> int64 in units of 2^-8.

    With S the sum of a row, C x - S is C times the distance from the mean, and its mean square C^2 times the variance.
    """
    limit = (1 << (WIDE_BITS - 1)) - 1
    x = x.clamp(-limit, limit)
    channels = x.shape[-1]
    distance = x * channels - x.sum(-1, keepdim=True)
    variance = torch.div((distance * distance).sum(-1, keepdim=True), channels, rounding_mode="floor") + epsilon
    root = square_root(variance << 8)  # in units of 2^-4
    scaled = torch.div((distance << (NORM_BITS + 5)) + root, root << 1, rounding_mode="floor")
    return scaled.clamp(-_HALF + 1, _HALF - 1)
