"""Packed int8 weights: the same integers, fewer bytes, and no damaged file that is taken for a good one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fastlic.codec import packing, storage
from fastlic.codec.codec import Codec
from fastlic.errors import CodecFileError


def peaked(*shape: int, seed: int = 0) -> np.ndarray:
    """int8 weights like a trained layer's: Laplacian, of another scale in each channel, the largest of them 127."""
    rng = np.random.default_rng(seed)
    first, second = (2 ** rng.uniform(-1, 1, n) for n in shape[:2])
    weights = rng.laplace(size=shape) * np.multiply.outer(first, second).reshape([*shape[:2], *[1] * (len(shape) - 2)])
    return np.rint(127 * weights / np.abs(weights).max()).astype(np.int8)


ARRAYS = {
    "conv": peaked(96, 64, 3, 3),
    "dense": peaked(64, 48, seed=1),
    "row": peaked(1, 2048, seed=2),
    "vector": np.tile(np.arange(-128, 128, dtype=np.int8), 5),
    "zeros": np.zeros((32, 64), np.int8),
    "masked": peaked(32, 40, seed=3) * (np.arange(32) % 2).astype(np.int8)[:, None],
    "transposed": peaked(48, 64, seed=4).T,
    "small": peaked(8, 8, seed=5),
    "empty": np.zeros((0, 64), np.int8),
    "scalar": np.array(-5, np.int8),
    "bias": np.arange(5000, dtype=np.int32),
    "shift": np.arange(2048).astype(np.uint8),
}
PACKED = {"conv", "dense", "row", "vector", "zeros", "masked", "transposed"}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        (v.dtype, v.shape) == (other[k].dtype, other[k].shape) and np.array_equal(v, other[k]) for k, v in one.items()
    )


def stored(integers: dict[str, np.ndarray]) -> storage.StoredCodec:
    return storage.StoredCodec("name", "jahp", {"N": 8}, {"weight": torch.linspace(-1, 1, 12)}, integers)


def packed_names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(json.loads(file.metadata()["fastlic"]).get("packed", {}))


@pytest.fixture
def packed() -> packing.Packed:
    found = packing.pack(ARRAYS)
    assert found is not None
    return found


def test_what_is_unpacked_equals_what_was_packed(packed):
    assert packed.shapes.keys() == PACKED
    assert same(packing.unpack(packed), {k: ARRAYS[k] for k in PACKED})


@pytest.mark.parametrize("seed", range(4))
def test_any_values_come_back(seed):
    rng = np.random.default_rng(seed)
    arrays = {str(i): peaked(*rng.integers(1, 12, 5), 8, seed=seed) for i in range(6)}
    arrays["extremes"] = np.where(rng.random((64, 64)) < 0.1, -128, 0).astype(np.int8)
    arrays["long"] = peaked(300, 100)
    packed = packing.pack(arrays)
    assert packed is not None
    assert same(packing.unpack(packed), {k: v for k, v in arrays.items() if v.size >= packing.LEAST})


def test_the_order_of_the_arrays_changes_no_byte(packed):
    again = packing.pack(dict(reversed(ARRAYS.items())))
    for field in dataclasses.fields(packed):
        assert np.array_equal(getattr(again, field.name), getattr(packed, field.name))
    assert list(again.shapes) == list(packed.shapes)


def test_classes_on_every_axis_beat_one_table():
    weights = peaked(256, 96, 3, 3)
    packed = packing.pack({"w": weights})
    _, counts = np.unique(weights, return_counts=True)
    entropy = -(counts * np.log2(counts / weights.size)).sum() / 8
    size = packed.data.nbytes + packed.classes.nbytes + packed.tables.nbytes
    assert packed.data.nbytes < 0.97 * entropy
    assert size < 0.65 * weights.nbytes


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"small": peaked(16, 16)},
        {"uniform": np.random.default_rng(0).integers(-128, 128, (256, 256)).astype(np.int8)},
        {"zeros": np.zeros((512, 512), np.int8)},
        {"bias": np.arange(5000, dtype=np.int32)},
    ],
    ids=["nothing", "small", "no gain", "more values per byte than a reader takes", "other types"],
)
def test_what_is_not_worth_packing_stays_as_it_is(arrays, tmp_path):
    assert packing.pack(arrays) is None
    storage.write(tmp_path / "c.safetensors", stored(arrays), half=True, packed=True)
    assert not packed_names(tmp_path / "c.safetensors")
    assert same(storage.read(tmp_path / "c.safetensors").integers, arrays)


def test_a_packed_file_is_smaller_and_holds_the_same(tmp_path):
    plain, small, again = (tmp_path / f"{name}.safetensors" for name in ("plain", "small", "again"))
    for path, pack in ((plain, False), (small, True), (again, True)):
        storage.write(path, stored(ARRAYS), half=True, packed=pack)
    assert not packed_names(plain) and packed_names(small)
    assert small.stat().st_size < 0.9 * plain.stat().st_size
    assert small.read_bytes() == again.read_bytes()
    one, other = storage.read(plain), storage.read(small)
    assert same(one.integers, ARRAYS) and same(other.integers, ARRAYS)
    assert torch.equal(one.floats["weight"], other.floats["weight"])
    assert (one.name, one.family, one.config) == (other.name, other.family, other.config)


def test_fingerprint_and_streams_do_not_depend_on_packing(any_codec: Codec, photo, tmp_path):
    quality = 4 if any_codec.qualities else None
    expected = any_codec.compress(photo, quality)
    for pack in (False, True):
        path = tmp_path / f"{pack}.safetensors"
        any_codec.save(path, packed=pack)
        again = Codec.load(path)
        assert again.fingerprint == any_codec.fingerprint
        assert again.compress(photo, quality) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"), [({}, False), ({"half": True}, True), ({"half": True, "packed": False}, False)]
)
def test_half_files_are_packed_unless_told_otherwise(codec: Codec, tmp_path, monkeypatch, arguments, expected):
    told = []
    monkeypatch.setattr(storage, "write", lambda path, stored, half, packed: told.append(packed))
    codec.save(tmp_path / "c.safetensors", **arguments)
    assert told == [expected]


# ---- damage


def shapes(change):
    """Damage to the shapes of the description."""

    def damage(tensors, description):
        change(description["packed"])

    return damage


def tensor(name, change):
    """Damage to one of the packed tensors."""

    def damage(tensors, description):
        tensors[f"packed/{name}"] = change(tensors[f"packed/{name}"].clone()).contiguous()

    return damage


def put(value, *where):
    def change(x):
        x[where] = value
        return x

    return change


def without(tensors, description):
    del tensors["packed/classes"]


def twice(tensors, description):
    tensors["entropy/conv"] = torch.zeros(4, dtype=torch.int8)


def crowded(tensors, description):
    description["packed"]["more"] = [1] * 100
    tensors["packed/classes"] = torch.cat([tensors["packed/classes"], torch.zeros(1, dtype=torch.int8)])


def shapeless(tensors, description):
    del description["packed"]


DAMAGE = {
    "data cut": (tensor("data", lambda x: x[:-4]), "stream"),
    "data cut to no multiple of 4": (tensor("data", lambda x: x[:-1]), "multiple of 4"),
    "data longer": (tensor("data", lambda x: torch.cat([x, x[:4]])), "stream"),
    "data empty": (tensor("data", lambda x: x[:0]), "0 bytes are too few"),
    "data altered": (tensor("data", lambda x: x.roll(4)), "stream"),
    "data of another type": (tensor("data", lambda x: x.to(torch.int32)), "data must be 1-D uint8"),
    "data of a type unknown to numpy": (tensor("data", lambda x: x.bfloat16()), "bfloat16 has no place"),
    "classes cut": (tensor("classes", lambda x: x[:-1]), "classes, there are"),
    "classes longer": (tensor("classes", lambda x: torch.cat([x, x])), "classes, there are"),
    "classes altered": (tensor("classes", lambda x: x.fill_(127)), "stream"),
    "classes of two axes": (tensor("classes", lambda x: x[None]), "classes must be 1-D int8"),
    "no tables": (tensor("tables", lambda x: x[:0]), "1 to 256 rows"),
    "too many tables": (tensor("tables", lambda x: x[:1].repeat(257, 1)), "1 to 256 rows"),
    "tables of other alphabets": (tensor("tables", lambda x: x[:, :255]), "256 frequencies"),
    "a frequency of 0": (tensor("tables", put(0, 0, 3)), "row 0 of the tables"),
    "a frequency below 0": (tensor("tables", put(-5, 1, 3)), "row 1 of the tables"),
    "frequencies that sum to more": (tensor("tables", put(32767, 2, 3)), "row 2 of the tables"),
    "fewer tables than were used": (tensor("tables", lambda x: x[:8]), "stream"),
    "a tensor missing": (without, "packed/classes not there"),
    "an array twice": (twice, "conv there twice"),
    "no shapes": (shapeless, "no shapes"),
    "shapes of no arrays": (shapes(lambda s: s.clear()), "no array has a shape"),
    "an array less": (shapes(lambda s: s.pop("dense")), "classes, there are"),
    "another shape": (shapes(lambda s: s.update(conv=[64, 96, 3, 3])), "stream"),
    "a shape of fewer values": (shapes(lambda s: s.update(conv=[96, 63, 3, 3])), "classes, there are"),
    "a shape of 0": (shapes(lambda s: s.update(conv=[0, 64])), "positive integers"),
    "a shape below 0": (shapes(lambda s: s.update(conv=[-96, -64, 3, 3])), "positive integers"),
    "a shape of fractions": (shapes(lambda s: s.update(conv=[96.0, 64, 3, 3])), "shapes must be of type"),
    "a shape that is a number": (shapes(lambda s: s.update(conv=5)), "no shapes"),
    "more values than bytes can tell": (shapes(lambda s: s.update(conv=[2**20, 2**20])), "too few for"),
    "more values than int64 counts": (shapes(lambda s: s.update(conv=[2**40, 2**40])), "too few for"),
    "more axes than numpy has": (crowded, "maximum supported dimension"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_reported_with_the_file_and_what_is_wrong(kind, tmp_path):
    damage, message = DAMAGE[kind]
    path = tmp_path / "damaged.safetensors"
    storage.write(path, stored(ARRAYS), half=True, packed=True)
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["fastlic"])
    tensors = load_file(path)
    damage(tensors, description)
    path.write_bytes(storage.sealed(tensors, description))
    with pytest.raises(CodecFileError, match=rf"damaged\.safetensors: .*{message}"):
        storage.read(path)


def test_a_newer_layout_is_named(tmp_path):
    path = tmp_path / "newer.safetensors"
    description = {"layout": 4, "name": "n", "family": "jahp", "config": {}}
    save_file({"float/x": torch.zeros(1)}, path, {"fastlic": json.dumps(description)})
    with pytest.raises(CodecFileError, match="layout 4; this fastlic reads layouts 1, 2, 3"):
        storage.read(path)
