"""The classes of ``compressai.ans`` for arrays and tensors as well as lists: its methods, its arguments, its bytes.

import fastlic.integrations.compressai.ans as ans
encoder = ans.BufferedRansEncoder()
encoder.encode_with_indexes(symbols, indexes, cdfs, cdfs_sizes, offsets)
data = encoder.flush()
decoder = ans.RansDecoder()
decoder.set_stream(data)
symbols = decoder.decode_stream(indexes, cdfs, cdfs_sizes, offsets)  # of the kind of ``indexes``: list, array, tensor

CompressAI itself is not needed. Where its coder crashes or reads on behind the end, there are errors in words; what it
takes without a crash gives its result, but for tables that are none: every row must run strictly upwards from 0 to
65536 over the entries that its size names, and have a symbol beside the escape.

Conversion of tables is remembered by content: callers make their lists anew for each image, and comparing is cheaper
than converting. The lists are read in any case, so one that was changed in place is noticed.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlic.ops import _arguments as arguments
from fastlic.ops.compressai_rans import CompressAiDecoder, CompressAiEncoder, CompressAiTables

__all__ = ["BufferedRansEncoder", "RansDecoder", "RansEncoder", "tables_of"]

_ENTRIES = 8  # tables that are remembered
_LARGEST = 1 << 22  # and the most entries of one of them
# Rows that are converted at a time. A row has 2 kB of search buckets: tables with one for every symbol have too many.
_ROWS = 1 << 13


class Rows:
    """Tables with more rows than are worth converting as a whole: those that a piece names are, for that piece."""

    def __init__(self, cdf: NDArray[np.int32], sizes: NDArray[np.int32], offsets: NDArray[np.int32]) -> None:
        self.cdf, self.sizes, self.offsets = cdf, sizes, offsets

    def pieces(self, indexes: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any], CompressAiTables]]:
        for first in range(0, len(indexes), _ROWS):
            part = slice(first, first + _ROWS)
            used, own = np.unique(indexes[part], return_inverse=True)
            tables = CompressAiTables(self.cdf[used], self.sizes[used], self.offsets[used])
            yield part, own.reshape(-1).astype(np.int32), tables


class _Known:
    """One conversion, and what it was made of."""

    def __init__(self, sizes: tuple[int, ...], offsets: tuple[int, ...], tables: CompressAiTables) -> None:
        self.sizes, self.offsets, self.tables = sizes, offsets, tables
        self.rows: list[list[int]] | None = None  # what was compared last, entries up to their sizes

    def is_of(self, rows: list[Any] | None, cdf: NDArray[Any] | None) -> bool:
        if rows is None:
            return np.array_equal(self.tables.quantized_cdf, cdf)  # type: ignore[arg-type]
        if self.rows is None:
            self.rows = [row[:n].tolist() for row, n in zip(self.tables.quantized_cdf, self.sizes, strict=True)]
        if self.rows != rows:
            return False
        self.rows = rows  # lists of the same integer objects compare four times as fast
        return True


_known: tuple[_Known, ...] = ()  # replaced as a whole, so that threads need no lock; the latest comes first


def tables_of(cdfs: Any, sizes: Any, offsets: Any) -> CompressAiTables | Rows:
    """The coder's form of [rows, columns] cumulative frequencies, [rows] sizes and [rows] offsets, remembered.

    ``cdfs`` may be a list of lists of different lengths. ``Rows`` for more than 8192 rows.

    Raises:
        TypeError: something is no integer.
        ValueError: the shapes do not belong together, or a row is no table.
    """
    global _known
    size, offset = _numbers("cdfs_sizes", sizes), _numbers("offsets", offsets)
    rows = _rows_of_lists(cdfs, size)
    cdf = None if rows is not None else _matrix(cdfs)
    count = len(cdfs) if cdf is None else len(cdf)
    if not count or not count == len(size) == len(offset):
        raise ValueError(
            f"cdfs, cdfs_sizes and offsets must have a row each, got {count}, {len(size)} and {len(offset)} of them"
        )
    known = _known
    for place, entry in enumerate(known):
        if entry.sizes == size and entry.offsets == offset and entry.is_of(rows, cdf):
            if place:
                _known = (entry, *known[:place], *known[place + 1 :])
            return entry.tables
    if cdf is None:
        cdf = _padded(rows, size)
    own_sizes, own_offsets = _int32("cdfs_sizes", size), _int32("offsets", offset)
    if count > _ROWS:
        return Rows(cdf, own_sizes, own_offsets)
    entry = _Known(size, offset, CompressAiTables(cdf, own_sizes, own_offsets))
    if cdf.size <= _LARGEST:
        entry.rows = rows
        _known = (entry, *known[: _ENTRIES - 1])
    return entry.tables


def _numbers(name: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, (list, tuple)):
        try:
            return tuple(map(operator.index, values))
        except TypeError as error:
            raise TypeError(f"{name} must be integers: {error}") from None
    found = arguments.array(name, values, "iu")
    if found.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got {list(found.shape)}")
    return tuple(found.tolist())


def _rows_of_lists(cdfs: Any, sizes: tuple[int, ...]) -> list[Any] | None:
    """Each row up to its size, if all of them are lists."""
    if not isinstance(cdfs, (list, tuple)) or not all(type(row) is list for row in cdfs):
        return None
    if len(cdfs) != len(sizes):
        return []  # counted by the caller
    rows = [row[:size] for row, size in zip(cdfs, sizes, strict=True)]
    for number, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if len(row) != size or size < 3:
            raise ValueError(f"row {number} of cdfs: its size {size} is not in 3..{len(cdfs[number])}")
    return rows


def _matrix(cdfs: Any) -> NDArray[np.int32]:
    if isinstance(cdfs, (list, tuple)):
        rows = [arguments.array("a row of cdfs", row, "iu").reshape(-1) for row in cdfs]
        return _padded([_int32("cdfs", row) for row in rows], tuple(len(row) for row in rows))
    found = arguments.array("cdfs", cdfs, "iu")
    if found.ndim != 2:
        raise ValueError(f"cdfs must be [rows, columns], got {list(found.shape)}")
    return _int32("cdfs", found)


def _padded(rows: Any, sizes: tuple[int, ...]) -> NDArray[np.int32]:
    cdf = np.zeros((len(rows), max(sizes, default=0)), np.int32)
    for target, row, size in zip(cdf, rows, sizes, strict=True):
        target[:size] = row if isinstance(row, np.ndarray) else _int32("cdfs", row)
    return cdf


def _int32(name: str, values: Any) -> NDArray[np.int32]:
    """Lists, tuples, arrays and tensors of integers as int32, lists as memory of its own."""
    if isinstance(values, (list, tuple)):
        try:
            return np.frombuffer(array("i", values), np.int32) if values else np.zeros(0, np.int32)
        except OverflowError:
            raise ValueError(f"{name} must fit int32") from None
        except TypeError as error:
            raise TypeError(f"{name} must be integers: {error}") from None
    found = arguments.array(name, values, "iu")
    limits = np.iinfo(np.int32)
    if found.size and not (found.min() >= limits.min and found.max() <= limits.max):
        raise ValueError(f"{name} must fit int32")
    return found.astype(np.int32, copy=False)


def _indexes(values: Any, rows: int) -> NDArray[Any]:
    """uint8 or int32, flat; in range."""
    found: NDArray[Any]
    if isinstance(values, (list, tuple)):
        try:
            found = np.frombuffer(bytes(values), np.uint8) if rows <= 256 else _int32("indexes", values)
        except (TypeError, ValueError):  # not in 0..255: refused below, or named here
            found = _int32("indexes", values)
    else:
        found = arguments.array("indexes", values, "iu").reshape(-1)
        found = found if found.dtype == np.uint8 else _int32("indexes", found)
    if found.size and not (found.max() < rows and (found.dtype == np.uint8 or found.min() >= 0)):
        raise ValueError(f"indexes must lie in 0..{rows - 1}, got {found.min()}..{found.max()}")
    return found


def _rows(tables: CompressAiTables | Rows) -> int:
    return len(tables.sizes) if isinstance(tables, Rows) else tables.rows


def _pieces(
    indexes: NDArray[Any], tables: CompressAiTables | Rows
) -> Iterator[tuple[slice, NDArray[Any], CompressAiTables]]:
    return tables.pieces(indexes) if isinstance(tables, Rows) else iter([(slice(None), indexes, tables)])


class BufferedRansEncoder:
    """Pieces of one stream, each with tables of its own if need be.

    ``flush`` codes them; what it returns is one stream for ``RansDecoder``.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[NDArray[np.int32], NDArray[Any], CompressAiTables]] = []

    def encode_with_indexes(self, symbols: Any, indexes: Any, cdfs: Any, cdfs_sizes: Any, offsets: Any) -> None:
        """Add a piece.

        Args:
            symbols: int32 values: a list, or an array or a tensor of any shape.
            indexes: as many, which row of ``cdfs`` codes each.
            cdfs: [rows, columns] cumulative frequencies in 16 bits; or a list of lists.
            cdfs_sizes: [rows], how many entries of each row count.
            offsets: [rows], the symbol of each row's first slot.

        Raises:
            TypeError: something is no integer.
            ValueError: counts differ, an index names no row, a row is no table, a symbol does not fit int32.
        """
        tables = tables_of(cdfs, cdfs_sizes, offsets)
        own = _int32("symbols", symbols).reshape(-1)
        rows = _indexes(indexes, _rows(tables))
        if own.size != rows.size:
            raise ValueError(f"symbols and indexes must have one length, got {own.size} and {rows.size}")
        if not isinstance(symbols, (list, tuple)):
            own = own.copy()  # callers may write to theirs before flush
        if not isinstance(indexes, (list, tuple)):
            rows = rows.copy()
        for part, piece, used in _pieces(rows, tables):
            self._waiting.append((own[part], piece, used))

    def flush(self) -> bytes:
        """The stream of all pieces; the encoder is empty then."""
        waiting, self._waiting = self._waiting, []
        encoder = CompressAiEncoder()
        for symbols, indexes, tables in reversed(waiting):
            encoder.put(symbols, indexes, tables)
        return encoder.finish()


class RansEncoder:
    """A whole stream at once."""

    def encode_with_indexes(self, symbols: Any, indexes: Any, cdfs: Any, cdfs_sizes: Any, offsets: Any) -> bytes:
        """The stream of ``symbols``; arguments and errors are those of ``BufferedRansEncoder``."""
        encoder = BufferedRansEncoder()
        encoder.encode_with_indexes(symbols, indexes, cdfs, cdfs_sizes, offsets)
        return encoder.flush()


class RansDecoder:
    """A stream read whole, or piece by piece after ``set_stream``.

    CompressAI reads no further than it is asked to, so bytes may be left: ``finish``, which it does not have, asks.
    """

    _lists = False  # whether every answer is a list, as CompressAI's

    def __init__(self) -> None:
        self._decoder: CompressAiDecoder | None = None

    def set_stream(self, encoded: Any) -> None:
        """Begin with a stream.

        Raises:
            TypeError: no bytes.
            CorruptStreamError: no length or no first state of a stream.
        """
        self._decoder = CompressAiDecoder(_bytes(encoded), _any_tables())

    def decode_stream(self, indexes: Any, cdfs: Any, cdfs_sizes: Any, offsets: Any) -> Any:
        """The next symbols, one for each index.

        Returns:
            a list for a list; for an array or a tensor int32 in its shape, and on its device.

        Raises:
            TypeError: something is no integer.
            ValueError: there is no stream, an index names no row, a row is no table.
            CorruptStreamError: the stream ends before its last symbol, or holds one that is none.
        """
        if self._decoder is None:
            raise ValueError("decode_stream reads what set_stream was given: call that first")
        return _decoded(self._decoder, indexes, tables_of(cdfs, cdfs_sizes, offsets), self._lists)

    def decode_with_indexes(self, encoded: Any, indexes: Any, cdfs: Any, cdfs_sizes: Any, offsets: Any) -> Any:
        """The first symbols of a stream, one for each index; ``set_stream``'s stays where it is.

        Results and errors are those of ``set_stream`` and ``decode_stream``.
        """
        tables = tables_of(cdfs, cdfs_sizes, offsets)
        return _decoded(CompressAiDecoder(_bytes(encoded), _any_tables()), indexes, tables, self._lists)

    def finish(self) -> None:
        """Raises CorruptStreamError if not all of the stream was read, or it was made with other parameters."""
        if self._decoder is not None:
            self._decoder.finish()


def _bytes(encoded: Any) -> bytes:
    if not isinstance(encoded, (bytes, bytearray, memoryview)):
        raise TypeError(f"a stream must be bytes, got {type(encoded).__name__}")
    return bytes(encoded)


@cache
def _any_tables() -> CompressAiTables:
    """A decoder has tables from its beginning; here each piece brings its own."""
    return CompressAiTables(np.array([[0, 1, 65536]]), np.array([3]), np.array([0]))


def _decoded(decoder: CompressAiDecoder, indexes: Any, tables: CompressAiTables | Rows, lists: bool) -> Any:
    rows = _indexes(indexes, _rows(tables))
    parts = [decoder.decode(piece, used) for _, piece, used in _pieces(rows, tables)]
    symbols = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int32), *parts])
    if lists or isinstance(indexes, Sequence):
        return symbols.tolist()
    if isinstance(indexes, Tensor):
        return torch.from_numpy(symbols).reshape(indexes.shape).to(indexes.device)
    return symbols.reshape(np.shape(indexes))
