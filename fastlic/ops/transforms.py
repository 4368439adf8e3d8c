"""Transforms of integers, whole images at a time: networks of layers in bands of rows, on this processor's vectors.

They compute exactly what ``fastlic.integers.network`` does, whatever the instruction set, thread count and band.

    engine = TransformEngine("g_s", arrays)          # arrays: Network.to_arrays("g_s")
    pixels = engine.run(latents, threads=2)          # int32 [M, h, w] -> uint8 [3, 16h, 16w]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments


class TransformEngine:
    """One network, validated and packed for this processor. Safe to share between threads.

    Args:
        name: prefix of the network's arrays.
        arrays: its ``to_arrays(name)``, docs/format.md has their meaning; others are left alone.

    Raises:
        ValueError: an array is missing, misshapen or out of range, or a sum could leave int32.
    """

    def __init__(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._name = arguments.instance("name", name, str)
        named = arguments.named_arrays("arrays", arrays)
        self._arrays = {key: array for key, array in named.items() if key.startswith(f"{name}.")}
        self._native = _native.Transform(self._arrays, name)

    def vary(self, changes: Mapping[str, NDArray[Any]]) -> TransformEngine:
        """An engine of the same weights, shared, with other requantisers at its ends.

        Args:
            changes: ``<name>.entry.*``, ``<name>.exit.*`` or both; the exit stands for the last layer's requantiser.

        Raises:
            ValueError: requantisers of other channels or bits than those in their places.
        """
        own = arguments.named_arrays("changes", changes)
        new = object.__new__(type(self))
        new._name, new._arrays = self._name, {**self._arrays, **own}
        new._native = self._native.vary(own, self._name)
        return new

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ object is rebuilt, not pickled
        return _rebuilt, (self._name, self._arrays)

    def run(
        self, x: NDArray[Any], size: tuple[int, int] | None = None, threads: int = 1, band: int = 0
    ) -> NDArray[Any]:
        """The network over a map.

        Args:
            x: pixels uint8 [C, h, w], or latents int32 if the network has an entry for them.
            size: height and width of the output, of which the rest is cut off; None: all of it.
            threads: 1 to 1024.
            band: rows of the output that are made together; 0: as many as suit the caches.

        Returns:
            pixels uint8 [C', h', w'], or int32 if the network ends with anything else.

        Raises:
            TypeError, ValueError: another type, shape or size.
        """
        array = np.ascontiguousarray(arguments.instance("x", x, np.ndarray))
        if size is not None and not (len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
            raise ValueError(f"size must be a height and a width of at least 1, got {size}")
        if not isinstance(band, int) or isinstance(band, bool) or not 0 <= band < 1 << 20:
            raise ValueError(f"band must be a number of rows, 0 to {(1 << 20) - 1}, got {band!r}")
        out: NDArray[Any] = self._native.run(array, size, arguments.threads(threads), band)
        return out


def _rebuilt(name: str, arrays: Mapping[str, NDArray[Any]]) -> TransformEngine:
    changes = {key: array for key, array in arrays.items() if key.startswith(f"{name}.exit.")}
    engine = TransformEngine(name, {key: array for key, array in arrays.items() if key not in changes})
    return engine.vary(changes) if changes else engine
