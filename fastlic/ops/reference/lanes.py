"""The frame of all interleaved streams in plain Python: header, lane states, words, and a side stream of bits."""

from __future__ import annotations

from fastlic.errors import CorruptStreamError

STATE_LOW = 1 << 15
STATE_HIGH = 1 << 31
MAX_LANES = 64
SIDE_FLAG = 8
MAX_GAMMA_ZEROS = 34


def choose_lanes(payload_bytes: int) -> int:
    """The largest power of two, at most 64, whose lanes (about 3 bytes each) cost at most 0.15 % of the payload."""
    lanes = 1
    while lanes < MAX_LANES and payload_bytes >= 2000 * 2 * lanes:
        lanes *= 2
    return lanes


def samples(count: int) -> list[int]:
    """Where an encoder looks to estimate its payload: everywhere, or at 4096 multiples of the golden ratio mod 1."""
    if count <= 4096:
        return list(range(count))
    return [(sample * 0x9E3779B97F4A7C15 % 2**64) * count >> 64 for sample in range(4096)]


class LaneWriter:
    """Takes symbols from the last to the first."""

    def __init__(self, kind: int, lanes: int, expected_bytes: int) -> None:
        self.kind = kind
        self.states = [STATE_LOW] * (lanes or choose_lanes(expected_bytes))
        self.words: list[int] = []  # last word first
        self.stack: list[int] = []  # bits of the side stream, bottom first

    def put(self, position: int, start: int, frequency: int, precision: int) -> None:
        lane = position % len(self.states)
        x = self.states[lane]
        if x >= frequency << (31 - precision):
            self.words.append(x & 0xFFFF)
            x >>= 16
        self.states[lane] = (x // frequency << precision) + x % frequency + start

    def push(self, value: int, bits: int) -> None:
        self.stack += [value >> bit & 1 for bit in range(bits)]

    def push_gamma(self, distance: int) -> None:
        zeros = (distance + 1).bit_length() - 1
        self.push(distance + 1, zeros)
        self.push(1, zeros + 1)

    def finish(self) -> bytes:
        header = self.kind << 4 | (SIDE_FLAG if self.stack else 0) | len(self.states).bit_length() - 1
        out = bytes([header]) + b"".join(x.to_bytes(4, "little") for x in self.states)
        out += b"".join(word.to_bytes(2, "little") for word in reversed(self.words))
        if self.stack:
            bits = [*self.stack, 1]  # the mark on top
            value = sum(bit << position for position, bit in enumerate(bits))
            out += value.to_bytes((len(bits) + 7) // 8, "little")
        return out


class LaneReader:
    """Gives symbols from the first to the last."""

    def __init__(self, data: bytes, kind: int) -> None:
        self.data = bytes(data)
        self.states = [0]
        self.position = len(data)  # of the next word
        self.stack: list[int] = []
        self.has_side = False
        if not data:
            return
        if data[0] >> 4 != kind or (1 << (data[0] & 7)) > MAX_LANES:
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

    def code(self, position: int, precision: int) -> int:
        """The code point that the next symbol of this position's lane must contain."""
        return self.states[position % len(self.states)] & ((1 << precision) - 1)

    def take(self, position: int, start: int, frequency: int, precision: int) -> None:
        lane = position % len(self.states)
        x = frequency * (self.states[lane] >> precision) + self.code(position, precision) - start
        if x < STATE_LOW:
            if self.position + 2 > len(self.data):
                raise CorruptStreamError(f"the stream ends before symbol {position + 1}")
            x = x << 16 | int.from_bytes(self.data[self.position : self.position + 2], "little")
            self.position += 2
        self.states[lane] = x

    def pop(self, bits: int) -> int:
        if bits > len(self.stack):
            raise CorruptStreamError("the side stream is exhausted")
        value = 0
        for _ in range(bits):
            value = value << 1 | self.stack.pop()
        return value

    def pop_gamma(self) -> int:
        zeros = 0
        while self.pop(1) == 0:
            zeros += 1
            if zeros > MAX_GAMMA_ZEROS:
                raise CorruptStreamError("an escape is longer than any symbol needs")
        return (1 << zeros | self.pop(zeros)) - 1

    def finish(self) -> None:
        if not self.data:
            return
        if any(x != STATE_LOW for x in self.states):
            raise CorruptStreamError("a lane does not end in the initial state")
        words_begin = 1 + 4 * len(self.states)
        end = words_begin + len(self.stack) // 8 if self.has_side else len(self.data)
        if self.position != end or len(self.stack) % 8:
            raise CorruptStreamError(f"words end at byte {self.position}, expected byte {end}")
