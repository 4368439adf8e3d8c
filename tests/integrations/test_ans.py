"""fastlic.integrations.compressai.ans beside compressai.ans: the same bytes and symbols, and words where it crashes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastlic.errors import CorruptStreamError
from fastlic.integrations.compressai import ans

pytest.importorskip("hypothesis")
sys.path.insert(0, str(Path(__file__).parents[1] / "properties"))

import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

SETTINGS = settings(strategies.SETTINGS, max_examples=25)
KINDS = {
    "list": lambda values: values.tolist(),
    "tuple": lambda values: tuple(values.tolist()),
    "array": lambda values: values.copy(),
    "int64": lambda values: values.astype(np.int64),
    "tensor": lambda values: torch.from_numpy(values.copy()),
}
ROWS = {
    "lists": lambda cdf, sizes: [row.tolist() for row in cdf],
    "ragged": lambda cdf, sizes: [row[:n].tolist() for row, n in zip(cdf, sizes, strict=True)],
    "arrays": lambda cdf, sizes: list(cdf),
    "array": lambda cdf, sizes: cdf,
    "tensor": lambda cdf, sizes: torch.from_numpy(cdf.copy()),
}


@pytest.fixture(scope="module")
def theirs() -> Any:
    return pytest.importorskip("compressai.ans")


def lists(tables: Any) -> tuple[list[list[int]], list[int], list[int]]:
    return tables.quantized_cdf.tolist(), tables.lengths.tolist(), tables.offsets.tolist()


def flat(values: Any) -> list[int]:
    return list(np.asarray(values).reshape(-1).tolist())


# CompressAI's buffer has a word for each symbol, and ends in the state's two: fewer symbols than four overrun it. Its
# escapes hold seven nibbles: of larger ones it does not return.
PIECES = st.lists(strategies.with_indexes(strategies.compressai_tables()), min_size=1, max_size=3).filter(
    lambda pieces: sum(len(symbols) for _, symbols, _ in pieces) >= 4
)


@SETTINGS
@given(PIECES, st.data())
def test_pieces_of_any_kind_are_compressais_bytes_and_come_back(theirs, pieces, data):
    pieces = [(tables, symbols.clip(-(2**26), 2**26), indexes) for tables, symbols, indexes in pieces]
    real, own = theirs.BufferedRansEncoder(), ans.BufferedRansEncoder()
    asked = []
    for tables, symbols, indexes in pieces:
        real.encode_with_indexes(symbols.tolist(), indexes.tolist(), *lists(tables))
        kind = KINDS[data.draw(st.sampled_from(sorted(KINDS)))]
        cdf = ROWS[data.draw(st.sampled_from(sorted(ROWS)))](tables.quantized_cdf, tables.lengths)
        given_tables = (cdf, kind(tables.lengths), kind(tables.offsets))
        own.encode_with_indexes(kind(symbols), kind(indexes), *given_tables)
        asked.append((kind(indexes), *given_tables))
    stream = real.flush()
    assert own.flush() == stream
    decoder, other = ans.RansDecoder(), theirs.RansDecoder()
    decoder.set_stream(stream)
    other.set_stream(stream)
    for (tables, symbols, indexes), arguments in zip(pieces, asked, strict=True):
        found = decoder.decode_stream(*arguments)
        assert flat(found) == symbols.tolist()
        assert other.decode_stream(indexes.tolist(), *lists(tables)) == symbols.tolist()
    decoder.finish()
    tables, symbols, indexes = pieces[0]
    assert ans.RansDecoder().decode_with_indexes(stream, indexes.tolist(), *lists(tables)) == symbols.tolist()
    if len(symbols) >= 4:
        arguments = (symbols.tolist(), indexes.tolist(), *lists(tables))
        assert ans.RansEncoder().encode_with_indexes(*arguments) == theirs.RansEncoder().encode_with_indexes(*arguments)


@SETTINGS
@given(strategies.with_indexes(strategies.compressai_tables()), st.data())
def test_damaged_streams_give_symbols_or_words(case, data):
    tables, symbols, indexes = case
    stream = ans.RansEncoder().encode_with_indexes(symbols.clip(-(2**30), 2**30), indexes, *lists(tables))
    decoder = ans.RansDecoder()
    try:
        decoder.set_stream(data.draw(strategies.damaged(stream)))
        assert len(decoder.decode_stream(indexes.tolist(), *lists(tables))) == len(symbols)
    except CorruptStreamError:
        pass


TABLES = ([[0, 30000, 60000, 65536], [0, 1, 65536, 0]], [4, 3], [-1, 0])


def test_answers_are_of_the_kind_of_the_indexes():
    symbols = np.array([[0, 1, -1], [7, 0, -900]], np.int32)
    indexes = np.array([[0, 0, 0], [1, 1, 1]], np.uint8)
    stream = ans.RansEncoder().encode_with_indexes(symbols, indexes, *TABLES)
    decode = ans.RansDecoder().decode_with_indexes
    as_list = decode(stream, indexes.reshape(-1).tolist(), *TABLES)
    assert type(as_list) is list and type(as_list[0]) is int and as_list == flat(symbols)
    as_array = decode(stream, indexes, *TABLES)
    assert as_array.dtype == np.int32 and np.array_equal(as_array, symbols)
    as_tensor = decode(stream, torch.from_numpy(indexes), *TABLES)
    assert as_tensor.dtype == torch.int32 and torch.equal(as_tensor, torch.from_numpy(symbols))


def test_tables_are_known_by_content_and_changed_lists_are_noticed():
    rows = [list(row) for row in TABLES[0]]
    first = ans.tables_of(rows, *TABLES[1:])
    assert ans.tables_of([list(row) for row in TABLES[0]], *TABLES[1:]) is first
    assert ans.tables_of(np.array(TABLES[0]), np.array(TABLES[1]), torch.tensor(TABLES[2])) is first
    rows[0][1] = 29999
    changed = ans.tables_of(rows, *TABLES[1:])
    assert changed is not first and changed.quantized_cdf[0, 1] == 29999
    rows[1][3] = 5  # behind the row's end: of no meaning
    assert ans.tables_of(rows, *TABLES[1:]) is changed
    assert ans.tables_of(TABLES[0], TABLES[1], [-2, 0]) is not first
    for k in range(20):
        ans.tables_of([[0, k + 1, 65536]], [3], [0])
    assert len(ans._known) <= 8


def test_a_row_for_every_symbol_is_converted_in_pieces(theirs):
    rng = np.random.default_rng(1)
    count = 20_000
    cdf = np.zeros((count, 5), np.int32)
    cdf[:, 1:4] = np.sort(rng.permuted(np.tile(np.arange(1, 60), (count, 1)), axis=1)[:, :3] * 1000, axis=1)
    cdf[:, 4] = 65536
    symbols, indexes = rng.integers(-1, 6, count), rng.permutation(count)
    tables = (cdf.tolist(), [5] * count, [0] * count)
    stream = theirs.RansEncoder().encode_with_indexes(symbols.tolist(), indexes.tolist(), *tables)
    assert ans.RansEncoder().encode_with_indexes(symbols, indexes, *tables) == stream
    assert np.array_equal(ans.RansDecoder().decode_with_indexes(stream, indexes, *tables), symbols)


def test_what_was_given_may_be_changed_before_flush():
    symbols, indexes = np.array([0, 1, -1], np.int32), np.array([0, 0, 0], np.uint8)
    encoder = ans.BufferedRansEncoder()
    encoder.encode_with_indexes(symbols, indexes, *TABLES)
    symbols[:], indexes[:] = 5, 1
    stream = encoder.flush()
    assert ans.RansDecoder().decode_with_indexes(stream, [0, 0, 0], *TABLES) == [0, 1, -1]
    assert encoder.flush() == ans.RansEncoder().encode_with_indexes([], [], *TABLES)  # and nothing is left


CDFS, SIZES, OFFSETS = TABLES
REFUSED = {
    "counts": (([0, 1], [0], *TABLES), ValueError, "one length, got 2 and 1"),
    "an index of no row": (([0], [2], *TABLES), ValueError, r"indexes must lie in 0\.\.1"),
    "a negative index": (([0], [-1], *TABLES), ValueError, r"indexes must lie in 0\.\.1"),
    "a symbol beyond int32": (([2**31], [0], *TABLES), ValueError, "symbols must fit int32"),
    "an array beyond int32": ((np.array([2**40]), [0], *TABLES), ValueError, "symbols must fit int32"),
    "floats": (([0.5], [0], *TABLES), TypeError, "symbols must be integers"),
    "float tensors": ((torch.zeros(1), [0], *TABLES), TypeError, "must be integers"),
    "float indexes": (([0], [0.0], *TABLES), TypeError, "indexes must be integers"),
    "no rows": (([], [], [], [], []), ValueError, "must have a row each"),
    "rows and sizes": (([0], [0], CDFS, [4], OFFSETS), ValueError, "a row each"),
    "rows and offsets": (([0], [0], CDFS, SIZES, [0]), ValueError, "a row each"),
    "a size beyond its row": (([0], [0], CDFS, [4, 9], OFFSETS), ValueError, r"row 1 of cdfs: its size 9"),
    "a size of no slots": (([0], [0], CDFS, [4, 2], OFFSETS), ValueError, r"row 1 of cdfs: its size 2"),
    "a size that is none": (([0], [0], CDFS, [4, None], OFFSETS), TypeError, "cdfs_sizes must be integers"),
    "a row that falls": (([0], [0], [[0, 5, 4, 65536]], [4], [0]), ValueError, "frequency below 1"),
    "a row that ends early": (([0], [0], [[0, 5, 6, 65535]], [4], [0]), ValueError, "from 0 to 65536"),
    "words in a row": (([0], [0], [[0, "5", 65536]], [3], [0]), TypeError, "cdfs must be integers"),
    "one dimension": (([0], [0], np.array([0, 5, 65536]), [3], [0]), ValueError, r"\[rows, columns\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_crashes_compressais_coder_is_refused_in_words(name):
    arguments, error, words = REFUSED[name]
    encoder = ans.BufferedRansEncoder()
    with pytest.raises(error, match=words):
        encoder.encode_with_indexes(*arguments)
    assert len(encoder.flush()) == 8  # and nothing of it was kept


def test_streams_of_a_wrong_length_and_none_at_all_are_refused_in_words():
    decoder = ans.RansDecoder()
    with pytest.raises(ValueError, match="call that first"):
        decoder.decode_stream([0], *TABLES)
    for data in (b"", bytes(7), bytes(9), bytes(8)):
        with pytest.raises(CorruptStreamError):
            decoder.set_stream(data)
    with pytest.raises(TypeError, match="a stream must be bytes, got str"):
        decoder.set_stream("text")
    stream = ans.RansEncoder().encode_with_indexes([9] * 50, [0] * 50, *TABLES)
    decoder.set_stream(stream)
    with pytest.raises(CorruptStreamError):
        decoder.decode_stream([0] * 5000, *TABLES)
    decoder.set_stream(bytearray(stream))
    assert decoder.decode_stream([0] * 20, *TABLES) == [9] * 20  # CompressAI reads no further either
    with pytest.raises(CorruptStreamError):
        decoder.finish()


def test_it_needs_no_compressai(monkeypatch):
    parent = sys.modules["fastlic.integrations"]
    monkeypatch.setattr(parent, "compressai", parent.compressai)  # what the import below replaces
    for name in [name for name in sys.modules if name.startswith("fastlic.integrations.compressai")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "compressai"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "compressai", None)  # importing it is an error now
    anew = importlib.import_module("fastlic.integrations.compressai.ans")
    assert anew is not ans
    stream = anew.RansEncoder().encode_with_indexes([0, 7, -3], [0, 0, 1], *TABLES)
    assert anew.RansDecoder().decode_with_indexes(stream, [0, 0, 1], *TABLES) == [0, 7, -3]
