"""The native stream in plain Python: the executable half of docs/stream.md.

Slow and direct: one loop over the symbols, one state per lane, a list of bits for the side stream.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from fastlic.errors import CorruptStreamError
from fastlic.ops.reference.lanes import LaneReader, LaneWriter, samples
from fastlic.ops.tables import CdfTables

KIND = 0


def _log2_q8(value: int) -> int:
    """floor(256 * log2(value)), up to the truncations that the core makes as well."""
    top = value.bit_length() - 1
    mantissa = value << (31 - top)
    result = top
    for _ in range(8):
        mantissa = mantissa * mantissa >> 31
        carry = mantissa >> 32
        mantissa >>= carry
        result = 2 * result + carry
    return result


def _split(symbol: int, index: int, tables: CdfTables) -> tuple[int, int, int]:
    """(slot, raw bits, escape code); the code is -1 for a regular slot."""
    shift = int(tables.shifts[index])
    size = int(tables.lengths[index]) - 2
    slot = (symbol >> shift) - int(tables.offsets[index])
    raw = symbol & ((1 << shift) - 1)
    if slot < 0:
        return size, raw, 2 * (-slot - 1) + 1
    if slot >= size:
        return size, raw, 2 * (slot - size)
    return slot, raw, -1


def _estimate_bytes(symbols: list[int], indexes: list[int], tables: CdfTables) -> int:
    cost = 0
    positions = samples(len(symbols))
    for i in positions:
        slot, _, code = _split(symbols[i], indexes[i], tables)
        row = tables.row(indexes[i])
        cost += 256 * tables.precision - _log2_q8(int(row[slot + 1] - row[slot]))
        cost += 256 * int(tables.shifts[indexes[i]])
        if code >= 0:
            cost += 256 * (2 * (code + 1).bit_length() - 1)
    return cost * len(symbols) // len(positions) // (8 * 256)


def rans_encode(
    symbols: NDArray[np.integer],  # [n]
    indexes: NDArray[np.uint8],  # [n]
    tables: CdfTables,
    lanes: int = 0,
) -> bytes:
    symbol_list = [int(s) for s in symbols]
    index_list = [int(i) for i in indexes]
    if not symbol_list:
        return b""
    writer = LaneWriter(KIND, lanes, _estimate_bytes(symbol_list, index_list, tables))
    for i in reversed(range(len(symbol_list))):
        slot, raw, code = _split(symbol_list[i], index_list[i], tables)
        row = tables.row(index_list[i])
        writer.put(i, int(row[slot]), int(row[slot + 1] - row[slot]), tables.precision)
        if code >= 0:
            writer.push_gamma(code)
        writer.push(raw, int(tables.shifts[index_list[i]]))
    return writer.finish()


class RansDecoder:
    """Same face as fastlic.ops.rans.RansDecoder."""

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        self.reader = LaneReader(data, KIND)
        self.tables = tables
        self.count = 0

    def _symbol(self, index: int) -> int:
        row = self.tables.row(index)
        slot = bisect_right(row, self.reader.code(self.count, self.tables.precision)) - 1
        self.reader.take(self.count, int(row[slot]), int(row[slot + 1] - row[slot]), self.tables.precision)
        raw = self.reader.pop(int(self.tables.shifts[index]))
        size = len(row) - 2
        if slot == size:
            code = self.reader.pop_gamma()
            slot = -1 - (code >> 1) if code & 1 else size + (code >> 1)
        return (slot + int(self.tables.offsets[index]) << int(self.tables.shifts[index])) + raw

    def decode(self, indexes: NDArray[np.uint8], out: NDArray[np.int16] | NDArray[np.int32]) -> None:
        limits = np.iinfo(out.dtype)
        for i, index in enumerate(indexes):
            if int(index) >= self.tables.rows:
                raise ValueError(f"index {index} names no row; the tables have {self.tables.rows}")
            symbol = self._symbol(int(index))
            if not limits.min <= symbol <= limits.max:
                raise CorruptStreamError(f"symbol {self.count} does not fit {out.dtype}")
            out[i] = symbol
            self.count += 1

    def finish(self) -> None:
        self.reader.finish()
