"""Categorical coder: alphabets of 1 to 65,536 symbols, any number of symbols, errors for damage."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from fastlic.errors import CorruptStreamError
from fastlic.ops.categorical import CategoricalTables, categorical_tables, decode_categorical, encode_categorical


@lru_cache
def zipf_tables(symbols: int) -> CategoricalTables:
    return categorical_tables([zipf(symbols)])


def zipf(symbols: int, seed: int = 0):
    weights = 1 / np.arange(1, symbols + 1)
    return np.random.default_rng(seed).permutation(weights / weights.sum())


def reference_encode(symbols, indexes, tables: CategoricalTables) -> bytes:
    """The stream by definition, decoded again by definition."""
    data = encode_categorical(symbols, indexes, tables, backend="reference")
    assert np.array_equal(decode_categorical(data, indexes, tables, backend="reference"), symbols)
    return data


@pytest.mark.parametrize("symbols", [1, 2, 3, 255, 8192, 65536])
@pytest.mark.parametrize("count", [0, 1, 2, 5000])
def test_alphabets_of_any_size_round_trip(symbols, count):
    pmf = zipf(symbols)
    tables = zipf_tables(symbols)
    codes = np.random.default_rng(count).choice(symbols, count, p=pmf).astype(np.int32)
    data = encode_categorical(codes, None, tables)
    assert data == reference_encode(codes, np.zeros(count, int), tables)
    assert np.array_equal(decode_categorical(data, 0, tables, shape=codes.shape), codes)


def test_rows_are_chosen_by_index_and_shapes_kept():
    tables = categorical_tables([zipf(10), np.ones(300), [0.0, 0.0, 1.0]])
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 3, (4, 5, 6))
    codes = rng.integers(0, np.array([10, 300, 3])[rows])
    data = encode_categorical(codes, rows, tables)
    assert data == reference_encode(codes.reshape(-1), rows.reshape(-1), tables)
    assert np.array_equal(decode_categorical(data, rows, tables), codes)
    again = CategoricalTables.from_arrays(tables.to_arrays())
    assert np.array_equal(decode_categorical(data, rows, again), codes)


def test_rate_is_close_to_the_entropy():
    pmf = zipf(8192)
    codes = np.random.default_rng(2).choice(8192, 100_000, p=pmf)
    bits = 8 * len(encode_categorical(codes, None, categorical_tables([pmf])))
    assert bits < 1.002 * -np.log2(pmf[codes]).sum()


def test_damage_is_reported():
    tables = categorical_tables([zipf(8192)])
    codes = np.random.default_rng(3).integers(0, 8192, 200)
    data = encode_categorical(codes, None, tables)
    for cut in range(len(data)):
        with pytest.raises(CorruptStreamError):
            decode_categorical(data[:cut], 0, tables, shape=200)
    with pytest.raises(CorruptStreamError):
        decode_categorical(data + bytes(4), 0, tables, shape=200)
    caught = 0
    for bit in range(0, 8 * len(data), 7):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decode_categorical(bytes(damaged), 0, tables, shape=200)
        except CorruptStreamError:
            caught += 1
    assert caught >= 8 * len(data) // 7 - 1


def test_wrong_arguments_are_refused_in_words():
    tables = categorical_tables([zipf(10)])
    with pytest.raises(ValueError, match=r"0\.\.9"):
        encode_categorical([10], None, tables)
    with pytest.raises(ValueError, match=r"0\.\.65535"):
        encode_categorical([-1], None, tables)
    with pytest.raises(ValueError, match="names no row"):
        encode_categorical([1], [1], tables)
    with pytest.raises(ValueError, match="65536"):
        categorical_tables([np.ones(65537)])
    with pytest.raises(ValueError, match="frequency below 1"):
        CategoricalTables(np.array([0, 5, 5, 4096]), np.array([4]), 12)
    with pytest.raises(ValueError, match="run from 0"):
        CategoricalTables(np.array([0, 5, 9, 4095]), np.array([4]), 12)
    with pytest.raises(ValueError, match="precision"):
        CategoricalTables(np.array([0, 5, 9, 4096]), np.array([4]), 40)


def test_tables_that_int32_does_not_hold_are_refused_and_not_wrapped():
    cdf, lengths, wrap = np.array([0, 5, 9, 4096]), np.array([4]), 1 << 32
    assert CategoricalTables(cdf, lengths, np.int64(12)).precision == 12
    with pytest.raises(ValueError, match=r"cdf must be integers within int32, got 0\.\.4294971392"):
        CategoricalTables(np.array([0, 5, 9, 4096 + wrap]), lengths, 12)
    with pytest.raises(ValueError, match="lengths must be integers within int32"):
        CategoricalTables(cdf, lengths + wrap, 12)
    with pytest.raises(TypeError, match=r"^precision must be an integer, got float$"):
        CategoricalTables(cdf, lengths, 12.0)
    with pytest.raises(ValueError, match="precision must be at least 0, got -1"):
        CategoricalTables(cdf, lengths, -1)


@pytest.mark.parametrize("symbols", [[-1, 0], [0, 65536]])
def test_symbols_of_any_alphabet_lie_below_65536(symbols):
    with pytest.raises(ValueError, match=rf"symbols must lie in 0\.\.65535, got {symbols[0]}\.\.{symbols[1]}"):
        encode_categorical(symbols, None, categorical_tables([zipf(10)]))


@pytest.mark.parametrize("indexes", [[-1, 0], [0, 256]])
def test_indexes_lie_below_256(indexes):
    tables = categorical_tables([[1, 1]] * 256)
    data = encode_categorical([0, 1], [0, 255], tables)
    assert decode_categorical(data, [0, 255], tables).tolist() == [0, 1]
    for run in (lambda: encode_categorical([0, 0], indexes, tables), lambda: decode_categorical(data, indexes, tables)):
        with pytest.raises(ValueError, match=r"indexes must be integers in 0\.\.255"):
            run()


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_tables_of_another_kind_and_shapes_that_are_none_are_refused(backend):
    tables = categorical_tables([[1, 1]])
    data = encode_categorical([], None, tables)
    for run in (
        lambda: encode_categorical([0], None, "tables", backend=backend),
        lambda: decode_categorical(data, None, "tables", backend=backend),
    ):
        with pytest.raises(TypeError, match="tables must be CategoricalTables, got str"):
            run()
    with pytest.raises(ValueError, match="shape must be at least 0, got -1"):
        decode_categorical(data, None, tables, shape=(2, -1), backend=backend)
    for shape in (0, (2, 0), [0]):
        assert decode_categorical(data, None, tables, shape=shape, backend=backend).size == 0
    assert decode_categorical(encode_categorical(1, None, tables), None, tables, backend=backend).tolist() == 1
