"""Streams of CompressAI's Gaussian mixtures: a row of frequencies of its own for every symbol, never kept.

Callers hand over float probabilities in pieces, as few symbols at a time as fit their caches.

encoder = MixtureEncoder()
encoder.add(probabilities, symbols)        # float32 [n, slots], int32 [n] in 0..slots-1
data = encoder.finish()
symbols = MixtureDecoder(data).decode(probabilities)
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.compressai_rans import CompressAiTables, decode_with_indexes, encode_with_indexes
from fastlic.ops.rans import as_symbols

Backend = Literal["reference", "cpp"]
_TOTAL = 1 << 16


def mixture_rows(probabilities: NDArray[np.float32], backend: Backend = "cpp") -> NDArray[np.int32]:
    """Cumulative frequencies int32 [n, slots + 2] of float32 [n, slots], the last slot an escape as coders ask for.

    Raises:
        ValueError: a probability is not a number, or a row has more slots than points to spare.
    """
    p = _probabilities(probabilities)
    arguments.implementation(dict.fromkeys(("reference", "cpp")), backend)
    cdf = np.empty((p.shape[0], p.shape[1] + 2), np.int32)
    if backend == "reference":
        for row, target in zip(p, cdf, strict=True):
            _reference_row(row, target)
    else:
        _native.mixture_rows(p, cdf)
    return cdf


def _reference_row(row: NDArray[np.float32], cdf: NDArray[np.int32]) -> None:
    limit = np.float32(_TOTAL - 1)
    if np.isnan(row).any():
        raise ValueError("a probability of a mixture is not a number")
    scaled = np.rint(np.clip(row, np.float32(1.0 / (_TOTAL - 1)), np.float32(1)) * limit)
    shares = scaled * limit / np.float32(scaled.sum(dtype=np.float64))
    ends = np.cumsum(shares, dtype=np.float64).astype(np.float32).astype(np.int64)
    frequencies = np.diff(ends, prepend=0)
    zeros = int((frequencies == 0).sum())
    donor = int(np.where(frequencies > zeros, frequencies, _TOTAL).argmin())
    frequencies[frequencies == 0] = 1
    frequencies[donor] -= zeros
    if frequencies.min() < 1 or frequencies.sum() >= _TOTAL:
        raise ValueError(f"a row of {len(row)} slots has no slot that can spare points for the others")
    cdf[0], cdf[-1] = 0, _TOTAL
    cdf[1:-1] = np.cumsum(frequencies)


class MixtureEncoder:
    """Symbols under their probabilities, piece by piece in the order of decoding."""

    def __init__(self, backend: Backend = "cpp") -> None:
        arguments.implementation(dict.fromkeys(("reference", "cpp")), backend)
        self._backend = backend
        self._pieces: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def add(self, probabilities: NDArray[np.float32], symbols: NDArray[np.int32]) -> None:
        """float32 [n, slots] and int32 [n].

        Raises:
            ValueError: as ``mixture_rows``, or a symbol that is not in 0..slots-1.
        """
        p, s = _probabilities(probabilities), as_symbols(symbols).astype(np.int32, copy=False)
        if self._backend == "reference":
            if s.size and not (s.min() >= 0 and s.max() < p.shape[1]):
                raise ValueError(f"symbols must be in 0..{p.shape[1] - 1}")
            self._pieces.append((mixture_rows(p, "reference"), s))
            return
        starts, frequencies = np.empty(len(p), np.uint16), np.empty(len(p), np.uint16)
        _native.mixture_intervals(p, s, starts, frequencies)
        self._pieces.append((starts, frequencies))

    def finish(self) -> bytes:
        """The stream of all that was added."""
        if self._backend == "reference":
            rows = np.concatenate([rows for rows, _ in self._pieces]) if self._pieces else np.zeros((0, 4), np.int32)
            symbols = np.concatenate([s for _, s in self._pieces]) if self._pieces else np.zeros(0, np.int32)
            if not len(rows):  # a stream without symbols needs no table
                return _native.encode_intervals(np.zeros(0, np.uint16), np.zeros(0, np.uint16))
            return encode_with_indexes(symbols, np.arange(len(rows)), _tables(rows), backend="reference")
        starts, frequencies = (
            np.concatenate([piece[i] for piece in self._pieces]) if self._pieces else np.zeros(0, np.uint16)
            for i in range(2)
        )
        return _native.encode_intervals(starts, frequencies)


class MixtureDecoder:
    """A stream read under probabilities, piece by piece.

    Raises:
        CorruptStreamError: the bytes are no stream, or end early.
    """

    def __init__(self, data: Any) -> None:
        self._native = _native.MixtureDecoder(data)

    def decode(self, probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
        """The next int32 [n] of float32 [n, slots]."""
        p = _probabilities(probabilities)
        out = np.empty(len(p), np.int32)
        self._native.decode(p, out)
        return out

    def finish(self) -> None:
        """Raises CorruptStreamError if something is left."""
        self._native.finish()


def _tables(rows: NDArray[np.int32]) -> CompressAiTables:
    return CompressAiTables(rows, np.full(len(rows), rows.shape[1], np.int32), np.zeros(len(rows), np.int32))


def decode_reference(data: bytes, rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Symbols of a whole stream under rows of ``mixture_rows``, with CompressAI's coder in plain Python."""
    rows = arguments.array("rows", rows, "iu")
    if rows.ndim != 2 or not 3 <= rows.shape[1] <= _TOTAL:
        raise ValueError(f"rows must be [n, slots + 2], got {list(rows.shape)}")
    return decode_with_indexes(data, np.arange(len(rows)), _tables(rows), backend="reference")


def _probabilities(values: NDArray[np.float32]) -> NDArray[np.float32]:
    array = arguments.array("probabilities", values, "f")
    if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] < 1:
        raise ValueError(f"probabilities must be float32 [n, slots], got {array.dtype} {list(array.shape)}")
    return array
