"""The categorical stream by definition (docs/stream.md, section 4): one 64-bit state, 32-bit words."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic.errors import CorruptStreamError

_LOW = 1 << 31


def _rows(tables: Any) -> list[list[int]]:
    ends = np.cumsum(tables.lengths)
    return [tables.cdf[end - length : end].tolist() for end, length in zip(ends, tables.lengths, strict=True)]


def encode(symbols: NDArray[np.int32], indexes: NDArray[np.uint8], tables: Any) -> bytes:
    rows, bits = _rows(tables), tables.precision
    x, words = _LOW, []
    for i, (symbol, index) in enumerate(zip(symbols.tolist(), indexes.tolist(), strict=True)):
        if index >= len(rows):
            raise ValueError(f"index {index} names no row; the tables have {len(rows)}")
        if not 0 <= symbol < len(rows[index]) - 1:
            raise ValueError(f"symbol {symbol} at {i} is not in 0..{len(rows[index]) - 2}")
    for symbol, index in zip(reversed(symbols.tolist()), reversed(indexes.tolist()), strict=True):
        start, end = rows[index][symbol], rows[index][symbol + 1]
        if x >= (end - start) << (63 - bits):
            words.append(x & 0xFFFFFFFF)
            x >>= 32
        x = (x // (end - start) << bits) + x % (end - start) + start
    return x.to_bytes(8, "little") + b"".join(word.to_bytes(4, "little") for word in reversed(words))


def decode(data: Any, indexes: NDArray[np.uint8], out: NDArray[np.int32], tables: Any) -> None:
    data, rows, bits = bytes(data), _rows(tables), tables.precision
    if len(data) < 8 or len(data) % 4:
        raise CorruptStreamError(f"the size must be a multiple of 4 and at least 8, got {len(data)}")
    x, position = int.from_bytes(data[:8], "little"), 8
    if not _LOW <= x < 1 << 63:
        raise CorruptStreamError("the state is out of range")
    for i, index in enumerate(indexes.tolist()):
        if index >= len(rows):
            raise ValueError(f"index {index} names no row; the tables have {len(rows)}")
        code = x & ((1 << bits) - 1)
        symbol = bisect_right(rows[index], code) - 1
        start, end = rows[index][symbol], rows[index][symbol + 1]
        x = (end - start) * (x >> bits) + code - start
        if x < _LOW:
            if position == len(data):
                raise CorruptStreamError("the stream ends before its last symbol")
            x = x << 32 | int.from_bytes(data[position : position + 4], "little")
            position += 4
        out[i] = symbol
    if position != len(data) or x != _LOW:
        raise CorruptStreamError("words are left, or the stream does not end in the initial state")
