"""Integer entropy models of variable rate: one set of weights, any quantisation step.

CompressAI's vbr models (arXiv 2402.18930) multiply the latent, its means and its scales by one gain g, the inverse of
the step, before they round. In units of the step that is a plain model: g enters the requantiser that gives scales and
means, and leaves again where the context reads the latent. What else depends on g is

    shift     a vector that is added to the context's output, linear in g
    offsets   by how much reconstructed symbols leave the middle of their interval: a small network of scale and g
    z's step  stored for a few gains; others take that of the nearest

``at(g)`` makes the integers of one gain from the stored ones by IEEE additions, multiplications and roundings in a
fixed order, so that every machine arrives at the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastlic.entropy.arrays import tables_of
from fastlic.entropy.fingerprint import of_arrays
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.scales import LEVELS, SMALLEST, scale_levels
from fastlic.integers.fixed import MEAN_BITS, Requantiser
from fastlic.ops.device_engine import DeviceEngine
from fastlic.ops.latents import LatentEngine
from fastlic.ops.tables import CdfTables

# Beyond these nothing sensible is coded, and requantisers leave their range.
SMALLEST_GAIN, LARGEST_GAIN = 2.0**-10, 2.0**10
_OFFSET_LIMIT = 1 << 20
_KEPT = 16  # engines of so many gains stay


@dataclass(frozen=True)
class HyperStep:
    """z at one gain: it counts in units of ``step``. tables: the coder's; median: int32 [N] in 2^-6 of the step."""

    step: float
    tables: CdfTables
    median: np.ndarray


# Weights [out, in] and biases [out] of linear layers with ReLUs between them, float64.
Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


def evaluate(layers: Layers, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The first output of a small network, element by element: float64 arrays of one shape in, one out.

    Single additions and multiplications in a fixed order, as matrix products give other last bits on other machines.
    """
    values = list(inputs)
    for number, (weight, bias) in enumerate(layers):
        sums = []
        for row, start in zip(weight, bias, strict=True):
            total = np.full_like(values[0], start)
            for factor, value in zip(row, values, strict=True):
                total = total + factor * value
            sums.append(total if number == len(layers) - 1 else np.maximum(total, 0.0))
        values = sums
    return values[0]


@dataclass(frozen=True)
class VariableRateModel:
    """An integer entropy model and what turns it into that of another gain.

    Attributes:
        base: the model at gain 1, without shift and offsets.
        gains: float64 [rates]: those of the trained rates, in the model's order.
        hyper_steps: one for each gain, or none where z's step is always 1.
        shift: float64 [2, 2M], factor of the gain and constant, in units of the context's accumulators; or None.
        offsets: the network from (scale in steps, gain) to what magnitudes lose; or None.
        levels: float64 [64], the scales that ``offsets`` reads. Stored with it: exp need not end alike everywhere.
    """

    base: IntegerEntropyModel
    gains: np.ndarray
    hyper_steps: tuple[HyperStep, ...] = ()
    shift: np.ndarray | None = None
    offsets: Layers | None = None
    levels: np.ndarray = field(default_factory=scale_levels)
    _made: dict[Any, IntegerEntropyModel] = field(default_factory=dict, repr=False, compare=False)

    @property
    def context(self) -> Any:
        return self.base.context

    @property
    def engine(self) -> LatentEngine:
        return self.base.engine

    @property
    def device_engine(self) -> DeviceEngine:
        """That of gain 1, whose packed weights those of ``at`` share."""
        return self.base.device_engine

    @property
    def latent_channels(self) -> int:
        return self.base.latent_channels

    def hyper_step(self, gain: float) -> float:
        """What z is divided by before it is rounded."""
        return self._nearest(gain).step if self.hyper_steps else 1.0

    def _nearest(self, gain: float) -> HyperStep:
        order = np.argsort(self.gains, kind="stable")
        ascending = self.gains[order]
        return self.hyper_steps[order[int((gain * gain > ascending[1:] * ascending[:-1]).sum())]]

    def at(self, gain: float, stepped: bool = True, offset: bool = True) -> IntegerEntropyModel:
        """The integers of one gain; latents are in units of 2^-6 of the step there, y's and z's own.

        Args:
            stepped: whether the context's shift and z's step follow the gain, as all but the first stage of training
                has it.
            offset: whether the learned offsets are used.

        Raises:
            ValueError: the gain is not within 2^-10 to 2^10, or so large that a sum could leave int32.
        """
        if not SMALLEST_GAIN <= gain <= LARGEST_GAIN:
            raise ValueError(f"the gain must be from 2^-10 to 2^10, got {gain}")
        key = (gain, stepped, offset)
        if key not in self._made:
            while len(self._made) >= _KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[key] = self.base.vary(_like=self.base, **self._changes(*key))
        return self._made[key]

    def _changes(self, gain: float, stepped: bool, offset: bool) -> dict[str, Any]:
        base = self.base
        layers = base.parameters or base.hyper
        last = replace(layers[-1], requantiser=scaled(layers[-1].requantiser, gain))
        changes: dict[str, Any] = {"parameters" if base.parameters else "hyper": (*layers[:-1], last)}
        if base.y_input is not None:
            changes["y_input"] = scaled(base.y_input, 1.0 / gain)
        if stepped and self.hyper_steps:
            nearest = self._nearest(gain)
            changes |= {"z_tables": nearest.tables, "z_median": nearest.median}
            changes["z_input"] = scaled(base.z_input, nearest.step)
        if stepped and self.shift is not None and base.context is not None:
            bias = base.context.bias + np.rint(self.shift[0] * gain + self.shift[1])
            if np.abs(bias).max() >= 2**31:
                raise ValueError(f"the gain {gain} is too large for this model")
            changes["context"] = replace(base.context, bias=bias.astype(np.int32))
        if offset and self.offsets is not None:
            deviations = np.maximum(self.levels, SMALLEST)
            lost = evaluate(self.offsets, [deviations, np.full_like(deviations, gain)])
            units = np.rint(-lost * 2**MEAN_BITS).clip(-_OFFSET_LIMIT, _OFFSET_LIMIT)
            changes["offsets"] = units.astype(np.int32)
        return changes

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Every number under a stable name; what the fingerprint covers."""
        arrays = {**self.base.to_arrays(), "rates.gains": self.gains}
        for i, rate in enumerate(self.hyper_steps):
            arrays |= {f"rates.{i}.z.step": np.array([rate.step]), f"rates.{i}.z.median": rate.median}
            arrays |= {f"rates.{i}.z.tables.{name}": array for name, array in rate.tables.to_arrays().items()}
        if self.shift is not None:
            arrays["rates.shift"] = self.shift
        for i, (weight, bias) in enumerate(self.offsets or ()):
            arrays |= {
                f"rates.offsets.{i}.weight": weight,
                f"rates.offsets.{i}.bias": bias,
                "rates.levels": self.levels,
            }
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> VariableRateModel:
        """Read what ``to_arrays`` wrote. Raises ValueError for arrays that are no such model."""
        gains = arrays["rates.gains"]
        if gains.dtype != np.float64 or gains.ndim != 1 or not (np.isfinite(gains).all() and (gains > 0).all()):
            raise ValueError("rates.gains must be positive float64 numbers")
        steps = []
        for i in range(len(gains) if "rates.0.z.step" in arrays else 0):
            step = float(arrays[f"rates.{i}.z.step"][0])
            steps.append(HyperStep(step, tables_of(arrays, f"rates.{i}.z"), arrays[f"rates.{i}.z.median"]))
        count = sum(name.startswith("rates.offsets.") and name.endswith(".weight") for name in arrays)
        layers = [(arrays[f"rates.offsets.{i}.weight"], arrays[f"rates.offsets.{i}.bias"]) for i in range(count)]
        levels = arrays["rates.levels"] if layers else scale_levels()
        if levels.dtype != np.float64 or levels.shape != (LEVELS,) or not np.isfinite(levels).all():
            raise ValueError(f"rates.levels must be {LEVELS} float64 numbers")
        base = IntegerEntropyModel.from_arrays(arrays)
        return cls(base, gains, tuple(steps), arrays.get("rates.shift"), tuple(layers) or None, levels)

    def fingerprint(self) -> bytes:
        """What names these integers: fastlic.entropy.fingerprint."""
        return of_arrays(self.to_arrays())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": {}}


def scaled(requantiser: Requantiser, factor: float) -> Requantiser:
    """A requantiser without activation whose outputs are ``factor`` times as large: the nearest in 30 bits."""
    factors = np.ldexp(requantiser.multiplier.astype(np.float64), -requantiser.shift.astype(np.int64)) * factor
    return Requantiser.from_factors(np.maximum(factors, 2.0**-61), requantiser.bits)
