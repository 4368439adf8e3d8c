"""The Gaussian coder in plain Python, float32 operations one at a time: the executable half of docs/stream.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fastlic.errors import CorruptStreamError
from fastlic.ops.reference.lanes import LaneReader, LaneWriter, samples

PRECISION = 14
TOTAL = 1 << PRECISION
KIND = 1
MIN_SCALE, MAX_SCALE, MAX_MEAN = np.float32(1 / 32), np.float32(65536), np.float32(8388608)
STEPS = 512
LIMIT = 5 * STEPS + STEPS // 2
SEGMENTS = 23


@lru_cache
def cubics() -> list[tuple[int, int, int, int]]:
    """1 - Phi on each quarter sigma as cubics in 24-bit fixed point, by integers alone, as phi_table.hpp makes them."""

    def multiply(a: int, b: int) -> int:  # fixed point with 63 fractional bits
        return a * b >> 63

    density, ratio, slopes = 0x33108A67A86CA11A, 0x7C0FD5AA22D75E45, []
    for _ in range(SEGMENTS + 1):
        slopes.append(-(density // 4))
        density, ratio = multiply(density, ratio), multiply(ratio, 0x783EAFEF1C0A8F39)

    decay = 0x7FFFE00003FFFFAB
    density, ratio, tail, tails = 0x331088CF241FC5E8, decay, 1 << 62, []
    for i in range(128 * SEGMENTS + 1):
        if i % 128 == 0:
            tails.append(tail)
        tail -= density // STEPS
        density, ratio = multiply(density, ratio), multiply(ratio, decay)

    result = []
    for k in range(SEGMENTS):
        rise, left, right = tails[k + 1] - tails[k], slopes[k], slopes[k + 1]
        exact = (tails[k], left, 3 * rise - 2 * left - right, left + right - 2 * rise)
        c0, c1, c2, c3 = (value + (1 << 38) >> 39 for value in exact)
        result.append((c0, c1, c2, c3))
    return result


def upper_tail(a: int) -> int:
    """1 - Phi(a / 512) in units of 2**-16, 0 <= a <= LIMIT."""
    (c0, c1, c2, c3), d = cubics()[a >> 7], a & 127
    return ((((c3 * d >> 7) + c2) * d >> 7) + c1) * d + (c0 << 7) + (128 << 7) >> 15


def phi(grid: int) -> int:
    return upper_tail(-grid) if grid < 0 else 65536 - upper_tail(grid)


def _clamp(value: np.float32, low: np.float32, high: np.float32) -> np.float32:
    return min(value, high) if value > low else low  # NaN becomes low


@dataclass
class Row:
    """One symbol's distribution after quantising its mean and scale."""

    shift: int
    middle: int
    half: int
    base: int
    grid: np.float32

    @classmethod
    def of(cls, mean: np.float32, scale: np.float32) -> Row:
        scale = _clamp(scale, MIN_SCALE, MAX_SCALE)
        level = (int(np.float32(scale).view(np.int32)) + (1 << 16)) >> 17 << 17
        sigma = np.int32(level).view(np.float32)
        shift = max(0, (level >> 23) - 127 - 2)
        mean = _clamp(mean, -MAX_MEAN, MAX_MEAN)
        centre = int(np.rint(mean))
        fraction = int(np.rint((mean - np.float32(centre)) * np.float32(256)))
        middle = centre >> shift
        base = (centre - (middle << shift)) * 256 + fraction + 128
        half = int(sigma * np.float32(2.0**-shift) * np.float32(4.5) + np.float32(1))
        return cls(shift, middle, half, base, np.float32(2) / sigma)

    def cdf(self, u: int) -> int:
        if u == -self.half:
            share = 0
        elif u == self.half + 1:
            share = 65536
        else:
            z = np.float32((u << self.shift + 8) - self.base) * self.grid
            share = phi(int(np.rint(min(max(z, np.float32(-LIMIT)), np.float32(LIMIT)))))
        return u + self.half + ((TOTAL - 2 - 2 * self.half) * share >> 16)


def _estimate_bytes(scales: NDArray[np.float32]) -> int:
    positions = samples(len(scales))
    eighths = 0
    for scale in scales[positions]:
        log_scale = (int(np.float32(_clamp(scale, MIN_SCALE, MAX_SCALE)).view(np.int32)) >> 20) - 127 * 8
        eighths += max(1, log_scale + 16)
    return eighths * len(scales) // len(positions) // 64


def gaussian_encode(
    symbols: NDArray[np.int32],  # [n]
    means: NDArray[np.float32],  # [n]
    scales: NDArray[np.float32],  # [n]
    lanes: int = 0,
) -> bytes:
    if not symbols.size:
        return b""
    writer = LaneWriter(KIND, lanes, _estimate_bytes(scales))
    for i in reversed(range(symbols.size)):
        row = Row.of(means[i], scales[i])
        symbol = int(symbols[i])
        u = (symbol >> row.shift) - row.middle
        if -row.half <= u <= row.half:
            writer.put(i, row.cdf(u), row.cdf(u + 1) - row.cdf(u), PRECISION)
        else:
            writer.put(i, TOTAL - 1, 1, PRECISION)
            writer.push_gamma(2 * (-row.half - 1 - u) + 1 if u < 0 else 2 * (u - row.half - 1))
        writer.push(symbol & ((1 << row.shift) - 1), row.shift)
    return writer.finish()


def gaussian_decode(
    data: bytes, means: NDArray[np.float32], scales: NDArray[np.float32], out: NDArray[np.int32]
) -> None:
    reader = LaneReader(data, KIND)
    for i in range(out.size):
        row = Row.of(means[i], scales[i])
        code = reader.code(i, PRECISION)
        escape = code == TOTAL - 1
        if escape:
            reader.take(i, TOTAL - 1, 1, PRECISION)
            u = 0
        else:
            u = next(u for u in range(-row.half, row.half + 1) if row.cdf(u + 1) > code)
            reader.take(i, row.cdf(u), row.cdf(u + 1) - row.cdf(u), PRECISION)
        raw = reader.pop(row.shift)
        if escape:
            distance = reader.pop_gamma()
            u = -row.half - 1 - (distance >> 1) if distance & 1 else row.half + 1 + (distance >> 1)
        symbol = (u + row.middle << row.shift) + raw
        if not -(1 << 31) <= symbol < 1 << 31:
            raise CorruptStreamError(f"symbol {i} does not fit int32")
        out[i] = symbol
    reader.finish()
