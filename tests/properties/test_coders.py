"""Coders: whatever is coded comes back, the plain twin writes the same bytes, and damage ends alike in both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
sys.path.insert(0, str(Path(__file__).parent))

import strategies
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS

from fastlic.errors import CorruptStreamError
from fastlic.ops import (
    MixtureDecoder,
    MixtureEncoder,
    RansDecoder,
    decode_categorical,
    decode_gaussian,
    decode_many_with_indexes,
    decode_with_indexes,
    encode_categorical,
    encode_gaussian,
    encode_many_with_indexes,
    encode_with_indexes,
    mixture_rows,
    rans_decode,
    rans_decode_many,
    rans_encode,
    rans_encode_many,
)
from fastlic.ops.mixture import decode_reference

LANES = st.sampled_from((0, 1, 2, 4, 8, 16, 32, 64))


def outcome(decode: Callable[[], np.ndarray]) -> Any:
    """The symbols' bytes, or that the stream was refused."""
    try:
        return decode().tobytes()
    except CorruptStreamError:
        return "corrupt"


def alike(decode: Callable[[bytes, str], np.ndarray], data: bytes) -> Any:
    """What both implementations make of a stream, which must be the same."""
    found = outcome(lambda: decode(data, "cpp"))
    assert found == outcome(lambda: decode(data, "reference"))
    return found


def round_trip(symbols: np.ndarray, encode: Callable[[Any], bytes], decode: Callable[[bytes, Any], Any], data) -> bytes:
    """The stream of both implementations, which comes back in both and, damaged, ends alike."""
    stream = encode("cpp")
    assert stream == encode("reference")
    assert alike(decode, stream) == symbols.tobytes()
    alike(decode, data.draw(strategies.damaged(stream)))
    return stream


@SETTINGS
@given(strategies.with_indexes(strategies.cdf_tables()), LANES, st.data())
def test_rans(case, lanes, data):
    tables, symbols, indexes = case
    stream = round_trip(
        symbols,
        lambda backend: rans_encode(symbols, indexes, tables, lanes=lanes, backend=backend),
        lambda stream, backend: rans_decode(stream, indexes, tables, backend=backend),
        data,
    )
    decoder, at = RansDecoder(stream, tables), data.draw(st.integers(0, symbols.size))
    parts = [decoder.decode(indexes[:at]), decoder.decode(indexes[at:])]
    decoder.finish()
    assert np.array_equal(np.concatenate(parts), symbols)


@SETTINGS
@given(strategies.with_indexes(strategies.cdf_tables()), st.integers(0, 5), st.integers(1, 3))
def test_rans_in_batches(case, items, threads):
    tables, symbols, indexes = case
    symbols = [symbols[i:] for i in range(items)]
    indexes = [indexes[i:] for i in range(items)]
    streams = rans_encode_many(symbols, indexes, tables, threads=threads)
    assert streams == [rans_encode(s, i, tables) for s, i in zip(symbols, indexes, strict=True)]
    found = rans_decode_many(streams, indexes, tables, threads=threads)
    assert all(np.array_equal(a, b) for a, b in zip(found, symbols, strict=True))


@SETTINGS
@given(strategies.gaussians(), LANES, st.data())
def test_exact_gaussians(case, lanes, data):
    symbols, means, scales = case
    round_trip(
        symbols,
        lambda backend: encode_gaussian(symbols, means, scales, lanes=lanes, backend=backend),
        lambda stream, backend: decode_gaussian(stream, means, scales, backend=backend),
        data,
    )


@SETTINGS
@given(strategies.categories(), st.data())
def test_categories(case, data):
    tables, symbols, indexes = case
    round_trip(
        symbols,
        lambda backend: encode_categorical(symbols, indexes, tables, backend=backend),
        lambda stream, backend: decode_categorical(stream, indexes, tables, backend=backend),
        data,
    )


@SETTINGS
@given(strategies.with_indexes(strategies.compressai_tables()), st.data())
def test_compressais_coder(case, data):
    tables, symbols, indexes = case
    symbols = np.clip(symbols, -(2**30), 2**30)  # its escapes hold differences to the window in 31 bits
    stream = round_trip(
        symbols,
        lambda backend: encode_with_indexes(symbols, indexes, tables, backend=backend),
        lambda stream, backend: decode_with_indexes(stream, indexes, tables, backend=backend),
        data,
    )
    many = encode_many_with_indexes(np.stack([symbols] * 3), np.stack([indexes] * 3), tables)
    assert many == [stream] * 3
    assert np.array_equal(decode_many_with_indexes(many, np.stack([indexes] * 3), tables), np.stack([symbols] * 3))


@SETTINGS
@given(strategies.mixtures(), st.data())
def test_mixtures(case, data):
    probabilities, symbols = case
    rows = mixture_rows(probabilities)
    assert np.array_equal(rows, mixture_rows(probabilities, "reference"))
    assert (np.diff(rows, axis=1) >= 1).all() and (rows[:, 0] == 0).all() and (rows[:, -1] == 1 << 16).all()
    encoders, at = [MixtureEncoder(backend) for backend in ("cpp", "reference")], data.draw(st.integers(0, len(rows)))
    for encoder in encoders:
        encoder.add(probabilities[:at], symbols[:at])
        encoder.add(probabilities[at:], symbols[at:])
    stream, other = (encoder.finish() for encoder in encoders)
    assert stream == other
    decoder = MixtureDecoder(stream)
    found = [decoder.decode(probabilities[:at]), decoder.decode(probabilities[at:])]
    decoder.finish()
    assert np.array_equal(np.concatenate(found), symbols)
    if len(rows):
        assert np.array_equal(decode_reference(stream, rows), symbols)
