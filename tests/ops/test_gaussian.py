"""Exact Gaussian coder: one distribution on every machine, for any mean and scale."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastlic import _native
from fastlic.errors import CorruptStreamError
from fastlic.lifelike.latents import gaussian_bits
from fastlic.ops.gaussian import decode_gaussian, encode_gaussian
from fastlic.ops.reference.gaussian import LIMIT, TOTAL, Row, upper_tail

INT32 = np.iinfo(np.int32)


def random_case(count: int, seed: int, low: float = 0.02, high: float = 2000.0):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.uniform(math.log(low), math.log(high), count)).astype(np.float32)
    mean = (rng.normal(size=count) * rng.choice([0.3, 3, 300, 1e6], count)).astype(np.float32)
    symbols = np.rint(rng.normal(size=count) * scale + mean).astype(np.int32)
    return symbols, mean, scale


def test_phi_is_the_normal_distribution_and_monotone():
    table = _native.tail_table().astype(np.int64)
    assert table.tolist() == [upper_tail(a) for a in range(LIMIT + 1)]
    assert (np.diff(table) <= 0).all()
    exact = [65536 * 0.5 * math.erfc(a / 512 / math.sqrt(2)) for a in range(LIMIT + 1)]
    assert np.abs(table - exact).max() < 0.83


def test_every_point_of_phi_is_the_same_on_every_instruction_set(isa):
    # Scale 2 makes the grid step of an edge one; means in steps of 1/256 then visit every point of the grid.
    mean = (np.arange(-LIMIT, LIMIT + 1) / 256).astype(np.float32)
    scale = np.full(mean.size, 2, np.float32)
    symbols = np.zeros(mean.size, np.int32)
    data = encode_gaussian(symbols, mean, scale, lanes=16)
    assert data == encode_gaussian(symbols, mean, scale, lanes=16, backend="reference")


@pytest.mark.parametrize("mean", [0.0, 0.5, -0.5, 0.4999, -3.3, 1000.25, -(2.0**23), 2.0**23, 1e30])
def test_every_row_of_frequencies_rises_by_at_least_one(mean):
    # All scale levels: six mantissa bits in each octave from 1/32 to 65536.
    for level in range((127 - 5) << 6, (127 + 16 << 6) + 1):
        scale = np.int32(level << 17).view(np.float32)
        row = Row.of(np.float32(mean), scale)
        edges = [row.cdf(u) for u in range(-row.half, row.half + 2)]
        assert edges[0] == 0
        assert edges[-1] == TOTAL - 1
        assert (np.diff(edges) >= 1).all()


@pytest.mark.parametrize("lanes", [0, 1, 8, 16, 64])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 300])
def test_every_implementation_writes_and_reads_the_same_bytes(isa, count, lanes):
    symbols, mean, scale = random_case(count, seed=count)
    symbols[::17] = np.resize([INT32.min, INT32.max, 0, -1, 1 << 24], symbols[::17].size)
    data = encode_gaussian(symbols, mean, scale, lanes=lanes)
    assert data == encode_gaussian(symbols, mean, scale, lanes=lanes, backend="reference")
    assert np.array_equal(decode_gaussian(data, mean, scale), symbols)
    assert np.array_equal(decode_gaussian(data, mean, scale, backend="reference"), symbols)


def test_long_streams_round_trip_and_all_instruction_sets_agree(isa):
    symbols, mean, scale = random_case(60_000, seed=1)
    data = encode_gaussian(symbols, mean, scale)
    assert np.array_equal(decode_gaussian(data, mean, scale), symbols)
    before = _native.get_isa()
    _native.set_isa("scalar")
    assert encode_gaussian(symbols, mean, scale) == data
    _native.set_isa(before)


def test_lane_choice_agrees_with_the_reference():
    symbols, mean, scale = random_case(5000, seed=6)
    assert encode_gaussian(symbols, mean, scale) == encode_gaussian(symbols, mean, scale, backend="reference")


def test_an_escape_without_a_side_stream_is_an_error_not_a_fault(isa):
    # State 2^15 + 2^14 - 1: the first symbol is an escape, and the header denies that there is a side stream.
    data = bytes([0x10]) + (2**15 + 2**14 - 1).to_bytes(4, "little") + bytes(4)
    with pytest.raises(CorruptStreamError, match="exhausted"):
        decode_gaussian(data, np.zeros(1), np.ones(1))


def test_extreme_parameters_survive(isa):
    mean = np.array([0, 3e38, -3e38, 1e-40, 2.0**23 + 1, 0.5, -0.5] * 12, np.float32)
    scale = np.array([1e-30, 1e-40, 3e38, 1, 65536, 0.03, 1e9] * 12, np.float32)
    symbols = np.resize(np.array([0, INT32.max, INT32.min, 5, 8388608], np.int32), mean.size)
    data = encode_gaussian(symbols, mean, scale, lanes=16)
    assert data == encode_gaussian(symbols, mean, scale, lanes=16, backend="reference")
    assert np.array_equal(decode_gaussian(data, mean, scale), symbols)


@pytest.mark.parametrize(("low", "high", "bound"), [(0.11, 2.0, 0.004), (2.0, 20.0, 0.004), (20.0, 200.0, 0.004)])
def test_rate_is_close_to_the_information_in_the_symbols(low, high, bound):
    rng = np.random.default_rng(2)
    scale = np.exp(rng.uniform(math.log(low), math.log(high), 200_000)).astype(np.float32)
    mean = rng.uniform(-4, 4, scale.size).astype(np.float32)
    symbols = np.rint(rng.normal(size=scale.size) * scale + mean).astype(np.int32)
    bits = 8 * len(encode_gaussian(symbols, mean, scale, lanes=1))
    assert bits / gaussian_bits(symbols, mean.astype(np.float64), scale.astype(np.float64)) < 1 + bound


def test_shapes_broadcast_and_torch_tensors_pass():
    torch = pytest.importorskip("torch")
    symbols = torch.randint(-3, 4, (2, 3, 4))
    data = encode_gaussian(symbols, 0.25, torch.tensor(1.5))
    decoded = decode_gaussian(data, torch.full((2, 3, 4), 0.25), torch.full((2, 3, 4), 1.5))
    assert np.array_equal(decoded, symbols.numpy())


def test_truncated_stream_is_reported_not_decoded(isa):
    symbols, mean, scale = random_case(400, seed=3)
    data = encode_gaussian(symbols, mean, scale, lanes=16)
    for cut in range(0, len(data), 3):
        with pytest.raises(CorruptStreamError):
            decode_gaussian(data[:cut], mean, scale)
    with pytest.raises(CorruptStreamError):
        decode_gaussian(data + b"\1", mean, scale)


@pytest.mark.fuzz
def test_damaged_streams_end_the_same_way_everywhere(isa):
    symbols, mean, scale = random_case(200, seed=4, high=20.0)
    data = encode_gaussian(symbols, mean, scale, lanes=16)

    def outcome(damaged: bytes, backend: str):
        try:
            return decode_gaussian(damaged, mean, scale, backend=backend).tobytes()
        except CorruptStreamError:
            return "corrupt"

    for bit in np.random.default_rng(5).permutation(8 * len(data))[:40]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert outcome(bytes(damaged), "cpp") == outcome(bytes(damaged), "reference")


def test_wrong_arguments_are_refused_in_words():
    with pytest.raises(ValueError, match="positive"):
        encode_gaussian(np.zeros(2, np.int32), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        encode_gaussian(np.zeros(2, np.int32), np.full(2, np.nan), np.ones(2))
    with pytest.raises(TypeError, match="real"):
        decode_gaussian(b"", np.zeros(2, complex), np.ones(2))
    with pytest.raises(TypeError, match="integers"):
        encode_gaussian(np.zeros(2), np.zeros(2), np.ones(2))
