"""McQuic as a codec: codes that survive everything, previews from beginnings, and words for all damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import fastlic
from fastlic import Codec
from fastlic.codec import container
from fastlic.codec.image_files import read_image
from fastlic.codec.registry import WEIGHTS
from fastlic.entropy.codes import CodeTables
from fastlic.errors import CodecFileError, CorruptStreamError, ModelMismatchError
from fastlic.evaluate import psnr
from fastlic.models import McQuic
from fastlic.ops.backends import torch_threads

from . import damage

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = [(1, 1), (1, 200), (43, 44), (129, 64), (128, 192)]


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return load_file(GOLDEN / "mcquic_official.safetensors")


@pytest.fixture(scope="module")
def model(official: dict[str, Tensor]) -> McQuic:
    return McQuic.from_state_dict({k.removeprefix("model/"): v.float() for k, v in official.items() if "model/" in k})


@pytest.fixture(scope="module")
def codec(model: McQuic, photo: Tensor) -> Codec:
    return Codec(model, [photo], name="small")


@pytest.fixture(scope="module")
def stream(codec: Codec, photo: Tensor) -> bytes:
    return codec.compress(photo)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_comes_back_at_its_own_size_with_the_encoders_codes(codec: Codec, height: int, width: int):
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height + width))
    data = codec.compress(x)
    x_hat = codec.decompress(data)
    assert x_hat.shape == x.shape and x_hat.min() >= 0 and x_hat.max() <= 1
    assert equal(codec.latents(x), codec.decode_latents(data))


def test_the_image_of_floats_is_what_the_models_own_decoder_makes_of_the_codes(
    codec: Codec, model: McQuic, photo: Tensor
):
    x = photo[None].float() / 255
    codes = model.encode(2 * x - 1, model.stride)
    with torch.no_grad():
        expected = (model.decode(codes, photo.shape[1:]) + 1) / 2
    data = codec.compress(photo, transforms="float")
    assert all(torch.equal(codec.decode_latents(data)[f"codes_{n}"], c[0]) for n, c in enumerate(codes))
    pixels = codec.decompress(data, transforms="float")
    torch.testing.assert_close(pixels, expected[0].clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_integers_give_nearly_the_codes_and_pixels_of_floats(codec: Codec, photo: Tensor):
    mine, theirs = (codec.compress(photo, transforms=way) for way in ("integer", "float"))
    finest = [codec.decode_latents(data)["codes_0"] for data in (mine, theirs)]
    assert (finest[0] == finest[1]).float().mean() > 0.9  # deeper levels code what these leave over
    a, b = (codec.decompress(theirs, transforms=way) for way in ("integer", "float"))
    assert (a - b).square().mean().sqrt() < 0.005


def test_pixels_are_those_of_the_stream_whatever_the_thread_count(codec: Codec, photo: Tensor, stream: bytes):
    with torch_threads(2):
        assert codec.compress(photo) == stream
        two = codec.decompress(stream, dtype=torch.uint8)
    assert torch.equal(two, codec.decompress(stream, dtype=torch.uint8))


def test_every_backend_writes_and_reads_the_same_bytes(codec: Codec, photo: Tensor, stream: bytes):
    assert codec.compress(photo, backend="reference") == stream
    assert torch.equal(codec.decompress(stream, backend="reference"), codec.decompress(stream, backend="cpp"))
    with pytest.raises(ValueError, match="backend"):
        codec.decompress(stream, backend="abacus")


def test_real_bytes_are_within_a_few_bytes_of_the_estimate(codec: Codec, photo: Tensor, stream: bytes):
    estimate = codec.estimate(photo)
    assert estimate["bits"] == pytest.approx(sum(estimate[f"codes_{n}_bits"] for n in range(3)))
    _, sections = container.unpack(stream)
    for section, level in zip(sections, (2, 1, 0), strict=True):
        assert 0 <= 8 * len(section) - estimate[f"codes_{level}_bits"] <= 96  # a final state of 8 bytes and rounding


def test_a_quality_is_refused_and_a_batch_gives_each_images_bytes(codec: Codec, photo: Tensor, stream: bytes):
    with pytest.raises(ValueError, match="one fixed rate"):
        codec.compress(photo, 4)
    assert fastlic.compress(photo, model=codec) == stream
    batch = torch.stack([photo, 255 - photo])
    assert codec.compress(batch) == [codec.compress(x) for x in batch]


# ---- previews


def test_previews_need_only_the_beginning_of_a_stream_and_approach_the_image(codec: Codec, stream: bytes):
    layout = container.parse(stream)
    whole = codec.decompress(stream)
    ends = [layout.framing_bytes + sum(layout.section_lengths[: n + 1]) for n in range(3)]
    for levels, end in zip((1, 2), ends, strict=False):
        preview = codec.decompress(stream, levels=levels)
        assert preview.shape == whole.shape and not torch.equal(preview, whole)
        assert torch.equal(codec.decompress(stream[:end], levels=levels), preview)
        damaged = bytearray(stream)
        damaged[end] ^= 1
        assert torch.equal(codec.decompress(bytes(damaged), levels=levels), preview)
        with pytest.raises(CorruptStreamError):
            codec.decompress(stream[: end - 1], levels=levels)
    assert torch.equal(codec.decompress(stream, levels=3), whole)
    with pytest.raises(CorruptStreamError):
        codec.decompress(stream[:-1], levels=3)


@pytest.mark.parametrize("levels", [0, 4, -1, 1.5, True, "2"])
def test_previews_that_do_not_exist_are_refused(codec: Codec, stream: bytes, levels):
    with pytest.raises(ValueError, match="whole number from 1 to 3"):
        codec.decompress(stream, levels=levels)
    with pytest.raises(ValueError, match=r"previews by levels=1\.\.3; got slices=2"):
        codec.decompress(stream, slices=2)


# ---- storage


@pytest.mark.parametrize("options", [{}, {"training": False}, {"half": True}, {"half": True, "training": False}])
def test_a_saved_codec_writes_the_same_bytes(codec: Codec, photo: Tensor, stream: bytes, tmp_path: Path, options):
    path = tmp_path / "mcquic.safetensors"
    codec.save(path, **options)
    again = fastlic.load(path)  # these weights are float16 to begin with
    assert again.fingerprint == codec.fingerprint and again.config == codec.config and again.name == "small"
    assert again.compress(photo) == stream
    assert torch.equal(again.decompress(stream), codec.decompress(stream))
    assert torch.equal(again.decompress(stream, levels=1), codec.decompress(stream, levels=1))
    assert torch.equal(fastlic.decompress(stream, levels=2), again.decompress(stream, levels=2))
    assert (again.model is None) == (options.get("training") is False)
    again.save(tmp_path / "once_more.safetensors", **options)
    assert Codec.load(tmp_path / "once_more.safetensors").fingerprint == codec.fingerprint


def test_a_coding_file_holds_integers_alone_and_each_codebook_once(codec: Codec, tmp_path: Path):
    codec.save(tmp_path / "c.safetensors", training=False)
    stored = load_file(tmp_path / "c.safetensors")
    assert not any(name.startswith("float/") for name in stored)
    assert sum(name.endswith(".words") and name.startswith("transforms/") for name in stored) == 3


def test_floats_of_a_coding_file_are_nearly_those_that_its_integers_were_made_of(
    codec: Codec, photo: Tensor, stream: bytes, tmp_path: Path
):
    codec.save(tmp_path / "c.safetensors", training=False)
    restored = Codec.load(tmp_path / "c.safetensors")
    a, b = (one.decompress(stream, transforms="float") for one in (codec, restored))
    assert (a - b).square().mean().sqrt() < 0.005
    assert len(restored.compress(photo, transforms="float")) < 1.05 * len(stream)


@pytest.mark.parametrize("options", [{}, {"half": True}, {"half": True, "training": False}])
def test_prices_that_float16_cannot_hold_survive_a_file_of_float16(
    photo: Tensor, tmp_path: Path, options: dict[str, bool]
):
    torch.manual_seed(0)
    codec = Codec(McQuic(4, 2, [4, 4], [3.0, 0.3]), [photo])
    codec.save(tmp_path / "c.safetensors", **options)
    again = Codec.load(tmp_path / "c.safetensors")
    assert again.config == codec.config and again.fingerprint == codec.fingerprint
    assert again.compress(torch.zeros(3, 20, 20), 1.5) == codec.compress(torch.zeros(3, 20, 20), 1.5)


def test_shipped_weights_lose_nothing_to_integers_and_need_no_floats_beside_them(photos: Path, tmp_path: Path):
    x = read_image(photos / "astronaut.png").pixels
    shipped = fastlic.load("mcquic")
    codec = Codec.__new__(Codec)
    codec._setup(shipped._coder.with_pixels(None), "integers", (shipped.fingerprint,))
    for quality in (1, 4, 8):
        streams = [codec.compress(x, quality, transforms=way) for way in ("integer", "float")]
        assert abs(len(streams[0]) / len(streams[1]) - 1) < 0.01
        found = [
            psnr(x, codec.decompress(data, dtype=torch.uint8, transforms=way))
            for data, way in zip(streams, ("integer", "float"), strict=True)
        ]
        assert found[0] == pytest.approx(found[1], abs=0.05)
    codec.save(tmp_path / "c.safetensors", half=True, training=False)
    again = Codec.load(tmp_path / "c.safetensors")
    assert again.fingerprint == codec.fingerprint and again.compress(x, 8) == codec.compress(x, 8)
    data = codec.compress(x, 8)
    assert torch.equal(again.decompress(data, dtype=torch.uint8), codec.decompress(data, dtype=torch.uint8))
    old = shipped.compress(x, 8, transforms="float")
    assert psnr(x, again.decompress(old, dtype=torch.uint8)) == pytest.approx(
        psnr(x, shipped.decompress(old, dtype=torch.uint8)), abs=0.05
    )
    assert (tmp_path / "c.safetensors").stat().st_size < WEIGHTS.joinpath("mcquic.safetensors").stat().st_size


def test_a_codec_of_an_earlier_release_has_floats_alone(codec: Codec, photo: Tensor, tmp_path: Path, reseal):
    def earlier(tensors: dict[str, Tensor], description: dict) -> None:
        description["layout"] = 3
        for name in [name for name in tensors if name.startswith("transforms/")]:
            del tensors[name]

    codec.save(tmp_path / "c.safetensors")
    reseal(tmp_path / "c.safetensors", tmp_path / "old.safetensors", earlier)
    old = Codec.load(tmp_path / "old.safetensors")
    assert old.entropy_fingerprint == codec.entropy_fingerprint and old.fingerprint != codec.fingerprint
    _, sections = container.unpack(codec.compress(photo, transforms="float"))
    assert container.unpack(old.compress(photo))[1] == sections
    with pytest.raises(ValueError, match="no integer transforms"):
        old.compress(photo, transforms="integer")


def test_a_codec_file_with_tables_of_another_model_is_refused(codec: Codec, tmp_path: Path, reseal):
    good, bad = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    codec.save(good)
    for missing in (
        "entropy/levels.0.cdf",
        "entropy/words",
        "float/_encoder.0.weight",
        "transforms/level.1.words",
        "transforms/up.0.3.weight",
    ):
        reseal(good, bad, lambda tensors, _, missing=missing: tensors.pop(missing))
        with pytest.raises(CodecFileError, match="does not fit its own description"):
            Codec.load(bad)

    def swap(tensors: dict[str, Tensor], description: dict) -> None:
        for part in ("cdf", "lengths"):
            tensors[f"entropy/levels.0.{part}"] = tensors[f"entropy/levels.1.{part}"].clone()

    reseal(good, bad, swap)
    with pytest.raises(CodecFileError, match="does not fit its own description"):
        Codec.load(bad)


def test_weights_that_differ_only_in_their_words_have_different_fingerprints(photo: Tensor):
    torch.manual_seed(0)
    codecs = [Codec(McQuic(4, 2, [4, 4]), [photo]) for _ in range(2)]
    assert codecs[0].fingerprint != codecs[1].fingerprint
    with pytest.raises(ModelMismatchError, match="mcquic"):
        codecs[0].decompress(codecs[1].compress(torch.rand(3, 8, 8)))


def test_calibration_adds_counts_so_that_its_images_get_shorter(model: McQuic, photo: Tensor):
    own, other = (Codec(model, [image]).compress(photo) for image in (photo, 255 - photo))
    assert len(own) < len(other)


# ---- format and damage


@pytest.mark.golden
def test_tables_and_stream_of_version_1_give_the_official_codes(official: dict[str, Tensor]):
    with np.load(GOLDEN / "mcquic_tables.npz") as arrays:
        tables = CodeTables.from_arrays(dict(arrays))
    header, sections = container.unpack((GOLDEN / "mcquic.flic").read_bytes())
    assert header == container.Header(container.MODEL_IDS["mcquic"], None, tables.fingerprint(), 100, 140, version=1)
    for section, level in zip(sections, (2, 1, 0), strict=True):
        codes = official[f"codes/{level}"][0].numpy()
        assert np.array_equal(tables.decode(level, section, *codes.shape[1:]), codes)
        assert tables.encode(level, codes) == section


def test_every_truncation_and_every_changed_byte_is_reported(codec: Codec):
    damage.check_every_change(codec, codec.compress(damage.noise()))


@pytest.mark.fuzz
def test_damage_under_valid_checksums_is_an_error_or_an_image(codec: Codec):
    assert damage.reported_of_100_under_valid_checksums(codec, codec.compress(damage.noise())) > 90


def test_sections_that_are_missing_too_many_or_too_short_are_reported(codec: Codec, stream: bytes):
    header, sections = container.unpack(stream)
    for wrong in (sections[:2], [*sections, b""]):
        with pytest.raises(CorruptStreamError, match="3 sections"):
            codec.decompress(container.pack(header, wrong))
    forged = container.Header(header.model_id, None, header.fingerprint, 9000, 9000)
    with pytest.raises(CorruptStreamError, match="too few"):
        codec.decompress(container.pack(forged, sections))
    with pytest.raises(CorruptStreamError, match="quality"):
        codec.decompress(container.pack(container.Header(7, 3.0, header.fingerprint, 96, 136), sections))
