"""Codes under a context model by definition (docs/stream.md, section 4): one position and one group after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastlic.errors import CorruptStreamError

Codes = NDArray[np.int32]  # [m, h, w]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_LOW = 1 << 31
_PRODUCT_BITS = 52


class Networks:
    """The integer networks of a context (``IntegerCodeContext``), widened to int64."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.layers = [
            [(d.weight[:, :, 0, 0].astype(np.int64), d.bias.astype(np.int64), d.requantiser) for d in layers]
            for layers in zip(context.first, context.second, context.last, strict=True)
        ]

    def logits(self, codes: Codes, row: int, column: int, group: int) -> Ints:
        """int64 [k], in units of 2^-8 bits, from what is coded before."""
        c = self.context
        m, height, width = codes.shape
        known = []
        for dy, dx in c.offsets.tolist():
            y, x = row + dy, column + dx
            inside = 0 <= y < height and 0 <= x < width
            known += [c.words[g, codes[g, y, x] if inside else c.k] for g in range(m)]
        known += [c.words[g, codes[g, row, column]] for g in range(group)]
        values = np.concatenate(known).astype(np.int64)
        for weight, bias, requantiser in self.layers[group]:
            values = requantiser(torch.from_numpy(weight @ values + bias)).numpy()
        return values


def frequencies(logits: Ints, table: NDArray[np.int32], precision: int) -> Ints:
    """int64 [k], each at least 1, that sum to 2^precision; logits int64 [k]."""
    below = logits.max() - logits
    weights = table.astype(np.int64)[below & 255] >> np.minimum(below >> 8, 31)
    shift = _PRODUCT_BITS - precision
    rate = (((1 << precision) - len(logits)) << shift) // int(weights.sum())
    found = 1 + (weights * rate >> shift)
    found[logits.argmax()] += (1 << precision) - found.sum()  # argmax: the first of the largest
    return found


def places(codes: Codes) -> Iterator[tuple[int, int, int]]:
    """(group, row, column) of every code in coding order."""
    groups, height, width = codes.shape
    return ((g, y, x) for y in range(height) for x in range(width) for g in range(groups))


def intervals(codes: Codes, context: Any) -> list[tuple[int, int]]:
    """(start, frequency) of every code of [m, h, w] in coding order."""
    networks, found = Networks(context), []
    for g, y, x in places(codes):
        every = frequencies(networks.logits(codes, y, x, g), context.table, context.precision)
        word = codes[g, y, x]
        found.append((int(every[:word].sum()), int(every[word])))
    return found


def choose(vectors: Floats, words: Floats, prices: Floats, context: Any) -> Codes:
    networks, k = Networks(context), words.shape[1]
    out = np.zeros((len(words), *vectors.shape[:2]), np.int32)
    for g, y, x in places(out):
        logits = networks.logits(out, y, x, g)
        distances = np.zeros(k)
        for channel, value in enumerate(vectors[y, x, g].tolist()):
            differences = value - words[g, :, channel].astype(np.float64)
            distances += differences * differences
        costs = distances + float(prices[y, x, g]) / 256 * (logits.max() - logits)
        out[g, y, x] = costs.argmin()  # the first of the least
    return out


def encode(codes: Codes, context: Any) -> bytes:
    bits = context.precision
    x, words = _LOW, []
    for start, frequency in reversed(intervals(codes, context)):
        if x >= frequency << (63 - bits):
            words.append(x & 0xFFFFFFFF)
            x >>= 32
        x = (x // frequency << bits) + x % frequency + start
    return x.to_bytes(8, "little") + b"".join(word.to_bytes(4, "little") for word in reversed(words))


def code_frequencies(codes: Codes, context: Any) -> NDArray[np.uint32]:
    m, height, width = codes.shape
    found = [frequency for _, frequency in intervals(codes, context)]
    return np.array(found, np.uint32).reshape(height, width, m).transpose(2, 0, 1)


def decode(data: Any, out: Codes, context: Any) -> None:
    data, bits, networks = bytes(data), context.precision, Networks(context)
    if len(data) < 8 or len(data) % 4:
        raise CorruptStreamError(f"the size must be a multiple of 4 and at least 8, got {len(data)}")
    state, position = int.from_bytes(data[:8], "little"), 8
    if not _LOW <= state < 1 << 63:
        raise CorruptStreamError("the state is out of range")
    for g, y, x in places(out):
        ends = np.cumsum(frequencies(networks.logits(out, y, x, g), context.table, bits))
        code = state & ((1 << bits) - 1)
        word = int(np.searchsorted(ends, code, side="right"))
        start = int(ends[word - 1]) if word else 0
        state = (int(ends[word]) - start) * (state >> bits) + code - start
        if state < _LOW:
            if position == len(data):
                raise CorruptStreamError("the stream ends before its last symbol")
            state = state << 32 | int.from_bytes(data[position : position + 4], "little")
            position += 4
        out[g, y, x] = word
    if position != len(data) or state != _LOW:
        raise CorruptStreamError("words are left, or the stream does not end in the initial state")
