"""CompressAI's coder: the same bytes as the real one, in both directions, and errors where it crashes.

Run as a program, this file writes the golden streams anew with the installed CompressAI (they were made with 1.2.8).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastlic.bench.peers import compressai_ans
from fastlic.errors import CorruptStreamError
from fastlic.ops.compressai_rans import (
    CompressAiDecoder,
    CompressAiEncoder,
    CompressAiTables,
    decode_many_with_indexes,
    decode_with_indexes,
    encode_many_with_indexes,
    encode_with_indexes,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "compressai_rans.npz"
INT32 = np.iinfo(np.int32)


def random_tables(rng: np.random.Generator, rows: int = 12, widest: int = 60):
    """(quantized_cdf, lengths, offsets) with rows from one slot and escape to `widest`, skewed and flat."""
    lengths = rng.integers(3, widest + 3, rows).astype(np.int32)
    lengths[0] = 3
    cdf = np.zeros((rows, int(lengths.max())), dtype=np.int32)
    for row, length in enumerate(lengths):
        cuts = rng.choice(np.arange(1, 65536), size=length - 2, replace=False)
        if row % 2:  # skewed: nearly all mass in one slot, frequencies of 1 elsewhere
            cuts = np.concatenate([np.arange(1, (length - 2) // 2 + 1), 65536 - np.arange(1, length - 1)])[: length - 2]
        cdf[row, 1 : length - 1] = np.sort(cuts)
        cdf[row, length - 1] = 65536
    offsets = -rng.integers(0, widest, rows).astype(np.int32)
    return cdf, lengths, offsets


def random_symbols(rng: np.random.Generator, tables, count: int, escapes: float = 0.02, reach: int = 1 << 20):
    cdf, lengths, offsets = tables
    indexes = rng.integers(0, len(lengths), count).astype(np.int32)
    codes = rng.integers(0, 65536, count)
    slots = np.array(
        [np.searchsorted(cdf[i, : lengths[i]], c, side="right") - 1 for i, c in zip(indexes, codes, strict=True)]
    )
    symbols = (slots + offsets[indexes]).astype(np.int32)
    wild = rng.random(count) < escapes
    symbols[wild] = (rng.integers(-reach, reach, count) >> rng.integers(0, 20, count))[wild]
    return symbols, indexes


@pytest.fixture(scope="module")
def ans():
    module = compressai_ans()
    if module is None:
        pytest.skip("compressai is not installed")
    return module


@pytest.mark.parametrize("seed", range(25))
def test_bytes_equal_those_of_the_real_coder_in_both_directions(ans, seed):
    rng = np.random.default_rng(seed)
    raw = random_tables(rng, rows=int(rng.integers(1, 20)), widest=int(rng.integers(1, 300)))
    count = int(rng.integers(2, 3000))
    symbols, indexes = random_symbols(rng, raw, count, escapes=float(rng.random()) * 0.3)
    lists = (indexes.tolist(), raw[0].tolist(), raw[1].tolist(), raw[2].tolist())
    theirs = ans.RansEncoder().encode_with_indexes(symbols.tolist(), *lists)

    tables = CompressAiTables(*raw)
    assert encode_with_indexes(symbols, indexes, tables) == theirs
    assert encode_with_indexes(symbols, indexes, tables, backend="reference") == theirs
    assert np.array_equal(decode_with_indexes(theirs, indexes, tables), symbols)
    assert ans.RansDecoder().decode_with_indexes(theirs, *lists) == symbols.tolist()


@pytest.mark.golden
def test_golden_streams_of_the_real_coder_still_decode_and_encode():
    golden = np.load(GOLDEN)
    for case in range(int(golden["cases"])):
        tables = CompressAiTables(*(golden[f"{name}{case}"] for name in ("cdf", "lengths", "offsets")))
        symbols, indexes, data = (golden[f"{name}{case}"] for name in ("symbols", "indexes", "data"))
        for backend in ("cpp", "reference"):
            assert encode_with_indexes(symbols, indexes, tables, backend=backend) == data.tobytes()
            assert np.array_equal(decode_with_indexes(data.tobytes(), indexes, tables, backend=backend), symbols)


@pytest.fixture(scope="module")
def tables():
    return CompressAiTables(*random_tables(np.random.default_rng(1)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_count_and_any_int32_survive(tables, count, dtype):
    rng = np.random.default_rng(count)
    symbols, indexes = random_symbols(rng, (tables.quantized_cdf, tables.lengths, tables.offsets), count)
    symbols[::3] = rng.choice([INT32.min, INT32.max, -(1 << 28), 1 << 28, 0], symbols[::3].size)
    data = encode_with_indexes(symbols, indexes.astype(dtype), tables)
    assert data == encode_with_indexes(symbols, indexes, tables, backend="reference")
    assert np.array_equal(decode_with_indexes(data, indexes.astype(dtype), tables), symbols)
    assert np.array_equal(decode_with_indexes(data, indexes, tables, backend="reference"), symbols)


def test_decoding_in_pieces_equals_decoding_at_once(tables):
    symbols, indexes = random_symbols(
        np.random.default_rng(2), (tables.quantized_cdf, tables.lengths, tables.offsets), 900
    )
    data = encode_with_indexes(symbols, indexes, tables)
    decoder = CompressAiDecoder(data, tables)
    pieces = [decoder.decode(part) for part in np.split(indexes, [1, 1, 200, 899])]
    decoder.finish()
    assert np.array_equal(np.concatenate(pieces), symbols)


def test_pieces_with_tables_of_their_own_make_one_stream_of_the_real_coder(ans):
    rng = np.random.default_rng(7)
    raws = [random_tables(rng, rows=rows) for rows in (3, 9, 3)]
    pieces = [(*random_symbols(rng, raw, count), raw) for raw, count in zip(raws, (40, 0, 700), strict=True)]
    theirs = ans.BufferedRansEncoder()
    for symbols, indexes, raw in pieces:
        theirs.encode_with_indexes(symbols.tolist(), indexes.tolist(), *(part.tolist() for part in raw))
    data = theirs.flush()
    for backend in ("cpp", "reference"):
        encoder = CompressAiEncoder(backend=backend)
        for symbols, indexes, raw in reversed(pieces):
            encoder.put(symbols, indexes, CompressAiTables(*raw))
        assert encoder.finish() == data
        decoder = CompressAiDecoder(data, CompressAiTables(*raws[0]), backend=backend)
        for symbols, indexes, raw in pieces:
            assert np.array_equal(decoder.decode(indexes, CompressAiTables(*raw)), symbols)
        decoder.finish()


def test_a_refused_piece_is_not_put(tables):
    encoder = CompressAiEncoder()
    for bad in (np.array([0, 99], np.uint8), np.array([0, -1], np.int32), np.array([0], np.uint8)):
        with pytest.raises(ValueError, match="indexes"):
            encoder.put(np.zeros(2, np.int32), bad, tables)
    assert encoder.finish() == encode_with_indexes([], [], tables)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [0, 1, 3, 4, 9])
def test_batches_equal_single_streams(tables, batch, threads):
    raw = (tables.quantized_cdf, tables.lengths, tables.offsets)
    items = [random_symbols(np.random.default_rng(i), raw, 240) for i in range(batch)]
    symbols = np.array([item[0] for item in items], np.int32).reshape(batch, 4, 60)
    indexes = np.array([item[1] for item in items], np.int32).reshape(batch, 4, 60)
    streams = encode_many_with_indexes(symbols, indexes, tables, threads=threads)
    assert streams == [encode_with_indexes(s, i, tables) for s, i in zip(symbols, indexes, strict=True)]
    assert np.array_equal(decode_many_with_indexes(streams, indexes, tables, threads=threads), symbols)


def test_truncated_and_extended_streams_are_reported(tables):
    symbols, indexes = random_symbols(
        np.random.default_rng(3), (tables.quantized_cdf, tables.lengths, tables.offsets), 100
    )
    data = encode_with_indexes(symbols, indexes, tables)
    for cut in range(len(data)):
        with pytest.raises(CorruptStreamError):
            decode_with_indexes(data[:cut], indexes, tables)
    with pytest.raises(CorruptStreamError):
        decode_with_indexes(data + bytes(4), indexes, tables)
    assert np.array_equal(decode_with_indexes(data + bytes(4), indexes, tables, strict=False), symbols)


@pytest.mark.fuzz
def test_damaged_streams_end_like_the_reference(tables):
    rng = np.random.default_rng(4)
    raw = (tables.quantized_cdf, tables.lengths, tables.offsets)
    symbols, indexes = random_symbols(rng, raw, 150)
    data = encode_with_indexes(symbols, indexes, tables)

    def outcome(damaged: bytes, backend: str):
        try:
            return decode_with_indexes(damaged, indexes, tables, backend=backend).tobytes()
        except CorruptStreamError:
            return "corrupt"

    for bit in rng.permutation(8 * len(data))[:150]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert outcome(bytes(damaged), "cpp") == outcome(bytes(damaged), "reference")
    for size in (8, 12, 400):
        noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        assert outcome(noise, "cpp") == outcome(noise, "reference")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantized_cdf": [[0, 5, 5, 65536]]}, "frequency below 1"),
        ({"quantized_cdf": [[0, 5, 9, 65535]]}, "0 to 65536"),
        ({"lengths": [2]}, "length"),
        ({"lengths": [5]}, "length"),
        ({"offsets": [-(2**31)]}, "offset"),
        ({"offsets": [0, 0]}, "offsets"),
        ({"quantized_cdf": [0, 5, 9, 65536]}, "quantized_cdf must be 2-D"),
        ({"quantized_cdf": [[0, 5, 9, 65536 + (1 << 32)]]}, "quantized_cdf must be integers within int32"),
        ({"lengths": [4 + (1 << 32)]}, "lengths must be integers within int32"),
        ({"offsets": [(1 << 32) - 1]}, r"offsets must be integers within int32, got 4294967295\.\."),
    ],
)
def test_bad_tables_are_refused(change, message):
    good = {"quantized_cdf": [[0, 5, 9, 65536]], "lengths": [4], "offsets": [-1]}
    CompressAiTables(**good)
    with pytest.raises(ValueError, match=message):
        CompressAiTables(**(good | change))


def test_indexes_outside_the_tables_are_refused(tables):
    data = encode_with_indexes(np.zeros(2, np.int32), np.zeros(2, np.uint8), tables)
    for bad in (-1, tables.rows, 10**6):
        with pytest.raises(ValueError, match="tables have"):
            encode_with_indexes(np.zeros(2, np.int32), np.array([0, bad], np.int32), tables)
        with pytest.raises(ValueError, match="lie in"):
            decode_with_indexes(data, np.array([0, bad], np.int64), tables)


def make_golden() -> None:
    ans = compressai_ans()
    if ans is None:
        raise SystemExit("compressai is not installed")
    arrays: dict[str, np.ndarray] = {}
    cases = [(2, 0.0), (3, 1.0), (500, 0.0), (500, 0.05), (2000, 0.3)]
    for case, (count, escapes) in enumerate(cases):
        rng = np.random.default_rng(100 + case)
        cdf, lengths, offsets = raw = random_tables(rng, rows=8, widest=40)
        symbols, indexes = random_symbols(rng, raw, count, escapes)
        lists = (indexes.tolist(), cdf.tolist(), lengths.tolist(), offsets.tolist())
        data = ans.RansEncoder().encode_with_indexes(symbols.tolist(), *lists)
        arrays |= {f"cdf{case}": cdf, f"lengths{case}": lengths, f"offsets{case}": offsets}
        arrays |= {f"symbols{case}": symbols, f"indexes{case}": indexes.astype(np.uint8)}
        arrays[f"data{case}"] = np.frombuffer(data, np.uint8)
    np.savez_compressed(GOLDEN, cases=len(cases), **arrays)


if __name__ == "__main__":
    make_golden()
