"""Codec: every image in, the same latents out, and clear words for everything else."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fastlic
from fastlic import Codec, light
from fastlic.codec import container
from fastlic.codec.families import BY_FAMILY, CODERS
from fastlic.entropy.rate import coded_bits
from fastlic.errors import CorruptStreamError, ModelMismatchError
from fastlic.models import JAHP
from fastlic.ops.backends import torch_threads

from ..conftest import small_model
from . import damage

SIZES = [(1, 1), (1, 200), (200, 1), (15, 17), (16, 16), (64, 64), (65, 63), (33, 130)]


def level(codec: Codec) -> float | None:
    return 4.0 if codec.qualities else None


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_comes_back_at_its_own_size_with_the_encoders_latents(any_codec: Codec, height: int, width: int):
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height + width))
    data = any_codec.compress(x, level(any_codec))
    x_hat = any_codec.decompress(data)
    assert x_hat.shape == x.shape and x_hat.dtype == torch.float32
    assert x_hat.min() >= 0 and x_hat.max() <= 1
    seen, decoded = any_codec.latents(x, level(any_codec)), any_codec.decode_latents(data)
    assert all(torch.equal(seen[k], decoded[k]) for k in ("z", "y"))


def test_a_real_photo_is_reconstructed_better_at_higher_quality_for_more_bytes(codec: Codec, photo: Tensor):
    sizes, errors = [], []
    for quality in (1, 4, 8):
        data = codec.compress(photo, quality)
        x_hat = codec.decompress(data, dtype=torch.uint8)
        sizes.append(len(data))
        errors.append((x_hat.float() - photo.float()).square().mean().item())
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
    assert errors[-1] < 300  # 23 dB from twelve untrained channels: the latents do carry the photo


def test_analysis_and_coding_are_the_two_halves_of_compress(any_codec: Codec, photo: Tensor):
    images = [photo, photo[:, 10:50, :70]]
    analysed = [any_codec.analyse(x, level(any_codec)) for x in images]
    coded = any_codec.encode(analysed)
    assert [data for data, _ in coded] == [any_codec.compress(x, level(any_codec)) for x in images]
    decoded = any_codec.decode_latents([data for data, _ in coded])
    for (_, seen), back in zip(coded, decoded, strict=True):
        assert seen.keys() == back.keys() and all(torch.equal(seen[k], back[k]) for k in seen)
    foreign = replace(analysed[0], header=replace(analysed[0].header, fingerprint=bytes(8)))
    for call in (lambda: any_codec.encode([foreign]), lambda: any_codec.symbols(foreign)):
        with pytest.raises(ValueError, match="an analysis by weights 0000000000000000; this codec is"):
            call()
    with pytest.raises(ValueError, match="expected one image, got a batch of 2"):
        any_codec.analyse(photo[None].expand(2, -1, -1, -1), level(any_codec))


def test_symbols_are_what_the_sections_hold(any_codec: Codec, photo: Tensor):
    analysed = any_codec.analyse(photo, level(any_codec))
    symbols, entropy = any_codec.symbols(analysed), any_codec.entropy
    (data, latents) = any_codec.encode([analysed])[0]
    bits = [coded_bits(tables, *symbols[k]) for k, tables in (("z", entropy.z_tables), ("y", entropy.y_tables))]
    for section, ideal in zip(container.look(data).section_bytes, bits, strict=True):
        assert ideal - 8 < 8 * section < 1.01 * ideal + 64 * 16
    assert np.array_equal(symbols["z"][1], latents["z"].flatten(1).T.numpy().ravel())


def test_fractional_quality_lies_between_its_neighbours(codec: Codec, photo: Tensor):
    low, middle, high = (len(codec.compress(photo, q)) for q in (4, 4.5, 5))
    assert low < middle < high


def test_uint8_and_float_of_the_same_image_give_the_same_bytes(codec: Codec, photo: Tensor):
    assert codec.compress(photo, 4) == codec.compress(photo.float() / 255, 4)


def test_non_contiguous_and_batch_of_one_are_accepted(codec: Codec, photo: Tensor):
    turned = photo.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert [codec.compress(turned, 4)] == codec.compress(photo[None], 4) == [codec.compress(photo, 4)]


def test_a_batch_gives_each_images_own_bytes_and_a_list_comes_back(codec: Codec, photo: Tensor):
    batch = torch.stack([photo, photo.flip(2), 255 - photo])
    streams = codec.compress(batch, 4)
    assert streams == [codec.compress(x, 4) for x in batch]
    images = codec.decompress(streams, dtype=torch.uint8)
    assert [tuple(x.shape) for x in images] == [tuple(photo.shape)] * 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
def test_decompressed_images_have_the_type_asked_for(codec: Codec, photo: Tensor, dtype: torch.dtype):
    x = codec.decompress(codec.compress(photo, 4), dtype=dtype)
    assert x.dtype == dtype and x.shape == photo.shape


def test_latents_do_not_depend_on_the_number_of_threads(codec: Codec, photo: Tensor):
    with torch_threads(2):
        data = codec.compress(photo, 6)
        expected = codec.decode_latents(data)
    with torch_threads(1):
        assert torch.equal(codec.decode_latents(data)["y"], expected["y"])


REFUSED = {
    "no tensor": ([[0.0]], TypeError, "torch.Tensor"),
    "grey without channels": (torch.rand(8, 8), ValueError, r"x\[None\]"),
    "five channels": (torch.rand(5, 8, 8), ValueError, "5 channels"),
    "channels last": (torch.rand(8, 9, 3), ValueError, "movedim"),
    "empty": (torch.rand(3, 0, 8), ValueError, "one pixel"),
    "five axes": (torch.rand(1, 1, 3, 8, 8), ValueError, "shape"),
    "int64": (torch.zeros(3, 8, 8, dtype=torch.int64), ValueError, "int64"),
    "NaN": (torch.full((3, 8, 8), float("nan")), ValueError, "finite"),
    "infinity": (torch.full((3, 8, 8), float("inf")), ValueError, "finite"),
    "0..255 floats": (torch.rand(3, 8, 8) * 255, ValueError, "divide by 255"),
    "negative": (torch.rand(3, 8, 8) - 0.5, ValueError, "values from -"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_what_came_and_what_is_wanted(codec: Codec, case: str):
    x, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        codec.compress(x, 4)


@pytest.mark.parametrize("quality", [0, 0.9, 8.1, -1, float("nan")])
def test_a_quality_outside_the_codecs_range_is_refused(codec: Codec, photo: Tensor, quality):
    with pytest.raises(ValueError, match="1 to 8"):
        codec.compress(photo, quality)


def test_an_output_type_that_makes_no_image_is_refused(codec: Codec, photo: Tensor):
    with pytest.raises(ValueError, match="int32"):
        codec.decompress(codec.compress(photo, 4), dtype=torch.int32)


def test_a_saved_codec_gives_the_same_streams_and_images(any_codec: Codec, photo: Tensor, tmp_path: Path):
    any_codec.save(tmp_path / "codec.safetensors")
    again = fastlic.load(tmp_path / "codec.safetensors")
    data = any_codec.compress(photo, level(any_codec))
    assert again.compress(photo, level(any_codec)) == data
    assert torch.equal(again.decompress(data), any_codec.decompress(data))
    assert again.fingerprint == any_codec.fingerprint and again.name == any_codec.name


def test_a_codec_saved_for_coding_alone_hands_out_no_half_model(codec: Codec, photo: Tensor, tmp_path: Path):
    codec.save(tmp_path / "small.safetensors", half=True, training=False)
    again = Codec.load(tmp_path / "small.safetensors")
    data = codec.compress(photo, 4)
    assert torch.equal(again.decode_latents(data)["y"], codec.decode_latents(data)["y"])
    assert again.model is None
    # Without the float network the estimate is the tables' own: real bytes exceed it by lanes and framing alone.
    estimate = again.estimate(photo, 4)["bits"]
    assert estimate <= 8 * len(data) <= 1.02 * estimate + 8 * 80


def test_a_stream_finds_the_codec_it_was_made_with(codec: Codec, photo: Tensor, tmp_path: Path):
    codec.save(tmp_path / "codec.safetensors")
    fastlic.load(tmp_path / "codec.safetensors")
    data = codec.compress(photo, 3)
    assert torch.equal(fastlic.decompress(data), codec.decompress(data))
    assert len(fastlic.decompress([data, data])) == 2


def test_a_stream_of_other_weights_names_both(codec: Codec, any_codec: Codec, photo: Tensor):
    if any_codec.fingerprint == codec.fingerprint:
        pytest.skip("the same weights")
    with pytest.raises(ModelMismatchError, match=f"{any_codec.fingerprint.hex()}.*{codec.fingerprint.hex()}"):
        codec.decompress(any_codec.compress(photo, level(any_codec)))


def test_a_stream_of_unknown_weights_says_which(photo: Tensor):
    header = container.Header(3, 4.0, bytes(8), 16, 16)
    with pytest.raises(ModelMismatchError, match="0000000000000000"):
        fastlic.decompress(container.pack(header, [b"a", b"b"]))


def test_a_codec_file_that_is_none_is_refused(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"not a codec")
    with pytest.raises(ValueError, match="safetensors"):
        fastlic.load(path)
    with pytest.raises(ValueError, match="neither a codec file nor"):
        fastlic.load("no-such-weights")


@pytest.mark.parametrize("load", [fastlic.load, light.load])
def test_a_path_without_a_file_is_told_as_the_system_does(load, tmp_path: Path):
    for path in ("none/x.safetensors", "x.safetensors", "none/x", Path("x")):
        with pytest.raises(FileNotFoundError, match=f"No such file or directory: '{path}'"):
            load(path)
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


def test_a_codec_without_previews_says_so(codec: Codec, photo: Tensor):
    data = codec.compress(photo, 4)
    with pytest.raises(ValueError, match="no previews; got levels=1"):
        codec.decompress(data, levels=1)
    assert torch.equal(codec.decompress(data, levels=None), codec.decompress(data))


def test_every_family_that_a_coder_serves_has_a_number_in_the_format():
    assert set(BY_FAMILY) <= set(container.MODEL_IDS)
    assert all(cls.family == family for coder in CODERS for family, cls in coder.models.items())


def test_every_truncation_and_every_changed_byte_is_reported(codec: Codec):
    damage.check_every_change(codec, codec.compress(damage.noise(), 2))


def test_damage_under_valid_checksums_is_an_error_or_bounded_never_a_crash(codec: Codec):
    assert damage.reported_of_100_under_valid_checksums(codec, codec.compress(damage.noise(), 2)) > 66


def test_a_short_stream_cannot_claim_a_huge_image(codec: Codec, photo: Tensor):
    header, sections = container.unpack(codec.compress(photo, 4))
    forged = container.Header(header.model_id, header.quality, header.fingerprint, 9000, 9000)
    with pytest.raises(CorruptStreamError, match="too few"):
        codec.decompress(container.pack(forged, sections))


def test_header_and_framing_cost_at_most_48_bytes(codec: Codec, photo: Tensor):
    data = codec.compress(photo, 8)
    _, sections = container.unpack(data)
    assert len(data) - sum(len(s) for s in sections) <= 48


def test_a_codec_is_a_copy_and_leaves_the_model_as_it_was(photo: Tensor, tmp_path: Path):
    model = small_model(JAHP).double().train()
    before = copy.deepcopy(model.state_dict())
    codec = Codec(model, calibration=[photo])
    after = model.state_dict()
    assert model.training and all(part.training for part in model.modules())
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())

    codec.save(tmp_path / "before.safetensors")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    codec.save(tmp_path / "after.safetensors")
    assert (tmp_path / "after.safetensors").read_bytes() == (tmp_path / "before.safetensors").read_bytes()


def test_one_flipped_word_of_the_model_type_is_a_type_error():
    with pytest.raises(TypeError, match=r"fastlic\.models"):
        Codec(torch.nn.Linear(3, 3))
