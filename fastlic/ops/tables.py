"""Frequency tables of the native coder: what they are, and how float distributions become them.

A row describes ``t = symbol >> shift`` by integer frequencies that sum to ``2**precision``; the low ``shift`` bits
travel raw and everything outside the row's window travels as an escape (docs/stream.md). Building uses float64 once, on
the machine that exports a model. The integers are then stored with the weights (``to_arrays``): nobody recomputes them.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastlic import _native
from fastlic.forks import cached_property
from fastlic.ops import _arguments as arguments

MAX_ROW_SIZE = 255  # regular slots per row; cdf_tables.hpp says why
MAX_SHIFT = 16


@dataclass(frozen=True, eq=False)
class CdfTables:
    """Up to 256 rows, validated at construction. Immutable; safe to share between threads.

    cdf:      int32 [sum of lengths], rows one after another, each ``0 < ... < 2**precision``; last slot = escape
    lengths:  int32 [rows], entries of each row in ``cdf`` (regular slots + 2)
    offsets:  int32 [rows], ``t`` of each row's first slot
    shifts:   uint8 [rows], raw bits
    """

    cdf: NDArray[np.int32]
    lengths: NDArray[np.int32]
    offsets: NDArray[np.int32]
    shifts: NDArray[np.uint8]
    precision: int = 12

    def __post_init__(self) -> None:
        for name, dtype in (("cdf", np.int32), ("lengths", np.int32), ("offsets", np.int32), ("shifts", np.uint8)):
            object.__setattr__(self, name, arguments.exact(name, getattr(self, name), dtype, 1))
        precision = arguments.integer("precision", self.precision, 0)
        if not 10 <= precision <= 12:
            raise ValueError(f"precision must be 10, 11 or 12 bits, got {precision}")
        object.__setattr__(self, "precision", precision)
        _ = self.native  # the core checks every row

    @cached_property
    def native(self) -> _native.CdfTables:
        """The validated C++ twin, with its packed decoding and encoding tables."""
        return _native.CdfTables(self.cdf, self.lengths, self.offsets, self.shifts, self.precision)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @cached_property
    def fewest_bits(self) -> float:
        """Bits of the cheapest symbol of any row."""
        likeliest = np.diff(self.cdf).max()  # differences across rows are negative
        return float(self.precision - np.log2(likeliest))

    @cached_property
    def begins(self) -> NDArray[np.int64]:
        """Where each row starts in ``cdf``."""
        return np.concatenate([[0], np.cumsum(self.lengths[:-1], dtype=np.int64)])

    def row(self, index: int) -> NDArray[np.int32]:
        """Cumulative frequencies of one row, [size + 2]."""
        index = arguments.integer("index", index, 0, self.rows - 1)
        begin = int(self.begins[index])
        return self.cdf[begin : begin + int(self.lengths[index])]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CdfTables):
            return NotImplemented
        mine, theirs = self.to_arrays(), other.to_arrays()
        return all(np.array_equal(mine[key], theirs[key]) for key in mine)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:  # the C++ twin is rebuilt, not pickled
        return type(self), (self.cdf, self.lengths, self.offsets, self.shifts, self.precision)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The tables as named arrays, e.g. for a safetensors file."""
        return {
            "cdf": self.cdf,
            "lengths": self.lengths,
            "offsets": self.offsets,
            "shifts": self.shifts,
            "precision": np.array([self.precision], dtype=np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> CdfTables:
        """Inverse of :meth:`to_arrays`; raises ValueError for tables that are not valid."""
        missing = {"cdf", "lengths", "offsets", "shifts", "precision"} - set(
            arguments.instance("arrays", arrays, Mapping)
        )
        if missing:
            raise ValueError(f"tables lack {', '.join(sorted(missing))}")
        precision = arguments.array("precision", arrays["precision"], "iu").reshape(-1)
        if precision.size != 1:
            raise ValueError(f"precision must be one number, got {precision.size}")
        cdf, lengths, offsets, shifts = (np.asarray(arrays[key]) for key in ("cdf", "lengths", "offsets", "shifts"))
        return cls(cdf, lengths, offsets, shifts, int(precision[0]))


def normalise_pmf(pmf: ArrayLike, precision: int) -> NDArray[np.int32]:
    """Frequencies >= 1 with sum ``2**precision`` that minimise the expected code length for ``pmf``.

    The cost is separable and convex, so handing out one count at a time, each where it saves most, is optimal. Starting
    just below the proportional share instead of at 1 skips the counts that any optimum contains.
    """
    p = arguments.array("pmf", pmf, "fiu").astype(np.float64)
    total = 1 << arguments.integer("precision", precision, 1, 24)
    if p.ndim != 1 or not 1 <= p.size <= total or not np.isfinite(p).all() or (p < 0).any() or p.sum() <= 0:
        raise ValueError(f"pmf must be 1 to {total} finite, non-negative numbers, not all zero")
    p = p / p.sum()
    budget = total - p.size  # every slot has its 1; the shares compete for the rest
    counts = np.maximum(1, np.floor(p * budget).astype(np.int64) - 1)
    while counts.sum() > total:
        counts = np.maximum(1, counts - 1 - counts // 64)

    def entry(i: int) -> tuple[float, int]:
        return -p[i] * math.log1p(1 / counts[i]), i

    heap = [entry(i) for i in range(p.size)]
    heapq.heapify(heap)
    for _ in range(total - int(counts.sum())):
        i = heap[0][1]
        counts[i] += 1
        heapq.heapreplace(heap, entry(i))
    return counts.astype(np.int32)


@dataclass(frozen=True)
class _Row:
    cdf: NDArray[np.int32]
    offset: int
    shift: int


def _gamma_bits(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Length of an escaped distance in Elias' gamma code."""
    return 2 * np.floor(np.log2(distance + 1.0)) + 1


def _expected_bits(p: NDArray[np.float64], lo: int, hi: int, rest: float, shift: int, precision: int) -> float:
    """Estimated bits per symbol if slots lo..hi-1 of ``p`` are regular; ``rest`` is the mass outside ``p``."""
    inside = p[lo:hi]
    outside = max(float(p[:lo].sum() + p[hi:].sum()) + rest, 0.0)
    total = 1 << precision
    mass = np.append(inside, outside)
    shares = np.maximum(mass * (total - mass.size), 0) + 1
    bits = float(-(mass * np.log2(shares / total)).sum()) + shift
    below = 2 * np.arange(lo - 1, -1, -1) + 1
    above = 2 * np.arange(p.size - hi)
    return bits + float((p[:lo] * _gamma_bits(below)).sum() + (p[hi:] * _gamma_bits(above)).sum())


def _fit_row(pmf: NDArray[np.float64], first: int, precision: int, raw_cost: float = 0.0) -> _Row:
    """The row, over shifts and windows, with the shortest expected code for a pmf on first, first + 1, ...; one with
    raw bits counts as longer by ``raw_cost``.

    A wide window wastes the one count that each of its rare slots must have; a narrow one pays for escapes; a large
    shift treats unequal neighbours as equal.
    """
    rest = max(1.0 - float(pmf.sum()), 0.0)
    best: tuple[float, int, int, int, NDArray[np.float64], int] | None = None
    for shift in range(MAX_SHIFT + 1):
        begin = first >> shift
        bins = ((first + np.arange(pmf.size)) >> shift) - begin
        p = np.bincount(bins, weights=pmf).astype(np.float64)
        best_here, tried = math.inf, (-1, -1)
        for threshold_bits in range(precision - 3, precision + 12):
            kept = np.flatnonzero(p >= 2.0**-threshold_bits)
            lo, hi = (int(kept[0]), int(kept[-1]) + 1) if kept.size else (int(p.argmax()), int(p.argmax()) + 1)
            if (lo, hi) == tried:
                continue
            if hi - lo > MAX_ROW_SIZE:
                break
            tried = lo, hi
            bits = _expected_bits(p, lo, hi, rest, shift, precision) + (raw_cost if shift else 0.0)
            best_here = min(best_here, bits)
            if best is None or bits < best[0]:
                best = bits, lo, hi, shift, p, begin
        # A wide flat pmf fits no window before its bins are few: until then a worse shift says nothing of the next.
        if best is not None and p.size <= MAX_ROW_SIZE and best_here > best[0] + 0.05:
            break
    if best is None:
        raise ValueError("pmf is too wide and flat for a table row")
    _, lo, hi, shift, p, begin = best
    inside = p[lo:hi]
    counts = normalise_pmf(np.append(inside, max(float(p.sum() - inside.sum()) + rest, 0.0)), precision)
    return _Row(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), begin + lo, shift)


def _stack(rows: Sequence[_Row], precision: int) -> CdfTables:
    if not 1 <= len(rows) <= 256:
        raise ValueError(f"tables have 1 to 256 rows, got {len(rows)}")
    return CdfTables(
        np.concatenate([row.cdf for row in rows]),
        np.array([row.cdf.size for row in rows], dtype=np.int32),
        np.array([row.offset for row in rows], dtype=np.int32),
        np.array([row.shift for row in rows], dtype=np.uint8),
        precision,
    )


def gaussian_pmf(scale: float) -> tuple[NDArray[np.float64], int]:
    """Probabilities of round(N(0, scale**2)) on a window far wider than any table's, and the window's first integer."""
    scale = float(_positive("scale", scale, 0))
    # Beyond 9 sigma lies 1e-19: less than one symbol in any stream.
    half = math.ceil(9 * scale) + 1
    edges = np.arange(0, half + 1) + 0.5
    upper = np.array([0.5 * math.erfc(edge / (scale * math.sqrt(2))) for edge in edges])  # P(X > edge)
    right = upper[:-1] - upper[1:]  # 1, 2, ..., half
    return np.concatenate([right[::-1], [1 - 2 * upper[0]], right]), -half


def _positive(name: str, value: ArrayLike, ndim: int) -> NDArray[np.float64]:
    found = arguments.array(name, value, "fiu").astype(np.float64)
    if found.ndim != ndim or not np.isfinite(found).all() or (found <= 0).any() or (found > 1e4).any():
        raise ValueError(f"{name} must be {'a 1-D array of numbers' if ndim else 'a number'} in (0, 10000]")
    return found


def gaussian_tables(scales: ArrayLike, precision: int = 12) -> CdfTables:
    """One row per scale of a zero-mean Gaussian, rounded to integers.

    scales: float64 [rows], positive. Symbols are ``round(y - mean)``; pick the row whose scale is nearest in ratio
    (:func:`nearest_scale_thresholds`): that costs 0.09 % with CompressAI's 64 levels, where rounding up costs 0.32 %.
    """
    sigma = _positive("scales", scales, 1)
    bits = arguments.integer("precision", precision, 10, 12)
    return _stack([_gaussian_row(scale, bits) for scale in sigma.tolist()], bits)


@functools.lru_cache(maxsize=1024)  # fitting and calibration ask for those of the same levels, time and again
def _gaussian_row(scale: float, precision: int) -> _Row:
    return _fit_row(*gaussian_pmf(scale), precision)


def nearest_scale_thresholds(scales: ArrayLike) -> NDArray[np.float64]:
    """Scales where the nearest row (in ratio) changes, float64 [rows - 1]: index = searchsorted(thresholds, scale)."""
    sigma = _positive("scales", scales, 1)
    return np.sqrt(sigma[:-1] * sigma[1:])


def pmf_tables(
    pmfs: Sequence[ArrayLike], offsets: Sequence[int], precision: int = 12, raw_cost: float = 0.0
) -> CdfTables:
    """One row per probability mass function, e.g. per channel of a factorized prior.

    pmfs: rows of float numbers; row r gives the probabilities of ``offsets[r], offsets[r] + 1, ...``. What is missing
    to 1 is the probability of everything else, which is coded as escapes.
    raw_cost: bits a symbol by which a row with raw bits has to be shorter than one without, which is decoded quicker.
    """
    pmfs, offsets = arguments.sequence("pmfs", pmfs), arguments.sequence("offsets", offsets)
    arguments.integer("precision", precision, 10, 12)
    raw_cost = arguments.number("raw_cost", raw_cost)
    if len(pmfs) != len(offsets):
        raise ValueError(f"pmfs and offsets differ in length: {len(pmfs)} and {len(offsets)}")
    rows = []
    for r, (pmf, offset) in enumerate(zip(pmfs, offsets, strict=True)):
        p = arguments.array(f"pmf {r}", pmf, "fiu").astype(np.float64)
        if p.ndim != 1 or p.size == 0 or not np.isfinite(p).all() or (p < 0).any() or not 0 < p.sum() <= 1 + 1e-3:
            raise ValueError(f"pmf {r} must be non-negative numbers with a sum in (0, 1]")
        rows.append(_fit_row(p, arguments.integer(f"offset {r}", offset, -(1 << 30), 1 << 30), precision, raw_cost))
    return _stack(rows, precision)
