"""What is known of a network's values before there is an input, and what steps demand of them and of their arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.integers.fixed import largest

Arrays = Mapping[str, np.ndarray]

ACTIVATIONS = 16  # bits of what stands between steps, at most; the last step's outputs may be wider
MAX_SHIFT = 62
FACTOR_BITS = 24  # factors are exact in float32


@dataclass(frozen=True)
class Shape:
    """What is known of a value without an input.

    Attributes:
        channels: C of [C, h, w].
        bits: magnitudes are at most 2^(bits - 1) - 1.
        sizes: how h and w came from the input's: 1 for each doubling, -1 for each halving.
    """

    channels: int
    bits: int
    sizes: tuple[int, ...] = ()

    @property
    def limit(self) -> int:
        return largest(self.bits)


@dataclass(frozen=True)
class Factors:
    """Numbers of float32 as integers: multiplier * 2^-shift.

    Attributes:
        multiplier: int32 [n], below 2^24 in magnitude.
        shift: uint8 [n], up to 62.
    """

    multiplier: np.ndarray
    shift: np.ndarray

    @classmethod
    def nearest(cls, numbers: np.ndarray) -> Factors:
        """To float64 [n]; what is too large or small for a factor becomes the largest, or 0."""
        _, exponent = np.frexp(numbers)
        shift = (FACTOR_BITS - exponent).clip(0, MAX_SHIFT)
        most = (1 << FACTOR_BITS) - 1
        return cls(np.rint(np.ldexp(numbers, shift)).clip(-most, most).astype(np.int32), shift.astype(np.uint8))

    def over(self, x: Tensor) -> Tensor:
        """float32 [n, 1, ..., 1], to go with x [n, ...]."""
        numbers = np.ldexp(self.multiplier.astype(np.float32), -self.shift.astype(np.int32)).astype(np.float32)
        return torch.from_numpy(numbers).to(x.device).view(-1, *[1] * (x.ndim - 1))

    def check(self, count: int, signed: bool = False) -> None:
        """Raise ValueError unless there are so many, and none is below 0 but where they are signed."""
        good = is_array(self.multiplier, np.int32, count) and is_array(self.shift, np.uint8, count)
        require(good, f"factors are int32 and uint8 [{count}]")
        reach = np.abs(self.multiplier.astype(np.int64)) if signed else self.multiplier
        fits = (reach >= 0) & (reach < 1 << FACTOR_BITS) & (self.shift <= MAX_SHIFT)
        require(bool(fits.all()), "factors have 24 bits, and shifts up to 62")

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        return {f"{prefix}.multiplier": self.multiplier, f"{prefix}.shift": self.shift}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str) -> Factors:
        """Read what ``to_arrays`` wrote under the same prefix."""
        return cls(arrays[f"{prefix}.multiplier"], arrays[f"{prefix}.shift"])


def require(holds: bool, what: str) -> None:
    """Raise ValueError, in these words, unless it holds."""
    if not holds:
        raise ValueError(what)


def is_array(array: np.ndarray, dtype: Any, *shape: int) -> bool:
    """Whether it has this type and shape."""
    return array.dtype == dtype and array.shape == shape


def numbers_of(prefix: str, *numbers: Any) -> dict[str, np.ndarray]:
    """The array that says which step it is, and its own numbers."""
    return {f"{prefix}.step": np.array([int(n) for n in numbers], np.uint8)}
