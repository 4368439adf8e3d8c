"""int8 weights in fewer bits: the larger int8 arrays of a codec file as one categorical rANS string, losslessly.

A weight's magnitude follows its output channel, its input channel and its place in the kernel. So an array has a class
of its own and one for each index of each axis, in half octaves of mean magnitude. A value's table is the sum of its
classes; all arrays share the tables. docs/format.md has what the file holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fastlic.arguments import check_fields, checked
from fastlic.ops.categorical import CategoricalTables, categorical_tables, decode_categorical, encode_categorical

LEAST = 1024  # values of an array that is worth packing
MOST_PER_BYTE = 16  # values that a coded byte may stand for; bounds what a damaged file makes a reader allocate
_LEAST_SLICE = 32  # values whose class is worth a byte
_PRECISION = 15  # 256 frequencies of at least 1 that sum to 2**15 fit int16
_TABLES = 24  # half octaves of mean magnitude, from 2**-3 on
_LOWEST = -6  # half octaves of the first table
_FLOOR = 2.0**-6  # mean magnitude of a slice of zeros, whose logarithm must be finite


@dataclass(frozen=True, eq=False)
class Packed:
    """What ``pack`` makes of int8 arrays.

    shapes:   name -> shape, in the order of coding
    data:     uint8 [bytes], a categorical stream (docs/stream.md, 4) of the values + 128
    classes:  int8 [n], of each array: its own class, then those of each index of the axes that have classes
    tables:   int16 [tables, 256], frequencies of the values -128..127, which sum to 2**15 in each row
    """

    shapes: dict[str, tuple[int, ...]]
    data: np.ndarray
    classes: np.ndarray
    tables: np.ndarray


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


def _class_count(shape: tuple[int, ...]) -> int:
    return 1 + sum(shape[axis] for axis in _axes(shape))


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


@checked
def pack(arrays: Mapping[str, np.ndarray]) -> Packed | None:
    """Code the int8 arrays that have at least ``LEAST`` values.

    Args:
        arrays: any; those of other types, and small ones, are left alone.

    Returns:
        What ``unpack`` takes, or None: nothing is gained, or a byte would stand for more values than ``unpack`` accepts
        (less than half a bit each). The same arrays give the same bytes, in whatever order they come.
    """
    chosen = {k: v for k, v in sorted(arrays.items()) if v.dtype == np.int8 and v.size >= LEAST}
    if not chosen:
        return None
    shapes = {k: v.shape for k, v in chosen.items()}
    classes = [_classes(v) for v in chosen.values()]
    rows = _rows(shapes.values(), np.concatenate(classes), _TABLES)
    lowest = rows.min()  # the first table that is needed becomes table 0
    rows -= lowest
    for found in classes:
        found[0] -= lowest
    values = np.concatenate([v.reshape(-1) for v in chosen.values()]).astype(np.int32) + 128
    counts = np.bincount(rows.astype(np.int32) * 256 + values, minlength=256 * (int(rows.max()) + 1)).reshape(-1, 256)
    counts[counts.sum(axis=1) == 0] = 1  # a table that no value has
    tables = categorical_tables(list(counts), _PRECISION)
    data = np.frombuffer(encode_categorical(values, rows, tables), np.uint8)
    frequencies = np.diff(tables.cdf.reshape(-1, 257), axis=1).astype(np.int16)
    packed = Packed(shapes, data, np.concatenate(classes), frequencies)
    size = data.nbytes + packed.classes.nbytes + frequencies.nbytes
    return packed if size < values.size <= MOST_PER_BYTE * data.size else None


@checked
def unpack(packed: Packed) -> dict[str, np.ndarray]:
    """Inverse of :func:`pack`; what comes from a file may be damaged in any way.

    Returns:
        int8 arrays of exactly the values, by name.

    Raises:
        ValueError: the parts are not valid or do not fit each other; the message says what is wrong. Memory that is
            allocated before stays in proportion to the bytes that came (``MOST_PER_BYTE``).
    """
    check_fields(packed)
    for name, dtype, ndim in (("data", np.uint8, 1), ("classes", np.int8, 1), ("tables", np.int16, 2)):
        part = getattr(packed, name)
        if part.dtype != dtype or part.ndim != ndim:
            raise ValueError(f"{name} must be {ndim}-D {np.dtype(dtype).name}, got {part.ndim}-D {part.dtype}")
    if not packed.shapes:
        raise ValueError("no array has a shape")
    bad = [k for k, shape in packed.shapes.items() if not all(type(n) is int and n > 0 for n in shape)]
    if bad:
        raise ValueError(f"{bad[0]!r} has no shape of positive integers")
    size = sum(math.prod(shape) for shape in packed.shapes.values())
    if size > MOST_PER_BYTE * packed.data.size:
        raise ValueError(f"{packed.data.size} bytes are too few for {size} values")
    wanted = sum(_class_count(shape) for shape in packed.shapes.values())
    if packed.classes.size != wanted:
        raise ValueError(f"the shapes need {wanted} classes, there are {packed.classes.size}")
    tables = _tables(packed.tables)
    rows = _rows(packed.shapes.values(), packed.classes, tables.rows)
    values = (decode_categorical(packed.data.tobytes(), rows, tables) - 128).astype(np.int8)
    ends = np.cumsum([math.prod(shape) for shape in packed.shapes.values()])
    # Copies: views of one array would keep all of it alive.
    parts = zip(packed.shapes.items(), np.split(values, ends[:-1]), strict=True)
    return {name: part.reshape(shape).copy() for (name, shape), part in parts}


def _tables(frequencies: np.ndarray) -> CategoricalTables:
    """Tables of a file; the core refuses rows that are not valid."""
    rows, symbols = frequencies.shape
    if symbols != 256 or not 1 <= rows <= 256:
        raise ValueError(f"tables must be 1 to 256 rows of 256 frequencies, got {frequencies.shape}")
    cdf = np.zeros((rows, 257), np.int32)
    np.cumsum(frequencies, axis=1, dtype=np.int32, out=cdf[:, 1:])
    return CategoricalTables(cdf.reshape(-1), np.full(rows, 257, np.int32), _PRECISION)
