"""Codecs of the MLIC family: pixels to bytes and back, previews, storage, damage."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import fastlic
from fastlic.codec.families.mlic import MlicCoder
from fastlic.codec.storage import StoredCodec
from fastlic.entropy.passes import Latents
from fastlic.entropy.rate import table_bits
from fastlic.errors import CorruptStreamError, ModelMismatchError
from fastlic.lifelike.models import photo, small_mlic
from fastlic.models import MLIC, MLICPlus, MLICPlusPlus

FAMILY = {
    "mlic": (MLIC, {}),
    "mlic+": (MLICPlus, {}),
    "mlic++": (MLICPlusPlus, {}),
    "mlic++, early": (MLICPlusPlus, {"blocks": 1, "early": True}),
}
BACKENDS = ["reference", "cpp"]


@cache
def codec_of(name: str) -> fastlic.Codec:
    cls, how = FAMILY[name]
    return fastlic.Codec(small_mlic(cls, **how), [photo()[:, 128:256, 256:448]])


def crop(height: int = 100, width: int = 150) -> torch.Tensor:
    return photo()[:, 200 : 200 + height, 300 : 300 + width].contiguous()


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(100, 150), (1, 1), (16, 16), (33, 17), (64, 128)])
def test_the_decoder_sees_the_encoders_latents(name, backend, size):
    codec = codec_of(name)
    x = crop(*size)
    data = codec.compress(x, 1.5, backend)
    assert data == codec.compress(x, 1.5, "reference")
    mine = codec.latents(x, 1.5)
    for latent, value in codec.decode_latents(data).items():
        assert torch.equal(value, mine[latent]), latent
    assert codec.decompress(data, backend=backend).shape == (3, *size)


@pytest.mark.parametrize("name", FAMILY)
def test_batches_and_lists_give_what_single_images_give(name):
    codec = codec_of(name)
    batch = torch.stack([crop(), crop().flip(1), crop().flip(2)])
    streams = codec.compress(batch, 1)
    assert streams == [codec.compress(x, 1) for x in batch]
    for image, data in zip(codec.decompress(streams), streams, strict=True):
        assert torch.equal(image, codec.decompress(data))


@pytest.mark.parametrize("backend", BACKENDS)
def test_previews_read_the_first_slices(backend):
    codec = codec_of("mlic++")
    assert codec.previews == {"slices": 2}
    data = codec.compress(crop(), 2)
    whole = codec.decompress(data, backend=backend)
    assert torch.equal(codec.decompress(data, backend=backend, slices=2), whole)
    first = codec.decompress(data, backend=backend, slices=1)
    assert first.shape == whole.shape and not torch.equal(first, whole)
    with pytest.raises(ValueError, match="slices must be a whole number from 1 to 2"):
        codec.decompress(data, slices=3)
    with pytest.raises(ValueError, match=r"previews by slices=1\.\.2"):
        codec.decompress(data, levels=1)
    decoded = next(codec._decode_many([data], backend, {"slices": 1}))[0][0]
    assert torch.equal(decoded.symbols[:16], codec.decode_latents(data)["symbols"][:16])
    assert not decoded.symbols[16:].any()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["mlic++", "mlic++, early"])
def test_a_saved_codec_gives_the_same_streams(tmp_path, half, name):
    codec = codec_of(name)
    codec.save(tmp_path / "codec.safetensors", half=half, training=not half)
    again = fastlic.load(tmp_path / "codec.safetensors")
    assert again.fingerprint == codec.fingerprint and (again.model is None) == half
    data = codec.compress(crop(), 2)
    assert torch.equal(again.decode_latents(data)["y"], codec.decode_latents(data)["y"])
    if not half:
        assert again.compress(crop(), 2) == data
        assert fastlic.decompress(data).shape == (3, 100, 150)


def test_integers_of_another_model_are_refused():
    coders = {name: codec_of(name)._coder for name in FAMILY}
    for name, other, fault in (
        ("mlic++", "mlic", "integers of family, slices, M = .'mlic'"),
        ("mlic++", "mlic++, early", "an early context"),
        ("mlic++, early", "mlic++", "no early context"),
    ):
        mine, theirs = coders[name], coders[other]
        floats = mine.model.state_dict()
        with pytest.raises(ValueError, match=fault):
            MlicCoder.from_stored(StoredCodec("x", mine.family, mine.config, floats, theirs.entropy.to_arrays()))


@pytest.mark.parametrize("name", FAMILY)
def test_estimates_are_near_what_they_estimate(name):
    """Tables against real bytes; the float network, fed with coded latents, against its own forward pass."""
    codec, x = codec_of(name), crop(128, 192)
    mine = codec.latents(x, 2)
    tables = sum(table_bits(codec.entropy, Latents(**mine)))
    assert abs(tables / (8 * len(codec.compress(x, 2))) - 1) < 0.1
    by_floats = codec.estimate(x, 2)
    assert by_floats["bits"] == by_floats["y_bits"] + by_floats["z_bits"]
    with torch.no_grad():
        forward = codec.model(x[None], 2)["likelihoods"]
    assert abs(by_floats["y_bits"] / -forward["y"].log2().sum().item() - 1) < 0.2
    assert abs(by_floats["z_bits"] / -forward["z"].log2().sum().item() - 1) < 0.05


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.fuzz
def test_damaged_sections_are_found_and_cost_no_memory(backend):
    codec = codec_of("mlic++")
    coder = codec._coder
    x = codec.analyse(crop(), 2).target
    (sections, latents), *_ = coder.encode_many([x], backend, 1)
    size = (100, 150)
    random = torch.Generator().manual_seed(1)

    def decode(damaged: list[bytes], size: tuple[int, int] = size) -> torch.Tensor:
        return coder.decode_many([(damaged, size)], backend, 1, {})[0].y

    assert torch.equal(decode(sections), latents.y)
    found = 0
    for _ in range(20):
        part = int(torch.randint(0, 2, (), generator=random))
        at = int(torch.randint(0, len(sections[part]), (), generator=random))
        damaged = [bytearray(s) for s in sections]
        damaged[part][at] ^= 1 << int(torch.randint(0, 8, (), generator=random))
        try:
            found += not torch.equal(decode([bytes(s) for s in damaged]), latents.y)
        except CorruptStreamError:
            found += 1
    assert found == 20
    for damaged in ([sections[0], b""], [b"", sections[1]], [sections[0], sections[1][:-1]]):
        with pytest.raises(CorruptStreamError):
            decode(damaged)
    with pytest.raises(CorruptStreamError, match="too few for"):
        decode(list(sections), (1 << 18, 1 << 18))


def test_streams_of_other_families_are_refused_by_name():
    data = codec_of("mlic+").compress(crop(), 2)
    with pytest.raises(ModelMismatchError, match=r"mlic\+"):
        codec_of("mlic++").decompress(data)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="backend must be auto, reference"):
        codec_of("mlic").compress(crop(), 1, "gpu")
