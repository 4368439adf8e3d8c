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
            array = arguments.array(name, getattr(self, name), "iu").astype(np.int32)
            if array.ndim != 1:
                raise ValueError(f"{name} must be 1-D, got {array.shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
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


def _native_encode(symbols: NDArray[np.int32], indexes: NDArray[np.uint8], tables: CategoricalTables) -> bytes:
    return tables.native.encode(symbols, indexes)


def _native_decode(data: Bytes, indexes: NDArray[np.uint8], out: NDArray[np.int32], tables: CategoricalTables) -> None:
    tables.native.decode(data, indexes, out)


ENCODE: dict[str, Callable[..., bytes]] = {"reference": reference.encode, "cpp": _native_encode}
DECODE: dict[str, Callable[..., None]] = {"reference": reference.decode, "cpp": _native_decode}


def encode_categorical(symbols: Any, indexes: Any, tables: CategoricalTables, *, backend: Backend = "cpp") -> bytes:
    """A stream of categorical symbols, such as codewords' numbers.

    Args:
        symbols: [...] integers, 0 <= symbol < symbols of its row.
        indexes: broadcast to the same shape, table row of each symbol; None: row 0.
    """
    array = arguments.array("symbols", symbols, "iu")
    arguments.instance("tables", tables, CategoricalTables)
    if array.size and not (array.min() >= 0 and array.max() < MAX_SYMBOLS):
        raise ValueError(f"symbols must lie in 0..65535, got {array.min()}..{array.max()}")
    flat = np.ascontiguousarray(array, dtype=np.int32).reshape(-1)
    encode: Callable[..., bytes] = arguments.implementation(ENCODE, backend)
    return encode(flat, _rows(indexes, array.shape), tables)


def decode_categorical(
    data: Bytes, indexes: Any, tables: CategoricalTables, shape: Any = None, *, backend: Backend = "cpp"
) -> NDArray[np.int32]:
    """Inverse of :func:`encode_categorical`. ``shape``: of the result, if indexes are to be broadcast to it."""
    arguments.instance("tables", tables, CategoricalTables)
    if shape is None:
        shape = arguments.array("indexes", 0 if indexes is None else indexes, "iu").shape
    elif isinstance(shape, tuple | list):
        shape = tuple(arguments.integer("shape", extent, 0) for extent in shape)
    else:
        shape = arguments.integer("shape", shape, 0)
    out = np.empty(shape, dtype=np.int32)
    arguments.implementation(DECODE, backend)(data, _rows(indexes, out.shape), out.reshape(-1), tables)
    return out
