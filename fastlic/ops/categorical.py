"""rANS for categorical distributions of up to 65,536 symbols, such as the codebook indexes of a vector quantiser.

tables = categorical_tables([probabilities_of_level_0, probabilities_of_level_1])
data = encode_categorical(codes, rows, tables)
assert (decode_categorical(data, rows, tables) == codes).all()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlic import _native
from fastlic.forks import cached_property
from fastlic.ops import _arguments as arguments
from fastlic.ops.rans import Bytes
from fastlic.ops.reference import categorical as reference
from fastlic.ops.tables import normalise_pmf

MAX_SYMBOLS = 65536

Backend = Literal["reference", "cpp"]


@dataclass(frozen=True, eq=False)
class CategoricalTables:
    """Up to 256 rows, validated at construction; symbols of row r are 0..lengths[r]-2.

    cdf:      int32 [sum of lengths], rows one after another, each ``0 < ... < 2**precision``
    lengths:  int32 [rows], symbols + 1 of each row
    """

    cdf: NDArray[np.int32]
    lengths: NDArray[np.int32]
    precision: int

    def __post_init__(self) -> None:
        for name in ("cdf", "lengths"):
            object.__setattr__(self, name, arguments.exact(name, getattr(self, name), np.int32, 1))
        object.__setattr__(self, "precision", arguments.integer("precision", self.precision, 0))
        _ = self.native  # the core checks every row

    @cached_property
    def native(self) -> _native.CategoricalTables:
        return _native.CategoricalTables(self.cdf, self.lengths, self.precision)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cdf, self.lengths, self.precision)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The tables as named arrays, e.g. for a safetensors file."""
        return {"cdf": self.cdf, "lengths": self.lengths, "precision": np.array([self.precision], dtype=np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> CategoricalTables:
        missing = {"cdf", "lengths", "precision"} - set(arguments.instance("arrays", arrays, Mapping))
        if missing:
            raise ValueError(f"tables lack {', '.join(sorted(missing))}")
        precision = arguments.array("precision", arrays["precision"], "iu").reshape(-1)
        if precision.size != 1:
            raise ValueError(f"precision must be one number, got {precision.size}")
        return cls(np.asarray(arrays["cdf"]), np.asarray(arrays["lengths"]), int(precision[0]))


def categorical_tables(pmfs: Sequence[ArrayLike], precision: int | None = None) -> CategoricalTables:
    """One row per distribution: probabilities or counts, one per symbol; zeros get the smallest frequency.

    The default precision is 7 bits above the widest alphabet's: giving every symbol a count then takes at most 1/128 of
    the mass, and usually far less.
    """
    given = [arguments.array("pmfs", pmf, "fiu") for pmf in arguments.sequence("pmfs", pmfs)]
    widths = [pmf.size for pmf in given]
    if not widths or max(widths) > MAX_SYMBOLS or min(widths) < 1 or len(widths) > 256:
        raise ValueError("categorical tables have 1 to 256 rows of 1 to 65536 symbols")
    if precision is None:
        precision = max(12, (max(widths) - 1).bit_length() + 7)
    precision = arguments.integer("precision", precision, 8, 24)
    rows = [np.concatenate([[0], np.cumsum(normalise_pmf(pmf, precision))]) for pmf in given]
    lengths = np.array([row.size for row in rows], dtype=np.int32)
    return CategoricalTables(np.concatenate(rows).astype(np.int32), lengths, precision)


def _rows(indexes: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array = arguments.array("indexes", 0 if indexes is None else indexes, "iu")
    if array.size and not (array.min() >= 0 and array.max() < 256):
        raise ValueError("indexes must be integers in 0..255")
    return np.ascontiguousarray(np.broadcast_to(array.astype(np.uint8), shape)).reshape(-1)


Rows = list[NDArray[np.uint8]]
Symbols = list[NDArray[np.int32]]


def _encode_reference(symbols: Symbols, rows: Rows, tables: CategoricalTables, threads: int) -> list[bytes]:
    return [reference.encode(own, indexes, tables) for own, indexes in zip(symbols, rows, strict=True)]


def _encode_native(symbols: Symbols, rows: Rows, tables: CategoricalTables, threads: int) -> list[bytes]:
    return tables.native.encode_many(symbols, rows, threads)


def _decode_reference(data: list[Bytes], rows: Rows, out: Symbols, tables: CategoricalTables, threads: int) -> None:
    for stream, indexes, own in zip(data, rows, out, strict=True):
        reference.decode(stream, indexes, own, tables)


def _decode_native(data: list[Bytes], rows: Rows, out: Symbols, tables: CategoricalTables, threads: int) -> None:
    tables.native.decode_many(data, rows, out, threads)


ENCODE: dict[str, Callable[..., list[bytes]]] = {"reference": _encode_reference, "cpp": _encode_native}
DECODE: dict[str, Callable[..., None]] = {"reference": _decode_reference, "cpp": _decode_native}


def encode_categorical_many(
    symbols: Sequence[Any],
    indexes: Sequence[Any],
    tables: CategoricalTables,
    *,
    threads: int = 1,
    backend: Backend = "cpp",
) -> list[bytes]:
    """``encode_categorical`` of each pair of symbols and indexes, on ``threads`` threads."""
    arguments.instance("tables", tables, CategoricalTables)
    flat, rows = [], []
    for own, given in zip(arguments.sequence("symbols", symbols), arguments.sequence("indexes", indexes), strict=True):
        array = arguments.array("symbols", own, "iu")
        if array.size and not (array.min() >= 0 and array.max() < MAX_SYMBOLS):
            raise ValueError(f"symbols must lie in 0..65535, got {array.min()}..{array.max()}")
        flat.append(np.ascontiguousarray(array, dtype=np.int32).reshape(-1))
        rows.append(_rows(given, array.shape))
    encode: Callable[..., list[bytes]] = arguments.implementation(ENCODE, backend)
    return encode(flat, rows, tables, arguments.integer("threads", threads, 1))


def decode_categorical_many(
    data: Sequence[Bytes],
    indexes: Sequence[Any],
    tables: CategoricalTables,
    *,
    threads: int = 1,
    backend: Backend = "cpp",
) -> list[NDArray[np.int32]]:
    """``decode_categorical`` of each pair of bytes and indexes, on ``threads`` threads.

    Raises:
        CorruptStreamError: as of :func:`decode_categorical`, of the first damaged stream.
        TypeError, ValueError: as of :func:`decode_categorical`; ValueError for lists of different lengths.
    """
    arguments.instance("tables", tables, CategoricalTables)
    streams, shaped = arguments.sequence("data", data), arguments.sequence("indexes", indexes)
    given = [arguments.array("indexes", 0 if own is None else own, "iu") for own in shaped]
    out = [np.empty(own.shape, dtype=np.int32) for own in given]
    rows = [_rows(own, own.shape) for own in given]
    decode: Callable[..., None] = arguments.implementation(DECODE, backend)
    decode(streams, rows, [own.reshape(-1) for own in out], tables, arguments.integer("threads", threads, 1))
    return out


def encode_categorical(symbols: Any, indexes: Any, tables: CategoricalTables, *, backend: Backend = "cpp") -> bytes:
    """A stream of categorical symbols, such as codewords' numbers.

    Args:
        symbols: [...] integers, 0 <= symbol < symbols of its row.
        indexes: broadcast to the same shape, table row of each symbol; None: row 0.
    """
    return encode_categorical_many([symbols], [indexes], tables, backend=backend)[0]


def decode_categorical(
    data: Bytes, indexes: Any, tables: CategoricalTables, shape: Any = None, *, backend: Backend = "cpp"
) -> NDArray[np.int32]:
    """Inverse of :func:`encode_categorical`. ``shape``: of the result, if indexes are to be broadcast to it.

    Raises:
        CorruptStreamError: the bytes do not hold exactly these symbols.
        TypeError: indexes or a shape that are no integers, or another kind of tables or bytes.
        ValueError: indexes that name no row or do not broadcast to ``shape``, or an unknown backend.
    """
    if isinstance(shape, tuple | list):
        shape = tuple(arguments.integer("shape", extent, 0) for extent in shape)
    elif shape is not None:
        shape = (arguments.integer("shape", shape, 0),)
    if shape is not None:
        indexes = np.broadcast_to(arguments.array("indexes", 0 if indexes is None else indexes, "iu"), shape)
    return decode_categorical_many([data], [indexes], tables, backend=backend)[0]
