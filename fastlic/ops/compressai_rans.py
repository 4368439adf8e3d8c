"""CompressAI's entropy coder with arrays for lists: byte-identical to ``compressai.ans``, in both directions.

tables = CompressAiTables(model._quantized_cdf, model._cdf_length, model._offset)
data = encode_with_indexes(symbols, indexes, tables)
assert (decode_with_indexes(data, indexes, tables) == symbols).all()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.forks import cached_property
from fastlic.ops import _arguments as arguments
from fastlic.ops.reference import compressai_rans as reference

Backend = Literal["reference", "cpp"]
Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, eq=False)
class CompressAiTables:
    """A CompressAI model's own integer tables: take them from the checkpoint, never rebuild them.

    quantized_cdf: int32 [rows, columns];  lengths: int32 [rows], used columns;  offsets: int32 [rows]
    """

    quantized_cdf: NDArray[np.int32]
    lengths: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def __post_init__(self) -> None:
        for name, ndim in (("quantized_cdf", 2), ("lengths", 1), ("offsets", 1)):
            object.__setattr__(self, name, arguments.exact(name, getattr(self, name), np.int32, ndim))
        _ = self.native  # the core checks every row

    @cached_property
    def native(self) -> _native.CompressAiTables:
        """The validated C++ twin, with reciprocals and search buckets."""
        return _native.CompressAiTables(self.quantized_cdf, self.lengths, self.offsets)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.quantized_cdf, self.lengths, self.offsets)


def _native_encode(symbols: NDArray[np.int32], indexes: NDArray[Any], tables: CompressAiTables) -> bytes:
    return _native.compressai_encode(symbols, indexes, tables.native)


def _native_decoder(data: Bytes, tables: CompressAiTables) -> _native.CompressAiDecoder:
    return _native.CompressAiDecoder(data, tables.native)


def _native_encoder() -> _native.CompressAiEncoder:
    return _native.CompressAiEncoder()


ENCODE: dict[str, Callable[..., bytes]] = {"reference": reference.encode_with_indexes, "cpp": _native_encode}
ENCODER: dict[str, Callable[..., Any]] = {"reference": reference.CompressAiEncoder, "cpp": _native_encoder}
DECODER: dict[str, Callable[..., Any]] = {"reference": reference.CompressAiDecoder, "cpp": _native_decoder}


def _symbols(symbols: Any) -> NDArray[np.int32]:
    array = arguments.array("symbols", symbols, "iu")
    limits = np.iinfo(np.int32)
    small = array.dtype == np.int32 or array.dtype.itemsize <= 2
    if array.size and not small and (array.min() < limits.min or array.max() > limits.max):
        raise ValueError("symbols must fit int32")
    return np.ascontiguousarray(array, dtype=np.int32)


def _indexes(indexes: Any, tables: CompressAiTables) -> NDArray[Any]:
    """uint8 and int32 pass as they are; the core checks their range."""
    array, rows = arguments.array("indexes", indexes, "iu"), arguments.instance("tables", tables, CompressAiTables).rows
    if array.dtype in (np.uint8, np.int32) and array.dtype.isnative:
        return array
    if array.size and not (array.min() >= 0 and array.max() < rows):
        raise ValueError(f"indexes must lie in 0..{rows - 1}, got {array.min()}..{array.max()}")
    return np.ascontiguousarray(array, dtype=np.int32)


def _same_shape(symbols: NDArray[Any], indexes: NDArray[Any]) -> None:
    if symbols.shape != indexes.shape:
        raise ValueError(f"symbols and indexes must have one shape, got {symbols.shape} and {indexes.shape}")


def encode_with_indexes(symbols: Any, indexes: Any, tables: CompressAiTables, *, backend: Backend = "cpp") -> bytes:
    """The bytes that ``RansEncoder.encode_with_indexes`` returns; also for symbols and counts that crash it."""
    s, i = _symbols(symbols), _indexes(indexes, tables)
    _same_shape(s, i)
    return arguments.implementation(ENCODE, backend)(s.reshape(-1), i.reshape(-1), tables)


class CompressAiEncoder:
    """A stream of pieces with tables of their own, the last piece first: rANS codes from the end.

    encoder.put(second, indexes, tables)
    encoder.put(first, indexes, tables)
    data = encoder.finish()  # what decodes to the first piece, and then to the second
    """

    def __init__(self, *, backend: Backend = "cpp") -> None:
        self._cpp = backend == "cpp"
        self._encoder = arguments.implementation(ENCODER, backend)()

    def put(self, symbols: Any, indexes: Any, tables: CompressAiTables) -> None:
        """Code integers [...] and indexes of their rows, in one shape, before all that was put so far.

        Raises:
            ValueError: other shapes, a symbol beyond int32, or an index of no row: nothing is put.
        """
        s, i = _symbols(symbols), _indexes(indexes, tables)
        _same_shape(s, i)
        if i.size and not (i.min() >= 0 and i.max() < tables.rows):
            raise ValueError(f"indexes must lie in 0..{tables.rows - 1}, got {i.min()}..{i.max()}")
        self._encoder.put(s.reshape(-1), i.reshape(-1), tables.native if self._cpp else tables)

    def finish(self) -> bytes:
        """The stream of what was put."""
        data: bytes = self._encoder.finish()
        return data


class CompressAiDecoder:
    """``set_stream`` and ``decode_stream`` of CompressAI: pieces of one stream, with reads that know its end."""

    def __init__(self, data: Bytes, tables: CompressAiTables, *, backend: Backend = "cpp") -> None:
        self._tables = arguments.instance("tables", tables, CompressAiTables)
        self._cpp = backend == "cpp"
        self._decoder = arguments.implementation(DECODER, backend)(data, tables)

    def decode(self, indexes: Any, tables: CompressAiTables | None = None) -> NDArray[np.int32]:
        """The next symbols, one for each index, in its shape; ``tables``: this piece's, if it has others."""
        own = self._tables if tables is None else arguments.instance("tables", tables, CompressAiTables)
        i = _indexes(indexes, own)
        out = np.empty(i.shape, dtype=np.int32)
        self._decoder.decode(i.reshape(-1), out.reshape(-1), own.native if self._cpp else own)
        return out

    def finish(self) -> None:
        """Raises CorruptStreamError if words are left or the state is not the encoder's first one."""
        self._decoder.finish()


def decode_with_indexes(
    data: Bytes, indexes: Any, tables: CompressAiTables, *, strict: bool = True, backend: Backend = "cpp"
) -> NDArray[np.int32]:
    """All symbols of a stream, in the shape of ``indexes``.

    ``strict=False`` accepts a stream with more in it, as CompressAI does.

    Raises:
        CorruptStreamError: the stream ends before its symbols do or, if ``strict``, holds more.
        TypeError: indexes that are no integers, or another kind of tables or bytes.
        ValueError: indexes that name no row, or an unknown backend.
    """
    strict = arguments.flag("strict", strict)
    decoder = CompressAiDecoder(data, tables, backend=backend)
    symbols = decoder.decode(indexes)
    if strict:
        decoder.finish()
    return symbols


def encode_many_with_indexes(symbols: Any, indexes: Any, tables: CompressAiTables, *, threads: int = 0) -> list[bytes]:
    """One stream per item of [B, ...] arrays, on ``threads`` threads (0: one per core)."""
    s, i = _symbols(symbols), _indexes(indexes, tables)
    _same_shape(s, i)
    if s.ndim < 1:
        raise ValueError("symbols must be [B, ...]")
    batch = s.shape[0]
    return _native.compressai_encode_many(_rows(s, batch), _rows(i, batch), tables.native, threads)


def decode_many_with_indexes(
    data: Sequence[Bytes], indexes: Any, tables: CompressAiTables, *, threads: int = 0
) -> NDArray[np.int32]:
    """Inverse of :func:`encode_many_with_indexes`: [B, ...] symbols. Four streams share a core in lock-step.

    Raises:
        CorruptStreamError: as of :func:`decode_with_indexes` with ``strict``, of the first damaged stream.
        TypeError, ValueError: as of :func:`decode_with_indexes`; ValueError for another number of streams.
    """
    i, streams = _indexes(indexes, tables), arguments.sequence("data", data)
    if i.ndim < 1 or i.shape[0] != len(streams):
        raise ValueError(f"indexes must be [B, ...] with one item per stream, got {i.shape} for {len(streams)} streams")
    out = np.empty(i.shape, dtype=np.int32)
    _native.compressai_decode_many(streams, _rows(i, len(streams)), _rows(out, len(streams)), tables.native, threads)
    return out


def _rows(array: NDArray[Any], batch: int) -> NDArray[Any]:
    return array.reshape(batch, array.size // batch if batch else 0)
