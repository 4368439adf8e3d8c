"""Transforms of integers, whole images at a time: networks of layers in bands of rows, on this processor's vectors.

They compute exactly what ``fastlic.integers.network`` does, whatever the instruction set, thread count and band.

    engine = TransformEngine("g_s", arrays)          # arrays: Network.to_arrays("g_s")
    pixels = engine.run(latents, threads=2)          # int32 [M, h, w] -> uint8 [3, 16h, 16w]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments

MAX_SIDE = (1 << 40) - 1  # of the core; no map is that large


class TransformEngine:
    """One network, validated and packed for this processor. Safe to share between threads.

    Args:
        name: prefix of the network's arrays.
        arrays: its ``to_arrays(name)``, docs/transforms.md has their meaning; others are left alone.

    Raises:
        ValueError: an array is missing, misshapen or out of range, or a sum could leave int32.
    """

    def __init__(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._name = arguments.instance("name", name, str)
        named = arguments.named_arrays("arrays", arrays)
        own = (key for key in named if arguments.instance("a name of arrays", key, str).startswith(f"{name}."))
        self._arrays = {key: named[key] for key in own}
        self._native = _native.Transform(self._arrays, name)

    def vary(self, changes: Mapping[str, NDArray[Any]]) -> TransformEngine:
        """An engine of the same weights, shared, with other requantisers at its ends.

        Args:
            changes: ``<name>.entry.*``, ``<name>.exit.*`` or both; the exit stands for the last layer's requantiser.

        Raises:
            ValueError: requantisers of other channels or bits than those in their places, or other arrays.
        """
        own = arguments.named_arrays("changes", changes)
        for key in own:
            name = arguments.instance("a name of changes", key, str)
            if not name.startswith((f"{self._name}.entry.", f"{self._name}.exit.")):
                raise ValueError(f"changes are requantisers at the ends of {self._name!r}, got {name!r}")
        new = object.__new__(type(self))
        new._name, new._arrays = self._name, {**self._arrays, **own}
        new._native = self._native.vary(own, self._name)
        return new

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ object is _rebuilt, not pickled
        return _rebuilt, (type(self), self._name, self._arrays)

    def run(
        self, x: NDArray[Any], size: tuple[int, int] | None = None, threads: int = 1, band: int = 0
    ) -> NDArray[Any]:
        """The network over a map.

        Args:
            x: pixels uint8 [C, h, w], or latents int32 [C, h, w] if the network has an entry for them. Latents that lie
                in memory with channels last are read without a copy, and results lie so too.
            size: height and width of the output, of which the rest is cut off; None: all of it.
            threads: at least 1.
            band: about so many rows of the output are made together; 0: as many as suit the caches.

        Returns:
            pixels uint8 [C', h', w'], or int32 [C', h', w'] if the network ends with anything else.

        Raises:
            TypeError, ValueError: another type, shape or size.
        """
        given = arguments.instance("x", x, np.ndarray)
        if given.ndim != 3:
            raise ValueError(f"x must be [C, h, w], got {list(given.shape)}")
        array = np.ascontiguousarray(given if given.dtype == np.uint8 else given.transpose(1, 2, 0))
        rows = arguments.integer("band", band, 0, MAX_SIDE)
        out: NDArray[Any] = self._native.run(
            array, arguments.size("size", size, MAX_SIDE), arguments.threads(threads), rows
        )
        return out if out.dtype == np.uint8 else out.transpose(2, 0, 1)


def _rebuilt(
    make: Callable[[str, Mapping[str, NDArray[Any]]], Any], name: str, arrays: Mapping[str, NDArray[Any]]
) -> Any:
    """What ``make`` made of a network's arrays, and ``vary`` of that, as these tell."""
    changes = {key: array for key, array in arrays.items() if key.startswith(f"{name}.exit.")}
    engine = make(name, {key: array for key, array in arrays.items() if key not in changes})
    return engine.vary(changes) if changes else engine
