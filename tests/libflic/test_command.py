"""The command flic: images and streams that Python's fastlic reads and writes, and faults in one line."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import fastlic
from fastlic import light
from fastlic.codec.image_files import encode_image, read_image

ROOT = Path(__file__).resolve().parents[2]
GOLDEN, WEIGHTS = ROOT / "tests" / "golden", ROOT / "fastlic" / "weights"
TINY = GOLDEN / "tiny_pixels_jahp.safetensors"


@pytest.fixture(scope="module")
def flic(built):
    def run(*arguments: str | Path, status: int = 0, given: bytes = b"", weights: Path | str = WEIGHTS) -> bytes:
        """What it writes to standard output; of a failure what it says, one line."""
        environment = {**os.environ, "FLIC_WEIGHTS": str(weights)}
        done = subprocess.run([built / "flic", *arguments], input=given, capture_output=True, env=environment)
        assert done.returncode == status, done.stderr.decode()
        if status:
            assert done.stdout == b"" or "info" in arguments
            lines = done.stderr.decode().splitlines()
            assert lines[0].startswith("flic: ") and len(lines) == (2 if status == 2 else 1), lines
            return done.stderr
        assert done.stderr == b""
        return done.stdout

    return run


@pytest.fixture(scope="module")
def png(flic) -> bool:
    return b"png" in flic("--help")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(ROOT / "tests" / "images" / "chelsea.png") as image:
        return np.asarray(image.convert("RGB"))[:96, :136]


def ppm(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PPM")
    return out.getvalue()


def pixels_of(data: bytes | Path) -> np.ndarray:
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        return np.asarray(image)


def test_a_photo_goes_to_the_bytes_of_python_and_back_to_its_pixels(flic, photo, png, tmp_path):
    (tmp_path / "in.ppm").write_bytes(ppm(photo))
    for name in ("jahp", "mlic++"):
        flic("encode", tmp_path / "in.ppm", tmp_path / "x.flic", "--codec", name, "-q", "5.5", "-t", "2")
        data = (tmp_path / "x.flic").read_bytes()
        assert data == light.compress(photo, name, 5.5)
        for ending in ("ppm", "png") if png else ("ppm",):
            flic("decode", tmp_path / "x.flic", tmp_path / f"x.{ending}")  # by the stream's fingerprint
            assert np.array_equal(pixels_of(tmp_path / f"x.{ending}"), light.decompress(data))
    assert list(tmp_path.glob(".*")) == []


def test_quality_four_and_jahp_are_the_defaults_as_in_python(flic, photo):
    assert flic("encode", "-", "-", given=ppm(photo)) == light.compress(photo, "jahp", 4)


def test_pipes_previews_and_grey(flic, photo):
    data = flic("encode", "-", "-", "--codec=mcquic", given=ppm(photo))
    assert np.array_equal(pixels_of(flic("decode", "-", "-", "--parts=1", given=data)), light.decompress(data, parts=1))
    grey = photo[:, :, 1].copy()
    assert flic("encode", "-", "-", given=ppm(grey)) == light.compress(grey)


def test_a_region_is_a_part_of_the_picture(flic, photo, tmp_path):
    data = flic("encode", "-", "-", given=ppm(photo))
    part = pixels_of(flic("decode", "-", "-", "--region", "40x30+7+11", given=data))
    assert np.array_equal(part, light.decompress(data)[11:41, 7:47])
    (tmp_path / "x.flic").write_bytes(data)
    flic("decode", tmp_path / "x.flic", tmp_path / "x.ppm", "--region=999999999x999999999+0+0", status=1)
    assert not (tmp_path / "x.ppm").exists()


def test_a_grey_output_has_one_channel(flic, photo, tmp_path):
    (tmp_path / "x.flic").write_bytes(light.compress(photo))
    flic("decode", tmp_path / "x.flic", tmp_path / "x.PGM")
    rgb = light.decompress((tmp_path / "x.flic").read_bytes()).astype(np.int64)
    assert np.array_equal(pixels_of(tmp_path / "x.PGM"), rgb @ [19595, 38470, 7471] + 32768 >> 16)


def test_codecs_are_found_by_path_by_name_and_by_fingerprint(flic, tmp_path):
    stream = GOLDEN / "tiny_pixels_jahp_v2.flic"
    expected = flic("decode", stream, "-", "--codec", TINY)
    assert flic("decode", stream, "-", "--codec", "tiny_pixels_jahp", weights=GOLDEN) == expected
    assert flic("decode", stream, "-", weights=f"{tmp_path}:{GOLDEN}") == expected
    words = flic("decode", stream, "-", status=1).decode()
    assert "needs a codec of family 'jahp' with fingerprint" in words and str(WEIGHTS) in words
    assert "no codec 'none' at hand" in flic("decode", stream, "-", "--codec", "none", status=1).decode()
    # What is damaged is named, and another that fits is found all the same.
    shutil.copy(TINY, tmp_path / "good.safetensors")
    (tmp_path / "jahp.safetensors").write_bytes(TINY.read_bytes()[:-1])
    assert flic("decode", stream, "-", weights=tmp_path) == expected
    (tmp_path / "good.safetensors").unlink()
    assert "jahp.safetensors" in flic("decode", stream, "-", status=1, weights=tmp_path).decode()


def test_info_describes_streams_and_codecs(flic, photo, tmp_path):
    (tmp_path / "x.flic").write_bytes(light.compress(photo, quality=4.5))
    text = flic("info", tmp_path / "x.flic").decode()
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith(("format", "framing")))
    head = fastlic.peek((tmp_path / "x.flic").read_bytes())
    assert (facts["width"], facts["height"], facts["quality"]) == ("136", "96", "4.5")
    assert facts["fingerprint"] == head.fingerprint and facts["model"] == "jahp"
    text = flic("info", WEIGHTS / "mlic++.safetensors").decode()
    assert "mlic++" in text and "1 to 6 parts" in text
    several = flic("info", tmp_path / "none", tmp_path / "x.flic", status=1).decode()
    assert "No such file" in several


def test_faults_are_one_line_with_the_path_and_the_status(flic, photo, tmp_path):
    good = light.compress(photo)
    (tmp_path / "bad.flic").write_bytes(good[:-1])
    (tmp_path / "good.flic").write_bytes(good)
    assert f"{tmp_path}/bad.flic: " in flic("decode", tmp_path / "bad.flic", tmp_path / "x.ppm", status=1).decode()
    assert not (tmp_path / "x.ppm").exists()
    words = flic("decode", tmp_path / "good.flic", "-", "--max-pixels", "100", status=1).decode()
    assert "96 x 136 (height x width) has more than the 100 pixels allowed" in words
    assert "bytes of memory" in flic("decode", tmp_path / "good.flic", "-", "--max-memory=1k", status=1).decode()
    assert flic("decode", tmp_path / "good.flic", "-", "--max-memory=1g", "--threads=2")
    assert "No such file" in flic("decode", tmp_path / "good.flic", tmp_path / "no" / "x.ppm", status=1).decode()
    (tmp_path / "folder.ppm").mkdir()
    assert "directory" in flic("decode", tmp_path / "good.flic", tmp_path / "folder.ppm", status=1).decode()
    assert "quality must be 1 to 8" in flic("encode", "-", "-", "-q", "9", status=1, given=ppm(photo)).decode()
    for arguments in (
        [],
        ["nonsense"],
        ["info"],
        ["decode", "a"],
        ["decode", "a", "b", "c"],
        ["decode", "a", "b.jpg"],
        ["decode", "a", "b.ppm", "--quality", "3"],
        ["encode", "a", "b", "--quality"],
        ["encode", "a", "b", "--quality", "x"],
        ["encode", "a", "b", "--parts", "1"],
        ["decode", "a", "b.ppm", "--threads", "-1"],
        ["decode", "a", "b.ppm", "--max-pixels=0"],
        ["decode", "a", "b.ppm", "--max-memory=99999999999G"],
        ["decode", "a", "b.ppm", "--what"],
        ["decode", "a", "b.ppm", "--region", "40x30"],
        ["decode", "a", "b.ppm", "--region", "40x30+7+-1"],
        ["decode", "a", "b.ppm", "--region", "40x30+7+1+"],
        ["decode", "a", "b.ppm", "--region", "40x30++7+1"],
        ["decode", "a", "b.ppm", "--region", "+40x30+7+1"],
        ["decode", "a", "b.ppm", "--region", "40x+30+7+1"],
        ["encode", "a.ppm", "b", "--region", "40x30+7+1"],
    ):
        flic(*arguments, status=2)
    assert flic("--version").startswith(b"flic ")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no image that flic reads"),
        (b"GIF89a", "no image that flic reads"),
        (b"P6", "a number is missing"),
        (b"P6 4 4 65535\n" + bytes(96), "8 bits per sample"),
        (b"P6 4 4 255\n" + bytes(47), "48 bytes of pixels expected, got 47"),
        (b"P6 0 4 255\n", "sides must be"),
        (b"P6 99999999999999999999 4 255\n", "sides must be"),
        (b"P6 1000000 1000000 255\n", "pixels allowed"),
        (b"P6 4 4 255", "does not end"),
        (b"P6 # only a comment", "a number is missing"),
    ],
)
def test_images_that_are_none_are_refused(data, words, flic):
    assert words in flic("encode", "-", "-", status=1, given=data).decode()


def test_comments_in_a_ppm_are_skipped(flic, photo):
    head, rest = b"P6\n# one\n136#two\n 96\r\n#\n255\n", photo.tobytes()
    assert flic("encode", "-", "-", given=head + rest) == light.compress(photo)


def test_png_files_of_all_kinds_are_read_as_pillow_reads_them(flic, photo, png, tmp_path):
    if not png:
        pytest.skip("flic was built without libpng")
    image = Image.fromarray(photo[:40, :50])
    kinds = {
        "rgb": image,
        "grey": image.convert("L"),
        "one bit": image.convert("1"),
        "palette": image.convert("P", palette=Image.Palette.ADAPTIVE, colors=13),
        "opaque": image.convert("RGBA"),
        "grey, opaque": image.convert("LA"),
    }
    for kind, own in kinds.items():
        out = io.BytesIO()
        own.save(out, "PNG")
        expected = light.compress(np.asarray(own.convert("L" if own.mode in ("1", "L", "LA") else "RGB")), TINY)
        assert flic("encode", "-", "-", "--codec", TINY, given=out.getvalue()) == expected, kind
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(out, "PNG")
    assert "more than 8 bits" in flic("encode", "-", "-", "--codec", TINY, status=1, given=out.getvalue()).decode()
    out = io.BytesIO()
    transparent = image.convert("RGBA")
    transparent.putpixel((3, 3), (1, 2, 3, 254))
    transparent.save(out, "PNG")
    expected = light.compress(np.asarray(transparent), TINY)
    assert flic("encode", "-", "-", "--codec", TINY, given=out.getvalue()) == expected
    out = io.BytesIO()
    image.save(out, "PNG")
    whole = out.getvalue()
    for cut in (9, 30, len(whole) // 2, len(whole) - 2):
        assert "damaged image" in flic("encode", "-", "-", "--codec", TINY, status=1, given=whole[:cut]).decode()
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    assert "damaged image" in flic("encode", "-", "-", "--codec", TINY, status=1, given=flipped).decode()


def test_png_keeps_transparency_and_metadata_both_ways(flic, photo, png, tmp_path):
    if not png:
        pytest.skip("flic was built without libpng")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")  # sRGB is not kept
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    planes = np.dstack([photo, photo[:, :, 0] // 128 * 255])[:40, :50]
    source, packed, back = tmp_path / "x.png", tmp_path / "x.flic", tmp_path / "back.png"
    metadata = fastlic.Metadata(profile, exif.tobytes().removeprefix(b"Exif\0\0"), b"<x:xmpmeta/>")
    source.write_bytes(encode_image(planes, ".png", metadata))
    flic("encode", source, packed, "--codec", TINY)
    assert packed.read_bytes() == light.compress(planes, TINY, metadata=metadata)
    says = flic("info", packed).decode()
    assert "RGB and alpha" in says and f"colour profile      {len(profile)} bytes" in says
    flic("decode", packed, back, "--codec", TINY)
    found = read_image(back, channels=None)
    assert np.array_equal(found.array, light.decompress(packed.read_bytes(), TINY)) and found.metadata == metadata
    flic("encode", source, packed, "--codec", TINY, "--strip")
    assert packed.read_bytes() == light.compress(planes, TINY)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_images_are_turned_upright_as_python_turns_them_and_what_is_not_kept_is_told(
    built, png, photo, tmp_path, order
):
    if not png:
        pytest.skip("flic was built without libpng")
    source, packed = tmp_path / "x.png", tmp_path / "x.flic"
    environment = {**os.environ, "FLIC_WEIGHTS": str(WEIGHTS)}

    def told() -> str:
        command = [built / "flic", "encode", source, packed, "--codec", TINY]
        return subprocess.run(command, capture_output=True, env=environment, check=True).stderr.decode()

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif.endian = "<" if order == "II" else ">"
        exif[0x010E], exif[0x0112] = "a cat", orientation
        Image.fromarray(photo[:30, :50]).save(source, exif=exif)
        upright = read_image(source)
        note = "" if orientation == 1 else f"flic: {source}: turned upright (EXIF)\n"
        assert told() == note and ("turned upright (EXIF)" in upright.notes) == bool(note)
        found = light.decompress(packed.read_bytes(), TINY)
        assert np.array_equal(found, light.decompress(light.compress(upright.array, TINY), TINY)), orientation
        kept = Image.Exif()
        kept.load(b"Exif\0\0" + fastlic.read_metadata(packed.read_bytes()).exif)
        assert dict(kept) == {0x010E: "a cat", 0x0112: 1}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(photo[:30, :50]).save(source, icc_profile=profile)
    assert told() == f"flic: {source}: colour profile not kept: it is not of these pixels\n"
    assert not fastlic.read_metadata(packed.read_bytes())
    for damaged in (b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"II*\0\x06\0\0\0"):
        Image.fromarray(photo[:30, :50]).save(source, exif=b"Exif\0\0" + damaged)
        assert told() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_files_take_their_name_when_they_are_whole_and_keep_their_permissions(flic, photo, tmp_path):
    source, target, link = tmp_path / "x.flic", tmp_path / "x.ppm", tmp_path / "link.ppm"
    source.write_bytes(light.compress(photo))
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    flic("decode", source, link)
    assert link.is_symlink() and target.read_bytes().startswith(b"P6\n136 96\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    new, mask = tmp_path / "new.ppm", os.umask(0o027)
    try:
        flic("decode", source, new)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.ppm", "new.ppm", "x.flic", "x.ppm"]
    full = Path("/dev/full")
    if full.exists():
        (tmp_path / "full.ppm").symlink_to(full)
        assert "No space left" in flic("decode", source, tmp_path / "full.ppm", status=1).decode()


def test_the_benchmark_has_a_row_of_the_demonstration_photo(built, capsys):
    from fastlic.bench import libflic

    assert libflic.main([str(built), "--runs", "1"]) == 0
    assert "jahp photo.png 400x600" in capsys.readouterr().out
