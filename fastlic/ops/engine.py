"""The fused entropy engine: latents of Gaussian models to the sections of a stream and back, in one C++ call each way.

It computes exactly what the plain reference does (the coding schedule of fastlic.entropy with the drivers of
fastlic.codec): same bytes, same latents, whatever the instruction set, thread count and batch.
docs/engine.md tells how.

engine = EntropyEngine(arrays)                     # arrays: IntegerEntropyModel.to_arrays()
z_bytes, y_bytes, z, y = engine.encode(z_fixed, y_fixed)
same_z, same_y = engine.decode(z_bytes, y_bytes, height, width)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.rans import as_symbols
from fastlic.ops.tables import CdfTables

Bytes = bytes | bytearray | memoryview
Ints = NDArray[np.int32]

Zones = Sequence[Ints] | None  # of each image, int32 [rows of y's table] (encode_many); None: round to the nearest

HYPER_STRIDE = 4  # z is at 1/4 of the latent
LATENT_LIMIT = (1 << 26) - 1  # largest magnitude of a latent, in units of 2^-6


def _tables(arrays: Mapping[str, NDArray[Any]], name: str) -> CdfTables:
    prefix = f"{name}.tables."
    return CdfTables.from_arrays({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})


class EntropyEngine:
    """One integer entropy model, validated and packed for this processor. Safe to share between threads.

    Args:
        arrays: ``IntegerEntropyModel.to_arrays()``: int8 weights, int32 biases, requantisers, thresholds, tables.
        z_tables, y_tables: the same tables if they exist already, to share their memory.

    Raises:
        ValueError: an array is missing, misshapen or out of range, or an accumulator could leave int32.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        z_tables: CdfTables | None = None,
        y_tables: CdfTables | None = None,
    ) -> None:
        self._arrays = _named_arrays("arrays", arrays)
        z_tables = _tables(arrays, "z") if z_tables is None else arguments.instance("z_tables", z_tables, CdfTables)
        y_tables = _tables(arrays, "y") if y_tables is None else arguments.instance("y_tables", y_tables, CdfTables)
        self._native = _native.EntropyEngine(self._arrays, z_tables.native, y_tables.native)

    def vary(self, changes: Mapping[str, NDArray[Any]], z_tables: CdfTables, y_tables: CdfTables) -> EntropyEngine:
        """An engine of the same weights, shared, with other integers around them.

        Args:
            changes: any of z.median, z.input.*, y.input.*, context.bias, y.offsets, the last layer's requantise.*, and
                the arrays of the tables.
            z_tables, y_tables: the tables of the new engine.

        Raises:
            ValueError: another name, another shape, or a bias that lets an accumulator leave int32.
        """
        own = _named_arrays("changes", changes)
        arguments.instance("z_tables", z_tables, CdfTables)
        arguments.instance("y_tables", y_tables, CdfTables)
        new = object.__new__(type(self))
        new._arrays = {**self._arrays, **own}
        new._native = self._native.vary(own, z_tables.native, y_tables.native)
        return new

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ object is rebuilt, not pickled
        return type(self), (self._arrays,)

    @property
    def hyper_channels(self) -> int:
        """N, channels of z."""
        return self._native.hyper_channels

    @property
    def latent_channels(self) -> int:
        """M, channels of y."""
        return self._native.latent_channels

    def encode(
        self,
        z: Any,  # [N, ceil(h/4), ceil(w/4)] integers in units of 2^-6
        y: Any,  # [M, h, w] likewise
        threads: int = 1,
        zones: Ints | None = None,
    ) -> tuple[bytes, bytes, Ints, Ints]:
        """(z section, y section, z symbols [N, hz, wz], y [M, h, w] in units of 2^-6): the latents that decode returns.

        Latents that lie in memory with channels last are read without a copy; results lie so too.
        """
        return self.encode_many([z], [y], threads, None if zones is None else [zones])[0]

    def symbols(self, z: Any, y: Any, threads: int = 1, zones: Ints | None = None) -> tuple[NDArray[np.uint8], Ints]:
        """(scale indexes, symbols) of y in coding order, [h * w * M] each: what ``encode`` codes for these latents."""
        z_map, y_map = _channels_last("z", z), _channels_last("y", y)
        self._check(z_map, y_map)
        return self._native.symbols(z_map, y_map, native_zones(None if zones is None else [zones]), _threads(threads))

    def decode(self, z: Bytes, y: Bytes, height: int, width: int, threads: int = 1) -> tuple[Ints, Ints]:
        """z symbols [N, ceil(height/4), ceil(width/4)] and y [M, height, width] from their sections.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
        """
        return self.decode_many([z], [y], [(height, width)], threads)[0]

    def encode_many(
        self, z: Sequence[Any], y: Sequence[Any], threads: int = 1, zones: Zones = None
    ) -> list[tuple[bytes, bytes, Ints, Ints]]:
        """``encode`` of several images, each on one of ``threads`` threads; a single image may use them all.

        Args:
            zones: of each image, in units of 2^-6 and by scale index: by how much y - mean comes nearer to zero before
                it is rounded (fastlic.entropy.zones). Decoding does not depend on it.
        """
        z, y = arguments.sequence("z", z), arguments.sequence("y", y)
        if len(z) != len(y):
            raise ValueError(f"z and y must be lists of one length, got {len(z)} and {len(y)}")
        sources = [_channels_last(name, x) for name, x in [("z", x) for x in z] + [("y", x) for x in y]]
        z_maps, y_maps = sources[: len(z)], sources[len(z) :]
        for z_map, y_map in zip(z_maps, y_maps, strict=True):
            self._check(z_map, y_map)
        results = self._native.encode_many(z_maps, y_maps, native_zones(zones), _threads(threads))
        return [(a, b, _channels_first(zs), _channels_first(ys)) for a, b, zs, ys in results]

    def decode_many(
        self, z: Sequence[Bytes], y: Sequence[Bytes], sizes: Sequence[tuple[int, int]], threads: int = 1
    ) -> list[tuple[Ints, Ints]]:
        """``decode`` of several images, each on one of ``threads`` threads; a single image may use them all."""
        z, y, sizes = (arguments.sequence(n, v) for n, v in (("z", z), ("y", y), ("sizes", _checked_sizes(sizes))))
        if not len(z) == len(y) == len(sizes):
            raise ValueError(f"z, y and sizes must be of one length, got {len(z)}, {len(y)} and {len(sizes)}")
        results = self._native.decode_many(z, y, sizes, _threads(threads))
        return [(_channels_first(zs), _channels_first(ys)) for zs, ys in results]

    def _check(self, z: Ints, y: Ints) -> None:
        height, width, channels = y.shape
        if not y.size or channels != self.latent_channels:
            raise ValueError(f"y must be [{self.latent_channels}, h, w], got {[channels, height, width]}")
        expected = [self.hyper_channels, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)]
        if [z.shape[2], *z.shape[:2]] != expected:
            raise ValueError(f"z must be {expected} for this y, got {[z.shape[2], *z.shape[:2]]}")


def _threads(threads: int) -> int:
    return arguments.integer("threads", threads, 1)


def _named_arrays(name: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A model's arrays, contiguous; the core checks the rest."""
    return {key: arguments.array(str(key), a, "fiub") for key, a in arguments.instance(name, arrays, Mapping).items()}


def _checked_sizes(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(height, width) of each latent, at least one position."""
    found = []
    for size in arguments.sequence("sizes", sizes):
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise TypeError(f"sizes must be pairs of height and width, got {size!r:.100}")
        height, width = (arguments.integer(n, v, 1) for n, v in zip(("height", "width"), size, strict=True))
        found.append((height, width))
    return found


def native_zones(zones: Zones) -> list[Ints]:
    """``zones`` as the C++ engines take them; an empty list is none."""
    if zones is None:
        return []
    return [as_symbols(rows).astype(np.int32, copy=False) for rows in arguments.sequence("zones", zones)]


def _channels_last(name: str, x: Any) -> Ints:
    """[C, h, w] integers -> contiguous int32 [h, w, C]."""
    array = np.asarray(x) if isinstance(x, np.ndarray) else arguments.array(name, x, "iu")
    if array.dtype.kind not in "iu" or array.ndim != 3:
        raise TypeError(f"{name} must be integers [C, h, w], got {array.dtype} {list(array.shape)}")
    last = np.ascontiguousarray(array.transpose(1, 2, 0))  # before its values are looked at: arguments.array tells why
    if array.dtype != np.int32 and last.size and (last.max() > LATENT_LIMIT or last.min() < -LATENT_LIMIT):
        raise ValueError(f"{name} must lie within +-{LATENT_LIMIT}, got {last.min()}..{last.max()}")
    return last.astype(np.int32, copy=False)


def _channels_first(x: Ints) -> Ints:
    return x.transpose(2, 0, 1)
