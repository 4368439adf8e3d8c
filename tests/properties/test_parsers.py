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
@given(strategies.attached(), strategies.sections, st.data())
def test_a_container_comes_back_whole_and_in_part(head, sections, data):
    header, attachments = head
    packed = container.pack(header, sections, attachments)
    assert list(container.attachments(packed).items()) == attachments
    assert container.unpack(packed) == (header, sections)
    count = data.draw(st.integers(0, len(sections)))
    rest = packed[: len(packed) - sum(map(len, sections[count:]))]
    assert container.unpack(rest, count) == (header, sections[:count])
    info = container.look(packed)
    assert info.section_bytes == tuple(map(len, sections))
    assert info.framing_bytes + sum(info.attachment_bytes.values()) + sum(info.section_bytes) == len(packed)
    assert container.peek(packed[: info.framing_bytes]) == header


@SETTINGS
@given(strategies.attached(), strategies.sections, st.data())
def test_a_damaged_container_is_an_error(head, sections, data):
    packed = container.pack(head[0], sections, head[1])
    changed = data.draw(strategies.damaged(packed))
    if changed != packed:
        with pytest.raises(CorruptStreamError):
            container.attachments(changed)
            container.unpack(changed)


@SETTINGS
@given(strategies.attached(), st.lists(st.binary(max_size=3), min_size=1, max_size=3), st.data())
def test_a_head_whose_checksum_is_mended_is_an_error_or_the_one_spelling_of_what_it_says(head, sections, data):
    packed = container.pack(head[0], sections, head[1])
    framing = container.look(packed).framing_bytes
    changed = data.draw(strategies.damaged(packed[: framing - 4]))
    mended = changed + struct.pack("<I", crc32c(changed)) + packed[framing:]
    try:
        found, attachments = container.unpack(mended), list(container.attachments(mended).items())
    except CorruptStreamError:
        return
    assert container.pack(*found, attachments) == mended


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


kinds = st.sampled_from(("int8", "int16"))


@SETTINGS
@given(kinds.flatmap(lambda kind: st.tuples(st.just(kind), strategies.weights(kind))))
def test_packed_weights_come_back_and_are_fewer_bytes(drawn):
    kind, weights = drawn
    packed = packing.pack(weights, kind)
    if packed is None:
        return
    found = packing.unpack(packed)
    assert found.keys() == {name for name, array in weights.items() if array.size >= packing.LEAST}
    for name, array in found.items():
        assert array.dtype == kind and np.array_equal(array, weights[name])
    assert packed.nbytes < sum(array.nbytes for array in found.values())


@SETTINGS
@given(kinds, st.data())
def test_damaged_parts_of_packed_weights_are_an_error_or_arrays_of_the_stated_shapes(kind, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 3)))
    spread = 3 if kind == "int8" else 300
    packed = packing.pack({"a": np.rint(rng.laplace(size=(96, 96)) * spread).astype(kind)}, kind)
    assert packed is not None
    part = data.draw(st.sampled_from((*packing.PARTS, "shapes", "kind")))
    if part == "shapes":
        shape = st.lists(st.integers(-1, 50), max_size=4).map(tuple)
        packed = replace(packed, shapes=data.draw(st.dictionaries(st.text(max_size=3), shape, max_size=3)))
    elif part == "kind":
        packed = replace(packed, kind=data.draw(st.sampled_from(("int8", "int16", "int32", ""))))
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
    assert all(array.dtype == packed.kind for array in found.values())


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("codecs") / "c.safetensors"


@SETTINGS
@given(
    strategies.stored_integers,
    strategies.stored_floats,
    strategies.weights(),
    st.one_of(st.just({}), strategies.stored_integers, strategies.weights("int16")),
    st.lists(st.binary(min_size=8, max_size=8), max_size=3, unique=True).map(tuple),
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=5), st.one_of(st.integers(-5, 5), st.text(max_size=5)), max_size=3),
    st.booleans(),
)
def test_a_codec_file_comes_back(path, integers, floats, weights, transforms, reads, name, config, packed):
    integers = {**integers, **weights}
    tensors = {key: torch.from_numpy(value) for key, value in floats.items()}
    stored = storage.StoredCodec(name, "jahp", config, tensors, integers, transforms, reads)
    storage.write(path, stored, half=False, packed=packed)
    found = storage.read(path)
    assert (found.name, found.family, found.config, found.reads) == (name, "jahp", config, reads)
    assert found.floats.keys() == tensors.keys()
    assert all(torch.equal(found.floats[key], value) for key, value in tensors.items())
    for own, expected in ((found.integers, integers), (found.transforms, transforms)):
        assert own.keys() == expected.keys()
        for key, value in expected.items():
            assert own[key].dtype == value.dtype and np.array_equal(own[key], value)


GOOD: dict[str, Any] = {"layout": 3, "name": "n", "family": "jahp", "config": {}}
FIELDS = (*GOOD, "packed", "packed16", "reads", "sha256", "more")


@SETTINGS
@given(st.dictionaries(st.sampled_from(FIELDS), strategies.json_values), st.booleans())
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
