"""What calibration sees of float networks, and the units of integer activations that follow from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fastlic.integers.fixed import ACTIVATION_BITS, RANGE_MARGIN, largest
from fastlic.integers.functions import EXPONENTS, Curve
from fastlic.integers.rounding import second_moments
from fastlic.integers.stages import Stage


class Ranges:
    """Largest and smallest value per channel of everything named; second moments of the inputs of named layers.

    Args:
        margin: of units beyond what calibration saw.
    """

    def __init__(self, margin: float = RANGE_MARGIN) -> None:
        self.margin = margin
        self.highest: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
        self.lowest: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1))
        self.moments: dict[str, Tensor] = {}

    def see(self, name: str, x: Tensor, dim: int = 1) -> Tensor:
        """Record x, channels in ``dim``, and hand it on."""
        flat = x.detach().movedim(dim, 0).flatten(1).contiguous()
        self.highest[name] = np.maximum(self.highest[name], flat.amax(1).double().cpu().numpy())
        self.lowest[name] = np.minimum(self.lowest[name], flat.amin(1).double().cpu().numpy())
        return x

    def remember_inputs(self, name: str, x: Tensor, kernel: int = 1, stride: int = 1, reflect: bool = False) -> None:
        """Add x [1, C, h, w], which the layer ``name`` reads, to the moments of its inputs; see ``second_moments``."""
        moments = second_moments(x, kernel, stride, reflect)
        self.moments[name] = self.moments[name] + moments if name in self.moments else moments

    def round_up(self) -> None:
        """Round what was seen away from zero to 4 bits, so that last bits of floats, which depend on the machine, do
        not reach the integers."""
        for seen in (self.highest, self.lowest):
            for name, extreme in seen.items():
                mantissa, exponent = np.frexp(extreme)
                seen[name] = np.ldexp(np.copysign(np.ceil(np.abs(mantissa) * 16) / 16, mantissa), exponent)

    def run(self, stages: Sequence[Stage], x: Tensor) -> Tensor:
        """A network on x [1, C, h, w]; of every stage is seen what sets its unit: a curve's inputs, or its outputs."""
        for stage in stages:
            x = stage.convolve(x)
            x = (
                stage.activate(self.see(stage.name, x))
                if stage.curve is not None
                else self.see(stage.name, stage.activate(x))
            )
            x = stage.shuffled(x)
        return x

    def largest(self, name: str, slope: float = 1.0) -> np.ndarray:
        """float64 [C]: the largest magnitude, behind a leaky ReLU of that slope."""
        return np.maximum(self.highest[name], -slope * self.lowest[name])

    def scale(self, name: str, floor: float = 0.0, bits: int = ACTIVATION_BITS, slope: float = 1.0) -> np.ndarray:
        """float64 [C]: the real value of one unit. Dead channels get a thousandth of the liveliest one's range."""
        reach = self.largest(name, slope)
        reach = np.maximum(reach, max(floor, reach.max() * 1e-3, 1e-6))
        return reach * self.margin / largest(bits)

    def exponents(
        self, name: str, curve: Curve | None = Curve.GELU, bits: int = ACTIVATION_BITS, most: float | None = None
    ) -> np.ndarray:
        """uint8 [C]: the finest unit 2^-e that reaches far enough.

        Args:
            curve: alone reads the values, and makes nothing of those far below zero; None: all magnitudes count.
            most: what need not be reached beyond.
        """
        lowest = -self.lowest[name]
        if curve is not None:
            lowest = np.minimum(lowest, curve.reach / self.margin)
        reach = np.maximum(np.maximum(self.highest[name], lowest) * self.margin, 1e-6)
        reach = reach if most is None else reach.clip(max=most)
        return np.floor(np.log2(largest(bits) / reach)).clip(0, EXPONENTS - 1).astype(np.uint8)
