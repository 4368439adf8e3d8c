"""The native interleaved rANS stream on the device: 64 lanes are 64 elements of one tensor, one program a stream.

The format is docs/stream.md's; bytes, symbols and verdicts on damaged streams equal the C++ coder's. A group of N
symbols, one a lane, is decoded at once: slots from one packed table in the cache, words handed to the lanes that need
one by a prefix sum. Raw bits of a group come from a second prefix sum; escapes, which are rare, one after the other.
Damage sets a flag and goes on harmlessly (all addresses are bounded); ``finish`` reports it.

Encoding runs the groups backwards. What does not depend on the lane states (slots, side bits and their places) is done
for all symbols in parallel before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlic.errors import CorruptStreamError
from fastlic.kernels.integer import reconstruct, requantise, store_planes
from fastlic.kernels.launch import Target, Variant, ceil_div, check_device, options

MAX_LANES = 64
STATE_LOW = 1 << 15
SIDE_FLAG = 8
CURSOR_FIELDS = 8  # unused, end, word position, side top, side floor, lanes, decoded, faults

_LANES = tl.constexpr(MAX_LANES)
_LOW = tl.constexpr(STATE_LOW)
_END, _WORDS, _TOP, _FLOOR = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3), tl.constexpr(4)
_COUNT, _DECODED, _FAULTS = tl.constexpr(5), tl.constexpr(6), tl.constexpr(7)
_MAX_ZEROS = tl.constexpr(34)
_INT32_MAX = tl.constexpr(2**31 - 1)


@dataclass(frozen=True)
class DeviceTables:
    """Frequency tables in the form that kernels read.

    Attributes:
        slots: int32 [rows << precision], for each code point: slot | frequency - 1 << 8 | code - start << 20.
        intervals: int32 [entries], start | frequency - 1 << 12 of each slot, row after row.
        rows: int32 [4, rows]: offset, shift, regular slots, first entry in ``intervals``.
    """

    slots: Tensor
    intervals: Tensor
    rows: Tensor
    precision: int

    @classmethod
    def of(
        cls, cdf: np.ndarray, lengths: np.ndarray, offsets: np.ndarray, shifts: np.ndarray, precision: int, device: Any
    ) -> DeviceTables:
        """From validated tables: cumulative rows one after another, their lengths, offsets and shifts."""
        slots, intervals = [], []
        begins = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])
        for begin, length in zip(begins, lengths, strict=True):
            row = cdf[begin : begin + length].astype(np.int64)
            frequency = np.diff(row)
            slot = np.repeat(np.arange(length - 1), frequency)
            distance = np.arange(1 << precision) - row[slot]
            slots.append(slot | (frequency[slot] - 1) << 8 | distance << 20)
            intervals.append(row[:-1] | (frequency - 1) << 12)
        rows = np.stack([offsets, shifts, lengths - 2, begins - np.arange(len(lengths))])

        def on_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array.astype(np.uint32).view(np.int32)).to(device)

        return cls(
            on_device(np.concatenate(slots)),
            on_device(np.concatenate(intervals)),
            torch.from_numpy(rows.astype(np.int32)).to(device),
            precision,
        )


@dataclass
class Streams:
    """Several streams being decoded: their bytes and how far each has come.

    Attributes:
        data: uint8, all streams one after another.
        states: int32 [B, 64], lane states.
        cursors: int64 [B, 8]: -, end, next word, top of the side stream in bits, its floor, lanes, symbols decoded,
            faults.
    """

    data: Tensor
    states: Tensor
    cursors: Tensor


def open_streams(streams: Sequence[Any], device: Any) -> Streams:
    """Parse the frames of several streams and bring them to the device.

    Raises:
        CorruptStreamError: a header, a lane state or an end mark is invalid; an empty stream is only met by ``finish``.
    """
    states = np.zeros((len(streams), MAX_LANES), np.int32)
    cursors = np.zeros((len(streams), CURSOR_FIELDS), np.int64)
    begin = 0
    for b, data in enumerate(streams):
        states[b], cursors[b] = _open(bytes(data), begin)
        begin += len(data)
    whole = np.frombuffer(b"".join(bytes(d) for d in streams) + b"\0", np.uint8).copy()
    return Streams(*(torch.from_numpy(a).to(device) for a in (whole, states, cursors)))


def _open(data: bytes, begin: int) -> tuple[np.ndarray, np.ndarray]:
    states = np.zeros(MAX_LANES, np.int32)
    if not data:  # holds no symbols; asking for one finds the end of the words
        return states, np.array([0, begin, begin, 8 * begin, 8 * begin, 1, 0, 0], np.int64)
    if data[0] >> 4 != 0 or (1 << (data[0] & 7)) > MAX_LANES:
        raise CorruptStreamError(f"unknown header byte {data[0]}")
    lanes = 1 << (data[0] & 7)
    words = 1 + 4 * lanes
    if len(data) < words:
        raise CorruptStreamError(f"{len(data)} bytes cannot hold the states of {lanes} lanes")
    found = np.frombuffer(data, "<u4", lanes, 1)
    if (found < STATE_LOW).any() or (found >= 1 << 31).any():
        raise CorruptStreamError("a lane state is out of range")
    states[:lanes] = found.astype(np.int32)
    top = 8 * (begin + words)
    if data[0] & SIDE_FLAG:
        if len(data) == words or data[-1] == 0:
            raise CorruptStreamError("the side stream has no end mark")
        top = 8 * (begin + len(data) - 1) + data[-1].bit_length() - 1
    end = begin + len(data)
    return states, np.array([0, end, begin + words, top, 8 * (begin + words), lanes, 0, 0], np.int64)


def finish(opened: Streams, streams: Sequence[Any]) -> None:
    """Demand that every stream was decoded without fault and ended as an encoder ends it.

    Raises:
        CorruptStreamError: names the first stream that was not.
    """
    states, cursors = opened.states.cpu().numpy(), opened.cursors.cpu().numpy()
    for b, data in enumerate(streams):
        _, end, position, top, floor, lanes, decoded, faults = (int(v) for v in cursors[b])
        if not len(data) and not decoded:
            continue
        if faults:
            raise CorruptStreamError(f"stream {b} ends early, or holds a symbol that no encoder writes")
        if (states[b, :lanes] != STATE_LOW).any():
            raise CorruptStreamError(f"stream {b}: a lane does not end in the initial state")
        if bytes(data[:1])[0] & SIDE_FLAG:
            if (top - floor) % 8 or 8 * position != top:
                raise CorruptStreamError(f"stream {b}: words and side stream do not meet")
        elif position != end:
            raise CorruptStreamError(f"stream {b}: {end - position} bytes are left over")


@triton.jit
def _side_bits(data, low, count, floor):
    """The ``count`` (at most 16) bits from absolute bit ``low`` upwards; what begins below ``floor`` reads as 0."""
    byte = low >> 3
    valid = (count > 0) & (low >= floor)
    a = tl.load(data + byte, mask=valid, other=0).to(tl.int32)
    b = tl.load(data + byte + 1, mask=valid & ((low & 7) + count > 8), other=0).to(tl.int32)
    c = tl.load(data + byte + 2, mask=valid & ((low & 7) + count > 16), other=0).to(tl.int32)
    return ((a | (b << 8) | (c << 16)) >> (low & 7).to(tl.int32)) & ((1 << count) - 1)


@triton.jit
def _gamma(data, top, floor):
    """(code, top after it, fault) of the Elias gamma code popped from ``top``."""
    order = tl.arange(0, 64)
    at = top - 1 - order
    bit = (tl.load(data + (at >> 3), mask=at >= floor, other=0).to(tl.int32) >> (at & 7).to(tl.int32)) & 1
    zeros = tl.min(tl.where(bit == 1, order, 64), axis=0)
    fault = (zeros > _MAX_ZEROS).to(tl.int64)
    zeros = tl.minimum(zeros, _MAX_ZEROS)
    top = top - zeros - 1
    at = top - 1 - order
    below = (tl.load(data + (at >> 3), mask=at >= floor, other=0).to(tl.int64) >> (at & 7)) & 1
    place = tl.maximum(zeros - 1 - order, 0).to(tl.int64)
    value = tl.sum(tl.where(order < zeros, below << place, 0), axis=0)
    top = top - zeros
    one = tl.full([], 1, tl.int64)
    return (one << zeros.to(tl.int64)) + value - 1, top, fault | (top < floor).to(tl.int64)


@triton.jit
def decode_run(
    data, states, cursor, slots, rows, row_count, indexes, symbols, count, PRECISION: tl.constexpr,
    means, order, y, seen, y_numbers, y_limit, width, M, FUSED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The next ``count`` symbols of one stream. All pointers are this stream's.

    FUSED: the symbols are those of positions ``order[0], order[1] ...`` of a latent with M channels: its values go to y
    [positions, M] and its activations to the context's map ``seen``, padded by two rows above and two columns beside.
    """
    lane = tl.arange(0, _LANES)
    lanes = tl.load(cursor + _COUNT).to(tl.int32)
    end = tl.load(cursor + _END)
    floor = tl.load(cursor + _FLOOR)
    position = tl.load(cursor + _WORDS)
    top = tl.load(cursor + _TOP)
    done = tl.load(cursor + _DECODED)
    faults = tl.load(cursor + _FAULTS)
    x = tl.load(states + lane)
    first = -(done % lanes).to(tl.int32)
    for base in range(first, count, lanes):
        i = base + lane
        active = (lane < lanes) & (i >= 0) & (i < count)
        row = tl.load(indexes + i, mask=active, other=0).to(tl.int32)
        slot = tl.load(slots + ((row << PRECISION) | (x & ((1 << PRECISION) - 1))), mask=active, other=0)
        value = slot & 255
        x_next = (((slot >> 8) & 4095) + 1) * (x >> PRECISION) + ((slot >> 20) & 4095)
        needs = active & (x_next < _LOW)
        taken = tl.cumsum(needs.to(tl.int32), axis=0)
        at = position + 2 * (taken - 1)
        inside = needs & (at + 2 <= end)
        word = tl.load(data + at, mask=inside, other=0).to(tl.int32)
        word |= tl.load(data + at + 1, mask=inside, other=0).to(tl.int32) << 8
        x = tl.where(active, tl.where(needs, (x_next << 16) | word, x_next), x)
        position += 2 * tl.sum(needs.to(tl.int64), axis=0)
        faults |= (position > end).to(tl.int64)

        offset = tl.load(rows + row)
        shift = tl.where(active, tl.load(rows + row_count + row), 0)
        size = tl.load(rows + 2 * row_count + row)
        t = (value + offset).to(tl.int64)
        raw = tl.zeros([_LANES], tl.int32)
        escapes = active & (value == size)
        if tl.sum((escapes | (shift > 0)).to(tl.int32), axis=0) > 0:
            next_lane = 0
            while next_lane < _LANES:
                # Raw bits up to and including the next escape's, then its distance.
                at_escape = tl.min(tl.where(escapes & (lane >= next_lane), lane, _LANES), axis=0)
                bits = tl.where((lane >= next_lane) & (lane <= at_escape), shift, 0)
                low = top - tl.cumsum(bits, axis=0)
                raw = tl.where(bits > 0, _side_bits(data, low, bits, floor), raw)
                top -= tl.sum(bits, axis=0)
                faults |= (top < floor).to(tl.int64)
                if at_escape < _LANES:
                    code, top, fault = _gamma(data, top, floor)
                    faults |= fault
                    distance = code >> 1
                    escaped = tl.where((code & 1) == 1, offset - 1 - distance, offset + size + distance)
                    t = tl.where(lane == at_escape, escaped, t)
                next_lane = at_escape + 1
        symbol = (t << shift.to(tl.int64)) + raw
        unfit = active & ((symbol > _INT32_MAX) | (symbol < -_INT32_MAX - 1))
        faults |= (tl.sum(unfit.to(tl.int32), axis=0) > 0).to(tl.int64)
        if FUSED:
            p = i // M
            channel = i - p * M
            raster = tl.load(order + p, mask=active, other=0)
            mean = tl.load(means + i, mask=active, other=0)
            latent = reconstruct(symbol.to(tl.int32), mean)
            tl.store(y + raster.to(tl.int64) * M + channel, latent, mask=active)
            multiplier = tl.load(y_numbers + C + channel, mask=active, other=0)
            negative = tl.load(y_numbers + 2 * C + channel, mask=active, other=0)
            places = tl.load(y_numbers + 3 * C + channel, mask=active, other=1)
            activation = requantise(latent, multiplier, negative, places, y_limit)
            centre = (raster // width + 2) * (width + 4) + raster % width + 2
            store_planes(seen + centre.to(tl.int64) * (2 * C) + channel, C, activation, active)
        else:
            tl.store(symbols + i, symbol.to(tl.int32), mask=active)
    tl.store(states + lane, x)
    tl.store(cursor + _WORDS, position)
    tl.store(cursor + _TOP, top)
    tl.store(cursor + _DECODED, done + count)
    tl.store(cursor + _FAULTS, faults)


@triton.jit(do_not_specialize=["row_count", "count", "pitch", "index_pitch"])
def _decode(data, states, cursors, slots, rows, row_count, indexes, symbols, count, pitch, index_pitch,
            PRECISION: tl.constexpr):  # fmt: skip
    """Program b decodes ``count`` symbols of stream b; ``pitch``: symbols from one stream's to the next's."""
    b = tl.program_id(0).to(tl.int64)
    decode_run(data, states + b * _LANES, cursors + b * 8, slots, rows, row_count, indexes + b * index_pitch,
               symbols + b * pitch, count, PRECISION, symbols, symbols, symbols, data, symbols, 0, 1, 1, False,
               64)  # fmt: skip


@triton.jit(do_not_specialize=["row_count", "begin", "count", "positions", "height", "width", "M"])
def decode_step(
    data, states, cursors, slots, rows, row_count, indexes, means, order, y, seen, y_numbers, begin, count, y_limit,
    positions, height, width, M, PRECISION: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Program b decodes the symbols of order[begin : begin + count] of image b, and what follows from them."""
    b = tl.program_id(0).to(tl.int64)
    start = (b * positions + begin) * M
    decode_run(data, states + b * _LANES, cursors + b * 8, slots, rows, row_count, indexes + start, means + start,
               count * M, PRECISION, means + start, order + begin, y + b * positions * M,
               seen + b * (height + 4) * (width + 4) * 2 * C, y_numbers, y_limit, width, M, True, C)  # fmt: skip


def decode(opened: Streams, indexes: Tensor, tables: DeviceTables) -> Tensor:
    """The next symbols of every stream.

    Args:
        indexes: uint8 [B, count], the table row of each symbol, every one less than the number of rows.

    Returns:
        int32 [B, count]; to be trusted only after ``finish``.
    """
    check_device(_decode, opened.data, indexes, tables.slots)
    streams, count = indexes.shape
    symbols = torch.empty(streams, count, dtype=torch.int32, device=indexes.device)
    if indexes.stride(1) != 1:
        indexes = indexes.contiguous()
    if streams and count:
        _decode[(streams,)](
            opened.data, opened.states, opened.cursors, tables.slots, tables.rows, tables.rows.shape[1], indexes,
            symbols, count, count, indexes.stride(0), PRECISION=tables.precision, **options(_decode, 1),
        )  # fmt: skip
    return symbols


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
    groups = (count + lanes - 1) // lanes
    for step in range(0, groups):
        i = (groups - 1 - step) * lanes + lane
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


def _samples(count: int) -> np.ndarray:
    if count <= 4096:
        return np.arange(count)
    return np.array([(s * 0x9E3779B97F4A7C15 % 2**64) * count >> 64 for s in range(4096)])


def choose_lanes(entries: Tensor, sides: Tensor, precision: int) -> int:
    """The encoder's choice for one stream, from a sample of its symbols: see docs/stream.md, section 1."""
    count = len(entries)
    where = torch.from_numpy(_samples(count)).to(entries.device)
    picked = torch.stack([entries[where], sides[where]]).cpu().numpy().astype(np.int64)
    cost = 256 * precision - _log2_q8((picked[0] >> 12 & 4095) + 1) + 256 * picked[1]
    payload = int(cost.sum()) * count // len(where) // (8 * 256)
    lanes = 1
    while lanes < MAX_LANES and payload >= 2000 * 2 * lanes:
        lanes *= 2
    return lanes


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
    _split[grid](symbols, indexes, *rows, tables.intervals, entries, sides, codes, total, BLOCK=1024,
                 **options(_split, 4))  # fmt: skip
    # The last symbol's bits are pushed first, so a symbol's place is the sum over itself and all that follow. Streams
    # start at whole words.
    ends = sides.flip(1).cumsum(1, dtype=torch.int64).flip(1)
    bits = ends[:, 0].cpu()
    sizes = (bits + 63) // 32
    begins = sizes.cumsum(0) - sizes
    side_words = torch.zeros(int(sizes.sum()) + 1, dtype=torch.int32, device=device)
    if int(bits.max()) > 0:
        ends = ends + (32 * begins).to(device)[:, None]
        _push[grid](symbols, indexes, *rows, sides, ends, codes, side_words, total, BLOCK=1024, **options(_push, 4))
    chosen = [lanes or choose_lanes(entries[b], sides[b], tables.precision) for b in range(streams)]
    words = torch.empty(streams, count, dtype=torch.int16, device=device)
    states = torch.empty(streams, MAX_LANES, dtype=torch.int32, device=device)
    counts = torch.empty(streams, dtype=torch.int64, device=device)
    for lane_count in sorted(set(chosen)):
        mine = [b for b in range(streams) if chosen[b] == lane_count]
        for low, high in _runs(mine):
            part = slice(low, high)
            _encode[(high - low,)](
                entries[part], words[part], states[part], counts[part], count, lane_count,
                PRECISION=tables.precision, **options(_encode, 1),
            )  # fmt: skip
    return _assemble(words, states, counts.cpu(), side_words, begins, bits, chosen)


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
    words: Tensor, states: Tensor, counts: Tensor, side_words: Tensor, begins: Tensor, bits: Tensor, lanes: list[int]
) -> list[bytes]:
    count = words.shape[1]
    host_states = states.cpu().numpy().astype("<u4")
    side = side_words.cpu().numpy().astype("<i4").tobytes() if int(bits.max()) else b""
    out = []
    for b, lane_count in enumerate(lanes):
        length = int(bits[b])
        header = (lane_count.bit_length() - 1) | (SIDE_FLAG if length else 0)
        own_words = words[b, count - int(counts[b]) :].cpu().numpy().astype("<i2").tobytes()
        tail = b""
        if length:
            begin = 4 * int(begins[b])
            marked = bytearray(side[begin : begin + length // 8 + 1])
            marked[-1] |= 1 << length % 8
            tail = bytes(marked)
        out.append(bytes([header]) + host_states[b, :lane_count].tobytes() + own_words + tail)
    return out


def variants(target: Target) -> list[Variant]:
    shared = {"data": "*u8", "states": "*i32", "cursors": "*i64", "slots": "*i32", "rows": "*i32", "row_count": "i32",
              "indexes": "*u8"}  # fmt: skip
    aligned = ("data", "states", "cursors", "slots", "rows", "indexes", "entries", "words")
    whole = {**shared, "symbols": "*i32", "count": "i32", "pitch": "i32", "index_pitch": "i32",
             "PRECISION": "constexpr"}  # fmt: skip
    step = {**shared, "means": "*i32", "order": "*i32", "y": "*i32", "seen": "*i8", "y_numbers": "*i32",
            **dict.fromkeys(("begin", "count", "y_limit", "positions", "height", "width", "M"), "i32"),
            "PRECISION": "constexpr", "C": "constexpr"}  # fmt: skip
    encoder = {"entries": "*i32", "words": "*i16", "states": "*i32", "counts": "*i64", "count": "i32", "lanes": "i32",
               "PRECISION": "constexpr"}  # fmt: skip
    rows = {"symbols": "*i32", "indexes": "*u8", "rows": "*i32", "row_count": "i32"}
    split = {**rows, "intervals": "*i32", "entries": "*i32", "sides": "*i32", "codes": "*i64", "total": "i32",
             "BLOCK": "constexpr"}  # fmt: skip
    push = {**rows, "sides": "*i32", "ends": "*i64", "codes": "*i64", "words": "*i32", "total": "i32",
            "BLOCK": "constexpr"}  # fmt: skip
    one, four = options(None, 1), options(None, 4)
    return [
        Variant("rans decode", _decode, whole, dict(PRECISION=12), one, 128, 4096, aligned),
        Variant("rans decode step M=192", decode_step, step, dict(PRECISION=12, C=192), one, 160, 4096, aligned),
        Variant("rans encode", _encode, encoder, dict(PRECISION=12), one, 64, 4096, aligned),
        Variant("rans encode: intervals", _split, split, dict(BLOCK=1024), four, 128, 8192, aligned),
        Variant("rans encode: side stream", _push, push, dict(BLOCK=1024), four, 192, 8192, aligned),
    ]
