"""Networks of one step each, of those that stand between the convolutions of transforms, on numbers that spread over
their range as a trained network's do: for timing alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastlic.integers.fixed import Requantiser, largest
from fastlic.integers.functions import Curve
from fastlic.integers.layer import PLAIN, Layer
from fastlic.integers.network import (
    CurveStep,
    DepthwiseStep,
    GateStep,
    Network,
    NormStep,
    ProductStep,
    Step,
    SumStep,
)
from fastlic.integers.shapes import Factors
from fastlic.integers.windows import LayerNormStep, MapMeanStep, SoftmaxStep, WindowStep

BITS = 14  # of activations, as conversion makes them
PLANES = 2  # that these are on a device
LATENT = 640  # the deviation of what enters, in units of 2^-6
SIDE = 8  # of windows, which reach beyond the edges of a map
_WINDOW_BITS = 13  # what products of queries and keys leave for a head
_HEAD = 32  # channels of a head of windows at most
_GROUP = 64  # channels of a group of softmax at most
_LIMIT = largest(BITS)
_DEVIATION = _LIMIT / 4  # of activations


@dataclass(frozen=True)
class Problem:
    """A network to be timed.

    Attributes:
        operations: multiplications and additions that a position takes, once they are products of planes.
        kind: of the arithmetic that they are (fastlic.bench.gpu_timing).
        side: sides of maps are multiples of it.
    """

    network: Network
    operations: float
    kind: str = "ieee"
    side: int = 1

    @property
    def traffic(self) -> float:
        """Bytes of a position that must move on a device: latents, the activations that they become, the result."""
        first, last = self.network.shapes[0].channels, self.network.shapes[-1].channels
        return (4 + 2 * PLANES) * first + 4 * last


def problem(name: str, channels: int) -> Problem:
    """The step of that name in ``STEPS``, with so many channels of outputs."""
    return STEPS[name](channels)


def _network(step: Step, channels: int, bits: int = BITS, reads: int = 1) -> Network:
    """The step over latents, as one value or as both that it reads."""
    factors = np.full(channels, largest(bits) / (4 * LATENT))
    return Network((step,), ((0,) * reads,), Requantiser.from_factors(factors, bits))


def _each(step: Callable[[int], Step], reads: int = 1) -> Callable[[int], Problem]:
    """A step that takes some ten operations of each number."""
    return lambda channels: Problem(_network(step(channels), channels, reads=reads), 10.0 * channels)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _factors(count: int, around: float) -> Factors:
    return Factors.nearest(around * _rng().uniform(0.7, 1.4, count))


def _exponents(channels: int) -> np.ndarray:
    return _rng().integers(9, 12, channels).astype(np.uint8)


def _sum(channels: int) -> Step:
    left, right = _rng().integers(4000, 8192, (2, channels)).astype(np.int16)
    return SumStep(13, BITS, left, right)


def _product(channels: int) -> Step:
    return ProductStep(Requantiser.from_factors(np.full(channels, 1 / _DEVIATION), BITS))


def _layer_norm(channels: int) -> Step:
    shift = 2.0 ** (16 - BITS)  # inputs are brought to 16 bits
    return LayerNormStep(
        BITS, BITS, np.full(channels, 32767, np.int16), np.array([1000, 0], np.int32), _factors(channels, shift),
        _factors(channels, _DEVIATION), _rng().integers(-1 << 16, 1 << 16, channels).astype(np.int32),
    )  # fmt: skip


def _softmax(channels: int) -> Step:
    groups = max(g for g in range(1, -(-channels // _GROUP) + 1) if channels % g == 0)
    return SoftmaxStep(groups, BITS, _factors(groups, 2048 / _DEVIATION), _factors(channels, _LIMIT))


def _map_mean(channels: int) -> Step:
    return MapMeanStep(BITS, _factors(channels, 4.0))


def _windows(channels: int) -> Problem:
    heads = max(h for h in range(1, -(-channels // _HEAD) + 1) if channels % h == 0)
    deviation = largest(_WINDOW_BITS) / 4
    # Scores deviate by some 4 halvings of a weight.
    sharpness = 4 * 2048 / (np.sqrt(channels / heads) * deviation**2)
    bias = _rng().integers(-(1 << 20), 1 << 20, (heads, (2 * SIDE - 1) ** 2)).astype(np.int32)
    step = WindowStep(
        SIDE, SIDE // 2, heads, _WINDOW_BITS, BITS, bias, _factors(heads, sharpness), _factors(channels, 2.0)
    )
    # Scores and means, each two planes by two.
    operations = 2 * 4.0 * 2 * SIDE**2 * channels
    return Problem(_network(step, 3 * channels, _WINDOW_BITS), operations, "int8", SIDE)


def _depthwise(channels: int) -> Problem:
    weight = _rng().integers(-2047, 2048, (channels, 1, 3, 3)).astype(np.int16)
    # 1182 and 3: deviation of a weight, and the root of how many there are.
    factors = np.full(channels, 1 / (3 * 1182))
    requantiser = Requantiser.from_factors(factors, BITS)
    layer = Layer(weight, np.zeros(channels, np.int32), requantiser, PLAIN, channels, _exponents(channels), BITS)
    return Problem(_network(DepthwiseStep(layer), channels), 2.0 * 9 * channels)


def _norm(inverse: bool) -> Callable[[int], Problem]:
    def made(channels: int) -> Problem:
        gamma = _rng().integers(0, 32767 // channels, (channels, channels)).astype(np.int16)
        beta = _rng().integers(1, 1 << 16, channels).astype(np.int32)
        # A sixteenth of the largest square is their mean.
        root = np.sqrt(2048 * 32767 / 2)
        factors = _factors(channels, 1 / root if inverse else root)
        own = factors.multiplier, factors.shift
        step = NormStep(inverse, BITS, BITS, gamma, beta, *own)
        return Problem(_network(step, channels), 2 * 4.0 * channels**2, "int8")

    return made


STEPS: dict[str, Callable[[int], Problem]] = {
    "sum": _each(_sum, 2),
    "product": _each(_product, 2),
    "gate": _each(lambda channels: GateStep(_exponents(channels)), 2),
    "curve": _each(lambda channels: CurveStep(Curve.GELU, _exponents(channels))),
    "GDN": _norm(False),
    "inverse GDN": _norm(True),
    "depthwise 3x3": _depthwise,
    "layer norm": _each(_layer_norm),
    "softmax": _each(_softmax),
    "windows 8x8": _windows,
    "mean": _each(_map_mean),
}
