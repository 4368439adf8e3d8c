"""Packed integer weights: the same values, fewer bytes, and no damaged file that is taken for a good one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import fastlic
from fastlic.bench.memory import peak
from fastlic.codec import packing, storage
from fastlic.codec.cards import WEIGHTS, cards
from fastlic.codec.codec import Codec
from fastlic.errors import CodecFileError

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS: list[packing.Kind] = ["int8", "int16"]
EARLIER = GOLDEN / "tiny_pixels_mlic.safetensors"  # layout 4, with packed int8 and int16


def peaked(*shape: int, seed: int = 0, largest: int = 127) -> np.ndarray:
    """Weights like a trained layer's: Laplacian, of another scale in each channel; int8 where ``largest`` fits that."""
    rng = np.random.default_rng(seed)
    first, second = (2 ** rng.uniform(-1, 1, n) for n in shape[:2])
    weights = rng.laplace(size=shape) * np.multiply.outer(first, second).reshape([*shape[:2], *[1] * (len(shape) - 2)])
    return np.rint(largest * weights / np.abs(weights).max()).astype(np.int8 if largest < 128 else np.int16)


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
TRANSFORMS = {
    "g_a.0.weight": peaked(64, 48, 5, 5, largest=2047),
    "g_a.1.gamma": np.abs(peaked(48, 48, seed=1, largest=32767)),
    "g_s.0.weight": peaked(48, 64, seed=2, largest=300).T,
    "g_s.1.weight": np.arange(-(2**15), 2**15, 8, dtype=np.int16),
    "h_a.0.weight": peaked(48, 64, 3, 3, seed=3),
    "conv": np.zeros((16, 80), np.int16),  # the name of an entropy array, too
    "g_a.0.bias": np.arange(-100, 100, dtype=np.int32),
    "g_a.0.geometry": np.array([2, 0, 9, 0], np.uint8),
    "g_a.1.from": np.zeros(0, np.int32),
    "small": peaked(8, 8, seed=5, largest=2047),
}
OF_KIND = {
    "int8": {k: ARRAYS[k] for k in PACKED},
    "int16": {k: v for k, v in TRANSFORMS.items() if v.dtype == np.int16 and k != "small"},
}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        (v.dtype, v.shape) == (other[k].dtype, other[k].shape) and np.array_equal(v, other[k]) for k, v in one.items()
    )


def stored(integers: dict[str, np.ndarray], transforms: dict[str, np.ndarray] | None = None) -> storage.StoredCodec:
    floats = {"weight": torch.linspace(-1, 1, 12)}
    return storage.StoredCodec("name", "jahp", {"N": 8}, floats, integers, transforms or {})


def described(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        description: dict[str, Any] = json.loads(file.metadata()["fastlic"])
    return description


def packed_names(path: Path) -> list[str]:
    return list(described(path).get("packed", {}))


@pytest.fixture(params=KINDS)
def packed(request: pytest.FixtureRequest) -> packing.Packed:
    found = packing.pack(ARRAYS | TRANSFORMS if request.param == "int16" else ARRAYS, request.param)
    assert found is not None
    return found


def test_what_is_unpacked_equals_what_was_packed(packed):
    assert same(packing.unpack(packed), OF_KIND[packed.kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_any_values_come_back(seed, kind):
    rng = np.random.default_rng(seed)
    limits = np.iinfo(kind)
    arrays = {str(i): peaked(*rng.integers(1, 12, 5), 8, seed=seed, largest=limits.max) for i in range(6)}
    arrays["extremes"] = np.where(rng.random((64, 64)) < 0.1, limits.min, 0).astype(kind)
    arrays["long"] = peaked(300, 100, largest=limits.max)
    packed = packing.pack(arrays, kind)
    assert packed is not None
    assert same(packing.unpack(packed), {k: v for k, v in arrays.items() if v.size >= packing.LEAST})


def test_every_int16_comes_back():
    arrays = {"all": np.arange(-(2**15), 2**15).astype(np.int16), "many": np.zeros((200, 200), np.int16)}
    packed = packing.pack(arrays, "int16")
    assert packed is not None
    assert same(packing.unpack(packed), arrays)


def test_other_types_cannot_be_packed():
    with pytest.raises(ValueError, match="int8, int16 can be packed, not of 'int32'"):
        packing.pack(ARRAYS, "int32")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", cards())
def test_weights_that_ship_are_packed_into_the_bytes_that_they_have(name, tmp_path):
    path = WEIGHTS / f"{name}.safetensors"
    assert described(path)["layout"] == 5
    fastlic.load(name).save(tmp_path / "again.safetensors", half=True, training=False)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_what_encoding_alone_reads_is_packed_last(tmp_path):
    transforms = {f"{part}.0.weight": peaked(64, 48, 3, 3, seed=i, largest=999) for i, part in enumerate("abc")}
    one = dataclasses.replace(stored({}, transforms), encoding=frozenset(["a.0.weight"]))
    storage.write(tmp_path / "one.safetensors", one, half=True, packed=True)
    names = [f"transforms/{part}.0.weight" for part in "bca"]
    assert list(described(tmp_path / "one.safetensors")["packed16"]) == names
    assert same(storage.read(tmp_path / "one.safetensors").transforms, transforms)


def test_the_order_of_the_arrays_changes_no_byte(packed):
    arrays = ARRAYS | TRANSFORMS if packed.kind == "int16" else ARRAYS
    again = packing.pack(dict(reversed(arrays.items())), packed.kind)
    for field in dataclasses.fields(packed):
        assert np.array_equal(getattr(again, field.name), getattr(packed, field.name))
    assert list(again.shapes) == list(packed.shapes)


def test_classes_on_every_axis_beat_one_table():
    weights = peaked(256, 96, 3, 3)
    packed = packing.pack({"w": weights})
    _, counts = np.unique(weights, return_counts=True)
    entropy = -(counts * np.log2(counts / weights.size)).sum() / 8
    assert packed.data.nbytes < 0.97 * entropy
    assert packed.nbytes < 0.65 * weights.nbytes


@pytest.mark.parametrize("largest", [500, 2047])
def test_int16_weights_take_at_most_two_percent_more_than_the_entropy_of_their_classes(largest):
    weights = peaked(192, 96, 5, 5, largest=largest)
    packed = packing.pack({"w": weights}, "int16")
    assert packed is not None
    rows = packing._rows([weights.shape], packed.classes, len(packed.windows)).astype(np.int64)
    _, together = np.unique((rows << 16) + weights.reshape(-1), return_counts=True)
    _, alone = np.unique(rows, return_counts=True)
    entropy = (alone * np.log2(alone)).sum() - (together * np.log2(together)).sum()
    assert 8 * packed.nbytes < 1.02 * entropy


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


def tensor(name, change, group="packed"):
    """Damage to one of the packed tensors."""

    def damage(tensors, description):
        tensors[f"{group}/{name}"] = change(tensors[f"{group}/{name}"].clone()).contiguous()

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
    description["packed"]["entropy/more"] = [1] * 100
    tensors["packed/classes"] = torch.cat([tensors["packed/classes"], torch.zeros(1, dtype=torch.int8)])


def shapeless(tensors, description):
    del description["packed"]


def added(name, value):
    def damage(tensors, description):
        tensors[name] = value

    return damage


OTHER = "stream|escape|does not fit int8"  # what other bytes come to is chance
DAMAGE = {
    "data cut": (tensor("data", lambda x: x[:-4]), OTHER),
    "data cut by a byte": (tensor("data", lambda x: x[:-1]), OTHER),
    "data longer": (tensor("data", lambda x: torch.cat([x, x[:4]])), OTHER),
    "data empty": (tensor("data", lambda x: x[:0]), "0 bytes are too few"),
    "data altered": (tensor("data", lambda x: x.roll(4)), OTHER),
    "data of another kind of stream": (tensor("data", put(0x16, 0)), "stream"),
    "data of another type": (tensor("data", lambda x: x.to(torch.int32)), "data must be 1-D uint8"),
    "data of a type unknown to numpy": (tensor("data", lambda x: x.bfloat16()), "data must be 1-D uint8"),
    "classes cut": (tensor("classes", lambda x: x[:-1]), "classes, there are"),
    "classes longer": (tensor("classes", lambda x: torch.cat([x, x])), "classes, there are"),
    "classes altered": (tensor("classes", lambda x: x.fill_(127)), OTHER),
    "classes of two axes": (tensor("classes", lambda x: x[None]), "classes must be 1-D int8"),
    "no windows": (tensor("windows", lambda x: x[:0]), "1 to 256 rows"),
    "too many windows": (tensor("windows", lambda x: x[:1].repeat(257, 1)), "1 to 256 rows"),
    "windows of two numbers": (tensor("windows", lambda x: x[:, :2]), "windows must be rows of first slot"),
    "windows of one axis": (tensor("windows", lambda x: x.flatten()), "windows must be 2-D int16"),
    "a window less": (tensor("windows", lambda x: x[:-1]), "more frequencies than the rows need"),
    "a window more": (tensor("windows", lambda x: torch.cat([x, x[:1]])), "more frequencies than there are"),
    "a window of no slots": (tensor("windows", put(0, 0, 2)), "row 0 of the tables has 0 slots"),
    "a window of too many slots": (tensor("windows", put(256, 0, 2)), "row 0 of the tables has 256 slots"),
    "raw bits below 0": (tensor("windows", put(-1, 1, 1)), "row 1 of the tables has .* -1 raw bits"),
    "too many raw bits": (tensor("windows", put(17, 1, 1)), "row 1 of the tables has .* 17 raw bits"),
    "tables cut": (tensor("tables", lambda x: x[:-1]), "more frequencies than there are"),
    "tables of two axes": (tensor("tables", lambda x: x[None]), "tables must be 1-D int16"),
    "a frequency of 0": (tensor("tables", put(0, 0)), "row 0"),
    "a frequency below 0": (tensor("tables", put(-5, 0)), "row 0"),
    "frequencies that sum to more": (tensor("tables", put(32767, 0)), "row 0"),
    "values beyond int8": (tensor("windows", lambda x: x + torch.tensor([100, 0, 0], dtype=torch.int16)), "int8"),
    "low bits": (added("packed/low", torch.zeros(5, dtype=torch.uint8)), "packed/low is no part"),
    "a tensor missing": (without, "packed/classes not there"),
    "an array twice": (twice, "conv there twice"),
    "no shapes": (shapeless, "no shapes"),
    "shapes of no arrays": (shapes(lambda s: s.clear()), "no array has a shape"),
    "an array less": (shapes(lambda s: s.pop("entropy/dense")), "classes, there are"),
    "another shape": (shapes(lambda s: s.update({"entropy/conv": [64, 96, 3, 3]})), OTHER),
    "a shape of fewer values": (shapes(lambda s: s.update({"entropy/conv": [96, 63, 3, 3]})), "classes, there are"),
    "a shape of 0": (shapes(lambda s: s.update({"entropy/conv": [0, 64]})), "positive integers"),
    "a shape below 0": (shapes(lambda s: s.update({"entropy/conv": [-96, -64, 3, 3]})), "positive integers"),
    "a shape of fractions": (shapes(lambda s: s.update({"entropy/conv": [96.0, 64, 3, 3]})), "positive integers"),
    "a shape that is a number": (shapes(lambda s: s.update({"entropy/conv": 5})), "no shapes"),
    "more values than bytes can tell": (shapes(lambda s: s.update({"entropy/conv": [2**20, 2**20]})), "too few for"),
    "more values than int64 counts": (shapes(lambda s: s.update({"entropy/conv": [2**40, 2**40]})), "too few for"),
    "more axes than numpy has": (crowded, "more than 16 axes"),
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
    with pytest.raises(CodecFileError, match=rf"damaged\.safetensors: .*({message})"):
        storage.read(path)


def test_a_newer_layout_is_named(tmp_path):
    path = tmp_path / "newer.safetensors"
    description = {"layout": 6, "name": "n", "family": "jahp", "config": {}}
    save_file({"float/x": torch.zeros(1)}, path, {"fastlic": json.dumps(description)})
    with pytest.raises(CodecFileError, match="layout 6; this fastlic reads layouts 1, 2, 3, 4, 5"):
        storage.read(path)


# ---- transforms


@pytest.mark.parametrize("pack", [False, True])
def test_transforms_come_back_beside_the_entropy_integers(pack, tmp_path):
    path = tmp_path / "c.safetensors"
    storage.write(path, stored(ARRAYS, TRANSFORMS), half=True, packed=pack)
    found = storage.read(path)
    assert same(found.integers, ARRAYS) and same(found.transforms, TRANSFORMS)
    description = described(path)
    assert description["layout"] == 5
    if pack:
        assert description["packed"].keys() == {f"entropy/{k}" for k in PACKED} | {"transforms/h_a.0.weight"}
        assert description["packed16"].keys() == {f"transforms/{k}" for k in OF_KIND["int16"]}


def test_packed_transforms_are_fewer_bytes(tmp_path):
    plain, small = tmp_path / "plain.safetensors", tmp_path / "small.safetensors"
    for path, pack in ((plain, False), (small, True)):
        storage.write(path, stored({}, {"w": peaked(64, 48, 5, 5, largest=2047)}), half=True, packed=pack)
    assert small.stat().st_size < 0.75 * plain.stat().st_size


def test_int16_of_a_file_without_transforms_is_packed_too(tmp_path):
    path = tmp_path / "c.safetensors"
    integers = ARRAYS | {"wide": TRANSFORMS["g_a.0.weight"]}
    storage.write(path, stored(integers), half=True, packed=True)
    assert list(described(path)["packed16"]) == ["entropy/wide"]
    found = storage.read(path)
    assert found.transforms == {} and same(found.integers, integers)


def shapes16(change):
    def damage(tensors, description):
        change(description["packed16"])

    return damage


def renamed(before, after):
    """Another name of a packed int16 array, in its place."""

    def damage(tensors, description):
        description["packed16"] = {after if k == before else k: v for k, v in description["packed16"].items()}

    return damage


def earlier(tensors, description):
    description["layout"] = 3


DAMAGE_16 = {
    "data cut": (tensor("data", lambda x: x[: len(x) // 2], "packed16"), "packed16 weights are damaged: .*stream"),
    "data altered": (tensor("data", lambda x: x.roll(4), "packed16"), "packed16 weights are damaged"),
    "a tensor missing": (lambda t, d: t.pop("packed16/classes"), "packed16/classes not there"),
    "a tensor more": (added("packed16/more", torch.zeros(5, dtype=torch.int8)), "packed16/more is no part"),
    "no shapes": (lambda t, d: d.pop("packed16"), "no shapes"),
    "no tensors": (lambda t, d: [t.pop(k) for k in list(t) if k.startswith("packed16/")], "packed16/data.*not there"),
    "an array of neither kind": (
        renamed("transforms/conv", "float/x"),
        "'float/x' is neither",
    ),
    "an array twice": (added("transforms/conv", torch.zeros(4, dtype=torch.int8)), "transforms/conv there twice"),
    "an array in both groups": (
        renamed("transforms/conv", "entropy/conv"),
        "entropy/conv there twice",
    ),
    "more values than bytes can tell": (
        shapes16(lambda s: s.update({"transforms/conv": [2**40, 2**40]})),
        "too few for",
    ),
    "transforms of floats": (added("transforms/x", torch.zeros(3)), "transforms/x of type"),
    "transforms of int64": (added("transforms/x", torch.zeros(3, dtype=torch.int64)), "transforms/x of type"),
    "an earlier layout": (earlier, "transforms/.* has no place|packed16/.* has no place|tables must be 2-D"),
}


@pytest.mark.parametrize("kind", DAMAGE_16)
def test_damaged_transforms_are_reported_with_the_file_and_what_is_wrong(kind, tmp_path, reseal):
    damage, message = DAMAGE_16[kind]
    path = tmp_path / "damaged.safetensors"
    storage.write(path, stored(ARRAYS, TRANSFORMS), half=True, packed=True)
    reseal(path, path, damage)
    with pytest.raises(CodecFileError, match=rf"damaged\.safetensors: .*({message})"):
        storage.read(path)


def undigested(tensors, description):
    """Layout 3, with packed arrays named as there."""
    description["layout"] = 3
    description["packed"] = {
        k.removeprefix("entropy/"): v for k, v in description["packed"].items() if k.startswith("entropy/")
    }
    for name in [name for name in tensors if name.startswith("transforms/")]:
        del tensors[name]


DAMAGE_EARLIER = {
    "data cut": (tensor("data", lambda x: x[:-4]), "packed weights are damaged: .*stream"),
    "data cut to no multiple of 4": (tensor("data", lambda x: x[:-1]), "multiple of 4"),
    "data altered": (tensor("data", lambda x: x.roll(4)), "stream"),
    "classes altered": (tensor("classes", lambda x: x.fill_(127)), "stream"),
    "no tables": (tensor("tables", lambda x: x[:0]), "1 to 256 rows"),
    "too many tables": (tensor("tables", lambda x: x[:1].repeat(257, 1)), "1 to 256 rows"),
    "tables of other alphabets": (tensor("tables", lambda x: x[:, :255]), "256 frequencies"),
    "a frequency of 0": (tensor("tables", put(0, 0, 3)), "row 0 of the tables"),
    "a frequency below 0": (tensor("tables", put(-5, 1, 3)), "row 1 of the tables"),
    "frequencies that sum to more": (tensor("tables", put(32767, 2, 3)), "row 2 of the tables"),
    "windows": (added("packed/windows", torch.zeros(1, 3, dtype=torch.int16)), "packed/windows is no part"),
    "low bits cut": (tensor("low", lambda x: x[:-1], "packed16"), "low bits, there are"),
    "low bits more": (tensor("low", lambda x: torch.cat([x, x[:1]]), "packed16"), "low bits, there are"),
    "low bits gone": (lambda t, d: t.pop("packed16/low"), "low bits, there are 0 bytes"),
    "low bits of another type": (tensor("low", lambda x: x.to(torch.int16), "packed16"), "low must be 1-D uint8"),
    "low bits of int8": (added("packed/low", torch.zeros(5, dtype=torch.uint8)), "need 0 low bits"),
    "tables of int8's alphabet": (tensor("tables", lambda x: x[:, :1].repeat(1, 256), "packed16"), "112 frequencies"),
    "packed int16 in layout 3": (undigested, "packed16/.* has no place"),
}


@pytest.mark.parametrize("kind", DAMAGE_EARLIER)
def test_damage_to_packed_weights_of_earlier_layouts_is_reported(kind, tmp_path, reseal):
    damage, message = DAMAGE_EARLIER[kind]
    assert described(EARLIER)["layout"] == 4
    reseal(EARLIER, tmp_path / "damaged.safetensors", damage)
    with pytest.raises(CodecFileError, match=rf"damaged\.safetensors: .*({message})"):
        storage.read(tmp_path / "damaged.safetensors")


def test_a_file_of_layout_5_holds_what_it_held():
    found = storage.read(GOLDEN / "layout5.safetensors")
    assert described(GOLDEN / "layout5.safetensors")["layout"] == 5
    digest = hashlib.sha256()
    for name, array in sorted({**found.integers, **found.transforms}.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.astype("<i4").tobytes())
    assert digest.hexdigest() == "42cf057f47d8cd9b29549787d83f78f2dcf6b0c68dd0200ba73cdd22e7d5fc14"


@pytest.mark.parametrize("path", [GOLDEN / "tiny_early.safetensors", EARLIER], ids=["layout 2", "layout 4"])
def test_earlier_layouts_hold_what_they_hold_when_written_anew(path, tmp_path):
    found = storage.read(path)
    storage.write(tmp_path / "anew.safetensors", found, half=True, packed=True)
    again = storage.read(tmp_path / "anew.safetensors")
    assert described(tmp_path / "anew.safetensors")["layout"] == 5
    assert same(again.integers, found.integers) and same(again.transforms, found.transforms)


def test_a_file_of_layout_4_without_its_digest_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    description = {"layout": 4, "name": "n", "family": "jahp", "config": {}}
    save_file({"transforms/x": torch.zeros(1, dtype=torch.int8)}, path, {"fastlic": json.dumps(description)})
    with pytest.raises(CodecFileError, match="does not have the SHA-256"):
        storage.read(path)


def test_transforms_that_the_family_does_not_read_are_refused(tmp_path, codec: Codec, reseal):
    path = tmp_path / "c.safetensors"
    codec.save(path)

    def change(tensors, description):
        description["layout"] = 4
        tensors["transforms/g_x.0.weight"] = torch.zeros(3, dtype=torch.int16)

    reseal(path, path, change)
    with pytest.raises(CodecFileError, match=r"transforms/g_x\.0\.weight is no array of a 'jahp' codec"):
        Codec.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_claim_as_much_as_they_may_take_memory_in_proportion(kind):
    data = np.zeros(1 << 16, np.uint8)
    shapes = {"w": (1, packing.MOST_PER_BYTE * data.size)}
    windows, tables = np.array([[0, 0, 1]], np.int16), np.array([4095, 1], np.int16)
    packed = packing.Packed(kind, shapes, data, np.zeros(1, np.int8), windows, tables)

    def unpack() -> None:
        with pytest.raises(ValueError, match="stream"):
            packing.unpack(packed)

    grown = peak(unpack)
    if grown is None:
        pytest.skip("this system does not tell resident memory")
    assert grown < 16 * packing.MOST_PER_BYTE * data.size
