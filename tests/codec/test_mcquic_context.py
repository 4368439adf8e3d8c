"""A McQuic codec with a context model: fewer bits for the same codes, in files and streams of its own."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastlic
from fastlic import Codec
from fastlic.codec import container
from fastlic.codec.images import as_pixels
from fastlic.errors import CodecFileError, CorruptStreamError, ModelMismatchError
from fastlic.models import JAHP, McQuic
from fastlic.models.mcquic.context import CodeContext


def model() -> McQuic:
    torch.manual_seed(0)
    return McQuic(4, 2, [12, 6]).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    ramp = torch.linspace(0, 1, 96)
    return (ramp[None, :, None] * ramp[None, None, :]).expand(3, -1, -1).contiguous()


@pytest.fixture(scope="module")
def plain(image: Tensor) -> Codec:
    return Codec(model(), calibration=[image], name="plain")


@pytest.fixture(scope="module")
def context(plain: Codec, image: Tensor) -> CodeContext:
    """A few steps on the codes of the image that the tests compress."""
    torch.manual_seed(1)
    context = CodeContext(2, 12, 6, 16)
    rows = context.rows(plain.latents(image)["codes_0"][None])
    optimiser = torch.optim.Adam(context.parameters(), 2e-2)
    for _ in range(80):
        optimiser.zero_grad()
        context(rows).backward()
        optimiser.step()
    return context


@pytest.fixture(scope="module")
def codec(context: CodeContext, image: Tensor) -> Codec:
    return Codec(model(), calibration=[image], name="contextual", context=context)


def test_the_same_codes_and_pixels_take_fewer_bytes(codec: Codec, plain: Codec, image: Tensor):
    data, other = codec.compress(image), plain.compress(image)
    assert codec.estimate(image)["codes_0_bits"] < 0.8 * plain.estimate(image)["codes_0_bits"]
    assert len(data) <= len(other)
    assert all(
        torch.equal(a, b) for a, b in zip(codec.latents(image).values(), plain.latents(image).values(), strict=True)
    )
    assert torch.equal(codec.decompress(data), plain.decompress(other))
    _, sections = container.unpack(data)
    for section, level in zip(sections, (1, 0), strict=True):
        assert 0 <= 8 * len(section) - codec.estimate(image)[f"codes_{level}_bits"] <= 96


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 100), (43, 44), (70, 129)])
def test_any_size_comes_back_on_every_backend(codec: Codec, height: int, width: int):
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height + width))
    data = codec.compress(x)
    assert codec.compress(x, backend="reference") == data
    for backend in ("cpp", "reference"):
        assert torch.equal(codec.decompress(data, backend=backend), codec.decompress(data))
    assert torch.equal(codec.decode_latents(data)["codes_0"], codec.latents(x)["codes_0"])


def test_a_batch_on_threads_gives_each_images_bytes(codec: Codec, image: Tensor):
    batch = torch.stack([image, 1 - image, image.flip(1)])
    coder = codec._coder
    analysed = [coder.analyse(as_pixels(x), None, 1) for x in batch]
    coded = coder.encode_many(analysed, "auto", 2)
    assert [sections for sections, _ in coded] == [container.unpack(codec.compress(x))[1] for x in batch]
    decoded = coder.decode_many([(sections, (96, 96)) for sections, _ in coded], "auto", 2, {})
    assert all(torch.equal(a, b) for x, y in zip(decoded, analysed, strict=True) for a, b in zip(x, y, strict=True))


def test_previews_read_the_deeper_levels_alone(codec: Codec, plain: Codec, image: Tensor):
    data = codec.compress(image)
    assert torch.equal(codec.decompress(data, levels=1), plain.decompress(plain.compress(image), levels=1))
    layout = container.parse(data)
    end = layout.framing_bytes + layout.section_lengths[0]
    assert torch.equal(codec.decompress(data[:end], levels=1), codec.decompress(data, levels=1))


@pytest.mark.parametrize("options", [{}, {"half": True, "training": False}])
def test_a_saved_codec_keeps_its_context(codec: Codec, image: Tensor, tmp_path: Path, options):
    codec.save(tmp_path / "c.safetensors", **options)
    again = fastlic.load(tmp_path / "c.safetensors")
    assert again.fingerprint == codec.fingerprint and again.name == "contextual"
    data = codec.compress(image)
    assert torch.equal(again.decode_latents(data)["codes_0"], codec.decode_latents(data)["codes_0"])
    latents = again.decode_latents(again.compress(image))
    assert torch.equal(latents["codes_0"], again.latents(image)["codes_0"])


def test_a_context_can_join_a_stored_coder(
    codec: Codec, plain: Codec, context: CodeContext, image: Tensor, tmp_path: Path
):
    plain.save(tmp_path / "p.safetensors", training=False)
    joined = fastlic.load(tmp_path / "p.safetensors")._coder.with_context(context, [image])
    assert joined.fingerprint() == codec.fingerprint and joined.model is None


def test_streams_with_and_without_a_context_are_told_apart(codec: Codec, plain: Codec, image: Tensor):
    assert codec.fingerprint != plain.fingerprint == Codec(model(), calibration=[image]).fingerprint
    with pytest.raises(ModelMismatchError, match="plain"):
        plain.decompress(codec.compress(image))
    with pytest.raises(ModelMismatchError, match="contextual"):
        codec.decompress(plain.compress(image))


def test_a_damaged_context_is_refused_when_a_file_is_read(codec: Codec, tmp_path: Path, reseal):
    good, bad = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    codec.save(good)
    for missing in ("entropy/context.words", "entropy/context.last.1.requantise.shift"):
        reseal(good, bad, lambda tensors, _, missing=missing: tensors.pop(missing))
        with pytest.raises(CodecFileError, match=r"does not fit its own description.*missing"):
            Codec.load(bad)


def test_a_codec_leaves_its_context_as_it_was(context: CodeContext, codec: Codec, image: Tensor):
    given = copy.deepcopy(context).double().train()
    assert Codec(model(), calibration=[image], context=given).fingerprint == codec.fingerprint
    assert given.training and all(weight.dtype == torch.float64 for weight in given.parameters())


def test_contexts_that_do_not_fit_are_refused(image: Tensor):
    with pytest.raises(ValueError, match="for a model of"):
        Codec(model(), calibration=[image], context=CodeContext(2, 13, 6, 16))
    with pytest.raises(TypeError, match="CodeContext"):
        Codec(model(), calibration=[image], context=torch.nn.Identity())
    with pytest.raises(ValueError, match="at least one image"):
        Codec(model(), calibration=[], context=CodeContext(2, 12, 6, 16))
    with pytest.raises(ValueError, match="trained apart"):
        Codec(JAHP(4, 4, (4, 4, 4)), calibration=[image], context=CodeContext(2, 12, 6, 16))


@pytest.mark.fuzz
def test_damage_under_valid_checksums_is_an_error_or_an_image(codec: Codec, image: Tensor):
    header, sections = container.unpack(codec.compress(image))
    for cut in range(0, len(sections[1]), 4):
        with pytest.raises(CorruptStreamError):
            codec.decompress(container.pack(header, [sections[0], sections[1][:cut]]))
    generator = torch.Generator().manual_seed(0)
    reported = 0
    for _ in range(40):
        damaged = bytearray(sections[1])
        at, bit = (int(torch.randint(n, (1,), generator=generator)) for n in (len(damaged), 8))
        damaged[at] ^= 1 << bit
        try:
            shown = codec.decompress(container.pack(header, [sections[0], bytes(damaged)]))
            assert shown.shape == image.shape and bool(torch.isfinite(shown).all())
        except CorruptStreamError:
            reported += 1
    assert reported > 35
    forged = container.Header(header.model_id, None, header.fingerprint, 9000, 9000)
    with pytest.raises(CorruptStreamError, match="too few"):
        codec.decompress(container.pack(forged, sections))
