"""The lossless plane of docs/stream.md, section 6, sample by sample: what csrc/fastlic/plane.cpp is held to."""

from __future__ import annotations

from collections.abc import Sequence

from fastlic.errors import CorruptStreamError

_LEAST = 1 << 24
_LEVELS = 8


class _Chance:
    """The chance that a bit is 0, in 65536ths: the mean of a quick and a slow average."""

    def __init__(self) -> None:
        self.quick = self.slow = 1 << 15

    def zero(self) -> int:
        return (self.quick + self.slow) >> 1

    def learn(self, bit: int) -> None:
        if bit:
            self.quick -= self.quick >> 4
            self.slow -= self.slow >> 7
        else:
            self.quick += (65536 - self.quick) >> 4
            self.slow += (65536 - self.slow) >> 7


class _Encoder:
    def __init__(self) -> None:
        self.low, self.range, self.bytes_out = 0, 0xFFFFFFFF, 0

    def code(self, chance: _Chance, bit: int) -> int:
        bound = (self.range >> 16) * chance.zero()
        if bit:
            self.low, self.range = self.low + bound, self.range - bound
        else:
            self.range = bound
        chance.learn(bit)
        while self.range < _LEAST:
            # Python's numbers have room for every byte, so that carries need no care.
            self.low, self.range, self.bytes_out = self.low << 8, self.range << 8, self.bytes_out + 1
        return bit

    def finish(self) -> bytes:
        number = (self.low + _LEAST - 1) // _LEAST * _LEAST
        return number.to_bytes(self.bytes_out + 4, "big").rstrip(b"\0")


class _Decoder:
    def __init__(self, data: bytes) -> None:
        if data.endswith(b"\0"):
            raise CorruptStreamError("the coded alpha plane ends in a zero")
        self.data, self.used, self.number, self.range = data, 0, 0, 0xFFFFFFFF
        for _ in range(4):
            self._shift()

    def _shift(self) -> None:
        self.number = self.number << 8 | (self.data[self.used] if self.used < len(self.data) else 0)
        self.used += 1

    def code(self, chance: _Chance, _: int) -> int:
        bound = (self.range >> 16) * chance.zero()
        bit = int(self.number >= bound)
        if bit:
            self.number, self.range = self.number - bound, self.range - bound
        else:
            self.range = bound
        chance.learn(bit)
        while self.range < _LEAST:
            self.range <<= 8
            self._shift()
            self.number &= 0xFFFFFFFF
        return bit

    def finish(self) -> None:
        if self.used < len(self.data):
            raise CorruptStreamError("the coded alpha plane goes on behind its last sample")


def _chances(count: int) -> list[_Chance]:
    return [_Chance() for _ in range(count)]


class _Samples:
    """Codes rows; of a decoder the samples given are of no meaning, those that come back are."""

    def __init__(self, coder: _Encoder | _Decoder) -> None:
        self.coder = coder
        self.last = self.missed = 0
        self.repeats, self.misses = _chances(2), _chances(729 * _LEVELS * 2)
        self.edges = [_chances(256) for _ in range(9)]
        self.slopes = [_chances(256) for _ in range(2 * _LEVELS)]

    def repeat(self, own: int) -> int:
        self.last = self.coder.code(self.repeats[self.last], own)
        return self.last

    def row(self, over: Sequence[int], above: Sequence[int], given: Sequence[int]) -> list[int]:
        own: list[int] = []
        for x, value in enumerate(given):
            n, nn = above[x], over[x]
            w, nw = (own[x - 1], above[x - 1]) if x else (n, n)
            ne = above[x + 1] if x + 1 < len(given) else n
            ww = own[x - 2] if x > 1 else w
            own.append(self._sample(value, w, n, nw, ne, ww, nn))
        return own

    def _sample(self, value: int, w: int, n: int, nw: int, ne: int, ww: int, nn: int) -> int:
        guess = sorted((w, n, w + n - nw))[1]
        place = 0
        for near in (w, n, nw, ne, ww, nn):
            place = 3 * place + {0: 0, 255: 2}.get(near, 1)
        level = min((abs(w - nw) + abs(n - nw) + abs(n - ne)).bit_length(), _LEVELS - 1)
        missed, self.missed = (
            self.missed,
            self.coder.code(self.misses[(place * _LEVELS + level) * 2 + self.missed], int(value != guess)),
        )
        if not self.missed:
            return guess
        edge = bool({w, n} & {0, 255})
        tree, start = (self.edges[place // 81], 0) if edge else (self.slopes[2 * level + missed], guess)
        node = 1
        for bit in range(7, -1, -1):
            node = 2 * node + self.coder.code(tree[node], (value - start) >> bit & 1)
        return (start + node) & 255


def encode(samples: Sequence[Sequence[int]]) -> bytes:
    """The bytes of a plane; samples [H][W] from 0 to 255."""
    encoder = _Encoder()
    coder = _Samples(encoder)
    width = len(samples[0]) if samples else 0
    rows: list[Sequence[int]] = [[255] * width] * 2
    for given in samples:
        own = list(given)
        if not coder.repeat(int(own == list(rows[-1]))):
            coder.row(rows[-2], rows[-1], own)
        rows.append(own)
    return encoder.finish()


def decode(data: bytes, height: int, width: int) -> list[list[int]]:
    """The samples [H][W] of a plane.

    Raises:
        CorruptStreamError: bytes that no such plane has.
    """
    decoder = _Decoder(data)
    coder = _Samples(decoder)
    rows: list[list[int]] = [[255] * width, [255] * width]
    for _ in range(height):
        rows.append(list(rows[-1]) if coder.repeat(0) else coder.row(rows[-2], rows[-1], [0] * width))
    decoder.finish()
    return rows[2:]
