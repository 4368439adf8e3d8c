"""Integer weights in fewer bits: the larger int8 or int16 arrays of a codec file as one rANS string, losslessly.

A weight's magnitude follows its output channel, its input channel and its place in the kernel. So an array has a class
of its own and one for each index of each axis, in half octaves of mean magnitude. A value's table is the sum of its
classes; all arrays of a type share the tables. The coder is that of latents, with tables of measured frequencies.
docs/format.md has what the file holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastlic.arguments import check_fields, checked
from fastlic.ops.codec_file import unpack_weights
from fastlic.ops.rans import rans_encode
from fastlic.ops.tables import CdfTables, pmf_tables

Kind = Literal["int8", "int16"]

LEAST = 1024  # values of an array that is worth packing
MOST_PER_BYTE = 16  # values that a coded byte may stand for; bounds what a damaged file makes a reader allocate
PARTS = ("data", "classes", "windows", "tables")  # of what is packed, under these names in a file
_TABLES = {"int8": 24, "int16": 40}  # half octaves of mean magnitude, from 2**-3 on
_LEAST_SLICE = 32  # values whose class is worth a byte
_RAW_COST = 0.02  # bits a value that quicker reading is worth
_LANES = 64  # so that reading is as quick as it can be; 256 bytes
_LOWEST = -6  # half octaves of the first table
_FLOOR = 2.0**-6  # mean magnitude of a slice of zeros, whose logarithm must be finite


@dataclass(frozen=True, eq=False)
class Packed:
    """What ``pack`` makes of arrays of one type.

    kind:     their type
    shapes:   name -> shape, in the order of coding
    data:     uint8 [bytes], a stream of the values (docs/stream.md, 2)
    classes:  int8 [n], of each array: its own class, then those of each index of the axes that have classes
    windows:  int16 [tables, 3], of each table: first slot, raw bits, slots
    tables:   int16 [n], frequencies of each table's slots and of its escape, which sum to 2**12
    """

    kind: Kind
    shapes: dict[str, tuple[int, ...]]
    data: np.ndarray
    classes: np.ndarray
    windows: np.ndarray
    tables: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(getattr(self, part).nbytes for part in PARTS)


def _axes(shape: tuple[int, ...]) -> list[int]:
    """Axes that have classes: those with a choice between slices that are large enough to pay for it."""
    size = math.prod(shape)
    return [axis for axis, count in enumerate(shape) if count > 1 and size // count >= _LEAST_SLICE]


def _along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """``values`` [n] as an array of ``ndim`` axes that broadcasts along all but ``axis``."""
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _half_octaves(magnitudes: np.ndarray) -> np.ndarray:
    return np.rint(2 * np.log2(np.maximum(magnitudes, _FLOOR))).astype(np.int8)


def _classes(array: np.ndarray) -> np.ndarray:
    """Classes of an array, int8 [1 + indexes of ``_axes``]; one axis after another explains what is left."""
    rest = np.abs(array.astype(np.float32))
    own = int(_half_octaves(rest.mean()))
    rest *= 2.0 ** (-own / 2)
    found = [np.array([own - _LOWEST], np.int8)]
    for axis in _axes(array.shape):
        others = tuple(i for i in range(array.ndim) if i != axis)
        found.append(_half_octaves(rest.mean(axis=others)))
        rest *= _along(np.exp2(found[-1].astype(np.float32) / -2), axis, array.ndim)
    return np.concatenate(found)


def _rows(shapes: Iterable[tuple[int, ...]], classes: np.ndarray, tables: int) -> np.ndarray:
    """The table of every value, uint8 [sizes of all shapes]: the sum of its classes, from table 0 to the last."""
    rows = []
    begin = 0
    for shape in shapes:
        total = np.full(shape, classes[begin], np.int16)
        begin += 1
        for axis in _axes(shape):
            total += _along(classes[begin : begin + shape[axis]], axis, len(shape))
            begin += shape[axis]
        rows.append(np.clip(total, 0, tables - 1).astype(np.uint8).reshape(-1))
    return np.concatenate(rows)


def _tables(values: np.ndarray, rows: np.ndarray) -> CdfTables:
    """Tables for values int8 or int16 [n] of rows [n]."""
    pmfs, offsets = [], []
    for row in range(int(rows.max()) + 1):
        own = values[rows == row].astype(np.int32)
        offsets.append(int(own.min(initial=0)))
        pmfs.append(np.bincount(own - offsets[-1]) / own.size if own.size else [1.0])  # a table that no value has
    return pmf_tables(pmfs, offsets, raw_cost=_RAW_COST)


@checked
def pack(arrays: Mapping[str, np.ndarray], kind: Kind = "int8", last: Set[str] = frozenset()) -> Packed | None:
    """Code the arrays of one type that have at least ``LEAST`` values.

    Args:
        arrays: any; those of other types, and small ones, are left alone.
        kind: the type, ``int8`` or ``int16``.
        last: names of arrays that are coded behind the others: those that a decoder does without.

    Returns:
        What ``unpack`` takes, or None: nothing is gained, or a byte would stand for more values than ``unpack`` accepts
        (less than half a bit each). The same arrays give the same bytes, in whatever order they come.

    Raises:
        ValueError: another type.
    """
    _check_kind(kind)
    ordered = sorted(arrays.items(), key=lambda item: (item[0] in last, item[0]))
    chosen = {k: v for k, v in ordered if v.dtype == kind and v.size >= LEAST}
    if not chosen:
        return None
    shapes = {k: v.shape for k, v in chosen.items()}
    classes = [_classes(v) for v in chosen.values()]
    rows = _rows(shapes.values(), np.concatenate(classes), _TABLES[kind])
    lowest = rows.min()  # the first table that is needed becomes table 0
    rows -= lowest
    for found in classes:
        found[0] -= lowest
    values = np.concatenate([v.reshape(-1) for v in chosen.values()])
    tables = _tables(values, rows)
    data = np.frombuffer(rans_encode(values.astype(np.int16), rows, tables, lanes=_LANES), np.uint8)
    windows = np.stack([tables.offsets, tables.shifts, tables.lengths - 2], axis=1).astype(np.int16)
    frequencies = np.concatenate([np.diff(tables.row(row)) for row in range(tables.rows)]).astype(np.int16)
    packed = Packed(kind, shapes, data, np.concatenate(classes), windows, frequencies)
    return packed if packed.nbytes < values.nbytes and values.size <= MOST_PER_BYTE * data.size else None


def _check_kind(kind: str) -> None:
    if kind not in _TABLES:
        raise ValueError(f"arrays of {', '.join(_TABLES)} can be packed, not of {kind!r:.60}")


@checked
def unpack(packed: Packed) -> dict[str, np.ndarray]:
    """Inverse of :func:`pack`; what comes from a file may be damaged in any way.

    Returns:
        Arrays of exactly the values, by name.

    Raises:
        ValueError: the parts are not valid or do not fit each other; the message says what is wrong. Memory that is
            allocated before stays in proportion to the bytes that came (``MOST_PER_BYTE``).
    """
    check_fields(packed)
    _check_kind(packed.kind)
    for name, dtype, ndim in (
        ("data", "uint8", 1),
        ("classes", "int8", 1),
        ("windows", "int16", 2),
        ("tables", "int16", 1),
    ):
        part = getattr(packed, name)
        if part.dtype != dtype or part.ndim != ndim:
            raise ValueError(f"{name} must be {ndim}-D {dtype}, got {part.ndim}-D {part.dtype}")
    bad = [k for k, shape in packed.shapes.items() if not all(type(n) is int and 0 < n < 1 << 63 for n in shape)]
    if bad:
        raise ValueError(f"{bad[0]!r} has no shape of positive integers")
    parts = (np.ascontiguousarray(getattr(packed, name)) for name in PARTS)
    arrays = unpack_weights(np.dtype(packed.kind).itemsize, list(packed.shapes.values()), *parts)
    return dict(zip(packed.shapes, arrays, strict=True))
