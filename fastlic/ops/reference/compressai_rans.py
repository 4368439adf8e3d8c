"""CompressAI's stream in plain Python: one 64-bit state, 32-bit words, a list of operations replayed backwards."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic.errors import CorruptStreamError

PRECISION = 16
STATE_LOW = 1 << 31
NIBBLE_BITS = 4
MAX_NIBBLES = 9  # of the zig-zag value of any int32 symbol


def encode_with_indexes(symbols: NDArray[np.int32], indexes: NDArray[Any], tables: Any) -> bytes:
    encoder = CompressAiEncoder()
    encoder.put(symbols, indexes, tables)
    return encoder.finish()


class CompressAiEncoder:
    """Same face as the fast encoder."""

    def __init__(self) -> None:
        self.operations: list[tuple[int, int, int]] = []

    def put(self, symbols: NDArray[np.int32], indexes: NDArray[Any], tables: Any) -> None:
        self.operations = _operations(symbols, indexes, tables) + self.operations

    def finish(self) -> bytes:
        return _replayed(self.operations)


def _operations(symbols: NDArray[np.int32], indexes: NDArray[Any], tables: Any) -> list[tuple[int, int, int]]:
    operations = []  # start, frequency, bits
    for symbol, index in zip(symbols.tolist(), indexes.tolist(), strict=True):
        row = tables.quantized_cdf[index]
        escape = int(tables.lengths[index]) - 2
        value = symbol - int(tables.offsets[index])
        slot = value if 0 <= value < escape else escape
        operations.append((int(row[slot]), int(row[slot + 1] - row[slot]), PRECISION))
        if slot == escape:
            raw = -2 * value - 1 if value < 0 else 2 * (value - escape)
            nibbles = (raw.bit_length() + NIBBLE_BITS - 1) // NIBBLE_BITS
            for nibble in [nibbles, *(raw >> NIBBLE_BITS * n & 15 for n in range(nibbles))]:
                operations.append((nibble, 1, NIBBLE_BITS))
    return operations


def _replayed(operations: list[tuple[int, int, int]]) -> bytes:
    x, words = STATE_LOW, []
    for start, frequency, bits in reversed(operations):
        if x >= frequency << (63 - bits):
            words.append(x & 0xFFFFFFFF)
            x >>= 32
        x = (x // frequency << bits) + x % frequency + start
    return x.to_bytes(8, "little") + b"".join(word.to_bytes(4, "little") for word in reversed(words))


class CompressAiDecoder:
    """Same face as the fast decoder."""

    def __init__(self, data: bytes, tables: Any) -> None:
        if len(data) < 8 or len(data) % 4:
            raise CorruptStreamError(f"the size must be a multiple of 4 and at least 8, got {len(data)}")
        self.tables = tables
        self.data = bytes(data)
        self.state = int.from_bytes(self.data[:8], "little")
        self.position = 8
        if not STATE_LOW <= self.state < 1 << 63:
            raise CorruptStreamError("the state is out of range")

    def _refill(self) -> None:
        if self.state < STATE_LOW:
            if self.position == len(self.data):
                raise CorruptStreamError("the stream ends before its last symbol")
            word = int.from_bytes(self.data[self.position : self.position + 4], "little")
            self.state = self.state << 32 | word
            self.position += 4

    def _nibble(self) -> int:
        value = self.state & 15
        self.state >>= NIBBLE_BITS
        self._refill()
        return value

    def _symbol(self, index: int, tables: Any) -> int:
        length = int(tables.lengths[index])
        row = tables.quantized_cdf[index][:length]
        code = self.state & 0xFFFF
        slot = bisect_right(row, code) - 1
        start, frequency = int(row[slot]), int(row[slot + 1] - row[slot])
        self.state = frequency * (self.state >> PRECISION) + code - start
        self._refill()
        if slot == length - 2:
            nibbles = self._nibble()
            if nibbles > MAX_NIBBLES:
                raise CorruptStreamError("an escape is longer than any symbol needs")
            raw = sum(self._nibble() << NIBBLE_BITS * n for n in range(nibbles))
            slot = -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + length - 2
        symbol = slot + int(tables.offsets[index])
        if not -(1 << 31) <= symbol < 1 << 31:
            raise CorruptStreamError("a symbol does not fit int32")
        return symbol

    def decode(self, indexes: NDArray[Any], out: NDArray[np.int32], tables: Any = None) -> None:
        own = self.tables if tables is None else tables
        for i, index in enumerate(indexes.tolist()):
            if not 0 <= index < len(own.lengths):
                raise ValueError(f"index {index} names no row")
            out[i] = self._symbol(index, own)

    def finish(self) -> None:
        if self.position != len(self.data) or self.state != STATE_LOW:
            raise CorruptStreamError("words are left, or the stream does not end in the initial state")
