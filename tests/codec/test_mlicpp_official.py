"""Streams of the official MLIC++ code, both ways; what surrounds them runs without the official outputs too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastlic.codec import mlicpp_official as official
from fastlic.errors import CorruptStreamError, PixelLimitError
from fastlic.lifelike.models import photo, small_mlic
from fastlic.models import MLICPlusPlus
from fastlic.ops.compressai_tables import scale_table


@pytest.mark.golden
def test_official_strings_decode_to_the_official_image(official_mlicpp):
    model = MLICPlusPlus.from_state_dict(official_mlicpp["state_dict"])
    got = official.decompress(model, official_mlicpp["strings"], official_mlicpp["shape"])
    torch.testing.assert_close(got, official_mlicpp["decompress_x_hat"], rtol=1e-4, atol=1e-5)


@pytest.mark.golden
def test_an_official_image_encodes_to_the_official_strings(official_mlicpp):
    model = MLICPlusPlus.from_state_dict(official_mlicpp["state_dict"])
    out = official.compress(model, official_mlicpp["x"])
    assert out["shape"] == tuple(official_mlicpp["shape"])
    assert out["strings"] == official_mlicpp["strings"]


@pytest.mark.golden
def test_tables_made_here_are_the_checkpoints_own(official_mlicpp):
    model = MLICPlusPlus.from_state_dict(official_mlicpp["state_dict"])
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    official.update(model)
    for name in ("_quantized_cdf", "_cdf_length", "_offset"):
        for part in ("entropy_bottleneck", "gaussian_conditional"):
            assert torch.equal(model.get_buffer(f"{part}.{name}"), buffers[f"{part}.{name}"]), (part, name)
    np.testing.assert_array_equal(scale_table(), buffers["gaussian_conditional.scale_table"].numpy())


@pytest.fixture(scope="module")
def model() -> MLICPlusPlus:
    made = small_mlic(MLICPlusPlus, qualities=0)
    official.update(made)
    return made


def test_any_model_round_trips_with_the_latents_of_its_forward_pass(model):
    x = photo()[None, :, :64, 100:200]
    out = official.compress(model, x)
    decoded = official.decompress(model, out["strings"], out["shape"])
    with torch.no_grad():
        forward = model(torch.nn.functional.pad(x, (0, 28)))["x_hat"]
    torch.testing.assert_close(decoded, forward, rtol=1e-4, atol=1e-4)


def test_files_round_trip_and_damage_is_found(model):
    out = official.compress(model, photo()[None, :, :60, :70])
    data = official.write_file(out, 60, 70)
    assert len(data) == 28 + sum(len(s) for part in out["strings"] for s in part)
    assert official.read_file(data) == (out, 60, 70)
    for damaged in (data[:10], data[:25], data[:-1], data + b"x", data[:12] + b"\0\0\0\7" + data[16:]):
        with pytest.raises(CorruptStreamError):
            official.read_file(damaged)


def test_damaged_strings_are_found(model):
    out = official.compress(model, photo()[None, :, :64, :64])
    (y,), (z,) = out["strings"]
    for strings in ([[y[:-4]], [z]], [[y], [z[:-4]]], [[y + b"\1\2\3\4"], [z]], [[b""], [z]]):
        with pytest.raises(CorruptStreamError):
            official.decompress(model, strings, out["shape"])
    for shape in ((0, 1), (1, -1)):
        with pytest.raises(CorruptStreamError, match=r"a hyper latent of .* is none"):
            official.decompress(model, out["strings"], shape)
    with pytest.raises(ValueError, match=r"\[\[y\], \[z\]\]"):
        official.decompress(model, [[y]], out["shape"])


def test_images_over_the_pixel_limit_are_told_as_such_and_not_as_damage(model):
    x = photo()[None, :, :70, :50]
    out = official.compress(model, x, max_pixels=3500)
    assert official.decompress(model, out["strings"], out["shape"], max_pixels=3500).shape == (1, 3, 128, 64)
    with pytest.raises(PixelLimitError, match=r"70 x 50 .* limit of 3499"):
        official.compress(model, x, max_pixels=3499)
    with pytest.raises(PixelLimitError, match="limit of 64"):
        official.decompress(model, out["strings"], out["shape"], max_pixels=64)
    with pytest.raises(PixelLimitError, match="raise the limit"):
        official.decompress(model, out["strings"], (1 << 20, 1 << 20))


def test_the_official_code_knows_no_early_context():
    model = small_mlic(MLICPlusPlus, qualities=0, early=True)
    official.update(model)
    with pytest.raises(ValueError, match="no early context"):
        official.compress(model, torch.zeros(1, 3, 64, 64))


def test_a_model_without_tables_says_how_to_make_them():
    with pytest.raises(ValueError, match="update"):
        official.compress(small_mlic(MLICPlusPlus, qualities=0), torch.zeros(1, 3, 64, 64))
