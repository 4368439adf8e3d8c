"""Decoding native interleaved rANS streams on the device: 64 lanes are 64 elements of one tensor, one program a stream.

The format is docs/stream.md's; bytes, symbols and verdicts on damaged streams equal the C++ coder's. In a step N
symbols, one a lane, are decoded at once: slots from one packed table in the cache, words handed to the lanes that need
one by a prefix sum. Raw bits of a step come from a second prefix sum; escapes, which are rare, one after the other.
Damage sets a flag and goes on harmlessly (all addresses are bounded); ``finish`` reports it.

fastlic.kernels.rans_encode is the other direction.
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
from fastlic.kernels.launch import Target, Variant, check_device, on, options, without_offsets

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
    means, y_offsets, places, y, seen, y_numbers, y_limit, total, M, FUSED: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The next ``count`` symbols of one stream. All pointers are this stream's.

    FUSED: the symbols are those of positions ``places[0], places[1] ...`` of latents with M channels: their values go
    to y [positions, M] and their activations to the context's map ``seen``, whose rows stand ``total`` numbers behind;
    ``y_offsets`` are as for ``reconstruct``.
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
            here = tl.load(places + p, mask=active, other=0)
            mean = tl.load(means + i, mask=active, other=0)
            latent = reconstruct(symbol.to(tl.int32), mean, y_offsets, row)
            tl.store(y + here.to(tl.int64) * M + channel, latent, mask=active)
            multiplier = tl.load(y_numbers + C + channel, mask=active, other=0)
            negative = tl.load(y_numbers + 2 * C + channel, mask=active, other=0)
            shifts = tl.load(y_numbers + 3 * C + channel, mask=active, other=1)
            activation = requantise(latent, multiplier, negative, shifts, y_limit)
            centre = tl.load(places + total + p, mask=active, other=0)
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
               symbols + b * pitch, count, PRECISION, symbols, None, symbols, symbols, data, symbols, 0, 1, 1, False,
               64)  # fmt: skip


@triton.jit
def decode_image(
    data, states, cursors, slots, rows, row_count, indexes, means, y_offsets, offsets, places, y, seen, y_numbers, step,
    images, image, y_limit, total, M, PRECISION: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The symbols of an image's positions of a step, and what follows from them; there may be none. ``offsets`` and
    ``places`` [., total] are those of fastlic.kernels.masked_context.Batch."""
    b = tl.cast(image, tl.int64)
    begin = tl.load(offsets + step * images + image)
    count = tl.load(offsets + step * images + image + 1) - begin
    start = tl.load(places + (2 * total + begin), mask=count > 0, other=0).to(tl.int64) * M
    decode_run(data, states + b * _LANES, cursors + b * 8, slots, rows, row_count, indexes + start, means + start,
               count * M, PRECISION, means + start, y_offsets, places + begin, y, seen, y_numbers, y_limit, total, M,
               True, C)  # fmt: skip


@triton.jit(do_not_specialize=["row_count", "step", "images", "total", "M"])
def decode_step(
    data, states, cursors, slots, rows, row_count, indexes, means, y_offsets, offsets, places, y, seen, y_numbers, step,
    images, y_limit, total, M, PRECISION: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Program b: ``decode_image`` of image b."""
    decode_image(data, states, cursors, slots, rows, row_count, indexes, means, y_offsets, offsets, places, y, seen,
                 y_numbers, step, images, tl.program_id(0), y_limit, total, M, PRECISION, C)  # fmt: skip


def decode(opened: Streams, indexes: Tensor, tables: DeviceTables) -> Tensor:
    """The next symbols of every stream.

    Args:
        indexes: uint8 [B, count], the table row of each symbol, every one less than the number of rows.

    Returns:
        int32 [B, count]; to be trusted only after ``finish``.
    """
    device = check_device(_decode, opened.data, indexes, tables.slots)
    streams, count = indexes.shape
    symbols = torch.empty(streams, count, dtype=torch.int32, device=device)
    if indexes.stride(1) != 1:
        indexes = indexes.contiguous()
    if streams and count:
        on(device, _decode)[(streams,)](
            opened.data, opened.states, opened.cursors, tables.slots, tables.rows, tables.rows.shape[1], indexes,
            symbols, count, count, indexes.stride(0), PRECISION=tables.precision, **options(_decode, 1),
        )  # fmt: skip
    return symbols


def variants(target: Target) -> list[Variant]:
    shared = {"data": "*u8", "states": "*i32", "cursors": "*i64", "slots": "*i32", "rows": "*i32", "row_count": "i32",
              "indexes": "*u8"}  # fmt: skip
    aligned = ("data", "states", "cursors", "slots", "rows", "indexes")
    whole = {**shared, "symbols": "*i32", "count": "i32", "pitch": "i32", "index_pitch": "i32",
             "PRECISION": "constexpr"}  # fmt: skip
    pointers = ("means", "y_offsets", "offsets", "places", "y", "y_numbers")
    step = {**shared, **dict.fromkeys(pointers, "*i32"), "seen": "*i8",
            **dict.fromkeys(("step", "images", "y_limit", "total", "M"), "i32")}  # fmt: skip
    one = options(None, 1)
    found = [Variant("rans decode", _decode, whole, dict(PRECISION=12), one, 128, 4096, aligned)]
    for way in ("", ", offsets"):
        constants = dict(PRECISION=12, C=192, **without_offsets(way, "y_offsets"))
        found.append(Variant(f"rans decode step M=192{way}", decode_step,
                             {**step, **dict.fromkeys(constants, "constexpr")}, constants, one, 160, 4096,
                             aligned))  # fmt: skip
    return found
