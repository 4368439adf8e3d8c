"""Encoding native interleaved rANS streams on the device: the bytes of the C++ coder (docs/stream.md).

rANS runs backwards in steps of N symbols, one a lane. What does not depend on the lane states (slots, side bits and
their places) is done for all symbols in parallel before. fastlic.kernels.rans decodes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, on, options
from fastlic.kernels.rans import MAX_LANES, SIDE_FLAG, STATE_LOW, DeviceTables

_LANES = tl.constexpr(MAX_LANES)
_LOW = tl.constexpr(STATE_LOW)


@triton.jit
def _split(symbols, indexes, rows, row_count, intervals, entries, sides, codes, total, BLOCK: tl.constexpr):
    """Per symbol: its interval, the number of side bits, and escape code (-1 for none) with the raw bits above it."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    symbol = tl.load(symbols + i, mask=inside, other=0)
    row = tl.load(indexes + i, mask=inside, other=0).to(tl.int32)
    offset = tl.load(rows + row)
    shift = tl.load(rows + row_count + row)
    size = tl.load(rows + 2 * row_count + row)
    slot = (symbol >> shift).to(tl.int64) - offset
    above = slot >= size
    escape = (slot < 0) | above
    code = tl.where(above, 2 * (slot - size), tl.where(escape, 2 * (-slot - 1) + 1, -1))
    regular = tl.where(escape, size.to(tl.int64), slot)
    entry = tl.load(intervals + tl.load(rows + 3 * row_count + row) + regular, mask=inside, other=0)
    # z = floor(log2(code + 1)) by halving: exact at any size
    rest = code + 1
    zeros = tl.zeros([BLOCK], tl.int32)
    for level in tl.static_range(6):
        large = (rest >> (32 >> level)) > 0
        zeros = tl.where(large, zeros + (32 >> level), zeros)
        rest = tl.where(large, rest >> (32 >> level), rest)
    tl.store(entries + i, entry, mask=inside)
    tl.store(sides + i, shift + tl.where(escape, 2 * zeros + 1, 0), mask=inside)
    tl.store(codes + i, code, mask=inside)


@triton.jit
def _push(symbols, indexes, rows, row_count, sides, ends, codes, words, total, BLOCK: tl.constexpr):
    """Write each symbol's side bits at bit ``ends`` - ``sides`` of its stream's zeroed int32 words."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    count = tl.load(sides + i, mask=inside, other=0)
    begin = tl.load(ends + i, mask=inside, other=0) - count
    shift = tl.load(rows + row_count + tl.load(indexes + i, mask=inside, other=0).to(tl.int32))
    raw = tl.load(symbols + i, mask=inside, other=0) & ((1 << shift) - 1)
    code = tl.load(codes + i, mask=inside, other=-1)
    # A gamma code of code + 1 in memory order is that number followed by as many zeros as it has bits, less one.
    for part in tl.static_range(3):  # gamma's low 32 bits, its high bits, the raw bits
        if part == 2:
            value = raw.to(tl.int64)
            at = begin + count - shift
            live = inside & (shift > 0)
        else:
            value = ((code + 1) >> (32 * part)) & 0xFFFFFFFF
            at = begin + 32 * part
            live = inside & (code >= 0) & (value != 0)
        offset = at & 31
        low = (value << offset) & 0xFFFFFFFF
        high = (value >> 1) >> (31 - offset)
        tl.atomic_or(words + (at >> 5), low.to(tl.uint32).to(tl.int32, bitcast=True), mask=live, sem="relaxed")
        tl.atomic_or(words + (at >> 5) + 1, high.to(tl.uint32).to(tl.int32, bitcast=True),
                     mask=live & (high != 0), sem="relaxed")  # fmt: skip


@triton.jit(do_not_specialize=["count", "lanes"])
def _encode(entries, words, states, counts, count, lanes, PRECISION: tl.constexpr):
    """Program b: lane states of stream b after its last step, and its words at the end of words[b] [count]."""
    b = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, _LANES)
    x = tl.full([_LANES], _LOW, tl.int32)
    left = count
    steps = (count + lanes - 1) // lanes
    for step in range(0, steps):
        i = (steps - 1 - step) * lanes + lane
        active = (lane < lanes) & (i < count)
        entry = tl.load(entries + b * count + i, mask=active, other=0)
        start = entry & 4095
        frequency = ((entry >> 12) & 4095) + 1
        emits = active & ((x >> (31 - PRECISION)) >= frequency)
        total = tl.sum(emits.to(tl.int32), axis=0)
        at = left - total + tl.cumsum(emits.to(tl.int32), axis=0) - 1
        tl.store(words + b * count + at, (x & 0xFFFF).to(tl.int16), mask=emits)
        left -= total
        x = tl.where(emits, x >> 16, x)
        quotient = x // frequency
        x = tl.where(active, (quotient << PRECISION) + (x - quotient * frequency) + start, x)
    tl.store(states + b * _LANES + lane, x)
    tl.store(counts + b, count - left)


def _log2_q8(value: np.ndarray) -> np.ndarray:
    """floor(256 log2 v) up to the truncations that every implementation makes alike; v int64 in 1..4096."""
    top = np.floor(np.log2(value)).astype(np.int64)
    mantissa, result = value << (31 - top), top.copy()
    for _ in range(8):
        mantissa = (mantissa.astype(np.uint64) * mantissa.astype(np.uint64) >> np.uint64(31)).astype(np.int64)
        carry = mantissa >> 32
        mantissa >>= carry
        result = 2 * result + carry
    return result


@lru_cache(maxsize=16)
def _samples(count: int) -> np.ndarray:
    if count <= 4096:
        return np.arange(count)
    return np.array([(s * 0x9E3779B97F4A7C15 % 2**64) * count >> 64 for s in range(4096)])


def choose_lanes(entries: Tensor, sides: Tensor, precision: int) -> list[int]:
    """The encoder's choice for each stream, [B, count], from a sample of its symbols: see docs/stream.md, section 1."""
    count = entries.shape[1]
    where = torch.from_numpy(_samples(count)).to(entries.device)
    picked = torch.stack([entries[:, where], sides[:, where]]).cpu().numpy().astype(np.int64)
    costs = 256 * precision - _log2_q8((picked[0] >> 12 & 4095) + 1) + 256 * picked[1]
    chosen = []
    for cost in costs.sum(1):
        payload, lanes = int(cost) * count // len(where) // (8 * 256), 1
        while lanes < MAX_LANES and payload >= 2000 * 2 * lanes:
            lanes *= 2
        chosen.append(lanes)
    return chosen


def encode(symbols: Tensor, indexes: Tensor, tables: DeviceTables, lanes: int = 0) -> list[bytes]:
    """One stream for each row of symbols.

    Args:
        symbols: int32 [B, count], any values.
        indexes: uint8 [B, count], table rows.
        lanes: 1, 2, 4 ... 64; 0 chooses for each stream as the C++ coder does.
    """
    device = check_device(_encode, symbols, indexes, tables.slots)
    streams, count = symbols.shape
    if not streams or not count:
        return [b""] * streams
    symbols, indexes = symbols.contiguous(), indexes.contiguous()
    total = streams * count
    entries = torch.empty(streams, count, dtype=torch.int32, device=device)
    sides = torch.empty(streams, count, dtype=torch.int32, device=device)
    codes = torch.empty(streams, count, dtype=torch.int64, device=device)
    grid, rows = (ceil_div(total, 1024),), (tables.rows, tables.rows.shape[1])
    on(device, _split)[grid](symbols, indexes, *rows, tables.intervals, entries, sides, codes, total, BLOCK=1024,
                             **options(_split, 4))  # fmt: skip
    # The last symbol's bits are pushed first, so a symbol's place is the sum over itself and all that follow. Streams
    # start at whole words.
    ends = sides.flip(1).cumsum(1, dtype=torch.int64).flip(1)
    bits = ends[:, 0].cpu().numpy()
    sizes = (bits + 63) // 32
    begins = sizes.cumsum() - sizes
    side_words = torch.zeros(int(sizes.sum()) + 1, dtype=torch.int32, device=device)
    if bits.any():
        ends = ends + torch.from_numpy(32 * begins).to(device)[:, None]
        on(device, _push)[grid](symbols, indexes, *rows, sides, ends, codes, side_words, total, BLOCK=1024,
                                **options(_push, 4))  # fmt: skip
    chosen = [lanes] * streams if lanes else choose_lanes(entries, sides, tables.precision)
    words = torch.empty(streams, count, dtype=torch.int16, device=device)
    states = torch.empty(streams, MAX_LANES, dtype=torch.int32, device=device)
    counts = torch.empty(streams, dtype=torch.int64, device=device)
    for lane_count in sorted(set(chosen)):
        mine = [b for b in range(streams) if chosen[b] == lane_count]
        for low, high in _runs(mine):
            part = slice(low, high)
            on(device, _encode)[(high - low,)](
                entries[part], words[part], states[part], counts[part], count, lane_count,
                PRECISION=tables.precision, **options(_encode, 1),
            )  # fmt: skip
    return _assemble(words, states, counts, side_words, begins, bits, chosen)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Maximal ranges of consecutive numbers in an ascending list."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def _assemble(
    words: Tensor, states: Tensor, counts: Tensor, side_words: Tensor, begins: np.ndarray, bits: np.ndarray,
    lanes: list[int],
) -> list[bytes]:  # fmt: skip
    """Copies over what all streams need together, since the host waits for each copy."""
    count = words.shape[1]
    host_states = states.cpu().numpy().astype("<u4")
    side = side_words.cpu().numpy().astype("<i4").tobytes() if bits.any() else b""
    each = counts.cpu().numpy()
    written = torch.cat([own[count - n :] for own, n in zip(words, each, strict=True)]).cpu().numpy()
    out = []
    for b, (lane_count, own) in enumerate(zip(lanes, np.split(written, np.cumsum(each)[:-1]), strict=True)):
        length = int(bits[b])
        header = (lane_count.bit_length() - 1) | (SIDE_FLAG if length else 0)
        own_words = own.astype("<i2").tobytes()
        tail = b""
        if length:
            begin = 4 * int(begins[b])
            marked = bytearray(side[begin : begin + length // 8 + 1])
            marked[-1] |= 1 << length % 8
            tail = bytes(marked)
        out.append(bytes([header]) + host_states[b, :lane_count].tobytes() + own_words + tail)
    return out


def variants(target: Target) -> list[Variant]:
    aligned = ("rows", "indexes", "entries", "words", "states")
    encoder = {"entries": "*i32", "words": "*i16", "states": "*i32", "counts": "*i64", "count": "i32", "lanes": "i32",
               "PRECISION": "constexpr"}  # fmt: skip
    rows = {"symbols": "*i32", "indexes": "*u8", "rows": "*i32", "row_count": "i32"}
    split = {**rows, "intervals": "*i32", "entries": "*i32", "sides": "*i32", "codes": "*i64", "total": "i32",
             "BLOCK": "constexpr"}  # fmt: skip
    push = {**rows, "sides": "*i32", "ends": "*i64", "codes": "*i64", "words": "*i32", "total": "i32",
            "BLOCK": "constexpr"}  # fmt: skip
    one, four = options(None, 1), options(None, 4)
    return [
        Variant("rans encode", _encode, encoder, dict(PRECISION=12), one, 64, 4096, aligned),
        Variant("rans encode: intervals", _split, split, dict(BLOCK=1024), four, 128, 8192, aligned),
        Variant("rans encode: side stream", _push, push, dict(BLOCK=1024), four, 192, 8192, aligned),
    ]
