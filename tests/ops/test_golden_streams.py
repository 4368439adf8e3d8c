"""Native streams that may never change meaning. Run as a program, this file adds the ones that are missing.

A change of these bytes needs a new format version, a CHANGELOG entry and new files beside the old ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlic.ops.categorical import CategoricalTables, categorical_tables, decode_categorical, encode_categorical
from fastlic.ops.gaussian import decode_gaussian, encode_gaussian
from fastlic.ops.rans import rans_decode, rans_encode
from fastlic.ops.tables import CdfTables, gaussian_tables

GOLDEN = Path(__file__).parents[1] / "golden"
Case = dict[str, np.ndarray]


def make_tables(lanes: int) -> Case:
    scales = np.array([0.11, 0.4, 1.5, 6.0, 25.0, 120.0])
    tables = gaussian_tables(scales)
    rng = np.random.default_rng(lanes)
    indexes = rng.integers(0, 6, 900).astype(np.uint8)
    symbols = np.rint(rng.normal(size=900) * scales[indexes]).astype(np.int32)
    symbols[::90] = rng.integers(-(2**31), 2**31, 10)
    data = rans_encode(symbols, indexes, tables, lanes=lanes)
    return {**tables.to_arrays(), "symbols": symbols, "indexes": indexes, "data": np.frombuffer(data, np.uint8)}


def check_tables(case: Case) -> None:
    tables = CdfTables.from_arrays(case)
    for backend in ("cpp", "reference"):
        decoded = rans_decode(case["data"].tobytes(), case["indexes"], tables, backend=backend)
        assert np.array_equal(decoded, case["symbols"])
    lanes = 1 << (int(case["data"][0]) & 7)
    assert rans_encode(case["symbols"], case["indexes"], tables, lanes=lanes) == case["data"].tobytes()


def make_gaussian(lanes: int) -> Case:
    rng = np.random.default_rng(lanes)
    scale = np.exp(rng.uniform(-3, 7, 600)).astype(np.float32)
    mean = rng.uniform(-500, 500, 600).astype(np.float32)
    symbols = np.rint(rng.normal(size=600) * scale + mean).astype(np.int32)
    symbols[::60] = rng.integers(-(2**31), 2**31, 10)
    data = encode_gaussian(symbols, mean, scale, lanes=lanes)
    return {"mean": mean, "scale": scale, "symbols": symbols, "data": np.frombuffer(data, np.uint8)}


def check_gaussian(case: Case) -> None:
    for backend in ("cpp", "reference"):
        decoded = decode_gaussian(case["data"].tobytes(), case["mean"], case["scale"], backend=backend)
        assert np.array_equal(decoded, case["symbols"])
    lanes = 1 << (int(case["data"][0]) & 7)
    assert encode_gaussian(case["symbols"], case["mean"], case["scale"], lanes=lanes) == case["data"].tobytes()


def make_categorical(_: int) -> Case:
    rng = np.random.default_rng(3)
    tables = categorical_tables([rng.random(500) ** 4, rng.random(7)])
    indexes = rng.integers(0, 2, 400).astype(np.uint8)
    symbols = rng.integers(0, np.array([500, 7])[indexes]).astype(np.int32)
    data = encode_categorical(symbols, indexes, tables)
    return {**tables.to_arrays(), "symbols": symbols, "indexes": indexes, "data": np.frombuffer(data, np.uint8)}


def check_categorical(case: Case) -> None:
    tables = CategoricalTables.from_arrays(case)
    assert np.array_equal(decode_categorical(case["data"].tobytes(), case["indexes"], tables), case["symbols"])
    assert encode_categorical(case["symbols"], case["indexes"], tables) == case["data"].tobytes()


KINDS: dict[str, tuple[Callable[[int], Case], Callable[[Case], None], tuple[int, ...]]] = {
    "tables": (make_tables, check_tables, (1, 16, 64)),
    "gaussian": (make_gaussian, check_gaussian, (1, 16, 64)),
    "categorical": (make_categorical, check_categorical, (1,)),
}
FILES = [f"stream_v1_{kind}_{lanes}.npz" for kind, (_, _, lane_counts) in KINDS.items() for lanes in lane_counts]


@pytest.mark.golden
@pytest.mark.parametrize("name", FILES)
def test_golden_stream_decodes_and_encodes_to_the_same_bytes(name, isa):
    case: dict[str, Any] = dict(np.load(GOLDEN / name))
    KINDS[name.split("_")[2]][1](case)


if __name__ == "__main__":
    for file_name in FILES:
        if not (GOLDEN / file_name).exists():
            kind, lane_count = file_name.removesuffix(".npz").split("_")[2:]
            np.savez_compressed(GOLDEN / file_name, **KINDS[kind][0](int(lane_count)))
