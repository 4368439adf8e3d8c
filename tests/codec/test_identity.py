"""A codec's fingerprint stands for its pixels, a loaded file replaces no other, and what was read is kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fastlic
import fastlic.api
from fastlic import Codec
from fastlic.cli.info import _describe
from fastlic.codec import cards as cards_module
from fastlic.codec import container, registry
from fastlic.codec.cards import WEIGHTS, cards
from fastlic.errors import CodecFileError, ModelMismatchError

GOLDEN = Path(__file__).parents[1] / "golden"


def brighten(tensors, description):
    """Other pixels from the same latents: the bias of the last layer of g_s."""
    for prefix, more in (("float/g_s.", 0.5), ("transforms/g_s.", 1 << 22)):
        names = [name for name in tensors if name.startswith(prefix) and name.endswith(".bias")]
        if names:
            tensors[max(names)] = tensors[max(names)] + more


@pytest.fixture
def forgotten(monkeypatch):
    """A registry in which nothing was loaded."""
    monkeypatch.setattr(registry, "_files", {})
    monkeypatch.setattr(registry, "_recent", type(registry._recent)())


def as_version_1(data: bytes, codec: Codec) -> bytes:
    header, sections = container.unpack(data)
    old = container.Header(
        header.model_id, header.quality, codec.entropy_fingerprint, header.height, header.width, version=1
    )
    return container.pack(old, sections)


def test_other_synthesis_weights_are_another_codec(tmp_path, reseal, photo):
    evil = tmp_path / "evil.safetensors"
    reseal(WEIGHTS / "jahp.safetensors", evil, brighten)
    data = fastlic.compress(photo)
    pixels = fastlic.decompress(data)
    codec = fastlic.load(evil)
    assert codec.entropy_fingerprint == fastlic.load("jahp").entropy_fingerprint
    assert codec.fingerprint != fastlic.load("jahp").fingerprint
    assert torch.equal(fastlic.decompress(data), pixels)
    with pytest.raises(ModelMismatchError, match=codec.fingerprint.hex()):
        codec.decompress(data)


def test_a_stream_of_version_1_decodes_with_shipped_weights_whatever_was_loaded(tmp_path, reseal, photo):
    evil = tmp_path / "evil.safetensors"
    reseal(WEIGHTS / "jahp.safetensors", evil, brighten)
    shipped = fastlic.load("jahp")
    fastlic.load(evil)
    old = as_version_1(fastlic.compress(photo), shipped)
    assert torch.equal(fastlic.decompress(old), shipped.decompress(old))


def test_a_stream_of_version_1_that_fits_two_loaded_codecs_asks_which(tmp_path, reseal, forgotten):
    data = (GOLDEN / "chelsea_q1.flic").read_bytes()
    good, evil = GOLDEN / "tiny_jahp.safetensors", tmp_path / "evil.safetensors"
    reseal(good, evil, brighten)
    pixels = fastlic.load(good).decompress(data)
    assert torch.equal(fastlic.decompress(data), pixels)
    other = fastlic.load(evil)
    with pytest.raises(ModelMismatchError, match=r"several loaded codecs.*tiny_jahp.*evil"):
        fastlic.decompress(data)
    assert not torch.equal(other.decompress(data), pixels)


def test_a_codec_of_other_weights_that_only_the_encoder_reads_decodes_the_same_streams(tmp_path, reseal, photo):
    path = tmp_path / "encoder.safetensors"

    def change(tensors, description):
        tensors["transforms/g_a.0.bias"] = tensors["transforms/g_a.0.bias"] + 1

    reseal(WEIGHTS / "jahp.safetensors", path, change)
    assert fastlic.load(path).fingerprint == fastlic.load("jahp").fingerprint


def test_half_precision_keeps_the_fingerprint(any_codec: Codec, tmp_path):
    any_codec.save(tmp_path / "half.safetensors", half=True, training=False)
    assert Codec.load(tmp_path / "half.safetensors").fingerprint == any_codec.fingerprint


@pytest.mark.parametrize("name", sorted(cards()))
def test_integers_all_over_the_synthesis_are_under_the_fingerprint(name, monkeypatch):
    coder = fastlic.load(name)._coder
    before, arrays = coder.fingerprint(), coder.pixels.to_arrays()
    decoder = ("g_s.", "gain.inverse", "level", "words.", "side.", "up.")
    parts = [key for key in arrays if key.startswith(decoder) and not key.endswith(".units")]
    assert len(parts) > 10
    for key in parts[:: 1 + len(parts) // 30]:
        changed = arrays[key].copy()
        changed.reshape(-1)[-1] ^= 1
        with monkeypatch.context() as patch:
            patch.setattr(type(coder.pixels), "to_arrays", lambda self: {**arrays, key: changed})  # noqa: B023
            assert coder.fingerprint() != before, key
    assert coder.fingerprint() == before


def test_floats_all_over_the_synthesis_are_under_the_fingerprint_of_files_without_integers():
    coder = Codec.load(GOLDEN / "tiny_jahp.safetensors")._coder
    before = coder.fingerprint()
    parts = [(n, p) for n, p in coder.transforms.named_parameters() if n.startswith(("g_s.", "gain.log_inverse"))]
    assert len(parts) > 10
    for n, parameter in parts:
        first = (0,) * parameter.ndim
        value = parameter.data[first].item()
        parameter.data[first] = value * 1.5 + 1
        assert coder.fingerprint() != before, n
        parameter.data[first] = value
    assert coder.fingerprint() == before


# ---- predecessors


def reading(*fingerprints: bytes):
    """Other pixels from the same latents, and a list of predecessors."""

    def change(tensors, description):
        brighten(tensors, description)
        description["reads"] = [fingerprint.hex() for fingerprint in fingerprints]

    return change


@pytest.fixture
def chain(tmp_path, reseal, photo, forgotten) -> tuple[Codec, Path, bytes]:
    """A codec that is not loaded, the file of a successor that reads its streams, and such a stream."""
    source, path = GOLDEN / "tiny_jahp.safetensors", tmp_path / "successor.safetensors"
    old = Codec.load(source)
    reseal(source, path, reading(old.fingerprint))
    return old, path, old.compress(photo, 4)


def test_a_successor_decodes_the_same_latents_to_its_own_pixels(chain, photo):
    old, path, data = chain
    new = Codec.load(path)
    assert new.reads == (old.fingerprint,) and new.fingerprint != old.fingerprint
    assert all(torch.equal(value, new.decode_latents(data)[name]) for name, value in old.decode_latents(data).items())
    assert torch.equal(new.decompress(data), new.decompress(new.compress(photo, 4)))
    with pytest.raises(ModelMismatchError, match=new.fingerprint.hex()):
        old.decompress(new.compress(photo, 4))


def test_a_loaded_successor_is_found_until_the_codec_itself_is_loaded(chain):
    old, path, data = chain
    with pytest.raises(ModelMismatchError, match="Load the codec file it was made with"):
        fastlic.decompress(data)
    new = fastlic.load(path)
    assert torch.equal(fastlic.decompress(data), new.decompress(data))
    registry._recent.clear()
    assert torch.equal(fastlic.decompress(data), new.decompress(data))
    fastlic.load(GOLDEN / "tiny_jahp.safetensors")
    assert torch.equal(fastlic.decompress(data), old.decompress(data))


def test_between_two_loaded_successors_the_caller_chooses(chain, tmp_path, reseal):
    _, path, data = chain
    fastlic.load(path)
    other = tmp_path / "other.safetensors"
    reseal(path, other, lambda tensors, description: brighten(tensors, description))
    fastlic.load(other)
    with pytest.raises(ModelMismatchError, match=r"several loaded codecs read: .*successor.*other.*Choose"):
        fastlic.decompress(data)


def test_the_same_weights_loaded_with_and_without_predecessors_still_read_them(chain, tmp_path, reseal):
    _, path, data = chain
    new = fastlic.load(path)
    plain = tmp_path / "plain.safetensors"
    reseal(path, plain, lambda tensors, description: description.pop("reads"))
    assert fastlic.load(plain).fingerprint == new.fingerprint
    assert torch.equal(fastlic.decompress(data), new.decompress(data))


def test_a_file_that_lost_its_predecessors_meanwhile_is_named(chain, reseal):
    _, path, data = chain
    new = fastlic.load(path)
    own = new.compress(torch.zeros(3, 16, 16), 4)
    assert isinstance(own, bytes)
    reseal(path, path, lambda tensors, description: description.pop("reads"))
    registry._recent.clear()
    with pytest.raises(ModelMismatchError, match=rf"{path} held; it now holds .* does not read streams of"):
        fastlic.decompress(data)
    registry._recent.clear()
    assert torch.equal(fastlic.decompress(own), new.decompress(own))


def test_no_file_takes_over_the_streams_of_shipped_weights(tmp_path, reseal, photo):
    shipped = fastlic.load("jahp")
    evil = tmp_path / "evil.safetensors"
    reseal(WEIGHTS / "jahp.safetensors", evil, reading(shipped.fingerprint))
    data = fastlic.compress(photo)
    other = fastlic.load(evil)
    assert torch.equal(fastlic.decompress(data), shipped.decompress(data))
    assert not torch.equal(other.decompress(data), shipped.decompress(data))


@pytest.fixture
def shipped_successor(chain, monkeypatch) -> Iterator[Codec]:
    """The successor of ``chain`` as shipped weights."""
    old, path, _ = chain
    codec = Codec.load(path)
    names = {"fingerprint": codec.fingerprint.hex(), "entropy_fingerprint": codec.entropy_fingerprint.hex()}
    card = {**names, "reads": [old.fingerprint.hex()], "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for module in (cards_module, registry, fastlic.api):
        monkeypatch.setattr(module, "cards", lambda: {"successor": card})
    monkeypatch.setattr(registry, "WEIGHTS", path.parent)
    registry._load_shipped.cache_clear()
    yield codec
    registry._load_shipped.cache_clear()


def test_a_loaded_codec_comes_before_shipped_weights_that_only_read_its_streams(chain, shipped_successor):
    old, _, data = chain
    assert torch.equal(fastlic.decompress(data), shipped_successor.decompress(data))
    fastlic.load(GOLDEN / "tiny_jahp.safetensors")
    assert torch.equal(fastlic.decompress(data), old.decompress(data))


def test_shipped_weights_come_before_loaded_ones_that_read_the_same_streams(chain, shipped_successor, tmp_path, reseal):
    _, path, data = chain
    other = tmp_path / "other.safetensors"
    reseal(path, other, brighten)
    fastlic.load(other)
    assert torch.equal(fastlic.decompress(data), shipped_successor.decompress(data))


def test_info_says_which_shipped_weights_read_a_stream(chain, shipped_successor):
    assert _describe(chain[2])["weights"] == "not shipped, but successor reads its streams"
    assert _describe(shipped_successor.compress(torch.zeros(3, 16, 16), 4))["weights"] == "successor"
    assert fastlic.info()["weights"]["successor"]["reads"] == [chain[0].fingerprint.hex()]


def test_predecessors_are_saved_and_named_in_errors(codec: Codec, tiny_codec: Codec, tmp_path, photo):
    path = tmp_path / "codec.safetensors"
    codec.save(path)
    assert Codec.load(path).reads == ()
    heir = Codec.load(path)
    heir.reads = (bytes(8), b"\1" * 8)
    heir.save(path, half=True)
    again = Codec.load(path)
    assert again.reads == heir.reads and again.fingerprint == codec.fingerprint
    told = f"{codec.fingerprint.hex()}, which also reads streams of {'00' * 8}, {'01' * 8}"
    with pytest.raises(ModelMismatchError, match=told):
        again.decompress(tiny_codec.compress(photo, 4))


def test_streams_of_version_1_name_integers_and_no_predecessors(chain):
    old, path, data = chain
    new = Codec.load(path)
    new.reads = (old.fingerprint, old.entropy_fingerprint)
    assert new.decompress(as_version_1(data, old)).shape == (3, 96, 136)
    header, sections = container.unpack(data)
    claimed = container.Header(header.model_id, header.quality, old.fingerprint, header.height, header.width, version=1)
    with pytest.raises(ModelMismatchError):
        new.decompress(container.pack(claimed, sections))


@pytest.mark.parametrize(
    "reads",
    [None, "00" * 8, {}, [1], ["00" * 7], ["00" * 9], ["0X" * 8], ["AB" * 8], ["00" * 8, "00" * 8], [["00" * 8]]],
)
def test_predecessors_that_are_no_fingerprints_are_refused(reads, tmp_path, reseal):
    path = tmp_path / "bad.safetensors"
    reseal(GOLDEN / "tiny_jahp.safetensors", path, lambda _, description: description.update(reads=reads))
    with pytest.raises(CodecFileError, match=r"bad\.safetensors.*'reads'"):
        Codec.load(path)


@pytest.mark.parametrize("reads", [(b"1234567",), (b"12345678", b"12345678"), ("12345678",), b"12345678"])
def test_predecessors_that_are_no_fingerprints_are_not_saved(reads, codec: Codec, tmp_path):
    path = tmp_path / "codec.safetensors"
    codec.save(path)
    heir = Codec.load(path)
    heir.reads = reads
    with pytest.raises((TypeError, ValueError), match="reads"):
        heir.save(tmp_path / "heir.safetensors")
    assert not (tmp_path / "heir.safetensors").exists()


# ---- what was read is kept


def test_a_loaded_codec_does_not_depend_on_its_file_any_more(tmp_path, tiny_codec: Codec):
    ways = ("truncated", "overwritten", "removed")
    for what in ways:
        tiny_codec.save(tmp_path / f"{what}.safetensors")
    script = f"""
import sys
sys.path.insert(0, {os.fspath(Path(fastlic.__file__).parents[1])!r})
import hashlib, os, pathlib
import torch
import fastlic
for what in {ways!r}:
    path = pathlib.Path({os.fspath(tmp_path)!r}, what + ".safetensors")
    codec = fastlic.load(path)
    if what == "truncated":
        os.truncate(path, 100)
    elif what == "overwritten":
        with open(path, "r+b") as file:
            file.write(bytes(path.stat().st_size))
    else:
        path.unlink()
    x = torch.linspace(0, 1, 3 * 64 * 80).reshape(3, 64, 80)
    data = codec.compress(x, 4)
    print(hashlib.sha256(data).hexdigest(), codec.decompress(data).shape, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    x = torch.linspace(0, 1, 3 * 64 * 80).reshape(3, 64, 80)
    expected = f"{hashlib.sha256(tiny_codec.compress(x, 4)).hexdigest()} torch.Size([3, 64, 80])"
    assert done.stdout.splitlines() == [expected] * len(ways)


def test_codecs_of_files_are_let_go_and_read_again_when_a_stream_asks(tmp_path, photo, forgotten, reseal):
    source = GOLDEN / "tiny_jahp.safetensors"
    streams, alive = [], []
    for index in range(registry.KEPT + 2):
        path = tmp_path / f"{index}.safetensors"

        def change(tensors, description, index=index):
            tensors["float/g_s.6.bias"] = tensors["float/g_s.6.bias"] + index / 8

        reseal(source, path, change)
        codec = fastlic.load(path)
        streams.append((codec.compress(photo, 4), codec.decompress(codec.compress(photo, 4))))
        alive.append(weakref.ref(codec))
    del codec
    assert sum(ref() is not None for ref in alive) == registry.KEPT
    for data, pixels in streams:
        assert torch.equal(fastlic.decompress(data), pixels)


def test_a_file_that_changed_meanwhile_is_named(
    tmp_path, photo, forgotten, tiny_codec: Codec, codec: Codec, monkeypatch
):
    path = tmp_path / "codec.safetensors"
    tiny_codec.save(path)
    data = fastlic.load(path).compress(photo, 4)
    registry._recent.clear()
    codec.save(path)
    with pytest.raises(ModelMismatchError, match=rf"{path} held; it now holds {codec.fingerprint.hex()}"):
        fastlic.decompress(data)


# ---- shipped weights


@pytest.mark.parametrize("name", sorted(cards()))
def test_a_flipped_bit_of_shipped_weights_is_reported(name, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    data = bytearray((WEIGHTS / f"{name}.safetensors").read_bytes())
    for position in (len(data) // 3, len(data) - 1):
        data[position] ^= 1
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        registry._load_shipped.cache_clear()
        with pytest.raises(CodecFileError, match=r"damaged.*SHA-256"):
            fastlic.load(name)
        data[position] ^= 1
    registry._load_shipped.cache_clear()
