"""The native stream in plain Python: the executable half of docs/stream.md.

Slow and direct: one loop over the symbols, one state per lane, a list of bits for the side stream.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from fastlic.errors import CorruptStreamError
from fastlic.ops.tables import CdfTables

STATE_LOW = 1 << 15
STATE_HIGH = 1 << 31
MAX_LANES = 64
SIDE_FLAG = 8


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


def choose_lanes(payload_bytes: int) -> int:
    """The largest power of two, at most 64, whose lanes (about 3 bytes each) cost at most 0.15 % of the payload."""
    lanes = 1
    while lanes < MAX_LANES and payload_bytes >= 2000 * 2 * lanes:
        lanes *= 2
    return lanes


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
    stride = max(1, len(symbols) // 1024)
    cost = samples = 0
    for i in range(0, len(symbols), stride):
        slot, _, code = _split(symbols[i], indexes[i], tables)
        row = tables.row(indexes[i])
        cost += 256 * tables.precision - _log2_q8(int(row[slot + 1] - row[slot]))
        cost += 256 * int(tables.shifts[indexes[i]])
        if code >= 0:
            cost += 256 * (2 * (code + 1).bit_length() - 1)
        samples += 1
    return cost * len(symbols) // samples // (8 * 256)


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
    lanes = lanes or choose_lanes(_estimate_bytes(symbol_list, index_list, tables))
    k = tables.precision
    states = [STATE_LOW] * lanes
    words: list[int] = []  # last word first
    stack: list[int] = []  # bits of the side stream, bottom first
    for i in reversed(range(len(symbol_list))):
        index = index_list[i]
        slot, raw, code = _split(symbol_list[i], index, tables)
        row = tables.row(index)
        start, frequency = int(row[slot]), int(row[slot + 1] - row[slot])
        x = states[i % lanes]
        if x >= frequency << (31 - k):
            words.append(x & 0xFFFF)
            x >>= 16
        states[i % lanes] = (x // frequency << k) + x % frequency + start
        if code >= 0:
            value = code + 1
            zeros = value.bit_length() - 1
            stack += [value >> bit & 1 for bit in range(zeros)] + [1] + [0] * zeros
        stack += [raw >> bit & 1 for bit in range(int(tables.shifts[index]))]

    header = bytes([lanes.bit_length() - 1 | (SIDE_FLAG if stack else 0)])
    out = header + b"".join(x.to_bytes(4, "little") for x in states)
    out += b"".join(word.to_bytes(2, "little") for word in reversed(words))
    if stack:
        bits = [*stack, 1]  # the mark on top
        value = sum(bit << position for position, bit in enumerate(bits))
        out += value.to_bytes((len(bits) + 7) // 8, "little")
    return out


class RansDecoder:
    """Same face as fastlic.ops.rans.RansDecoder."""

    def __init__(self, data: bytes, tables: CdfTables) -> None:
        self.data, self.tables = bytes(data), tables
        self.count = 0
        self.states = [0]
        self.position = len(data)  # of the next word
        self.end = len(data)
        self.stack: list[int] = []
        self.has_side = False
        if not data:
            return
        if data[0] & 0xF0 or (1 << (data[0] & 7)) > MAX_LANES:
            raise CorruptStreamError(f"unknown header byte {data[0]}")
        lanes = 1 << (data[0] & 7)
        self.position = 1 + 4 * lanes
        if len(data) < self.position:
            raise CorruptStreamError(f"{len(data)} bytes cannot hold the states of {lanes} lanes")
        self.states = [int.from_bytes(data[1 + 4 * i : 5 + 4 * i], "little") for i in range(lanes)]
        if not all(STATE_LOW <= x < STATE_HIGH for x in self.states):
            raise CorruptStreamError("a lane state is out of range")
        self.has_side = bool(data[0] & SIDE_FLAG)
        if self.has_side:
            if len(data) == self.position or data[-1] == 0:
                raise CorruptStreamError("the side stream has no end mark")
            self.stack = [byte >> bit & 1 for byte in data[self.position :] for bit in range(8)]
            while self.stack.pop() == 0:
                pass

    def _pop(self, bits: int) -> int:
        if bits > len(self.stack):
            raise CorruptStreamError("the side stream is exhausted")
        value = 0
        for _ in range(bits):
            value = value << 1 | self.stack.pop()
        return value

    def _symbol(self, index: int) -> int:
        k = self.tables.precision
        lane = self.count % len(self.states)
        row = self.tables.row(index)
        x = self.states[lane]
        slot = bisect_right(row, x & ((1 << k) - 1)) - 1
        start, frequency = int(row[slot]), int(row[slot + 1] - row[slot])
        x = frequency * (x >> k) + (x & ((1 << k) - 1)) - start
        if x < STATE_LOW:
            if self.position + 2 > len(self.data):
                raise CorruptStreamError(f"the stream ends before symbol {self.count + 1}")
            x = x << 16 | int.from_bytes(self.data[self.position : self.position + 2], "little")
            self.position += 2
        self.states[lane] = x

        raw = self._pop(int(self.tables.shifts[index]))
        size = len(row) - 2
        if slot == size:
            zeros = 0
            while self._pop(1) == 0:
                zeros += 1
                if zeros > 34:
                    raise CorruptStreamError("an escape is longer than any symbol needs")
            code = (1 << zeros | self._pop(zeros)) - 1
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
        if not self.data:
            return
        if any(x != STATE_LOW for x in self.states):
            raise CorruptStreamError("a lane does not end in the initial state")
        words_begin = 1 + 4 * len(self.states)
        end = words_begin + len(self.stack) // 8 if self.has_side else len(self.data)
        if self.position != end or len(self.stack) % 8:
            raise CorruptStreamError(f"words end at byte {self.position}, expected byte {end}")
