"""The scale table: 64 log-spaced standard deviations, and the integer thresholds that choose among them."""

from __future__ import annotations

import numpy as np

from fastlic.integers.fixed import SCALE_BITS

LEVELS = 64
SMALLEST, LARGEST = 0.11, 256.0  # CompressAI's range


def scale_levels() -> np.ndarray:
    """float64 [64]: exp of 64 evenly spaced logarithms from ln 0.11 to ln 256."""
    return np.exp(np.linspace(np.log(SMALLEST), np.log(LARGEST), LEVELS))


def scale_thresholds(levels: np.ndarray) -> np.ndarray:
    """int32 [len(levels) - 1] in units of 2^-10; index = number of thresholds that the fixed-point scale exceeds.

    Geometric means of neighbours, so that the nearest level in ratio is chosen; rounding scales up as CompressAI does
    costs 0.3 % more bits.
    """
    return np.rint(np.sqrt(levels[1:] * levels[:-1]) * 2**SCALE_BITS).astype(np.int32)
