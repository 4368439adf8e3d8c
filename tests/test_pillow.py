"""fastlic.pillow: ``.flic`` files behave in Pillow as those of its own plugins do."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import FliImagePlugin, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import fastlic
import fastlic.pillow
from fastlic import config, light
from fastlic.codec import container
from fastlic.codec.image_files import read_image

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "tiny_pixels_jahp.safetensors"


@pytest.fixture(scope="module")
def pixels(photos: Path) -> np.ndarray:
    return read_image(photos / "chelsea.png").array[:50, :70].copy()


@pytest.fixture(scope="module")
def data(pixels: np.ndarray) -> bytes:
    return light.compress(pixels)


@pytest.fixture(scope="module")
def shown(data: bytes) -> np.ndarray:
    return light.decompress(data)


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "x.flic"
    file.write_bytes(data)
    return file


def refuse(*_, **__):
    raise AssertionError("pixels were decoded")


def test_size_and_mode_come_of_the_head_alone_and_pixels_when_they_are_asked_for(path, shown, monkeypatch):
    with Image.open(path) as image:
        with monkeypatch.context() as patched:
            patched.setattr(light, "decompress", refuse)
            assert (image.format, image.size, image.mode, image.info) == ("FLIC", (70, 50), "RGB", {})
            assert image.get_format_mimetype() == "image/x-flic"
        assert np.array_equal(np.asarray(image), shown)
        assert np.array_equal(np.asarray(image.convert("RGB")), shown)


def test_the_head_is_enough_to_open_a_file(data):
    head = data[: container.parse(data).framing_bytes]
    assert Image.open(io.BytesIO(head)).size == (70, 50)


@pytest.mark.parametrize("source", ["path", "str", "file", "BytesIO"])
def test_paths_and_files_are_opened(source, path, data, shown):
    with path.open("rb") as file:
        made = {"path": path, "str": str(path), "file": file, "BytesIO": io.BytesIO(data)}[source]
        with Image.open(made) as image:
            assert np.array_equal(np.asarray(image), shown)


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_file_that_pillow_opened_is_closed_after_loading(path):
    image = Image.open(path)
    file = image.fp
    image.load()
    assert file.closed and image.fp is None
    with path.open("rb") as own:
        Image.open(own).load()
        assert not own.closed


def test_images_are_copied_pickled_cropped_and_made_smaller(path, shown):
    for make in (copy.copy, copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image)), Image.Image.copy):
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(make(image)), shown)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image.crop((3, 4, 20, 30))), shown[4:30, 3:20])
    with Image.open(path) as image:
        image.thumbnail((35, 25))
        assert image.size == (35, 25)


def test_a_parser_that_is_fed_in_pieces_gives_the_image(data, shown):
    parser = ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    assert np.array_equal(np.asarray(parser.close()), shown)


# ---- saving


def test_save_makes_the_bytes_of_light(pixels, tmp_path):
    image = Image.fromarray(pixels)
    image.save(tmp_path / "x.flic")
    assert (tmp_path / "x.flic").read_bytes() == light.compress(pixels)
    image.save(tmp_path / "x.flic", quality=2.5, model="mcquic")
    assert (tmp_path / "x.flic").read_bytes() == light.compress(pixels, "mcquic", 2.5)
    out = io.BytesIO()
    image.save(out, "FLIC", quality=7)
    assert out.getvalue() == light.compress(pixels, quality=7)
    image.save(tmp_path / "named", format="flic")
    assert (tmp_path / "named").read_bytes() == light.compress(pixels)


def test_own_weights_are_saved_with_and_opened_after_they_were_registered(pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(fastlic.pillow, "_codecs", {})
    image, expected = Image.fromarray(pixels), light.compress(pixels, TINY, 1)
    for model in (TINY, str(TINY), light.load(TINY), fastlic.Codec.load(TINY)):
        image.save(tmp_path / "x.flic", model=model, quality=1)
        assert (tmp_path / "x.flic").read_bytes() == expected
    with Image.open(tmp_path / "x.flic") as opened, pytest.raises(OSError, match=r"fastlic\.pillow\.register"):
        opened.load()
    for model in (TINY, fastlic.Codec.load(TINY)):
        fastlic.pillow._codecs.clear()
        fastlic.pillow.register(model)
        with Image.open(tmp_path / "x.flic") as opened:
            assert np.array_equal(np.asarray(opened), light.decompress(expected, TINY))


def test_weights_with_float_transforms_are_served_by_the_whole_library(pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(fastlic.pillow, "_codecs", {})
    floats = GOLDEN / "tiny_jahp.safetensors"
    Image.fromarray(pixels).save(tmp_path / "x.flic", model=floats, quality=1)
    fastlic.pillow.register(floats)
    with Image.open(tmp_path / "x.flic") as opened:
        assert np.asarray(opened).shape == pixels.shape


def in_mode(pixels: np.ndarray, mode: str) -> Image.Image:
    """The pixels in a mode of Pillow's, with an alpha channel that is not opaque where it has one."""
    image = Image.fromarray(pixels)
    if mode.endswith("A") or mode == "transparent P":
        ramp = np.resize(np.arange(256, dtype=np.uint8), pixels.shape[:2])
        image = image.convert("L" if mode.startswith("L") else "RGB")
        image.putalpha(Image.fromarray(ramp))
    if mode == "transparent P":
        return image.quantize(16, method=Image.Quantize.FASTOCTREE)
    return image if image.mode == mode else image.convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_of_8_bits_come_back_and_alpha_as_it_was(mode, pixels, tmp_path):
    image = in_mode(pixels, mode)
    image.save(tmp_path / "x.flic")
    assert (tmp_path / "x.flic").read_bytes() == light.compress(np.array(image))
    with Image.open(tmp_path / "x.flic") as opened:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(light, "decompress", refuse)
            assert (opened.mode, opened.size) == (mode, image.size)
        assert np.array_equal(np.asarray(opened), light.decompress((tmp_path / "x.flic").read_bytes()))
        if mode.endswith("A"):
            assert np.array_equal(np.asarray(opened)[..., -1], np.asarray(image)[..., -1])


@pytest.mark.parametrize(
    ("mode", "saved"),
    [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("transparent P", "RGBA")],
)
def test_other_modes_are_saved_as_what_they_show(mode, saved, pixels):
    image, out = in_mode(pixels, mode), io.BytesIO()
    image.save(out, "FLIC")
    assert out.getvalue() == light.compress(np.array(image.convert(saved)))


def test_a_colour_that_is_transparent_becomes_alpha(pixels):
    image, out = Image.fromarray(pixels), io.BytesIO()
    image.info["transparency"] = tuple(pixels[3, 4].tolist())
    image.save(out, "FLIC")
    assert out.getvalue() == light.compress(np.array(image.convert("RGBA")))
    assert Image.open(io.BytesIO(out.getvalue())).mode == "RGBA"


@pytest.mark.parametrize("mode", ["F", "I", "I;16", "HSV", "LAB"])
def test_modes_that_would_lose_data_are_refused_as_by_pillows_own_plugins(mode, pixels, tmp_path):
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(np.zeros((4, 4), np.uint16))
    else:
        image = image.convert("L").convert(mode) if mode in ("F", "I") else image.convert(mode)
    with pytest.raises(OSError, match="cannot write mode"):
        image.save(tmp_path / "x.flic")
    assert not (tmp_path / "x.flic").exists()


# ---- metadata

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def some_exif(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a cat", orientation
    return exif


def test_profile_exif_and_xmp_are_in_info_before_anything_is_decoded(pixels, tmp_path, monkeypatch):
    image = Image.fromarray(pixels)
    image.save(tmp_path / "x.flic", icc_profile=PROFILE, exif=some_exif(), xmp=XMP)
    monkeypatch.setattr(light, "decompress", refuse)
    with Image.open(tmp_path / "x.flic") as opened:
        assert opened.info == {"icc_profile": PROFILE, "exif": some_exif().tobytes(), "xmp": XMP}
        assert dict(opened.getexif()) == dict(some_exif())
        assert opened.size == image.size  # Pillow turns nothing by itself
    assert fastlic.read_metadata(tmp_path / "x.flic") == fastlic.Metadata(PROFILE, some_exif().tobytes()[6:], XMP)


def test_an_image_that_exif_turns_is_turned_by_pillows_own_function(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "x.flic", exif=some_exif(6))
    with Image.open(tmp_path / "x.flic") as opened:
        upright = ImageOps.exif_transpose(opened)
        assert upright.size == (50, 70)
        assert np.array_equal(np.asarray(upright), np.rot90(np.asarray(opened), -1))


def test_of_info_only_a_profile_of_the_stored_colours_is_saved_unasked(pixels):
    image = Image.fromarray(pixels)
    image.info |= {"icc_profile": PROFILE, "exif": some_exif().tobytes(), "xmp": XMP}

    def stored(image: Image.Image, **options) -> fastlic.Metadata:
        out = io.BytesIO()
        image.save(out, "FLIC", model="mcquic", **options)
        return fastlic.read_metadata(out.getvalue())

    assert stored(image) == fastlic.Metadata(PROFILE)
    assert stored(image, icc_profile=None) == fastlic.Metadata()
    assert stored(image, exif=image.info["exif"], xmp=XMP.decode()) == fastlic.Metadata(
        PROFILE, some_exif().tobytes()[6:], XMP
    )
    for mode in ("L", "CMYK"):
        other = Image.fromarray(pixels).convert(mode)
        other.info["icc_profile"] = PROFILE if mode == "L" else b"\0" * 16 + b"CMYK" + bytes(100)
        assert stored(other) == fastlic.Metadata()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["L", "LA", "RGB", "RGBA"]),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.builds(dict, icc_profile=st.binary(max_size=3000), exif=st.binary(max_size=9000), xmp=st.binary(max_size=300)),
    st.data(),
)
def test_any_image_and_metadata_go_through_pillow_and_back(mode, size, metadata, drawn):
    shape = size if mode == "L" else (*size, len(mode))
    pixels, out = drawn.draw(arrays.arrays(np.uint8, shape)), io.BytesIO()
    metadata["exif"] = metadata["exif"].removeprefix(b"Exif\0\0")
    Image.fromarray(pixels, mode).save(out, "FLIC", model="mcquic", **metadata)
    with Image.open(io.BytesIO(out.getvalue())) as opened:
        found = dict(opened.info)
        assert found.pop("exif", b"Exif\0\0").removeprefix(b"Exif\0\0") == metadata.pop("exif")
        assert found == {name: value for name, value in metadata.items() if value}
        assert (opened.mode, opened.size) == (mode, size[::-1])
        decoded = np.asarray(opened)
    assert np.array_equal(decoded, light.decompress(light.compress(pixels, "mcquic")))
    if mode.endswith("A"):
        assert np.array_equal(decoded[..., -1], pixels[..., -1])


def test_damaged_metadata_is_an_os_error_when_a_file_is_opened(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "FLIC", icc_profile=PROFILE)
    damaged = bytearray(out.getvalue())
    damaged[damaged.index(PROFILE) + 9] ^= 1
    for content in (bytes(damaged), out.getvalue()[: out.getvalue().index(PROFILE) + 100]):
        with pytest.raises(OSError, match=r"damaged \.flic file"):
            Image.open(io.BytesIO(content))


def test_damaged_alpha_is_an_os_error_when_it_is_loaded_or_verified(pixels):
    out = io.BytesIO()
    in_mode(pixels, "RGBA").save(out, "FLIC")
    data = bytearray(out.getvalue())
    data[container.parse(out.getvalue()).framing_bytes + 5] ^= 1
    image = Image.open(io.BytesIO(data))
    assert image.mode == "RGBA"
    with pytest.raises(OSError, match=r"damaged \.flic file"):
        image.load()
    with pytest.raises(OSError, match=r"damaged \.flic file"):
        Image.open(io.BytesIO(data)).verify()


# ---- options


def test_wrong_options_are_told_and_leave_no_file(pixels, tmp_path):
    image = Image.fromarray(pixels)
    for error, words, options in (
        (ValueError, "quality must be from 1 to 8, got 75", {"quality": 75}),
        (TypeError, "quality must be a number", {"quality": "high"}),
        (ValueError, "neither a codec file nor one of the shipped weights", {"model": "none"}),
        (TypeError, "quality must be a number from 1 to 8, got bool", {"quality": True}),
        (TypeError, "model must be a name, a path or a codec, got float", {"model": 2.5}),
        (TypeError, "exif must be bytes or an Image.Exif, got str", {"exif": "II"}),
    ):
        with pytest.raises(error, match=words):
            image.save(tmp_path / "x.flic", **options)
        assert not (tmp_path / "x.flic").exists()
    with pytest.raises(TypeError, match="model must be a name, a path or a codec, got int"):
        fastlic.pillow.register(3)


@settings(max_examples=20, deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.integers(16, 128).map(lambda sixteenths: sixteenths / 16),
)
def test_any_image_goes_through_pillow_as_through_light(made, quality):
    out = io.BytesIO()
    Image.fromarray(made).save(out, "FLIC", quality=quality, model="mcquic")
    with Image.open(io.BytesIO(out.getvalue())) as opened:
        assert opened.size == (made.shape[1], made.shape[0])
        found = np.asarray(opened)
    assert np.array_equal(found, light.decompress(light.compress(made, "mcquic", quality)))


# ---- damage and limits


def test_what_is_no_flic_file_is_not_identified(tmp_path):
    for content in (b"", b"FLI", b"FLIX" + bytes(100), b"no image at all"):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(content))


def test_a_damaged_head_is_an_os_error_and_not_an_unknown_image(data, tmp_path):
    head = container.parse(data).framing_bytes
    for content in (data[:4], data[: head - 1], data[:10] + b"\xff" + data[11:], b"FLIC\x63" + data[5:]):
        with pytest.raises(OSError, match=r"damaged \.flic file") as told:
            Image.open(io.BytesIO(content))
        assert not isinstance(told.value, UnidentifiedImageError)
        (tmp_path / "x.flic").write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(OSError, match=r"damaged \.flic file"):
            warnings.simplefilter("error", ResourceWarning)
            Image.open(tmp_path / "x.flic")


def test_damaged_sections_are_an_os_error_when_they_are_loaded_or_verified(data):
    head = container.parse(data).framing_bytes
    flipped = bytearray(data)
    flipped[head + 20] ^= 1
    for content in (data[:-1], data[:head], bytes(flipped), data + b"\0"):
        image = Image.open(io.BytesIO(content))
        for _ in range(2):
            with pytest.raises(OSError, match=r"damaged \.flic file"):
                image.load()
        with pytest.raises(OSError, match=r"damaged \.flic file"):
            Image.open(io.BytesIO(content)).verify()
    Image.open(io.BytesIO(data)).verify()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_leads_to_another_error_than_pillows_own_plugins_raise(data, drawn):
    whole = bytearray(data)
    for _ in range(drawn.draw(st.integers(1, 4))):
        whole[drawn.draw(st.integers(0, len(whole) - 1))] = drawn.draw(st.integers(0, 255))
    cut = bytes(whole[: drawn.draw(st.integers(0, len(whole)))])
    try:
        with Image.open(io.BytesIO(cut)) as image:
            image.load()
    except (OSError, Image.DecompressionBombError):
        pass


def test_pillows_own_limit_is_asked_when_a_file_is_opened(path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # of 3500
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(path).close()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_fastlics_limit_is_asked_when_it_is_loaded_and_told_as_pillows(path, monkeypatch):
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "3499")
    with Image.open(path) as image:
        assert image.size == (70, 50)
        with pytest.raises(Image.DecompressionBombError, match="above the limit of 3499 pixels"):
            image.load()


def test_a_head_that_claims_a_huge_image_reserves_nothing():
    header = container.Header(3, 4.0, bytes(8), 9000, 9000)
    with Image.open(io.BytesIO(container.pack(header, [b"z", b"y"]))) as image, pytest.raises(OSError):
        image.load()


# ---- registration


def test_the_plugin_is_registered_once_however_often_it_is_asked():
    before = [list(Image.ID), dict(Image.OPEN), dict(Image.SAVE), dict(Image.EXTENSION), dict(Image.MIME)]
    fastlic.pillow.register()
    fastlic.pillow.register()
    assert [list(Image.ID), dict(Image.OPEN), dict(Image.SAVE), dict(Image.EXTENSION), dict(Image.MIME)] == before
    assert Image.ID.count("FLIC") == 1
    assert Image.registered_extensions()[".flic"] == "FLIC"
    assert Image.MIME["FLIC"] == "image/x-flic"


def animation(size: int) -> bytes:
    """An FLC animation of one empty frame whose size, the first field, is as given."""
    head = struct.pack("<IHHHHHHI", size, 0xAF12, 1, 8, 8, 8, 3, 70).ljust(128, b"\0")
    palette = struct.pack("<IHHBBH", 12 + 4, 4, 1, 0, 1, 0) + bytes(3)
    return head + struct.pack("<IHH", 16 + len(palette), 0xF1FA, 1) + bytes(8) + palette


def test_flic_files_and_animations_of_flic_are_told_apart(data):
    assert not FliImagePlugin._accept(data[:16])
    spelling_our_magic = int.from_bytes(b"FLIC", "little")
    for size in (172, spelling_our_magic):
        with Image.open(io.BytesIO(animation(size))) as image:
            assert image.format == "FLI"
    known = Image.registered_extensions()
    assert (known[".fli"], known[".flc"], known[".flic"]) == ("FLI", "FLI", "FLIC")


@pytest.mark.skipif(shutil.which("file") is None, reason="no command file")
def test_the_command_file_takes_a_flic_file_for_no_animation(path):
    told = subprocess.run(["file", "--brief", str(path)], capture_output=True, text=True, check=True).stdout
    assert "animation" not in told.lower() and "FLC" not in told and "FLI " not in told


def test_torch_is_not_imported(path):
    code = (
        "import sys\nfrom PIL import Image\nimport fastlic.pillow\n"
        "image = Image.open(sys.argv[1])\nimage.save(sys.argv[1] + '.flic', quality=1)\n"
        "print('torch' in sys.modules, Image.open(sys.argv[1] + '.flic').size)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout == "False (70, 50)\n", done.stderr


def test_a_target_takes_the_place_of_a_quality(pixels):
    out, model = io.BytesIO(), {"model": TINY}
    Image.fromarray(pixels).save(out, "FLIC", target_bpp=0.4, **model)
    assert out.getvalue() == light.compress(pixels, TINY, target_bpp=0.4)
    with pytest.raises(ValueError, match="one of quality and the targets decides"):
        Image.fromarray(pixels).save(io.BytesIO(), "FLIC", quality=4, target_bytes=900, **model)
