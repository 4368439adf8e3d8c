"""Parsers: what is written comes back, a file has one spelling, and any bytes are a file or an error of ours."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
sys.path.insert(0, str(Path(__file__).parent))

import strategies
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS

from fastlic.codec import container, mcq, packing, storage
from fastlic.errors import CodecFileError, CorruptStreamError
from fastlic.ops import crc32c


@SETTINGS
@given(strategies.headers, strategies.sections, st.data())
def test_a_container_comes_back_whole_and_in_part(header, sections, data):
    packed = container.pack(header, sections)
    assert container.unpack(packed) == (header, sections)
    count = data.draw(st.integers(0, len(sections)))
    rest = packed[: len(packed) - sum(map(len, sections[count:]))]
    assert container.unpack(rest, count) == (header, sections[:count])
    info = container.look(packed)
    assert info.section_bytes == tuple(map(len, sections))
    assert info.framing_bytes + sum(info.section_bytes) == len(packed)
    assert container.peek(packed[: info.framing_bytes]) == header


@SETTINGS
@given(strategies.headers, strategies.sections, st.data())
def test_a_damaged_container_is_an_error(header, sections, data):
    packed = container.pack(header, sections)
    changed = data.draw(strategies.damaged(packed))
    if changed != packed:
        with pytest.raises(CorruptStreamError):
            container.unpack(changed)


@SETTINGS
@given(strategies.headers, st.lists(st.binary(max_size=3), min_size=1, max_size=3), st.data())
def test_a_head_whose_checksum_is_mended_is_an_error_or_the_one_spelling_of_what_it_says(header, sections, data):
    packed = container.pack(header, sections)
    framing = container.look(packed).framing_bytes
    head = data.draw(strategies.damaged(packed[: framing - 4]))
    mended = head + struct.pack("<I", crc32c(head)) + packed[framing:]
    try:
        found = container.unpack(mended)
    except CorruptStreamError:
        return
    assert container.pack(*found) == mended


@SETTINGS
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_no_container(data, begun):
    with pytest.raises(CorruptStreamError):
        container.unpack(b"FLIC" * begun + data)


@SETTINGS
@given(strategies.mcq_files())
def test_an_mcq_file_comes_back(file):
    pytest.importorskip("msgpack")
    assert mcq.parse(mcq.serialise(file)) == file


@SETTINGS
@given(strategies.mcq_files(), st.data())
def test_a_damaged_mcq_file_is_an_error_or_another_file(file, data):
    pytest.importorskip("msgpack")
    changed = data.draw(st.one_of(strategies.damaged(mcq.serialise(file)), st.binary(max_size=40)))
    try:
        found = mcq.parse(changed)
    except CorruptStreamError:
        return
    assert mcq.parse(mcq.serialise(found)) == found


@SETTINGS
@given(strategies.weights())
def test_packed_weights_come_back_and_are_fewer_bytes(weights):
    packed = packing.pack(weights)
    if packed is None:
        return
    found = packing.unpack(packed)
    assert found.keys() == {name for name, array in weights.items() if array.size >= packing.LEAST}
    for name, array in found.items():
        assert array.dtype == np.int8 and np.array_equal(array, weights[name])
    values = sum(array.size for array in found.values())
    assert packed.data.nbytes + packed.classes.nbytes + packed.tables.nbytes < values


@SETTINGS
@given(st.data())
def test_damaged_parts_of_packed_weights_are_an_error_or_arrays_of_the_stated_shapes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 3)))
    packed = packing.pack({"a": np.rint(rng.laplace(size=(96, 96)) * 3).astype(np.int8)})
    assert packed is not None
    part = data.draw(st.sampled_from(("data", "classes", "tables", "shapes")))
    if part == "shapes":
        shape = st.lists(st.integers(-1, 50), max_size=4).map(tuple)
        packed = replace(packed, shapes=data.draw(st.dictionaries(st.text(max_size=3), shape, max_size=3)))
    else:
        array = getattr(packed, part).copy()
        at = data.draw(st.integers(0, array.size - 1))
        array.reshape(-1)[at] = data.draw(st.integers(np.iinfo(array.dtype).min, np.iinfo(array.dtype).max))
        packed = replace(packed, **{part: array[: data.draw(st.sampled_from((len(array), at)))]})
    try:
        found = packing.unpack(packed)
    except ValueError:
        return
    assert {name: array.shape for name, array in found.items()} == packed.shapes


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("codecs") / "c.safetensors"


@SETTINGS
@given(
    strategies.stored_integers,
    strategies.stored_floats,
    strategies.weights(),
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=5), st.one_of(st.integers(-5, 5), st.text(max_size=5)), max_size=3),
    st.booleans(),
)
def test_a_codec_file_comes_back(path, integers, floats, weights, name, config, packed):
    integers = {**integers, **weights}
    tensors = {key: torch.from_numpy(value) for key, value in floats.items()}
    storage.write(path, storage.StoredCodec(name, "jahp", config, tensors, integers), half=False, packed=packed)
    found = storage.read(path)
    assert (found.name, found.family, found.config) == (name, "jahp", config)
    assert found.floats.keys() == tensors.keys() and found.integers.keys() == integers.keys()
    assert all(torch.equal(found.floats[key], value) for key, value in tensors.items())
    for key, value in integers.items():
        assert found.integers[key].dtype == value.dtype and np.array_equal(found.integers[key], value)


GOOD: dict[str, Any] = {"layout": 3, "name": "n", "family": "jahp", "config": {}}


@SETTINGS
@given(st.dictionaries(st.sampled_from((*GOOD, "packed", "sha256", "more")), strategies.json_values), st.booleans())
def test_any_description_of_a_codec_file_is_read_or_refused(path, description, complete):
    description = {**GOOD, **description} if complete else description
    path.write_bytes(storage.sealed({"entropy/a": torch.arange(9)[:, None].char()}, description))
    try:
        found = storage.read(path)
    except CodecFileError:
        return
    assert found.integers.keys() == {"a"} and isinstance(found.config, dict)


@SETTINGS
@given(strategies.stored_integers, st.data())
def test_a_damaged_codec_file_is_refused(path, integers, data):
    storage.write(path, storage.StoredCodec("n", "jahp", {}, {}, integers), half=False, packed=False)
    whole = path.read_bytes()
    changed = data.draw(strategies.damaged(whole))
    path.write_bytes(changed)
    if changed != whole:
        with pytest.raises(CodecFileError):
            storage.read(path)
