"""Reading image files: what is converted is told, what would lose data is refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, features

from fastlic import config
from fastlic.codec.container import Metadata
from fastlic.codec.image_files import WRITTEN, encode_image, find_images, formats, keeps_metadata, read_image
from fastlic.errors import PixelLimitError

PIXELS = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
IMAGE = Image.fromarray(PIXELS.permute(1, 2, 0).numpy())


def array_of(pixels: torch.Tensor) -> np.ndarray:
    return pixels.permute(1, 2, 0).numpy()


def png_16_bit_rgb(width: int = 3, height: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(6 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".ppm", ".bmp", ".tif", ".webp"])
def test_lossless_formats_return_the_same_pixels(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encode_image(array_of(PIXELS), suffix))
    picture = read_image(path)
    assert torch.equal(picture.pixels, PIXELS)
    assert picture.notes == ()


@pytest.mark.parametrize("suffix", ["", ".flic", ".txt", ".pdf"])
def test_an_unknown_output_format_is_named(suffix):
    with pytest.raises(ValueError, match="cannot write"):
        encode_image(array_of(PIXELS), suffix)


@pytest.mark.parametrize(
    ("mode", "note"),
    [("L", "grey converted to RGB"), ("1", "grey converted to RGB"), ("CMYK", "CMYK converted to RGB"), ("P", None)],
)
def test_other_colour_modes_are_converted_and_told(tmp_path, mode, note):
    path = tmp_path / "image.tif"
    IMAGE.convert(mode).save(path)
    picture = read_image(path)
    assert picture.pixels.shape == (3, 5, 7)
    assert picture.notes == ((note,) if note else ())
    expected = torch.from_numpy(np.array(IMAGE.convert(mode).convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(picture.pixels, expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_needs_a_background(tmp_path, mode):
    path = tmp_path / "image.png"
    alpha = Image.new("L", IMAGE.size, 0)
    image = IMAGE.convert(mode)
    image.putalpha(alpha)
    image.save(path)
    with pytest.raises(ValueError, match="--background"):
        read_image(path)
    picture = read_image(path, background="#102030")
    assert picture.pixels[:, 0, 0].tolist() == [0x10, 0x20, 0x30]
    assert picture.notes == ("transparency laid on #102030",)
    IMAGE.save(tmp_path / "opaque.png")
    for each in (path, tmp_path / "opaque.png"):
        with pytest.raises(ValueError, match="unknown colour 'nonesuch'"):
            read_image(each, background="nonesuch")


def test_an_opaque_alpha_channel_is_dropped(tmp_path):
    path = tmp_path / "image.png"
    IMAGE.convert("RGBA").save(path)
    picture = read_image(path)
    assert torch.equal(picture.pixels, PIXELS)
    assert picture.notes == ("opaque alpha channel dropped",)


@pytest.mark.parametrize("kind", ["grey 16", "float", "rgb 16", "ppm 16"])
def test_more_than_8_bits_are_refused(tmp_path, kind):
    path = tmp_path / f"image.{ {'float': 'tif', 'ppm 16': 'ppm'}.get(kind, 'png') }"
    if kind == "ppm 16":
        path.write_bytes(b"P6\n2 2\n65535\n" + bytes(24))
    elif kind == "grey 16":
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    elif kind == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    else:
        path.write_bytes(png_16_bit_rgb())
    with pytest.raises(ValueError, match="more than 8 bits per sample"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation_is_applied_and_told(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned a quarter to the left
    IMAGE.save(path, exif=exif)
    picture = read_image(path)
    assert torch.equal(picture.pixels, PIXELS.flip(1).transpose(1, 2))
    assert picture.notes == ("turned upright (EXIF)",)


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_orientation_that_turns_nothing_is_not_told(tmp_path, orientation):
    path = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    IMAGE.save(path, exif=exif)
    picture = read_image(path)
    assert torch.equal(picture.pixels, PIXELS) and picture.notes == ()


@pytest.mark.parametrize(("name", "mode"), [("bits.pbm", "1"), ("grey.pgm", "L"), ("colour.ppm", "RGB")])
def test_folders_hold_what_netpbm_makes(tmp_path, name, mode):
    IMAGE.convert(mode).save(tmp_path / name)
    assert find_images(tmp_path) == [tmp_path / name]
    assert read_image(tmp_path / name, channels=None).array.shape[2] == (3 if mode == "RGB" else 1)


def test_a_file_named_pgm_is_pgm():
    assert encode_image(array_of(PIXELS)[:, :, 0], ".pgm")[:2] == b"P5"
    with pytest.raises(ValueError, match=r"\.pgm holds grey images alone: choose \.ppm"):
        encode_image(array_of(PIXELS), ".pgm")
    with pytest.raises(ValueError, match=r"cannot write \.pbm"):
        encode_image(array_of(PIXELS)[:, :, 0], ".pbm")


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# The same with red and green in each other's place.
PROFILE = SRGB.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


def some_metadata(orientation: int | None = None) -> Metadata:
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    if orientation:
        exif[0x0112] = orientation
    return Metadata(PROFILE, exif.tobytes().removeprefix(b"Exif\0\0"), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_metadata_goes_from_file_to_file(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encode_image(array_of(PIXELS), suffix, some_metadata()))
    found = read_image(path).metadata
    assert (found.icc_profile, found.xmp) == (PROFILE, some_metadata().xmp)
    with Image.open(path) as image:
        assert image.getexif()[0x010E] == "a cat"
    if suffix != ".tif":  # whose EXIF is the file's own directory
        assert found.exif == some_metadata().exif


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_grey_and_transparent_pixels_come_back_as_they_were(tmp_path, mode, suffix):
    if suffix == ".webp" and mode.startswith("L"):
        pytest.skip("WebP has no grey")
    image = IMAGE.convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray((np.arange(35).reshape(7, 5) * 7).astype(np.uint8).reshape(IMAGE.size[::-1])))
    pixels = np.array(image).reshape(IMAGE.height, IMAGE.width, -1)
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encode_image(pixels, suffix))
    picture = read_image(path, channels=None)
    assert np.array_equal(picture.array, pixels) and picture.notes == ()


def test_what_a_format_cannot_hold_is_refused_or_left_out():
    pixels = np.zeros((4, 4, 4), np.uint8)
    for suffix in (".jpg", ".ppm", ".bmp"):
        with pytest.raises(ValueError, match=r"no transparency: choose one of .png"):
            encode_image(pixels, suffix)
    assert not keeps_metadata(".ppm") and keeps_metadata(".JPG")
    assert encode_image(pixels[:, :, :3], ".ppm", some_metadata()) == encode_image(pixels[:, :, :3], ".ppm")


def test_exif_of_an_image_that_was_turned_says_upright(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(encode_image(array_of(PIXELS), ".jpg", some_metadata(orientation=6)))
    picture = read_image(path)
    assert picture.array.shape == (IMAGE.width, IMAGE.height, 3)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + picture.metadata.exif)
    assert exif[0x010E] == "a cat" and 0x0112 not in exif


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_profile_of_another_space_is_not_kept_and_told(tmp_path, mode):
    path = tmp_path / "image.tif"
    IMAGE.convert(mode).save(path, icc_profile=PROFILE)
    picture = read_image(path, channels=None)
    assert picture.metadata.icc_profile == b"" and any("profile not kept" in note for note in picture.notes)


def test_a_profile_goes_where_its_pixels_become_others(tmp_path):
    path = tmp_path / "image.png"
    grey, grey_profile = IMAGE.convert("L"), PROFILE[:16] + b"GRAY" + PROFILE[20:]
    grey.convert("P").save(path, icc_profile=PROFILE)
    assert read_image(path, channels=None).metadata.icc_profile == b""  # a grey palette, whose colours were RGB
    assert read_image(path).metadata.icc_profile == PROFILE
    transparent = grey.copy()
    transparent.putalpha(77)
    transparent.save(path, icc_profile=grey_profile)
    assert read_image(path, channels=None).metadata.icc_profile == grey_profile
    picture = read_image(path, background="white", channels=None)
    assert picture.metadata.icc_profile == b"" and any("profile not kept" in note for note in picture.notes)


@pytest.mark.parametrize("exif", [b"garbage", b"x" * 70_000])
@pytest.mark.parametrize("suffix", WRITTEN)
def test_damaged_exif_is_left_out_and_told_or_refused(tmp_path, suffix, exif):
    path = tmp_path / f"image{suffix}"
    try:
        pixels = array_of(PIXELS)[:, :, : 1 if suffix == ".pgm" else 3]
        path.write_bytes(encode_image(pixels, suffix, Metadata(exif=exif)))
    except ValueError as error:
        assert f"{suffix} cannot hold this image with its metadata" in str(error)
    else:
        picture = read_image(path, channels=None)
        assert picture.metadata == Metadata()
        assert picture.notes == (("EXIF not kept: it is damaged",) if keeps_metadata(suffix) else ())


def test_a_profile_that_says_srgb_is_what_no_profile_says(tmp_path):
    path = tmp_path / "image.png"
    IMAGE.save(path, icc_profile=SRGB)
    assert read_image(path).metadata == Metadata() and read_image(path).notes == ()
    IMAGE.save(path, icc_profile=b"sRGB" * 40)  # the word makes none
    assert "profile not kept" in read_image(path).notes[0]
    IMAGE.save(path, icc_profile=PROFILE)
    assert read_image(path).metadata.icc_profile == PROFILE


def test_a_grey_palette_is_grey(tmp_path):
    path = tmp_path / "image.png"
    grey = IMAGE.convert("L")
    grey.convert("P").save(path)
    assert np.array_equal(read_image(path, channels=None).array[:, :, 0], np.array(grey))


def test_the_first_frame_of_several_is_taken(tmp_path):
    path = tmp_path / "image.tif"
    IMAGE.save(path, save_all=True, append_images=[IMAGE.rotate(180)])
    picture = read_image(path)
    assert torch.equal(picture.pixels, PIXELS)
    assert picture.notes == ("the first of 2 frames",)


def test_a_damaged_image_is_a_value_error(tmp_path):
    path = tmp_path / "image.png"
    whole = encode_image(array_of(torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)), ".png")
    for content in (b"", b"no image", whole[:40], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"no image|damaged"):
            read_image(path)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"


@pytest.mark.parametrize("content", [EPS, b"GIF89a" + bytes(20), b"%PDF-1.4\n"], ids=["EPS", "GIF", "PDF"])
def test_formats_that_nobody_asked_for_are_not_even_tried(tmp_path, monkeypatch, content):
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    tried = []
    read_image_formats = formats()  # loads every plugin
    for name, (factory, accept) in Image.OPEN.items():
        monkeypatch.setitem(Image.OPEN, name, (_noted(name, factory, tried), accept))
    with pytest.raises(ValueError, match=f"no image that Pillow can read as {', '.join(read_image_formats)}"):
        read_image(path)
    assert set(tried) <= set(read_image_formats)
    assert {"PNG", "JPEG", "TIFF", "PPM", "BMP"} <= set(read_image_formats)


def _noted(name, factory, tried):
    def opened(*arguments):
        tried.append(name)
        return factory(*arguments)

    return opened


@pytest.mark.parametrize(
    "error", [TypeError("Missing dimensions"), RuntimeError("no item"), KeyError("x"), IndexError()]
)
def test_whatever_a_plugin_raises_is_a_damaged_image(tmp_path, monkeypatch, error):
    path = tmp_path / "image.png"
    IMAGE.save(path)

    def load(self):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ValueError, match="damaged image"):
        read_image(path)


def test_a_missing_file_is_told_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


def test_the_pixel_limit_holds_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    IMAGE.save(path)
    with pytest.raises(PixelLimitError, match=r"is 5 x 7 \(height x width\), 35 pixels, above the limit of 34 pixels"):
        read_image(path, max_pixels=34)
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "34")
    with pytest.raises(PixelLimitError, match="--max-pixels or the environment variable FASTLIC_MAX_PIXELS"):
        read_image(path)
    assert read_image(path, max_pixels=35).pixels.shape == (3, 5, 7)


def test_a_limit_above_pillows_own_holds(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    IMAGE.save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # refuses above 20
    assert read_image(path, max_pixels=35).pixels.shape == (3, 5, 7)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_files_are_found_at_any_depth_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.png", "b/a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)] == ["b/a.PNG", "z.png"]
    with pytest.raises(ValueError, match="not a folder"):
        find_images(tmp_path / "z.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        find_images(tmp_path / "empty")
    assert find_images(tmp_path, [".txt"]) == [tmp_path / "notes.txt"]
