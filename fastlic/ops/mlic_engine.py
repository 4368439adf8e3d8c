"""The fused engine of the MLIC family: latents to the sections of a stream and back, in one C++ call each way.

It computes exactly what the plain reference does (the schedule of fastlic.entropy.mlic with the drivers of
fastlic.codec): same bytes, same latents, whatever the instruction set, thread count and batch. docs/mlic.md tells how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.engine import (
    Zones,
    _channels_first,
    _channels_last,
    _checked_sizes,
    _named_arrays,
    _threads,
    native_zones,
)
from fastlic.ops.tables import CdfTables

Bytes = bytes | bytearray | memoryview
Ints = NDArray[np.int32]


class MlicEngine:
    """One integer model of the family, validated and packed for this processor. Safe to share between threads.

    Args:
        arrays: ``IntegerMLIC.to_arrays()``.
        z_tables, y_tables: the coder's tables.
        slices: how many the model has.

    Raises:
        ValueError: an array is missing, misshapen or out of range, or an accumulator could leave int32.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], z_tables: CdfTables, y_tables: CdfTables, slices: int
    ) -> None:
        contiguous = _named_arrays("arrays", arrays)
        for name, tables in (("z_tables", z_tables), ("y_tables", y_tables)):
            arguments.instance(name, tables, CdfTables)
        self.slices = arguments.integer("slices", slices, 1)
        self._native = _native.MlicEngine(contiguous, z_tables.native, y_tables.native)

    def encode_many(
        self, z: Sequence[Any], y: Sequence[Any], threads: int = 1, zones: Zones = None
    ) -> list[tuple[bytes, bytes, Ints, Ints, Ints]]:
        """(z section, y section, z symbols, y, symbols of y) of each image.

        Args:
            z, y: integers [N, ceil(h/4), ceil(w/4)] and [M, h, w] in units of 2^-6, per image.
            threads: one image on each; a single image may use them all.
            zones: as for ``EntropyEngine.encode_many``.
        """
        z_maps, y_maps = ([_channels_last(n, x) for x in arguments.sequence(n, own)] for n, own in (("z", z), ("y", y)))
        results = self._native.encode_many(z_maps, y_maps, native_zones(zones), _threads(threads))
        return [(a, b, *(_channels_first(x) for x in rest)) for a, b, *rest in results]  # type: ignore[misc]

    def decode_many(
        self,
        z: Sequence[Bytes],
        y: Sequence[Bytes],
        sizes: Sequence[tuple[int, int]],
        threads: int = 1,
        slices: int | None = None,
    ) -> list[tuple[Ints, Ints, Ints]]:
        """(z symbols, y, symbols of y) of each image from its sections and the latent's size.

        Args:
            slices: read only that many; the symbols of the others are taken for 0.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
        """
        count = self.slices if slices is None else slices
        count = arguments.integer("slices", count, 0, 1 << 16)
        streams = arguments.sequence("z", z), arguments.sequence("y", y)
        results = self._native.decode_many(*streams, _checked_sizes(sizes), count, _threads(threads))
        return [(_channels_first(a), _channels_first(b), _channels_first(c)) for a, b, c in results]

    def local_context(self, index: int, latent: Any, threads: int = 1) -> NDArray[np.int16]:
        """Local context of slice ``index`` from anchors [C, h, w] in units of 2^-6: activations [outputs, h, w].

        Only positions that are no anchors mean anything; channels are padded to whole panels of 32. For timing and
        comparison.
        """
        return self._native.local_context(_index(index), _channels_last("latent", latent), _threads(threads)).transpose(
            2, 0, 1
        )

    def inter_context(self, index: int, decoded: Any, threads: int = 1) -> NDArray[np.int16]:
        """Attention over the slices before ``index``, activations [C * index, h, w]: activations [outputs, h, w].

        Channels are padded to whole panels of 32. For timing and comparison.
        """
        return self._native.inter_context(
            _index(index), _channels_last("decoded", decoded), _threads(threads)
        ).transpose(2, 0, 1)


def _index(index: int) -> int:
    return arguments.integer("index", index, 0, 1 << 16)
