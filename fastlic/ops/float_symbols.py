"""From float parameters to what coders take: the row of each scale, and rounded differences, as torch computes them.

search = ScaleSearch(bounds, least=0.11)
indexes = search(scales)                      # torch.searchsorted(bounds, scales.clamp_min(0.11))
symbols = round_differences(latent, means)    # torch.round(latent - means), as int32
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.forks import cached_property
from fastlic.ops import _arguments as arguments

Backend = Literal["reference", "cpp"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class ScaleSearch:
    """How many of ``bounds`` lie below each scale, scales under ``least`` counted as ``least``; all of them for NaN.

    Args:
        bounds: float32 [n], ascending.

    Raises:
        ValueError: bounds that are not ascending numbers.
    """

    def __init__(self, bounds: Any, least: float = -np.inf) -> None:
        self.bounds: Floats = arguments.array("bounds", bounds, "fiu").astype(np.float32).reshape(-1)
        with np.errstate(over="ignore"):
            self.least = np.float32(arguments.number("least", least))
        _ = self._native

    @cached_property
    def _native(self) -> _native.ScaleSearch:
        return _native.ScaleSearch(self.bounds, float(self.least))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bounds, float(self.least))

    def __call__(self, scales: Floats, backend: Backend = "cpp") -> Ints:
        """int32 indexes in the shape of float32 ``scales``."""
        scales = _contiguous(scales, "scales")
        arguments.implementation(dict.fromkeys(("reference", "cpp")), backend)
        if backend == "reference":
            floored = np.where(scales < self.least, self.least, scales)
            return np.searchsorted(self.bounds, floored).astype(np.int32)  # numpy sorts NaN last too
        out = np.empty(scales.shape, np.int32)
        self._native.search(scales, out)
        return out


def round_differences(inputs: Floats, means: Floats | None = None, backend: Backend = "cpp") -> Ints:
    """int32 of inputs - means in float32, halves rounded to even; both of one shape.

    Raises:
        OverflowError: a difference is not finite, or rounded not within +-(2^31 - 1).
    """
    inputs = _contiguous(inputs, "inputs")
    arguments.implementation(dict.fromkeys(("reference", "cpp")), backend)
    if means is not None:
        means = _contiguous(means, "means")
        if means.shape != inputs.shape:
            raise ValueError(f"inputs and means must have one shape, got {inputs.shape} and {means.shape}")
    out = np.empty(inputs.shape, np.int32)
    if backend == "reference":
        with np.errstate(invalid="ignore", over="ignore"):
            rounded = np.rint(inputs if means is None else inputs - means)
            good = bool((np.abs(rounded) < 2.0**31).all())
        if good:
            out[...] = rounded
    else:
        good = _native.round_differences(inputs, means, out)
    if not good:
        raise OverflowError("a value is not finite or too large for int32")
    return out


def _contiguous(values: Floats, name: str) -> Floats:
    array = arguments.array(name, values, "f")
    if array.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {array.dtype}")
    return array
