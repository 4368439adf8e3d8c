"""libflic through ctypes: the pixels and bytes of every other fastlic, and every refusal in words."""

from __future__ import annotations

import ctypes
import json
import shutil
import struct
import subprocess
import sys
import threading
from ctypes import byref, c_size_t, c_void_p
from dataclasses import replace
from pathlib import Path

import binding
import numpy as np
import pytest
import torch
from binding import GREY, GREY_ALPHA, RGB, RGBA, Refused

import fastlic
from fastlic import light
from fastlic.codec import container, storage
from fastlic.codec.image_files import read_image

ROOT = Path(__file__).resolve().parents[2]
GOLDEN, WEIGHTS = ROOT / "tests" / "golden", ROOT / "fastlic" / "weights"
SHIPPED = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
PIXELS = sorted(path.stem for path in GOLDEN.glob("tiny_pixels_*.safetensors"))
WIDTH, HEIGHT = 101, 177  # of the golden streams of PIXELS

# Everything that a program without torch does, in a process that never sees it.
_ALONE = """
import hashlib, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import binding
library, golden = binding.Library(sys.argv[2]), Path(sys.argv[3])
for name in sys.argv[4:]:
    codec = library.open(golden / f"{name}.safetensors")
    data = (golden / f"{name}_v2.flic").read_bytes()
    header = library.header(data)
    rgb = codec.decode(data, threads=2)
    h, w = header.height, header.width
    planes = b"".join(rgb[c::3] for c in range(3))
    expected = json.loads((golden / f"{name}.json").read_text())
    assert hashlib.sha256(planes).hexdigest() == expected["pixels"][f"{name}_v2"], name
    assert bytes(codec.info().fingerprint).hex() == expected["fingerprint"] == bytes(header.fingerprint).hex()
    assert bytes(codec.info().entropy_fingerprint).hex() == expected["entropy_fingerprint"]
assert not {"torch", "numpy", "fastlic"} & set(sys.modules)
print("done")
"""


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """What the golden streams show, [H, W, 3] uint8."""
    image = read_image(ROOT / "tests" / "images" / "astronaut.png").pixels[:, 3:180, 10:111]
    return image.permute(1, 2, 0).contiguous().numpy()


@pytest.fixture(scope="module")
def jahp(library):
    return library.open(GOLDEN / "tiny_pixels_jahp.safetensors")


def stream(name: str) -> bytes:
    return (GOLDEN / f"{name}_v2.flic").read_bytes()


def refusal(status: int, call, *arguments, **options) -> str:
    """The words of a refusal with that status."""
    with pytest.raises(Refused) as caught:
        call(*arguments, **options)
    assert caught.value.status == status, caught.value
    words = str(caught.value)
    assert words and "\n" not in words
    return words


@pytest.mark.golden
def test_golden_streams_decode_to_the_golden_pixels_in_a_process_without_torch(built):
    command = [
        sys.executable,
        "-c",
        _ALONE,
        str(Path(__file__).parent),
        str(built / "libflic.so"),
        str(GOLDEN),
        *PIXELS,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.golden
@pytest.mark.parametrize("name", PIXELS)
def test_golden_photo_makes_the_golden_bytes(name, library, photo):
    codec, data = library.open(GOLDEN / f"{name}.safetensors"), stream(name)
    quality = library.header(data).quality
    for threads in (1, 3):
        assert codec.encode(photo.tobytes(), WIDTH, HEIGHT, quality, threads=threads) == data


def test_narrow_entropy_networks_have_the_same_bytes_and_pixels_in_c_and_in_python(library, photo, tmp_path):
    torch.manual_seed(3)
    sizes = {"hyper": [10, 9, 13], "context": 11, "parameters": [35, 12]}
    codec = fastlic.Codec(fastlic.models.JAHP(8, 12, (8, 8, 8), qualities=2, sizes=sizes), name="slim")
    codec.save(tmp_path / "slim.safetensors", half=True, training=False)
    image = torch.from_numpy(photo.transpose(2, 0, 1).copy())
    again, own = fastlic.load(tmp_path / "slim.safetensors"), library.open(tmp_path / "slim.safetensors")
    assert again.config == codec.config and codec.config["sizes"] == sizes
    assert bytes(own.info().fingerprint) == codec.fingerprint
    data = codec.compress(image, quality=2)
    assert own.encode(photo.tobytes(), WIDTH, HEIGHT, 2.0) == data == again.compress(image, quality=2)
    assert light.compress(photo, tmp_path / "slim.safetensors", 2) == data
    pixels = np.frombuffer(own.decode(data), np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert np.array_equal(pixels, codec.decompress(data, dtype=torch.uint8).numpy().transpose(1, 2, 0))


def test_formats_and_strides_are_views_of_the_same_pixels(library, jahp, photo):
    data = stream("tiny_pixels_jahp")
    rgb = np.frombuffer(jahp.decode(data), np.uint8).reshape(HEIGHT, WIDTH, 3)
    wide = np.frombuffer(jahp.decode(data, stride=3 * WIDTH + 5), np.uint8).reshape(HEIGHT, -1)
    assert np.array_equal(wide[:, : 3 * WIDTH].reshape(rgb.shape), rgb) and (wide[:, 3 * WIDTH :] == 0xA5).all()
    rgba = np.frombuffer(jahp.decode(data, format=RGBA), np.uint8).reshape(HEIGHT, WIDTH, 4)
    assert np.array_equal(rgba[:, :, :3], rgb) and (rgba[:, :, 3] == 255).all()
    grey = np.frombuffer(jahp.decode(data, format=GREY), np.uint8).reshape(HEIGHT, WIDTH)
    assert np.array_equal(grey, rgb.astype(np.int64) @ [19595, 38470, 7471] + 32768 >> 16)

    padded = np.full((HEIGHT, 3 * WIDTH + 7), 9, np.uint8)
    padded[:, : 3 * WIDTH] = photo.reshape(HEIGHT, -1)
    assert jahp.encode(padded.tobytes(), WIDTH, HEIGHT, 4.5, stride=3 * WIDTH + 7) == data
    alpha = np.dstack([photo, np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256]).astype(np.uint8)
    with_alpha = jahp.encode(alpha.tobytes(), WIDTH, HEIGHT, 4.5, format=RGBA)
    back = np.frombuffer(jahp.decode(with_alpha, format=RGBA), np.uint8).reshape(HEIGHT, WIDTH, 4)
    assert np.array_equal(back[:, :, 3], alpha[:, :, 3]) and np.array_equal(back[:, :, :3], rgb)
    assert jahp.decode(with_alpha) == jahp.decode(data) and library.header(with_alpha).channels == 4
    back = np.frombuffer(jahp.decode(with_alpha, format=GREY_ALPHA), np.uint8).reshape(HEIGHT, WIDTH, 2)
    assert np.array_equal(back, np.dstack([grey, alpha[:, :, 3]]))
    of_grey = jahp.encode(photo[:, :, 0].tobytes(), WIDTH, HEIGHT, 4.5, format=GREY)
    back = np.frombuffer(jahp.decode(of_grey), np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert library.header(of_grey).channels == 1 and (back == back[:, :, :1]).all()
    assert jahp.decode(of_grey, format=GREY) == back[:, :, 0].tobytes()


def test_pixels_alpha_and_metadata_are_those_of_python(library, photo):
    path = GOLDEN / "tiny_pixels_jahp.safetensors"
    jahp, codec = library.open(path), light.load(path)
    own = fastlic.Metadata(b"p" * 30, b"MM\0*", b"<xmp/>")
    pieces = {name: getattr(own, name) for name in ("icc_profile", "exif", "xmp")}
    given = binding.Metadata(*(binding.Bytes(ctypes.cast(v, c_void_p), len(v)) for v in pieces.values()))
    planes = np.dstack([photo, photo[:, :, 1] // 200 * 255])
    for format, picked in ((GREY, [0]), (GREY_ALPHA, [0, 3]), (RGB, [0, 1, 2]), (RGBA, [0, 1, 2, 3])):
        x = np.ascontiguousarray(planes[:, :, picked])
        data = jahp.encode(x.tobytes(), WIDTH, HEIGHT, 4.5, format=format, metadata=ctypes.pointer(given))
        assert data == light.compress(x, codec, 4.5, metadata=own)
        assert jahp.decode(data, format=format) == light.decompress(data, codec).tobytes()
        found, error = binding.Metadata(), binding.Error()
        assert library.c.flic_read_metadata(data, len(data), byref(found), byref(error)) == binding.OK
        read = {name: ctypes.string_at(getattr(found, name).data, getattr(found, name).size) for name in pieces}
        assert read == pieces


@pytest.mark.parametrize(("name", "parts"), [("tiny_pixels_mlicpp", 2), ("tiny_pixels_mcquic", 2)])
def test_previews_read_the_first_parts_alone(name, parts, library):
    codec, data = library.open(GOLDEN / f"{name}.safetensors"), stream(name)
    assert codec.info().previews == parts
    whole, coarse = codec.decode(data), codec.decode(data, parts=1)
    assert coarse != whole and codec.decode(data, parts=parts) == whole
    if name == "tiny_pixels_mcquic":
        assert codec.decode(data[:-1], parts=1) == coarse
    assert "0 (all) to 2, got 3" in refusal(binding.ARGUMENT, codec.decode, data, parts=3)


def test_a_region_is_a_part_of_the_pixels_and_lies_in_the_image(jahp, photo):
    data = stream("tiny_pixels_jahp")
    whole = np.frombuffer(jahp.decode(data, format=RGBA), np.uint8).reshape(HEIGHT, WIDTH, 4)
    given = binding.Region(3, 20, 40, 30)
    part = np.frombuffer(jahp.decode(data, stride=200, format=RGBA, region=ctypes.pointer(given)), np.uint8)
    rows = part.reshape(30, 200)
    assert np.array_equal(rows[:, :160].reshape(30, 40, 4), whole[20:50, 3:43]) and (rows[:, 160:] == 0xA5).all()
    for wrong in ((0, 0, WIDTH + 1, 1), (WIDTH, 0, 1, 1), (0, 0, 1, 0), (2**32 - 1, 0, 1, 1)):
        given = binding.Region(*wrong)
        words = refusal(binding.ARGUMENT, jahp.decode, data, region=ctypes.pointer(given))
        assert f"does not lie in an image of {HEIGHT} x {WIDTH}" in words
    given = binding.Region(0, 0, 8, 8)
    words = refusal(binding.ARGUMENT, jahp.encode, photo.tobytes(), WIDTH, HEIGHT, 4.5, region=ctypes.pointer(given))
    assert "region must be NULL" in words


def test_headers_are_read_of_the_first_bytes_and_models_have_names(library, jahp):
    data = stream("tiny_pixels_jahp")
    header = library.header(data)
    assert (header.width, header.height, header.version, header.quality, header.sections) == (WIDTH, HEIGHT, 2, 4.5, 2)
    assert library.header(data[: header.framing_bytes]).width == WIDTH
    assert library.c.flic_model_name(header.model) == b"jahp"
    assert library.c.flic_model_name(99) is None and library.c.flic_model_name(2**32 - 1) is None
    assert jahp.library.c.flic_codec_reads(jahp.handle, byref(header)) == 1
    header.fingerprint[0] ^= 1
    assert jahp.library.c.flic_codec_reads(jahp.handle, byref(header)) == 0
    assert library.c.flic_codec_reads(None, byref(header)) == library.c.flic_codec_reads(jahp.handle, None) == 0
    info = jahp.info()
    assert (info.family, info.qualities, info.previews) == (b"jahp", 8, 0)


def test_progress_is_told_and_stops_a_call(library):
    jahp = library.open(WEIGHTS / "jahp.safetensors")
    pixels = np.tile(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), (24, 16, 1)).tobytes()
    shares: list[float] = []
    hear = binding.PROGRESS(lambda user, share: shares.append(share) or 0)
    data = jahp.encode(pixels, 1024, 1536, 4.0, progress=hear)
    assert shares and shares == sorted(shares) and shares[-1] <= 1
    stop = binding.PROGRESS(lambda user, share: user or 0)
    assert jahp.encode(pixels, 1024, 1536, 4.0, progress=stop) == data == jahp.encode(pixels, 1024, 1536, 4.0)
    assert "stopped" in refusal(binding.STOPPED, jahp.encode, pixels, 1024, 1536, 4.0, progress=stop, user=7)
    assert "stopped" in refusal(binding.STOPPED, jahp.decode, data, progress=stop, user=7)
    assert jahp.decode(data, progress=stop) == jahp.decode(data)


def test_limits_of_memory_count_alpha_and_metadata(library, jahp):
    pixels, sides = bytes(64 * 48 * 4), (64, 48, 4.0)
    opaque = jahp.memory(*sides[:2], 1, True)
    assert jahp.encode(pixels, *sides, max_memory=opaque)
    assert "bytes of memory" in refusal(binding.LIMIT, jahp.encode, pixels, *sides, max_memory=opaque, format=RGBA)
    with_alpha = jahp.encode(pixels, *sides, max_memory=opaque + 4 * 64 * 48 + 100_000, format=RGBA)
    profile = b"p" * 1000
    given = binding.Metadata(binding.Bytes(ctypes.cast(profile, c_void_p), len(profile)))
    own = {"metadata": ctypes.pointer(given)}
    assert refusal(binding.LIMIT, jahp.encode, pixels, *sides, max_memory=opaque + 1999, **own)
    assert jahp.encode(pixels, *sides, max_memory=opaque + 2000, **own)
    to_decode = jahp.memory(*sides[:2], 1, False)
    assert refusal(binding.LIMIT, jahp.decode, with_alpha, format=RGBA, max_memory=to_decode)
    assert jahp.decode(with_alpha, format=RGBA, max_memory=to_decode + 100_000 + 3 * 64)


def test_the_version_is_that_of_the_header_file(library):
    words = dict(
        line.split()[1:3] for line in (ROOT / "csrc/libflic/flic.h").read_text().splitlines() if "FLIC_VERSION_" in line
    )
    numbers = [int(words[f"FLIC_VERSION_{part}"]) for part in ("MAJOR", "MINOR", "PATCH")]
    assert library.c.flic_version() == numbers[0] * 10000 + numbers[1] * 100 + numbers[2]


def test_damaged_streams_are_told_from_other_faults(library, jahp):
    data = stream("tiny_pixels_jahp")
    assert "does not begin with FLIC" in refusal(binding.STREAM, library.header, b"no stream")
    assert refusal(binding.STREAM, library.header, b"")
    for bad in (data[:-1], data + b"x", data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]):
        assert refusal(binding.STREAM, jahp.decode, bad)
    newer = data[:4] + b"\x04" + data[5:]
    assert "format version 4" in refusal(binding.UNSUPPORTED, library.header, newer)


def test_a_stream_of_other_weights_is_no_damage(library, jahp):
    words = refusal(binding.WRONG_CODEC, jahp.decode, stream("tiny_pixels_scale"))
    assert "'scale' weights with fingerprint" in words and bytes(jahp.info().fingerprint).hex() in words


def test_limits_are_asked_before_anything_is_reserved(library, jahp):
    data = stream("tiny_pixels_jahp")
    assert "more than the 100 pixels allowed" in refusal(binding.LIMIT, jahp.decode, data, max_pixels=100)
    assert "bytes of memory" in refusal(binding.LIMIT, jahp.decode, data, max_memory=1000)
    assert jahp.decode(data, max_memory=jahp.memory(WIDTH, HEIGHT, 1, False))
    needed = jahp.memory(WIDTH, HEIGHT, 2, False)
    assert needed > jahp.memory(WIDTH, HEIGHT, 1, False)
    assert refusal(binding.LIMIT, jahp.decode, data, threads=2, max_memory=needed - 1)
    pixels = bytes(3)
    assert refusal(binding.LIMIT, jahp.encode, pixels, 9000, 10000, 4.0, max_pixels=0)  # none of which is read
    assert refusal(binding.LIMIT, jahp.encode, pixels, 9000, 9000, 4.0, max_memory=1 << 20)
    # A head that claims all that fits: nothing is reserved for it.
    words = refusal(binding.LIMIT, _claims, jahp, (1 << 20) - 1, (1 << 20) - 1)
    assert "89478485 pixels allowed" in words
    # So thin that padding makes a hundred times as much of it, but few pixels.
    assert refusal(binding.LIMIT, _claims, jahp, 1, (1 << 20) - 1, max_pixels=2_000_000)


def _claims(codec, height: int, width: int, **own: int) -> None:
    """Decodes a stream of that size to a place with no room at all."""
    header, sections = container.unpack(stream("tiny_pixels_jahp"))
    data = container.pack(replace(header, height=height, width=width), sections)
    error, given = binding.Error(), binding.options(**own)
    place = ctypes.create_string_buffer(1)
    status = codec.library.c.flic_decode(codec.handle, data, len(data), byref(given), place, 1, 3 * width, byref(error))
    codec.library.check(status, error)


def test_a_short_stream_cannot_claim_a_large_image(jahp):
    with pytest.raises(Refused) as caught:
        _claims(jahp, 9000, 9000)
    assert caught.value.status == binding.STREAM


@pytest.mark.parametrize("name", PIXELS)
def test_a_codec_for_decoding_alone_has_the_same_pixels_and_refuses_to_encode(name, library, photo):
    path, data = GOLDEN / f"{name}.safetensors", stream(name)
    whole, own = library.open(path), library.open_with(path, decode_only=1)
    for field, _ in binding.Info._fields_:
        one, other = getattr(whole.info(), field), getattr(own.info(), field)
        assert one == other if isinstance(one, bytes | int) else bytes(one) == bytes(other)
    assert own.decode(data) == own.decode(data, threads=3) == whole.decode(data)
    region = ctypes.pointer(binding.Region(9, 20, 50, 33))
    assert own.decode(data, region=region) == whole.decode(data, region=region)
    if whole.info().previews:
        assert own.decode(data, parts=1) == whole.decode(data, parts=1)
    assert own.memory(WIDTH, HEIGHT, 2, False) == whole.memory(WIDTH, HEIGHT, 2, False)
    assert own.memory(WIDTH, HEIGHT, 2, True) == 2**64 - 1
    quality = library.header(data).quality
    words = refusal(binding.ARGUMENT, own.encode, photo.tobytes(), WIDTH, HEIGHT, quality)
    assert "was opened for decoding alone" in words


@pytest.mark.parametrize("name", ["jahp", "mlic+", "mcquic"])
def test_weights_decode_without_what_encoding_reads_wherever_that_lies_in_the_file(name, library, photo, tmp_path):
    found = storage.read(WEIGHTS / f"{name}.safetensors")
    storage.write(tmp_path / "mixed.safetensors", found, half=True, packed=True)  # in the order of names
    data = light.compress(photo, name)
    expected = light.decompress(data, name).tobytes()
    for path in (WEIGHTS / f"{name}.safetensors", tmp_path / "mixed.safetensors"):
        assert library.open_with(path, decode_only=1).decode(data) == expected


def test_codec_files_that_are_none_are_refused_in_words(library, tmp_path):
    good = (GOLDEN / "tiny_pixels_jahp.safetensors").read_bytes()
    for cut in (0, 7, 8, 100, len(good) // 2, len(good) - 1):
        assert refusal(binding.CODEC, library.open, good[:cut])
    for place in range(3, len(good), len(good) // 40):
        assert refusal(binding.CODEC, library.open, good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
    assert refusal(binding.CODEC, library.open, struct.pack("<Q", 2**63) + good[8:])
    assert "no fastlic codec" in refusal(binding.CODEC, library.open, struct.pack("<Q", 2) + b"{}")
    words = refusal(binding.UNSUPPORTED, library.open, GOLDEN / "tiny_jahp.safetensors")
    assert "its transforms are floats" in words
    assert "nothing.safetensors cannot be opened" in refusal(binding.IO, library.open, tmp_path / "nothing.safetensors")
    assert "cannot be read" in refusal(binding.IO, library.open, tmp_path)


def test_a_file_without_end_is_refused_with_little_memory(library):
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero")
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "no readable safetensors file" in refusal(binding.CODEC, library.open, "/dev/zero")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_wrong_arguments_are_named(library, jahp, photo):
    data, c, error = stream("tiny_pixels_jahp"), library.c, binding.Error()
    pixels, room = photo.tobytes(), ctypes.create_string_buffer(3 * WIDTH * HEIGHT)
    out, size, given = c_void_p(1), c_size_t(), binding.options()

    def no(status: int) -> str:
        assert status == error.status == binding.ARGUMENT
        return error.message.decode()

    e = byref(error)
    assert "header" in no(c.flic_read_header(data, len(data), None, e))
    assert "data" in no(c.flic_read_header(None, 5, byref(binding.Header()), e))
    assert "codec" in no(c.flic_codec_open_memory(data, len(data), None, e))
    assert "data" in no(c.flic_codec_open_memory(None, 5, byref(out), e))
    assert out.value is None
    assert "path" in no(c.flic_codec_open_file(None, byref(out), e))
    assert "codec" in no(c.flic_codec_open_file(b"x", None, e))
    assert "info" in no(c.flic_codec_get_info(jahp.handle, None, e))
    assert "codec" in no(c.flic_codec_get_info(None, byref(binding.Info()), e))
    assert "codec" in no(c.flic_decode(None, data, len(data), byref(given), room, len(room), 3 * WIDTH, e))
    assert "data" in no(c.flic_decode(jahp.handle, None, 9, byref(given), room, len(room), 3 * WIDTH, e))
    assert "pixels" in no(c.flic_decode(jahp.handle, data, len(data), byref(given), None, 9, 3 * WIDTH, e))
    short = no(c.flic_decode(jahp.handle, data, len(data), byref(given), room, len(room), 3 * WIDTH - 1, e))
    assert short == "stride must be at least 303 bytes, got 302"
    little = no(c.flic_decode(jahp.handle, data, len(data), byref(given), room, 303 * HEIGHT - 1, 303, e))
    assert little == f"capacity must be {HEIGHT} rows of 303 bytes, got {303 * HEIGHT - 1} bytes"
    for own in ({"struct_size": 0}, {"struct_size": 7}, {"format": 4}, {"format": 1 << 31}):
        assert no(
            c.flic_decode(jahp.handle, data, len(data), byref(binding.options(**own)), room, len(room), 3 * WIDTH, e)
        )
    assert "no previews" in no(
        c.flic_decode(jahp.handle, data, len(data), byref(binding.options(parts=1)), room, len(room), 303, e)
    )

    def refs(*targets):
        return [byref(target) if target is not None else None for target in targets]

    def encode(width=WIDTH, height=HEIGHT, quality=4.0, stride=3 * WIDTH, data=out, size=size, pixels=pixels):
        out.value = 1
        status = c.flic_encode(jahp.handle, pixels, width, height, stride, quality, None, *refs(data, size), e)
        assert out.value == (None if data is not None else 1)
        return no(status)

    for quality in (0.0, -1.0, 0.9, 8.1, 1e300, float("inf"), float("nan")):
        assert "quality" in encode(quality=quality) or "qualities" in error.message.decode()
    assert "1 to 1048575" in encode(width=0)
    assert "1 to 1048575" in encode(height=0)
    assert "1 to 1048575" in encode(width=1 << 20, stride=3 << 20)
    assert "stride" in encode(stride=302)
    assert "data" in encode(data=None)
    assert "size" in encode(size=None)
    assert "pixels" in encode(pixels=None)
    # Nobody asks for words, nothing is there to close or to free.
    assert c.flic_read_header(b"", 0, byref(binding.Header()), None) == binding.STREAM
    c.flic_codec_close(None)
    c.flic_free(None)
    assert c.flic_memory_needed(None, 1, 1, 1, 0) == (1 << 64) - 1
    assert c.flic_memory_needed(jahp.handle, 1 << 20, 1, 1, 0) == (1 << 64) - 1


def test_qualities_are_those_of_the_codec(library, photo):
    codec = library.open(GOLDEN / "tiny_pixels_mcquic.safetensors")
    qualities = codec.info().qualities
    assert "quality must be 1 to" in refusal(
        binding.ARGUMENT, codec.encode, photo.tobytes(), WIDTH, HEIGHT, qualities + 1
    )


def test_programs_that_know_fewer_or_more_options_are_served(library, jahp):
    data = stream("tiny_pixels_jahp")
    whole = jahp.decode(data)
    assert jahp.decode(data, struct_size=ctypes.sizeof(ctypes.c_size_t), format=RGB) == whole
    assert jahp.decode(data, struct_size=binding.Options.parts.offset, parts=77) == whole  # behind its end: not read
    error, room = binding.Error(), ctypes.create_string_buffer(len(whole))

    class Newer(ctypes.Structure):
        _fields_ = [("known", binding.Options), ("more", ctypes.c_uint64)]

    newer = Newer(binding.options(), 5)
    newer.known.struct_size = ctypes.sizeof(Newer)
    pointer = ctypes.cast(byref(newer), ctypes.POINTER(binding.Options))
    assert library.c.flic_decode(jahp.handle, data, len(data), pointer, room, len(room), 3 * WIDTH, byref(error)) == 0
    assert room.raw == whole
    assert library.c.flic_decode(jahp.handle, data, len(data), None, room, len(room), 3 * WIDTH, None) == 0


def test_threads_share_a_codec(jahp, photo):
    data = stream("tiny_pixels_jahp")
    expected, found = jahp.decode(data), []

    def work() -> None:
        found.append(
            jahp.decode(data, threads=2) == expected and jahp.encode(photo.tobytes(), WIDTH, HEIGHT, 4.5) == data
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_one_pixel_and_thin_images_come_back(library):
    for name in PIXELS:
        codec = library.open(GOLDEN / f"{name}.safetensors")
        for width, height in ((1, 1), (1, 70), (130, 1), (17, 16)):
            data = codec.encode(bytes(3 * width * height), width, height, min(codec.info().qualities, 4))
            assert len(codec.decode(data)) == 3 * width * height


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("nm") is None, reason="ELF only")
def test_nothing_but_its_functions_is_visible(built):
    done = subprocess.run(["nm", "-D", "--defined-only", str(built / "libflic.so")], capture_output=True, text=True)
    names = {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}
    assert names - {"FLIC_1"} == set(binding._SIGNATURES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "jahp" else pytest.mark.slow) for name in SHIPPED]
)
def test_the_memory_that_is_promised_is_enough_and_not_four_times_too_much(name, built):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a call")
    script, weights = Path(__file__).with_name("measure.py"), WEIGHTS / f"{name}.safetensors"
    command = [sys.executable, str(script), str(built / "libflic.so"), str(weights), "768:512", "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 4
    assert [row for row in rows if not row[3] <= row[2] <= 4 * row[3]] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_hundred_megapixels_take_less_than_two_gigabytes(name, library):
    codec, side = library.open(WEIGHTS / f"{name}.safetensors"), 10_000
    for encode in (False, True):
        assert codec.memory(side, side, 2, encode) + 3 * side * side < 2e9


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_kodak_has_the_same_bytes_and_pixels_in_c_and_in_python(name, library, kodak):
    import torch

    import fastlic

    codec, own = fastlic.load(name), library.open(WEIGHTS / f"{name}.safetensors")
    for path in sorted(kodak.glob("kodim*.png")):
        picture = read_image(path)
        data = codec.compress(picture.pixels, 4)
        pixels = codec.decompress(data, dtype=torch.uint8)
        height, width = picture.array.shape[:2]
        assert own.encode(picture.array.tobytes(), width, height, 4) == data, path.name
        assert own.decode(data) == pixels.permute(1, 2, 0).contiguous().numpy().tobytes(), path.name
