"""The fused engines of latent models: latents to the sections of a stream and back, in one C++ call each way.

They compute exactly what the plain reference does (the schedules of fastlic.entropy with the drivers of fastlic.codec):
same bytes, same latents, whatever the instruction set, thread count and batch. docs/engine.md tells how.

    engine = LatentEngine("wavefront", arrays)                 # arrays: to_arrays() of an integer entropy model
    ((sections, z_symbols, y, _),) = engine.encode_many([Target(z, y)])
    ((same_z, same_y, _),) = engine.decode_many([(sections, height, width)])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.rans import as_symbols
from fastlic.ops.tables import CdfTables

Bytes = bytes | bytearray | memoryview
Ints = NDArray[np.int32]
Kind = Literal["wavefront", "groups", "slices"]
Stream = tuple[Sequence[Bytes], int, int]  # sections, and the height and width of y
Maps = tuple[Ints, Ints, Ints | None]  # z symbols, y in units of 2^-6, symbols of y where residual prediction follows

HYPER_STRIDE = 4  # z is at 1/4 of the latent
LATENT_LIMIT = (1 << 26) - 1  # largest magnitude of a latent, in units of 2^-6


class Target(NamedTuple):
    """What is to be coded of one image.

    z, y: latents [N, ceil(h/4), ceil(w/4)] and [M, h, w]; engines take integers in units of 2^-6, drivers floats.
    zones: int32 [rows of y's table], in units of 2^-6 and by scale index: by how much y - mean comes nearer to zero
        before it is rounded (fastlic.entropy.zones); None rounds to the nearest. Decoding does not depend on it.
    """

    z: Any
    y: Any
    zones: Ints | None = None


class LatentEngine:
    """One integer entropy model, validated and packed for this processor. Safe to share between threads.

    Args:
        kind: ``wavefront`` (one masked context or none), ``groups`` (channel groups and checkerboards) or ``slices``
            (the MLIC family).
        arrays: the model's ``to_arrays()``: int8 weights, int32 biases, requantisers, thresholds, tables.
        z_tables, y_tables: the same tables if they exist already, to share their memory.

    Raises:
        ValueError: an array is missing, misshapen or out of range, or an accumulator could leave int32.
    """

    def __init__(
        self,
        kind: Kind,
        arrays: Mapping[str, NDArray[Any]],
        z_tables: CdfTables | None = None,
        y_tables: CdfTables | None = None,
    ) -> None:
        self._kind, self._arrays = arguments.instance("kind", kind, str), arguments.named_arrays("arrays", arrays)
        self._native = _native.LatentEngine(
            kind, self._arrays, _tables("z", z_tables, arrays).native, _tables("y", y_tables, arrays).native
        )

    def vary(self, changes: Mapping[str, NDArray[Any]], z_tables: CdfTables, y_tables: CdfTables) -> LatentEngine:
        """An engine of the same weights, shared, with other integers around them; of kind ``wavefront`` only.

        Args:
            changes: any of z.median, z.input.*, y.input.*, context.bias, y.offsets, the last layer's requantise.*, and
                the arrays of the tables.
            z_tables, y_tables: the tables of the new engine.

        Raises:
            ValueError: another name, another shape, or a bias that lets an accumulator leave int32.
        """
        own = arguments.named_arrays("changes", changes)
        tables = (_tables(name, table, own).native for name, table in (("z", z_tables), ("y", y_tables)))
        new = object.__new__(type(self))
        new._kind, new._arrays = self._kind, {**self._arrays, **own}
        new._native = self._native.vary(own, *tables)
        return new

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ object is rebuilt, not pickled
        return type(self), (self._kind, self._arrays)

    def encode_many(
        self, targets: Sequence[Target], threads: int = 1
    ) -> list[tuple[list[bytes], Ints, Ints, Ints | None]]:
        """(sections, z symbols, y, symbols of y) of each image: the latents that ``decode_many`` returns.

        Latents that lie in memory with channels last are read without a copy; results lie so too.

        Args:
            threads: one image on each; a single image may use them all.
        """
        coded = self._native.encode_many(*self._columns(targets), True, arguments.threads(threads))
        return [(sections, *_channels_first(*maps)) for sections, *maps in coded]  # type: ignore[arg-type]

    def sections_many(self, targets: Sequence[Target], threads: int = 1) -> list[list[bytes]]:
        """The sections that ``encode_many`` gives, without memory for latents; arguments are those."""
        coded = self._native.encode_many(*self._columns(targets), False, arguments.threads(threads))
        return [sections for sections, *_ in coded]

    def decode_many(
        self, streams: Sequence[Stream], threads: int = 1, groups: int | None = None, *, symbols: bool = True
    ) -> list[Maps]:
        """(z symbols, y, symbols of y) of each image.

        Args:
            groups: read only that many groups or slices; the symbols of the others are taken for 0. None: all.
            symbols: whether those of y are given, where they are.

        Raises:
            CorruptStreamError: the sections do not hold exactly these latents.
        """
        sections, sizes = [], []
        for stream in arguments.sequence("streams", streams):
            if not isinstance(stream, tuple | list) or len(stream) != 3:
                raise TypeError(f"streams must be (sections, height, width), got {stream!r:.100}")
            sections.append(arguments.sequence("sections", stream[0]))
            height, width = (arguments.integer(n, v, 1) for n, v in zip(("height", "width"), stream[1:], strict=True))
            sizes.append((height, width))
        count = arguments.integer("groups", self._native.groups if groups is None else groups, 0, 1 << 16)
        wanted = arguments.instance("symbols", symbols, bool)
        maps = self._native.decode_many(sections, sizes, count, wanted, arguments.threads(threads))
        return [_channels_first(*own) for own in maps]

    def analyse_many(self, y: Sequence[Any], threads: int = 1) -> list[Ints]:
        """z [N, ceil(h/4), ceil(w/4)] of each y [M, h, w], both integers in units of 2^-6.

        Raises:
            ValueError: the model has no hyper analysis.
        """
        maps = [_channels_last("y", x) for x in arguments.sequence("y", y)]
        return [z.transpose(2, 0, 1) for z in self._native.analyse_many(maps, arguments.threads(threads))]

    def symbols(self, target: Target, threads: int = 1) -> tuple[NDArray[np.uint8], Ints]:
        """(scale indexes, symbols) of y in coding order, [h * w * M] each: what ``encode_many`` codes of it."""
        return self._native.symbols(*self._checked(target), arguments.threads(threads))

    def local_context(self, index: int, latent: Any, threads: int = 1) -> NDArray[np.int16]:
        """Local context of slice ``index`` from anchors [C, h, w] in units of 2^-6: activations [outputs, h, w].

        Only positions that are no anchors mean anything; channels are padded to whole panels of 32. For timing and
        comparison.
        """
        return _context(self._native.local_context, index, _channels_last("latent", latent), threads)

    def inter_context(self, index: int, decoded: Any, threads: int = 1) -> NDArray[np.int16]:
        """Attention over the slices before ``index``, activations [C * index, h, w]: activations [outputs, h, w].

        Channels are padded to whole panels of 32. For timing and comparison.
        """
        return _context(self._native.inter_context, index, _channels_last("decoded", decoded), threads)

    def _columns(self, targets: Sequence[Target]) -> tuple[list[Any], list[Any], list[Any]]:
        checked = [self._checked(target) for target in arguments.sequence("targets", targets)]
        z, y, zones = ([one[i] for one in checked] for i in range(3))
        return z, y, zones

    def _checked(self, target: Target) -> tuple[Ints, Ints, Ints | None]:
        if not isinstance(target, tuple) or len(target) != 3:
            raise TypeError(f"targets must be (z, y, zones), got {type(target).__name__}")
        z, y, zones = target
        own = None if zones is None else as_symbols(zones).astype(np.int32, copy=False)
        return _channels_last("z", z), _channels_last("y", y), own


def _tables(name: str, tables: CdfTables | None, arrays: Mapping[str, NDArray[Any]]) -> CdfTables:
    if tables is not None:
        return arguments.instance(f"{name}_tables", tables, CdfTables)  # type: ignore[no-any-return]
    prefix = f"{name}.tables."
    return CdfTables.from_arrays({k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)})


def _channels_last(name: str, x: Any) -> Ints:
    """[C, h, w] integers -> contiguous int32 [h, w, C]."""
    array = arguments.array(name, x, "iu", contiguous=False)
    if array.dtype.kind not in "iu" or array.ndim != 3:
        raise TypeError(f"{name} must be integers [C, h, w], got {array.dtype} {list(array.shape)}")
    last = np.ascontiguousarray(array.transpose(1, 2, 0))  # before its values are looked at: arguments.array tells why
    if array.dtype != np.int32 and last.size and (last.max() > LATENT_LIMIT or last.min() < -LATENT_LIMIT):
        raise ValueError(f"{name} must lie within +-{LATENT_LIMIT}, got {last.min()}..{last.max()}")
    return last.astype(np.int32, copy=False)


def _context(of: Callable[..., NDArray[np.int16]], index: int, x: Ints, threads: int) -> NDArray[np.int16]:
    at = arguments.integer("index", index, 0, 1 << 16)
    return of(at, x, arguments.threads(threads)).transpose(2, 0, 1)


def _channels_first(z: Ints, y: Ints, symbols: Ints | None) -> Maps:
    return z.transpose(2, 0, 1), y.transpose(2, 0, 1), None if symbols is None else symbols.transpose(2, 0, 1)
