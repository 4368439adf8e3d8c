"""The fused engine of channel groups and checkerboards: latents to the sections of a stream and back, in one C++ call.

It computes exactly what the plain reference does (the schedule of fastlic.entropy.groups with fastlic.codec's drivers):
same bytes, same latents, whatever the instruction set, thread count and batch. docs/engine.md tells how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.engine import _channels_first, _channels_last, _checked_sizes, _named_arrays, _threads
from fastlic.ops.tables import CdfTables

Bytes = bytes | bytearray | memoryview
Ints = NDArray[np.int32]


class GroupsEngine:
    """One integer model, validated and packed for this processor. Safe to share between threads.

    Args:
        arrays: ``IntegerGroups.to_arrays()``.
        z_tables, y_tables: the coder's tables.

    Raises:
        ValueError: an array is missing, misshapen or out of range, or an accumulator could leave int32.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], z_tables: CdfTables, y_tables: CdfTables) -> None:
        self._arrays = _named_arrays("arrays", arrays)
        self._tables = z_tables, y_tables
        for name, tables in (("z_tables", z_tables), ("y_tables", y_tables)):
            arguments.instance(name, tables, CdfTables)
        self._native = _native.GroupsEngine(self._arrays, z_tables.native, y_tables.native)

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ object is rebuilt, not pickled
        return type(self), (self._arrays, *self._tables)

    def analyse_many(self, y: Sequence[Any], threads: int = 1) -> list[Ints]:
        """z [N, ceil(h/4), ceil(w/4)] of each y [M, h, w], both integers in units of 2^-6.

        Raises:
            ValueError: the model has no hyper analysis.
        """
        maps = [_channels_last("y", x) for x in arguments.sequence("y", y)]
        return [_channels_first(z) for z in self._native.analyse_many(maps, _threads(threads))]

    def encode_many(self, z: Sequence[Any], y: Sequence[Any], threads: int = 1) -> list[tuple[list[bytes], Ints, Ints]]:
        """(sections, z symbols, y) of each image; sections: z, then each pass over y.

        Args:
            z, y: integers [N, ceil(h/4), ceil(w/4)] and [M, h, w] in units of 2^-6, per image.
            threads: one image on each; a single image may use them all.
        """
        z_maps, y_maps = ([_channels_last(n, x) for x in arguments.sequence(n, own)] for n, own in (("z", z), ("y", y)))
        results = self._native.encode_many(z_maps, y_maps, _threads(threads))
        return [(sections, _channels_first(a), _channels_first(b)) for sections, a, b in results]

    def decode_many(
        self, streams: Sequence[Sequence[Bytes]], sizes: Sequence[tuple[int, int]], threads: int = 1
    ) -> list[tuple[Ints, Ints]]:
        """(z symbols, y) of each image from its sections and the latent's size.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
        """
        listed = [arguments.sequence("streams", sections) for sections in arguments.sequence("streams", streams)]
        results = self._native.decode_many(listed, _checked_sizes(sizes), _threads(threads))
        return [(_channels_first(a), _channels_first(b)) for a, b in results]
