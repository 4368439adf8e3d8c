"""``fastlic compress`` and ``fastlic decompress``: naming, batches, failures, exit codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import fastlic
from fastlic import peek, read_metadata
from fastlic.codec.container import Metadata
from fastlic.codec.image_files import encode_image, read_image
from fastlic.evaluate import psnr


def test_in_and_out_make_a_round_trip(fastlic_command, photos, tiny_codec, tiny_codec_file, tmp_path):
    photo = photos / "astronaut.png"
    packed = fastlic_command("compress", photo, "out.flic", "-m", tiny_codec_file, "-q", 2.5)
    data = (tmp_path / "out.flic").read_bytes()
    assert packed.code == 0
    assert f"311x233, {len(data):,} bytes, {8 * len(data) / (311 * 233):.3f} bpp, compressed in" in packed.out
    x_hat = tiny_codec.decompress(data, dtype=torch.uint8)
    assert f"PSNR {psnr(read_image(photo).pixels, x_hat):.2f} dB" in packed.out
    assert data == tiny_codec.compress(read_image(photo).pixels, 2.5)

    unpacked = fastlic_command("decompress", "out.flic", "back.png", "-m", tiny_codec_file)
    assert unpacked.code == 0
    assert "311x233" in unpacked.out
    assert torch.equal(read_image(tmp_path / "back.png").pixels, x_hat)


@pytest.mark.parametrize("model", ["jahp", "float transforms"])
def test_a_region_has_the_pixels_of_the_whole_image(fastlic_command, photos, tiny_codec_file, tmp_path, model):
    model = model if model == "jahp" else tiny_codec_file
    assert fastlic_command("compress", photos / "astronaut.png", "out.flic", "-m", model).code == 0
    assert fastlic_command("decompress", "out.flic", "whole.png", "-m", model).code == 0
    part = fastlic_command("decompress", "out.flic", "part.png", "-m", model, "--region", "64x48+30+20", "--json")
    told = json.loads(part.out)
    assert part.code == 0 and (told["width"], told["height"]) == (64, 48)
    assert told["bpp"] == pytest.approx(8 * (tmp_path / "out.flic").stat().st_size / (311 * 233), abs=1e-6)
    whole = read_image(tmp_path / "whole.png").pixels
    assert torch.equal(read_image(tmp_path / "part.png").pixels, whole[:, 20:68, 30:94])

    for outside in ("282x48+30+20", "64x214+30+20", "0x48+30+20"):
        refused = fastlic_command("decompress", "out.flic", "none.png", "-m", model, "--region", outside)
        assert refused.code == 1
        assert f"--region {outside} does not lie in an image of 311x233 (width x height)" in refused.err
    unclear = fastlic_command("decompress", "out.flic", "none.png", "-m", model, "--region", "64x48")
    assert unclear.code == 2 and "must be WxH+X+Y, such as 640x480+0+100, got '64x48'" in unclear.err
    assert not (tmp_path / "none.png").exists()


def test_the_default_quality_is_4(fastlic_command, photos, tiny_codec, tiny_codec_file, tmp_path):
    fastlic_command("compress", photos / "chelsea.png", "-o", "out.flic", "-m", tiny_codec_file)
    expected = tiny_codec.compress(read_image(photos / "chelsea.png").pixels, 4)
    assert (tmp_path / "out.flic").read_bytes() == expected


def test_a_target_takes_the_place_of_a_quality(fastlic_command, photos, tmp_path):
    photo = photos / "chelsea.png"
    done = fastlic_command("compress", photo, "out.flic", "--target-bytes", 3000)
    data = (tmp_path / "out.flic").read_bytes()
    assert len(data) <= 3000
    assert f"quality {fastlic.peek(data).quality:g}" in done.out
    assert fastlic_command("compress", photo, "b.flic", "-q", fastlic.peek(data).quality).code == 0
    assert (tmp_path / "b.flic").read_bytes() == data
    both = fastlic_command("compress", photo, "c.flic", "--target-bpp", 0.5, "--target-psnr", 30)
    assert both.code == 2
    assert "target_bpp and target_psnr" in both.err
    beyond = fastlic_command("compress", photo, "c.flic", "--target-psnr", 90)
    assert beyond.code == 1
    assert "out of reach" in beyond.err
    assert not (tmp_path / "c.flic").exists()


def test_an_effort_is_that_of_the_library(fastlic_command, photos, tmp_path):
    photo = photos / "chelsea.png"
    assert fastlic_command("compress", photo, "out.flic", "--effort", 3).code == 0
    expected = fastlic.compress(read_image(photo).pixels, effort=3)
    assert (tmp_path / "out.flic").read_bytes() == expected
    assert fastlic_command("compress", photo, "b.flic", "--effort", 10).code == 2


def test_decompress_finds_weights_that_were_loaded_before(fastlic_command, photos, tiny_codec_file, tmp_path):
    fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", tiny_codec_file)
    fastlic.load(tiny_codec_file)
    assert fastlic_command("decompress", "a.flic").code == 0
    assert (tmp_path / "a.png").exists()


def test_a_derived_name_never_overwrites_unless_forced(fastlic_command, photos, tiny_codec_file, tmp_path):
    shutil.copy(photos / "chelsea.png", tmp_path)
    fastlic_command("compress", "chelsea.png", "-m", tiny_codec_file)
    original = (tmp_path / "chelsea.png").read_bytes()

    refused = fastlic_command("decompress", "chelsea.flic", "-m", tiny_codec_file)
    assert refused.code == 1
    assert "chelsea.png exists: --overwrite replaces, --skip-existing keeps what exists" in refused.err
    assert (tmp_path / "chelsea.png").read_bytes() == original

    assert fastlic_command("decompress", "chelsea.flic", "-m", tiny_codec_file, "--force").code == 0
    assert (tmp_path / "chelsea.png").read_bytes() != original


def test_folders_are_mirrored_and_a_bad_file_stops_nothing(fastlic_command, photos, tiny_codec_file, tmp_path):
    shutil.copytree(photos, tmp_path / "in" / "deep")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    result = fastlic_command("compress", "in", "--output-dir", "out", "-m", tiny_codec_file)
    assert result.code == 1
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.flic")) == [
        "deep/astronaut.flic",
        "deep/chelsea.flic",
    ]
    assert "2 of 3 files" in result.out
    assert "PSNR" not in result.out
    assert "Error: in/broken.png: no image that Pillow can read" in result.err

    back = fastlic_command("decompress", "out", "--output-dir", "back", "-m", tiny_codec_file, "--format", "ppm")
    assert back.code == 0
    assert (tmp_path / "back" / "deep" / "astronaut.ppm").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "b.png", "-o", "c.flic"], "--output takes one input"),
        (["a.png", "-o", "c.flic", "--output-dir", "d"], "exclude each other"),
        (["a.png", "-o", "."], "is a folder; use --output-dir"),
        (["a.png", "c.flic", "-q", "9"], "quality must be from 1 to 8, got 9"),
        (["a.png", "c.flic", "-q", "0.5"], "quality must be from 1 to 8, got 0.5"),
        (["a.png", "c.flic", "-q", "nan"], "quality must be from 1 to 8, got nan"),
        (["a.png", "c.flic", "-q", "good"], "not a valid float"),
        (["a.png", "c.flic", "--device", "toaster"], "'toaster' is no device"),
        (["a.png", "c.flic", "--background", "nonesuch"], "'--background': unknown colour 'nonesuch'"),
        (["a.png", ""], "an empty name"),
        ([""], "an empty name"),
        (["a.png", "--output-dir", ""], "'--output-dir': an empty name"),
        (["a.png", "packed"], "packed is neither there nor named as an input: -o packed or --output-dir packed"),
        ([".", "packed"], "packed is neither there"),
        (["a.png", "b.png", "c.xyz"], "c.xyz is neither there"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(fastlic_command, tiny_codec_file, tmp_path, arguments, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    result = fastlic_command("compress", *arguments, "-m", tiny_codec_file)
    assert result.code == 2
    assert message in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_outputs_without_a_name_of_a_format_take_that_of_the_option(fastlic_command, tiny_codec_file, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    codec = ("--quiet", "-m", tiny_codec_file)
    assert fastlic_command("compress", "a.png", "/dev/null", *codec).code == 0  # a device is no image to read
    assert fastlic_command("compress", "a.png", "a.flic", *codec).code == 0
    assert fastlic_command("decompress", "a.flic", "/dev/null", *codec).code == 0
    with (tmp_path / "out").open("w+b") as out:
        asked = ("decompress", "a.flic", "-o", f"/dev/fd/{out.fileno()}", "--format", "ppm", *codec)
        assert fastlic_command(*asked).code == 0
        out.seek(0)
        assert out.read(11) == b"P6\n8 8\n255\n"


def test_a_folder_for_outputs_that_is_a_file_is_told_as_no_folder(fastlic_command, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    result = fastlic_command("compress", "a.png", "--output-dir", "a.png")
    assert (result.code, result.err) == (1, "Error: a.png: Not a directory\n")


def test_an_unknown_model_is_named(fastlic_command, photos):
    result = fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", "nonesuch")
    assert result.code == 1
    assert "Error: 'nonesuch' is neither a codec file nor" in result.err


def test_a_damaged_stream_is_an_error_and_writes_nothing(fastlic_command, photos, tiny_codec_file, tmp_path):
    fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", tiny_codec_file)
    data = bytearray((tmp_path / "a.flic").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.flic").write_bytes(data)
    result = fastlic_command("decompress", "a.flic", "a.png", "-m", tiny_codec_file)
    assert result.code == 1
    assert "Error: a.flic: section 1" in result.err
    assert "fails its checksum" in result.err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [("a.txt", "cannot write"), ("a.xyz", "cannot write"), ("folder/a.png", "folder/a.png: there is no folder folder")],
)
def test_an_output_that_cannot_be_written_is_told(fastlic_command, photos, tiny_codec_file, target, words):
    fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", tiny_codec_file)
    result = fastlic_command("decompress", "a.flic", target, "-m", tiny_codec_file)
    assert result.code == 1
    assert words in result.err


def test_conversions_are_told_in_the_line(fastlic_command, tiny_codec_file, tmp_path):
    Image.new("L", (20, 10), 99).save(tmp_path / "grey.png")
    result = fastlic_command("compress", "grey.png", "-m", tiny_codec_file)
    assert "converted" not in result.out and peek((tmp_path / "grey.flic").read_bytes()).channels == 1
    Image.new("CMYK", (20, 10), (9, 9, 9, 9)).save(tmp_path / "press.tif")
    assert "(CMYK converted to RGB)" in fastlic_command("compress", "press.tif", "-m", tiny_codec_file).out
    Image.new("RGBA", (20, 10), (9, 9, 9, 9)).save(tmp_path / "clear.png")
    laid = fastlic_command("compress", "clear.png", "-m", tiny_codec_file, "--background", "white")
    assert laid.code == 0
    assert "(transparency laid on white)" in laid.out


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILE = PROFILE.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")  # sRGB is not kept


def test_what_an_image_has_beside_its_pixels_comes_back(fastlic_command, tiny_codec_file, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    metadata = Metadata(PROFILE, exif.tobytes().removeprefix(b"Exif\0\0"), b"<x:xmpmeta/>")
    pixels = np.random.default_rng(1).integers(0, 256, (10, 20, 4), np.uint8)
    (tmp_path / "x.png").write_bytes(encode_image(pixels, ".png", metadata))
    assert fastlic_command("compress", "x.png", "-m", tiny_codec_file).code == 0
    assert read_metadata((tmp_path / "x.flic").read_bytes()) == metadata
    info = fastlic_command("info", "x.flic").out
    assert "RGB and alpha" in info and f"icc profile  {len(PROFILE)}" in info
    assert fastlic_command("decompress", "x.flic", "back.png", "-m", tiny_codec_file).code == 0
    back = read_image(tmp_path / "back.png", channels=None)
    assert back.metadata == metadata and np.array_equal(back.array[:, :, 3], pixels[:, :, 3])
    assert "no transparency" in fastlic_command("decompress", "x.flic", "back.jpg", "-m", tiny_codec_file).err
    assert fastlic_command("decompress", "x.flic", "bare.png", "--strip", "-m", tiny_codec_file).code == 0
    assert read_image(tmp_path / "bare.png", channels=None).metadata == Metadata()
    assert fastlic_command("compress", "x.png", "s.flic", "--strip", "-m", tiny_codec_file).code == 0
    assert read_metadata((tmp_path / "s.flic").read_bytes()) == Metadata()
    grey = "-m", tiny_codec_file, "--background", "white"
    assert fastlic_command("compress", "x.png", "w.flic", *grey).code == 0
    told = fastlic_command("decompress", "w.flic", "back.ppm", "-m", tiny_codec_file)
    assert "not kept: .ppm" in told.out


def test_an_interrupt_exits_with_130(fastlic_command, photos, tiny_codec_file, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastlic.codec.image_files.read_image", stop)
    result = fastlic_command("compress", photos / "chelsea.png", "a.flic", "-m", tiny_codec_file)
    assert result.code == 130
    assert list(tmp_path.glob("a*")) == []


def test_the_pixel_limit_is_an_option_of_both_commands(fastlic_command, photos, tiny_codec_file):
    photo, model = photos / "astronaut.png", ("-m", tiny_codec_file)  # 311 x 233
    refused = fastlic_command("compress", photo, "a.flic", *model, "--max-pixels", 72462)
    assert refused.code == 1
    assert "233 x 311 (height x width), 72463 pixels, above the limit of 72462 pixels" in refused.err
    assert "--max-pixels" in refused.err and not Path("a.flic").exists()
    assert fastlic_command("compress", photo, "a.flic", *model, "--max-pixels", 72463).code == 0
    refused = fastlic_command("decompress", "a.flic", "b.png", *model, "--max-pixels", 72462)
    assert refused.code == 1 and "above the limit of 72462 pixels" in refused.err and not Path("b.png").exists()
    assert fastlic_command("decompress", "a.flic", "b.png", *model, "--max-pixels", 72463).code == 0
    assert fastlic_command("decompress", "a.flic", "b.png", "--max-pixels", 0).code == 2


_UNDER_A_LIMIT = """
    import resource, sys
    import numpy, PIL.Image, tqdm
    from fastlic import light
    from fastlic.cli.main import main
    light._threads = lambda count: 1  # another that finds no memory for its own variables ends the process (glibc)
    codec = light.load(sys.argv[sys.argv.index("-m") + 1])
    light.decompress(light.compress(numpy.zeros((64, 64, 3), numpy.uint8), codec, 4), codec)  # what a first call loads
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), resource.RLIM_INFINITY))
    main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_file_that_needs_too_much_memory_does_not_end_a_folder(command, tiny_codec, tiny_codec_file, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("a", 64), ("b", 4096), ("c", 80)):
        pixels = torch.full((3, side, side), 90, dtype=torch.uint8)
        if command == "compress":
            (folder / f"{name}.png").write_bytes(encode_image(pixels.permute(1, 2, 0).numpy(), ".png"))
        else:
            (folder / f"{name}.flic").write_bytes(tiny_codec.compress(pixels, 4))
    arguments = [command, folder, "--output-dir", tmp_path / "out", "-m", tiny_codec_file]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_UNDER_A_LIMIT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^Error: .*b\.\w+: not enough memory for ", done.stderr, re.MULTILINE)
    assert done.stderr.count("Error:") == 1 and "2 of 3 files" in done.stdout
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["a", "c"]
