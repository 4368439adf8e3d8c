"""``fastlic inspect``: every analysis on small codecs and small images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fastlic import Codec
from fastlic.codec import container
from fastlic.inspect import codes, packing, rates, same_bits
from fastlic.lifelike.models import small_mlic
from fastlic.models import JAHP, McQuic, MLICPlusPlus
from fastlic.models.mcquic import save_published
from fastlic.models.mcquic.context import CodeContext
from fastlic.ops.backends import instruction_sets
from fastlic.ops.codebook import codebook_nearest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """A folder with one image of noise, 100 rows and 140 columns."""
    folder = tmp_path_factory.mktemp("images")
    pixels = torch.randint(0, 256, (100, 140, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.numpy()).save(folder / "noise.png")
    return folder


@pytest.fixture(scope="module")
def mlic() -> Codec:
    return Codec(small_mlic(), [torch.rand(3, 64, 96)], name="small")


@pytest.mark.parametrize("family", ["jahp", "mlic++"])
def test_growth_is_that_of_real_bytes_over_the_float_path(
    family, tiny_codec, mlic, photo, noise, fastlic_command, tmp_path
):
    codec = {"jahp": tiny_codec, "mlic++": mlic}[family]
    image = photo[:, :100, :150]
    found = rates.growth(codec, image, 2)
    assert found.sections == 8 * sum(container.look(codec.compress(image, 2, transforms="float")).section_bytes)
    assert found.tables < found.sections < 1.2 * found.tables + 400
    assert found.gaussians_y > 0 and 0 < found.float_z < found.float_y
    assert abs(found.psnr - found.float_psnr) < 0.2
    codec.save(tmp_path / "whole.safetensors")
    done = fastlic_command("inspect", "growth", "whole.safetensors", noise, "--qualities", "1,2")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1.0", "2.0"] and {len(row) for row in rows} == {7}


def test_growth_says_what_it_lacks(fastlic_command, tiny_codec, photos, tmp_path):
    tiny_codec.save(tmp_path / "coding.safetensors", training=False)
    done = fastlic_command("inspect", "growth", "coding.safetensors", photos)
    assert done.code == 1 and "has no float entropy network" in done.err
    with pytest.raises(ValueError, match="no Gaussian latents"):
        rates.float_model(Codec(McQuic(8, 2, [16, 8]), [torch.rand(3, 64, 64)]))


@pytest.mark.parametrize("kind", ["jahp", "mlic++", "early", "codec"])
def test_bits_of_slices_and_halves_add_up_to_the_float_path(kind, noise, tiny_codec, fastlic_command, tmp_path):
    torch.manual_seed(0)
    if kind == "codec":
        tiny_codec.save(tmp_path / "model.safetensors")
        slices = 1
    else:
        extra = {"blocks": 1, "early": True} if kind == "early" else {}
        model = (JAHP if kind == "jahp" else MLICPlusPlus)(16, 64, (8, 12, 16), qualities=8, **extra)
        torch.nn.init.constant_(model.gain.log_gain, 3.0)
        save_file(model.state_dict(), tmp_path / "model.safetensors")
        slices = 2
    done = fastlic_command("inspect", "bits", "model.safetensors", noise, "--qualities", "8")
    assert done.code == 0
    _, total, anchors, others = done.out.splitlines()
    bits, z = (float(part.split()[-1]) for part in total.split(": ")[1].split(", z"))
    parts = [float(number) for row in (anchors, others) for number in row.split()[1:]]
    assert len(parts) == 2 * slices
    assert sum(parts) + z == pytest.approx(bits, abs=3)
    assert bits > 1000


@pytest.mark.parametrize("golden", ["tiny_jahp", "tiny_mlicp", "tiny_pixels_jahp"])
def test_no_setting_changes_a_bit(golden, photos, fastlic_command):
    model = GOLDEN / f"{golden}.safetensors"
    done = fastlic_command("inspect", "same-bits", model, photos, "--limit", 1, "--batch", 1, "--batch", 2)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[len(instruction_sets())].startswith("0 differences: 1 images")
    assert len(lines) == (3 if "pixels" in golden else 1) + len(instruction_sets())


def test_a_setting_that_changes_a_bit_is_counted(tiny_codec, photo, monkeypatch):
    images = [photo[:, :64, :64]]
    real, calls = tiny_codec.encode, []

    def once_otherwise(images, backend):
        calls.append(backend)
        return real([tiny_codec.analyse(photo[:, 64:128, :64], 3)] if len(calls) == 2 else images, backend)

    monkeypatch.setattr(tiny_codec, "encode", once_otherwise)
    found = list(same_bits.same_bits(tiny_codec, images, 3, [1]))
    assert [result.different for result in found] == [1] + [0] * (len(found) - 1)
    assert {result.images for result in found} == {len(same_bits.THREADS)}


def test_integers_lose_little_beside_floats(photos, fastlic_command, tiny_codec, tmp_path):
    tiny_codec.save(tmp_path / "tiny.safetensors")
    done = fastlic_command("inspect", "pixels", "tiny.safetensors", photos, "--limit", 2, "--qualities", "1,8")
    assert done.code == 0
    rows = [[float(number) for number in line.split()] for line in done.out.splitlines()[2:]]
    assert [row[0] for row in rows] == [1, 8] and {len(row) for row in rows} == {8}
    assert all(abs(number) < 0.1 for row in rows for number in row[2:6])
    done = fastlic_command("inspect", "pixels", GOLDEN / "tiny_jahp.safetensors", photos, "--limit", 1)
    assert done.code == 1 and "has no integer transforms" in done.err


def test_a_pixel_that_a_setting_changes_is_counted(tiny_codec, photo, monkeypatch):
    real, calls = tiny_codec.decompress, []

    def once_otherwise(streams, **how):
        calls.append(how)
        return [image + (len(calls) == 2) for image in real(streams, **how)]

    monkeypatch.setattr(tiny_codec, "decompress", once_otherwise)
    found = list(same_bits.same_bits(tiny_codec, [photo[:, :64, :64]], 3, [1]))
    assert [result.different for result in found] == [1] + [0] * (len(found) - 1)


def test_searches_are_held_against_float64(photos, fastlic_command, tmp_path):
    torch.manual_seed(0)
    save_published(McQuic(8, 2, [40, 20]), tmp_path / "x.mcquic")
    done = fastlic_command("inspect", "codes", "x.mcquic", photos)
    assert done.code == 0 and " 0 differ from the float64 search" in done.out
    done = fastlic_command("inspect", "codes", GOLDEN / "tiny_jahp.safetensors", photos)
    assert done.code == 2 and "searches no codebook" in done.err


def test_all_distances_lead_to_the_nearest_word():
    torch.manual_seed(0)
    x, words = torch.randn(60, 2, 5), torch.randn(2, 70, 5)
    assert torch.equal(codes.all_distances(codes.as_map(x), words)[0, :, 0].t(), codebook_nearest(x, words))


def test_a_wrong_index_is_counted():
    search = codes.searches(Codec(McQuic(8, 2, [40, 20]), [torch.rand(3, 64, 64)]), torch.rand(3, 40, 40), None)[0]
    assert codes.compare(search).wrong == 0
    search.found[0, 0] = (search.found[0, 0] + 1) % 40
    assert codes.compare(search).wrong == 1


def test_code_bits_are_those_of_the_codec_without_its_context_and_with_it():
    torch.manual_seed(0)
    model, image = McQuic(8, 2, [16, 8]), torch.rand(3, 64, 96)
    plain = Codec(model, calibration=[image])
    knowing = Codec(model, calibration=[image], context=CodeContext(2, 16, depth=4, width=8))
    expected = plain.estimate(image)["bits"], knowing.estimate(image)["bits"]
    assert expected[0] != expected[1]
    assert codes.context_bits(knowing, [image], None) == pytest.approx(expected)
    assert codes.context_bits(plain, [image], None) == pytest.approx((expected[0], expected[0]))


def test_the_table_holds_what_was_packed(fastlic_command, monkeypatch):
    monkeypatch.setattr(packing, "_READS", 1)
    path = GOLDEN / "tiny_pixels_mlic.safetensors"
    found = packing.packed(Codec.load(path))
    assert 0 < found.int8.bits < 8 and 0 < found.int16.bits < 16 and found.files[1] < found.files[0]
    done = fastlic_command("inspect", "packing", path)
    assert done.code == 0
    columns = " | ".join(f"{own.values / 1e6:.2f} M, {own.bits:.2f}" for own in (found.int8, found.int16))
    assert f"| {columns} |" in done.out.splitlines()[-1]


def test_every_kind_of_target_has_its_row(noise, fastlic_command):
    done = fastlic_command("inspect", "targets", "jahp", noise, "--limit", 1)
    assert done.code == 0
    rows = [row.split(" | ") for row in done.out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| target_bytes", "| target_bpp", "| target_psnr"]
    assert all(float(row[1].split(", ")[0]) >= 2 for row in rows)


@pytest.mark.parametrize("what", ["growth", "bits", "same-bits", "codes", "targets"])
def test_a_folder_without_images_and_a_missing_model_are_errors(what, fastlic_command, tiny_codec, tmp_path):
    tiny_codec.save(tmp_path / "model.safetensors")
    save_published(McQuic(8, 2, [40, 20]), tmp_path / "x.mcquic")
    (tmp_path / "empty").mkdir()
    done = fastlic_command("inspect", what, "x.mcquic" if what == "codes" else "model.safetensors", "empty")
    assert done.code == 1 and "empty holds no image" in done.err
    done = fastlic_command("inspect", what, "none.safetensors", "empty")
    assert done.code == 1 and "none.safetensors" in done.err


def test_qualities_are_held_to_the_codec(fastlic_command, tiny_codec, photos, tmp_path):
    tiny_codec.save(tmp_path / "model.safetensors")
    done = fastlic_command("inspect", "growth", "model.safetensors", photos, "--qualities", "9")
    assert done.code == 2 and "quality must be from 1 to 8" in done.err
    done = fastlic_command("inspect", "bits", "model.safetensors", photos, "--qualities", "9")
    assert done.code == 1 and "quality must be from 1 to 8, got 9" in done.err
