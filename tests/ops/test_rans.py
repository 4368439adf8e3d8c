"""Native coder: every implementation gives the same bytes and symbols, on good and on damaged input."""

from __future__ import annotations

import numpy as np
import pytest

from fastlic import _native
from fastlic.errors import CorruptStreamError
from fastlic.ops.checksum import crc32c
from fastlic.ops.rans import RansDecoder, as_symbols, rans_decode, rans_decode_many, rans_encode, rans_encode_many
from fastlic.ops.tables import CdfTables, gaussian_tables, nearest_scale_thresholds, pmf_tables

SCALES = np.exp(np.linspace(np.log(0.11), np.log(256.0), 64))
INT32 = np.iinfo(np.int32)


@pytest.fixture(scope="module")
def tables() -> CdfTables:
    return gaussian_tables(SCALES)


def gaussian_symbols(count: int, seed: int, low: float = 0.05, high: float = 300.0):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(np.log(low), np.log(high), count))
    symbols = np.rint(rng.normal(size=count) * scale).astype(np.int32)
    return symbols, np.searchsorted(nearest_scale_thresholds(SCALES), scale).astype(np.uint8)


def with_escapes(symbols, seed: int):
    rng = np.random.default_rng(seed)
    out = symbols.copy()
    if out.size:
        at = rng.integers(0, out.size, 1 + out.size // 20)
        extremes = np.array([INT32.min, INT32.max, -128, 127, 128, -129, 32767, -32768, 65536, -1, 0])
        out[at] = rng.choice(extremes, at.size)
    return out


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 64, 333])
def test_every_implementation_writes_and_reads_the_same_bytes(tables, isa, count, lanes):
    symbols, indexes = gaussian_symbols(count, seed=count)
    symbols = with_escapes(symbols, seed=lanes)
    expected = rans_encode(symbols, indexes, tables, lanes=lanes, backend="reference")
    assert rans_encode(symbols, indexes, tables, lanes=lanes) == expected
    assert np.array_equal(rans_decode(expected, indexes, tables), symbols)
    assert np.array_equal(rans_decode(expected, indexes, tables, backend="reference"), symbols)


@pytest.mark.parametrize("precision", [10, 11, 12])
def test_lane_choice_and_long_streams_agree_with_the_reference(isa, precision):
    tables = gaussian_tables(SCALES[::8], precision)
    rng = np.random.default_rng(precision)
    indexes = rng.integers(0, 8, 9000).astype(np.uint8)
    symbols = with_escapes(np.rint(rng.normal(size=9000) * SCALES[::8][indexes]).astype(np.int32), 1)
    data = rans_encode(symbols, indexes, tables)
    assert data == rans_encode(symbols, indexes, tables, backend="reference")
    assert 1 << (data[0] & 7) == (4 if len(data) >= 8000 else 2)
    assert np.array_equal(rans_decode(data, indexes, tables), symbols)


def test_int16_buffers_code_like_int32(tables, isa):
    symbols, indexes = gaussian_symbols(5000, seed=3)
    small = symbols.astype(np.int16)
    data = rans_encode(small, indexes, tables)
    assert data == rans_encode(symbols, indexes, tables)
    assert np.array_equal(rans_decode(data, indexes, tables, dtype=np.int16), small)


def test_decoding_in_pieces_of_any_size_equals_decoding_at_once(tables, isa):
    symbols, indexes = gaussian_symbols(6000, seed=4)
    for lanes in (1, 8, 64):
        data = rans_encode(symbols, indexes, tables, lanes=lanes)
        rng = np.random.default_rng(lanes)
        decoder, position, pieces = RansDecoder(data, tables), 0, []
        while position < symbols.size:
            step = int(rng.choice([0, 1, 7, 63, 64, 192, 500]))
            pieces.append(decoder.decode(indexes[position : position + step]))
            position += step
        decoder.finish()
        assert np.array_equal(np.concatenate(pieces), symbols)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_batches_on_threads_equal_single_streams(tables, threads, dtype):
    items = [gaussian_symbols(count, seed=count) for count in (0, 1, 700, 64, 5000, 3)]
    symbols = [item[0].astype(dtype) for item in items]
    indexes = [item[1] for item in items]
    streams = rans_encode_many(symbols, indexes, tables, threads=threads)
    assert streams == [rans_encode(s, i, tables) for s, i in zip(symbols, indexes, strict=True)]
    decoded = rans_decode_many(streams, indexes, tables, dtype=dtype, threads=threads)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, symbols, strict=True))
    damaged = [*streams[:-1], streams[-1] + b"x"]
    with pytest.raises(CorruptStreamError):
        rans_decode_many(damaged, indexes, tables, threads=threads)


def test_crc32c_known_answers():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"6789", crc32c(b"12345")) == crc32c(b"123456789")


def test_crc32c_of_long_data_is_that_of_its_pieces():
    data = np.random.RandomState(4).randint(0, 256, 700_001).astype(np.uint8)
    for start, end in ((0, 700_001), (3, 196_608 + 3), (1, 196_607), (5, 13_000), (7, 7 + 768), (0, 767)):
        crc = 0
        for place in range(start, end, 601):  # too short for blocks that are summed side by side
            crc = crc32c(data[place : min(place + 601, end)], crc)
        assert crc32c(data[start:end]) == crc


def test_truncated_stream_is_reported_not_decoded(tables, isa):
    symbols, indexes = gaussian_symbols(700, seed=5)
    for lanes in (1, 16):
        data = rans_encode(symbols, indexes, tables, lanes=lanes)
        for cut in range(len(data)):
            with pytest.raises(CorruptStreamError):
                rans_decode(data[:cut], indexes, tables)


def test_extra_bytes_are_reported(tables, isa):
    symbols, indexes = gaussian_symbols(500, seed=6)
    data = rans_encode(symbols, indexes, tables)
    for extra in (b"\0", b"\1", b"\xff\xff", bytes(200)):
        with pytest.raises(CorruptStreamError):
            rans_decode(data + extra, indexes, tables)


def outcome(data, indexes, tables, backend="cpp"):
    try:
        return rans_decode(data, indexes, tables, backend=backend).tobytes()
    except CorruptStreamError:
        return "corrupt"


@pytest.mark.fuzz
def test_damaged_streams_end_the_same_way_everywhere_and_mostly_in_an_error(tables):
    symbols, indexes = gaussian_symbols(400, seed=7, high=8.0)
    symbols[::100] = 1 << 20
    levels = _native.supported_isas()
    before, silent, flips = _native.get_isa(), 0, 0
    for lanes in (1, 8, 16):
        data = rans_encode(symbols, indexes, tables, lanes=lanes)
        rng = np.random.default_rng(lanes)
        for bit in rng.permutation(8 * len(data))[:60]:
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            results = [outcome(bytes(damaged), indexes, tables, "reference")]
            for level in levels:
                _native.set_isa(level)
                results.append(outcome(bytes(damaged), indexes, tables))
            assert all(result == results[0] for result in results)
            silent += results[0] != "corrupt"
            flips += 1
    _native.set_isa(before)
    # A flip inside raw bits or an escape's low bits changes one symbol and nothing else: the container's CRC sees it.
    assert silent < flips / 4


def test_random_bytes_are_what_the_reference_makes_of_them(tables, isa):
    rng = np.random.default_rng(9)
    _, indexes = gaussian_symbols(300, seed=9)
    for size in (1, 5, 6, 70, 300, 2000):
        for _ in range(10):
            data = rng.integers(0, 256, size, dtype=np.uint8)
            data[0] &= 0x0E
            assert outcome(data.tobytes(), indexes, tables) == outcome(data.tobytes(), indexes, tables, "reference")


def test_wrong_arguments_are_refused_in_words(tables):
    with pytest.raises(ValueError, match=r"one shape, got \(3,\) and \(4,\)"):
        rans_encode(np.zeros(3, np.int32), np.zeros(4, np.uint8), tables)
    with pytest.raises(TypeError, match="integers"):
        rans_encode(np.zeros(3), np.zeros(3, np.uint8), tables)
    with pytest.raises(ValueError, match=r"indexes must lie in 0\.\.63, got -2\.\.64"):
        rans_encode(np.zeros(3, np.int32), [-2, 0, 64], tables)
    for indexes in ([-1, 0], [0, 64]):
        with pytest.raises(ValueError, match="indexes must lie in"):
            rans_encode([0, 0], indexes, tables)
    for lanes in (3, 128):
        with pytest.raises(ValueError, match=f"lanes must be 0 or a power of two up to 64, got {lanes}"):
            rans_encode(np.zeros(3, np.int32), np.zeros(3, np.uint8), tables, lanes=lanes)
        with pytest.raises(ValueError, match=f"lanes must be 0 or a power of two up to 64, got {lanes}"):
            rans_encode(np.zeros(3, np.int32), np.zeros(3, np.uint8), tables, lanes=lanes, backend="reference")
    for beyond in (INT32.max + 1, INT32.min - 1):
        with pytest.raises(ValueError, match="symbols must fit int32"):
            rans_encode(np.array([beyond, 0]), np.zeros(2, np.uint8), tables)
    data = rans_encode([1, 2], [0, 0], tables)
    with pytest.raises(ValueError, match="dtype must be int16 or int32, got int64"):
        rans_decode(data, [0, 0], tables, dtype=np.int64)
    with pytest.raises(ValueError, match="same shapes, item by item"):
        rans_encode_many([[1, 2]], [[0]], tables)
    with pytest.raises(ValueError, match="data and indexes differ in length: 1 and 2"):
        rans_decode_many([data], [[0, 0], [0, 0]], tables)
    with pytest.raises(TypeError, match="out must be ndarray, got list"):
        RansDecoder(data, tables).decode([0, 0], out=[0, 0])
    for out in (np.zeros(2), np.zeros(4, np.int32)[::2], np.zeros(3, np.int32), np.zeros((2, 1), np.int16)):
        with pytest.raises(ValueError, match="out must be contiguous int16 or int32"):
            RansDecoder(data, tables).decode([0, 0], out=out)
    out = np.zeros(2, np.int16)
    assert RansDecoder(data, tables).decode([0, 0], out=out) is out and out.tolist() == [1, 2]


def test_symbols_of_any_integer_type_are_taken_and_those_of_the_core_are_not_copied(tables):
    for dtype in (np.int16, np.int32):
        array = np.arange(5, dtype=dtype)
        assert np.shares_memory(as_symbols(array), array) and as_symbols(array).dtype == dtype
    for dtype, wanted in ((np.int8, np.int16), (np.uint8, np.int16), (np.int64, np.int32), (np.uint32, np.int32)):
        assert as_symbols(np.arange(5, dtype=dtype)).dtype == wanted
    extremes = np.array([INT32.min, INT32.max])
    assert as_symbols(extremes).tolist() == extremes.tolist()
    assert as_symbols(np.zeros(0, np.int64)).dtype == np.int32


def test_batches_may_mix_types_and_choose_lanes_by_size(tables):
    symbols, indexes = gaussian_symbols(60000, seed=1, high=20.0)
    items = [symbols, symbols[:50].astype(np.int16), symbols[:7].astype(np.int64)]
    rows = [indexes[: len(item)] for item in items]
    streams = rans_encode_many(items, rows, tables)
    assert streams == [rans_encode(s, i, tables) for s, i in zip(items, rows, strict=True)]
    assert streams[0][0] & 7, "more than one lane"
    assert all(np.array_equal(a, b) for a, b in zip(rans_decode_many(streams, rows, tables), items, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cdf": [0, 5, 5, 4096]}, "frequency below 1"),
        ({"cdf": [1, 5, 9, 4096]}, "must run from 0"),
        ({"cdf": [0, 5, 9, 4095]}, "must run from 0"),
        ({"lengths": [2]}, "length must be"),
        ({"lengths": [5]}, "ends inside"),
        ({"lengths": [3]}, "must run from 0|its rows use"),
        ({"shifts": [17]}, "shift"),
        ({"offsets": [-(2**31)]}, "offset"),
        ({"precision": 16}, "precision"),
        ({"offsets": [0, 0]}, "1 to 256 rows"),
    ],
)
def test_bad_tables_are_refused(change, message):
    good = {"cdf": [0, 5, 9, 4096], "lengths": [4], "offsets": [-1], "shifts": [0], "precision": 12}
    CdfTables(**good)
    with pytest.raises(ValueError, match=message):
        CdfTables(**(good | change))


def test_tables_survive_storage(tables):
    again = CdfTables.from_arrays(tables.to_arrays())
    assert again == tables
    assert again != gaussian_tables(SCALES[:5])
    with pytest.raises(ValueError, match="lack"):
        CdfTables.from_arrays({})


def test_tables_far_from_zero_and_wide_ones_work(isa):
    wide = np.full(3000, 1 / 3000)
    tables = pmf_tables([wide, [0.5, 0.25, 0.25], [0.2] * 5], [-(2**20), 1000, -130])
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, 3, 3000).astype(np.uint8)
    first, span = np.array([-(2**20), 1000, -130]), np.array([3000, 3, 5])
    symbols = (first[indexes] + rng.integers(0, span[indexes])).astype(np.int32)
    data = rans_encode(symbols, indexes, tables)
    assert data == rans_encode(symbols, indexes, tables, backend="reference")
    assert np.array_equal(rans_decode(data, indexes, tables), symbols)
    assert np.array_equal(rans_decode(data, indexes, tables, backend="reference"), symbols)
