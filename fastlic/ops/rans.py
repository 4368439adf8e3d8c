"""Native entropy coder: interleaved rANS, one table row per symbol. The stream is specified in docs/stream.md.

data = rans_encode(symbols, indexes, tables)
assert (rans_decode(data, indexes, tables) == symbols).all()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.reference import rans as _reference_rans
from fastlic.ops.tables import CdfTables

Backend = Literal["reference", "cpp"]
Bytes = bytes | bytearray | memoryview


def _native_encode(symbols: NDArray[Any], indexes: NDArray[np.uint8], tables: CdfTables, lanes: int) -> bytes:
    return _native.rans_encode(symbols, indexes, tables.native, lanes)


def _native_decoder(data: Bytes, tables: CdfTables) -> _native.RansDecoder:
    return _native.RansDecoder(data, tables.native)


ENCODE: dict[str, Callable[..., bytes]] = {"reference": _reference_rans.rans_encode, "cpp": _native_encode}
DECODER: dict[str, Callable[..., Any]] = {"reference": _reference_rans.RansDecoder, "cpp": _native_decoder}


def as_symbols(symbols: Any) -> NDArray[Any]:
    """Any integer array or tensor as contiguous int16 or int32, without a copy where it already is."""
    array = arguments.array("symbols", symbols, "iu")
    if array.dtype in (np.int16, np.int32):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype in (np.int8, np.uint8):
        return np.ascontiguousarray(array, dtype=np.int16)
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise ValueError("symbols must fit int32")
    return np.ascontiguousarray(array, dtype=np.int32)


def as_indexes(indexes: Any, tables: CdfTables) -> NDArray[np.uint8]:
    """Row numbers as contiguous uint8, checked against the tables."""
    array, rows = arguments.array("indexes", indexes, "iu"), arguments.instance("tables", tables, CdfTables).rows
    if array.size and (array.min() < 0 or array.max() >= rows):
        raise ValueError(f"indexes must lie in 0..{rows - 1}, got {array.min()}..{array.max()}")
    return np.ascontiguousarray(array, dtype=np.uint8)


def _lanes(lanes: Any) -> int:
    number = arguments.integer("lanes", lanes, 0)
    if number not in (0, 1, 2, 4, 8, 16, 32, 64):
        raise ValueError(f"lanes must be 0 or a power of two up to 64, got {number}")
    return number


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    if np.dtype(dtype) not in (np.int16, np.int32):
        raise ValueError(f"dtype must be int16 or int32, got {np.dtype(dtype)}")
    return np.dtype(dtype).newbyteorder("=")


def rans_encode(
    symbols: Any,  # [...] any integer type, every int32 survives
    indexes: Any,  # same shape, table row of each symbol
    tables: CdfTables,
    *,
    lanes: int = 0,
    backend: Backend = "cpp",
) -> bytes:
    """Codes the symbols in C order. ``lanes``: 1, 2, 4 ... 64 interleaved states, 0 chooses by the expected size."""
    s, i = as_symbols(symbols), as_indexes(indexes, tables)
    if s.shape != i.shape:
        raise ValueError(f"symbols and indexes must have one shape, got {s.shape} and {i.shape}")
    return arguments.implementation(ENCODE, backend)(s.reshape(-1), i.reshape(-1), tables, _lanes(lanes))


class RansDecoder:
    """Decodes a stream in pieces: ``decode`` any number of times, then ``finish``, which demands a clean end.

    Raises CorruptStreamError where the bytes cannot be what the encoder wrote with these tables and indexes.
    """

    def __init__(self, data: Bytes, tables: CdfTables, *, backend: Backend = "cpp") -> None:
        self._tables = arguments.instance("tables", tables, CdfTables)
        self._decoder = arguments.implementation(DECODER, backend)(data, tables)

    def decode(self, indexes: Any, out: NDArray[Any] | None = None, dtype: DTypeLike = np.int32) -> NDArray[Any]:
        """The next symbols, one for each index. ``out``: int16 or int32 array of the same shape to write into."""
        i = as_indexes(indexes, self._tables)
        if out is None:
            out = np.empty(i.shape, dtype=_dtype(dtype))
        arguments.instance("out", out, np.ndarray)
        if out.dtype not in (np.int16, np.int32) or not out.flags.c_contiguous or out.shape != i.shape:
            raise ValueError(f"out must be contiguous int16 or int32 {i.shape}, got {out.dtype} {out.shape}")
        self._decoder.decode(i.reshape(-1), out.reshape(-1))
        return out

    def finish(self) -> None:
        """Raises CorruptStreamError if the stream holds more, or does not end as an encoder ends it."""
        self._decoder.finish()


def rans_decode(
    data: Bytes,
    indexes: Any,  # [...] table row of each symbol
    tables: CdfTables,
    *,
    dtype: DTypeLike = np.int32,
    backend: Backend = "cpp",
) -> NDArray[Any]:
    """All symbols of a stream, in the shape of ``indexes``; inverse of :func:`rans_encode`.

    Raises:
        CorruptStreamError: the bytes do not hold exactly these symbols.
        TypeError: indexes that are no integers, or another kind of tables or bytes.
        ValueError: indexes that name no row, another dtype, or an unknown backend.
    """
    decoder = RansDecoder(data, tables, backend=backend)
    symbols = decoder.decode(indexes, dtype=dtype)
    decoder.finish()
    return symbols


def rans_encode_many(
    symbols: Sequence[Any],  # [B] arrays of any shapes
    indexes: Sequence[Any],  # [B] arrays of the same shapes
    tables: CdfTables,
    *,
    lanes: int = 0,
    threads: int = 0,
) -> list[bytes]:
    """One stream per item, on ``threads`` threads (0: one per core): the bytes of rans_encode for each."""
    items = [as_symbols(s) for s in arguments.sequence("symbols", symbols)]
    rows = [
        as_indexes(i, arguments.instance("tables", tables, CdfTables)) for i in arguments.sequence("indexes", indexes)
    ]
    if [s.shape for s in items] != [i.shape for i in rows]:
        raise ValueError("symbols and indexes must have the same shapes, item by item")
    lanes = _lanes(lanes)
    if any(s.dtype != np.int16 for s in items):
        items = [s.astype(np.int32, copy=False) for s in items]
    flat = [s.reshape(-1) for s in items]
    return _native.rans_encode_many(flat, [i.reshape(-1) for i in rows], tables.native, lanes, threads)


def rans_decode_many(
    data: Sequence[Bytes],
    indexes: Sequence[Any],  # [B] arrays of any shapes
    tables: CdfTables,
    *,
    dtype: DTypeLike = np.int32,
    threads: int = 0,
) -> list[NDArray[Any]]:
    """Inverse of :func:`rans_encode_many`.

    Raises:
        CorruptStreamError: as of :func:`rans_decode`, of the first damaged stream.
        TypeError, ValueError: as of :func:`rans_decode`; ValueError for lists of different lengths.
    """
    rows = [
        as_indexes(i, arguments.instance("tables", tables, CdfTables)) for i in arguments.sequence("indexes", indexes)
    ]
    streams = arguments.sequence("data", data)
    if len(rows) != len(streams):
        raise ValueError(f"data and indexes differ in length: {len(streams)} and {len(rows)}")
    out = [np.empty(i.shape, dtype=_dtype(dtype)) for i in rows]
    flat = [o.reshape(-1) for o in out]
    _native.rans_decode_many(streams, [i.reshape(-1) for i in rows], flat, tables.native, threads)
    return out
