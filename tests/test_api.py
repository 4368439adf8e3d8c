"""What people hand to ``fastlic.compress`` and ``decompress``, and in what surroundings; what each gives back."""

from __future__ import annotations

import array
import io
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastlic
from fastlic import light
from fastlic.codec import registry
from fastlic.codec.image_files import read_image
from fastlic.errors import CorruptStreamError, PixelLimitError
from fastlic.models import JAHP, MLICPlusPlus

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "tiny_pixels_jahp.safetensors"
FAMILIES = ["jahp", "mlicpp", "mcquic", "scale"]


@pytest.fixture(scope="module")
def tiny() -> fastlic.Codec:
    return fastlic.load(TINY)


@pytest.fixture(scope="module")
def pixels(photos: Path) -> np.ndarray:
    return read_image(photos / "chelsea.png").array[:50, :70].copy()


@pytest.fixture(scope="module")
def x(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture(scope="module")
def data(tiny: fastlic.Codec, x: torch.Tensor) -> bytes:
    return tiny.compress(x)


class Unseekable(io.RawIOBase):
    """As an answer of a server reads."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._data.readinto(buffer)


# ---- streams: bytes, paths, files


@pytest.fixture(params=["bytes", "bytearray", "memoryview", "str", "Path", "open file", "BytesIO", "unseekable"])
def stream(request, data: bytes, tmp_path: Path) -> Iterator[object]:
    path = tmp_path / "x.flic"
    path.write_bytes(data)
    with path.open("rb") as file:
        yield {
            **{"bytes": data, "bytearray": bytearray(data), "memoryview": memoryview(data)},
            **{"str": str(path), "Path": path, "open file": file, "BytesIO": io.BytesIO(data)},
            **{"unseekable": Unseekable(data)},
        }[request.param]


def test_a_stream_may_be_bytes_a_path_or_a_file(stream, tiny, data):
    expected = tiny.decompress(data, dtype=torch.uint8)
    assert torch.equal(fastlic.decompress(stream, dtype=torch.uint8), expected)


def test_a_codec_takes_them_too(stream, tiny, data):
    assert torch.equal(tiny.decompress(stream), tiny.decompress(data))


def test_light_takes_them_too(stream, tiny, data):
    expected = tiny.decompress(data, dtype=torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(light.decompress(stream, TINY), expected)


def test_peek_takes_them_too_and_leaves_a_file_where_it_stood(stream, data):
    assert fastlic.peek(stream) == fastlic.peek(data)
    if getattr(stream, "seekable", lambda: False)():
        assert stream.tell() == 0
        assert fastlic.peek(stream).height == 50


def test_a_list_may_mix_them_and_gives_a_list(tiny, data, tmp_path):
    (tmp_path / "x.flic").write_bytes(data)
    images = fastlic.decompress([data, tmp_path / "x.flic", io.BytesIO(data)])
    assert len(images) == 3 and all(torch.equal(image, images[0]) for image in images)
    assert fastlic.decompress([]) == []


def test_streams_of_one_codec_are_decoded_together_and_come_back_in_their_order(tiny, x, data, monkeypatch):
    other = fastlic.load(GOLDEN / "tiny_pixels_mcquic.safetensors")
    streams = [data, other.compress(x), fastlic.compress(255 - x, tiny, backend="reference")]
    together = []
    decompress = fastlic.Codec.decompress

    def seen(self, data, device, dtype, backend, **options):
        together.append((self.fingerprint, len(data), backend))
        return decompress(self, data, device, dtype, backend, **options)

    monkeypatch.setattr(fastlic.Codec, "decompress", seen)
    images = fastlic.decompress(streams, backend="reference")
    assert together == [(tiny.fingerprint, 2, "reference"), (other.fingerprint, 1, "reference")]
    for image, codec, own in zip(images, (tiny, other, tiny), streams, strict=True):
        assert torch.equal(image, decompress(codec, own))


class Trickle:
    """What a pipe or a server gives: never all that is asked for."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def read(self, size=-1):
        return self.file.read(min(size, 3)) if size > 0 else self.file.read(size)


def test_peek_reads_on_where_a_file_gives_less_than_was_asked_for(data):
    assert fastlic.peek(Trickle(data)) == fastlic.peek(data)


def test_a_file_is_read_from_where_it_stands(tiny, data):
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert torch.equal(fastlic.decompress(file), tiny.decompress(data))


@pytest.mark.parametrize("call", [fastlic.decompress, fastlic.peek, light.decompress])
def test_a_file_that_was_read_before_says_where_it_stands(call, data):
    file = io.BytesIO(data)
    file.read()
    with pytest.raises(CorruptStreamError, match=rf"stands at position {len(data)}, its end: seek\(0\)\?"):
        call(file)
    with pytest.raises(CorruptStreamError, match="it is empty"):
        call(io.BytesIO())


@pytest.mark.parametrize("call", [fastlic.decompress, fastlic.peek, light.decompress])
def test_what_names_no_stream_is_told_in_words(call, tmp_path, data):
    with pytest.raises(FileNotFoundError, match=r"directory; compressed data are bytes, not str: 'none\.flic'"):
        call("none.flic")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: "):
        call(tmp_path / "none.flic")
    with pytest.raises(ValueError, match="is no path; compressed data are bytes, not str"):
        call("FLIC\0\1")
    with pytest.raises(IsADirectoryError):
        call(tmp_path)
    (tmp_path / "x.flic").write_bytes(data)
    with (tmp_path / "x.flic").open(encoding="latin-1") as file, pytest.raises(TypeError, match="opened as text"):
        call(file)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(CorruptStreamError):
        call(tmp_path / "photo.png")
    for nothing in (3, object(), None, int):
        with pytest.raises(TypeError, match="compressed data"):
            call(nothing)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (lambda data: np.frombuffer(data, np.uint8), r"or a list of such; got ndarray: its bytes are x\.tobytes"),
        (lambda data: array.array("B", data), r"got array: its bytes are x\.tobytes"),
        (lambda data: {"a": data}, "got dict"),
        (lambda data: {data}, "got set"),  # which has no order
        (lambda data: io.BytesIO, "got the class BytesIO"),
    ],
)
def test_what_only_looks_like_a_list_of_streams_is_refused_by_its_name(kind, words, data):
    with pytest.raises(TypeError, match=words):
        fastlic.decompress(kind(data))


def test_a_column_of_streams_is_a_list_of_them(data):
    assert len(fastlic.decompress(np.array([data, data], dtype=object))) == 2


@pytest.mark.parametrize("call", [fastlic.decompress, fastlic.peek, light.decompress, light.compress])
def test_a_file_that_is_not_open_for_reading_is_refused_in_words(call, tmp_path):
    with (tmp_path / "x.flic").open("wb") as file, pytest.raises(ValueError, match="not open for reading"):
        call(file)


@pytest.mark.parametrize("call", [fastlic.decompress, fastlic.peek, light.decompress])
def test_no_bytes_at_all_are_told_as_such(call):
    with pytest.raises(CorruptStreamError, match="it is empty"):
        call(b"")


def test_an_option_of_decompress_that_there_is_not_is_a_type_error_that_names_it(tiny, data):
    for call in (fastlic.decompress, tiny.decompress):
        with pytest.raises(TypeError, match="takes no chanels; previews are by levels or slices"):
            call(data, chanels=3)


# ---- names of models


@pytest.mark.parametrize("load", [fastlic.load, light.load])
@pytest.mark.parametrize(
    ("name", "guess"), [("jhap", "'jahp'"), ("MLIC++", r"'mlic\+\+'"), ("mcquick", "'mcquic'"), ("mlicpp", ".*'mlic.*")]
)
def test_a_misspelt_model_is_told_with_the_name_that_may_be_meant(load, name, guess):
    with pytest.raises(ValueError, match=rf"shipped weights \(jahp.*\); did you mean {guess}\?$"):
        load(name)
    with pytest.raises(ValueError, match=r"shipped weights \([^;]*\)$"):
        load("zebra")


def test_a_codec_of_the_other_api_is_refused_with_where_it_is_from(tiny, x, pixels):
    with pytest.raises(TypeError, match=r"a codec that fastlic\.load gives, got a codec of fastlic\._native"):
        fastlic.compress(x, light.load(TINY))
    with pytest.raises(TypeError, match=r"what fastlic\.light\.load gives, got fastlic\.codec\.codec\.Codec"):
        light.compress(pixels, tiny)
    with pytest.raises(TypeError, match=r"model must be a name, a path, or a codec .* got NoneType"):
        fastlic.compress(x, None)


def test_whole_numbers_of_numpy_are_whole_numbers(tiny, x, pixels, data):
    n = np.int64
    assert fastlic.compress(x, tiny, max_pixels=n(5000), effort=n(0)) == data
    assert light.compress(pixels, TINY, threads=n(1), effort=n(0)) == data
    whole = light.decompress(data, TINY, parts=n(0), max_pixels=np.prod([50, 70]))
    assert np.array_equal(light.decompress(data, TINY, channels=n(3)), whole)
    for wrong in (True, 2.0, n(0)):
        with pytest.raises(ValueError, match="max_pixels must be a positive integer"):
            fastlic.decompress(data, max_pixels=wrong)
    for call in (tiny.compress, fastlic.compress):
        with pytest.raises(TypeError, match="quality must be a number from 1 to 8, got bool"):
            call(x, quality=True)


# ---- images: tensors, arrays, Pillow's, paths, files


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (lambda pixels: b"\x89PNG", r"got bytes; the bytes of an image file: io\.BytesIO\(x\)"),
        (lambda pixels: [pixels], r"got list; one image at a time, or a tensor \[B, C, H, W\]"),
        (lambda pixels: 5, "got int$"),
    ],
)
def test_what_is_no_image_is_told_with_what_would_make_it_one(kind, words, pixels):
    for call in (fastlic.compress, light.compress):
        with pytest.raises(TypeError, match=words):
            call(kind(pixels))
    with pytest.raises(TypeError, match=r"got Tensor; fastlic\.compress takes it"):
        light.compress(torch.from_numpy(pixels))


def test_a_stream_is_not_compressed_again_and_the_message_says_that_it_is_one(data, tmp_path):
    (tmp_path / "x.flic").write_bytes(data)
    for source in (tmp_path / "x.flic", io.BytesIO(data)):
        with pytest.raises(ValueError, match=r"no image that Pillow can read as .*; it is compressed already"):
            fastlic.compress(source)


@pytest.fixture(params=["array", "read-only array", "Pillow's", "lazy Pillow's", "str", "Path", "open file", "BytesIO"])
def image(request, pixels, tmp_path: Path) -> Iterator[object]:
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path)
    fixed = pixels.copy()
    fixed.flags.writeable = False
    with path.open("rb") as file, Image.open(path) as lazy:
        yield {
            **{"array": pixels, "read-only array": fixed, "Pillow's": Image.fromarray(pixels), "lazy Pillow's": lazy},
            **{"str": str(path), "Path": path, "open file": file, "BytesIO": io.BytesIO(path.read_bytes())},
        }[request.param]


@pytest.mark.filterwarnings("error")
def test_an_image_may_be_an_array_pillows_a_path_or_a_file(image, tiny, data):
    assert fastlic.compress(image, tiny) == data


@pytest.mark.filterwarnings("error")
def test_light_takes_each_of_these_images_too(image, data):
    assert light.compress(image, TINY) == data


def test_an_image_of_a_server_may_not_be_sought_in(tiny, data, pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    assert fastlic.compress(Unseekable(out.getvalue()), tiny) == data


def test_grey_transparent_and_profiled_images_are_kept_as_they_are(tiny, pixels, tmp_path):
    planes = np.dstack([pixels, pixels[:, :, 0]])
    profile = b"\0" * 16 + b"RGB " + b"\0" * 100
    for mode, x in (("L", planes[:, :, 0]), ("LA", planes[:, :, 2:]), ("RGB", pixels), ("RGBA", planes)):
        image, path = Image.fromarray(x, mode), tmp_path / f"{mode}.png"
        image.save(path)
        expected = fastlic.compress(x, tiny)
        assert fastlic.compress(image, tiny) == fastlic.compress(path, tiny) == light.compress(path, TINY) == expected
        assert fastlic.decompress(expected).shape[0] == len(mode)
        image.info["icc_profile"] = profile
        kept = fastlic.read_metadata(fastlic.compress(image, tiny))
        assert kept.icc_profile == (profile if mode[0] == "R" else b"")
        assert fastlic.compress(image, tiny, metadata=fastlic.Metadata()) == expected
        assert light.compress(image, TINY, metadata=fastlic.Metadata()) == expected


def test_metadata_is_read_of_paths_and_files(tiny, x, tmp_path):
    metadata = fastlic.Metadata(b"profile", b"MM", b"<x/>")
    (tmp_path / "x.flic").write_bytes(tiny.compress(x, metadata=metadata))
    with (tmp_path / "x.flic").open("rb") as file:
        assert fastlic.read_metadata(file) == fastlic.read_metadata(tmp_path / "x.flic") == metadata


def test_pillows_images_and_files_are_turned_upright_and_left_as_they_were(tiny, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    upright = fastlic.compress(np.rot90(pixels, -1), tiny)
    assert fastlic.compress(tmp_path / "x.png", tiny) == upright
    with Image.open(tmp_path / "x.png") as opened:
        assert fastlic.compress(opened, tiny) == upright
        assert opened.size == (70, 50) and opened.getexif()[0x0112] == 6
        assert np.array_equal(np.asarray(opened), pixels)


def test_images_that_would_lose_data_are_refused_in_the_words_of_files(tiny, pixels):
    for call in (lambda x: fastlic.compress(x, tiny), lambda x: light.compress(x, TINY)):
        with pytest.raises(ValueError, match="more than 8 bits per sample"):
            call(Image.fromarray(np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize("call", [fastlic.compress, light.compress])
def test_what_is_no_image_is_told_in_words(call, tmp_path, pixels):
    with pytest.raises(FileNotFoundError, match=r"directory; a str is taken for the path of an image: 'photo'"):
        call("photo")
    with pytest.raises(ValueError, match="is no path; a str"):
        call("\0")
    with pytest.raises(IsADirectoryError):
        call(tmp_path)
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="no image that Pillow can read"):
        call(tmp_path / "x.png")
    with (tmp_path / "x.png").open() as file, pytest.raises(TypeError, match="opened as text"):
        call(file)
    for nothing in (3, object(), None, [pixels], int):
        with pytest.raises(TypeError, match=r"expected an image: a torch\.Tensor .* a numpy array"):
            call(nothing)
    with pytest.raises(TypeError, match="got float32; an image in"):
        call(pixels.astype(np.float32))
    with pytest.raises(ValueError, match="channels come last: np"):
        call(np.moveaxis(pixels, -1, 0))
    with pytest.raises(ValueError, match="one image of a batch at a time"):
        call(pixels[None])


@pytest.mark.parametrize("call", [fastlic.compress, light.compress])
def test_the_pixel_limit_holds_for_every_kind_of_image(call, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "x.png")
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1 << 30, 1 << 30, 3))
    for image in (pixels, Image.fromarray(pixels), tmp_path / "x.png", huge):
        with pytest.raises(PixelLimitError):
            call(image, max_pixels=3499)


# ---- batches, models, qualities


def test_a_batch_gives_a_list_and_an_image_bytes_whatever_the_number_of_images(tiny, x, data):
    assert tiny.compress(x) == fastlic.compress(x, tiny) == data
    for count in (1, 2):
        streams = fastlic.compress(x[None].expand(count, -1, -1, -1), tiny)
        assert streams == [data] * count
        images = fastlic.decompress(streams)
        assert len(images) == count and all(image.shape == x.shape for image in images)
    assert fastlic.decompress(data).shape == x.shape


def test_a_number_in_the_place_of_the_model_is_the_quality(x, pixels):
    assert fastlic.compress(x, 2) == fastlic.compress(x, "jahp", 2) == fastlic.load("jahp").compress(x, 2)
    assert light.compress(pixels, np.float32(2.5)) == light.compress(pixels, quality=2.5)
    for call, image in ((fastlic.compress, x), (light.compress, pixels)):
        with pytest.raises(TypeError, match=r"two qualities, 2 and 3: name the model"):
            call(image, 2, 3)
        with pytest.raises(TypeError):
            call(image, True)
        with pytest.raises(ValueError, match="quality must be from 1 to 8, got 9"):
            call(image, 9)


def test_without_a_quality_all_ways_take_the_same_one(tiny, x, pixels):
    expected = tiny.compress(x, min(4, tiny.qualities))
    assert tiny.compress(x) == fastlic.compress(x, tiny) == light.compress(pixels, TINY) == expected
    torch.manual_seed(3)
    few = fastlic.Codec(JAHP(4, 4, qualities=2), calibration=[x])
    assert fastlic.compress(x, few) == few.compress(x) == few.compress(x, 2)


@pytest.mark.parametrize(
    ("low", "high", "hint"),
    [
        (0.0, 1.0001, "; clip what lies outside: x.clamp(0, 1)"),
        (-1e-6, 0.9, "; clip what lies outside: x.clamp(0, 1)"),
        (-0.02, 1.05, "; clip what lies outside: x.clamp(0, 1)"),
        (0.0, 255.0, "; divide by 255"),
        (3.0, 97.0, "; divide by 255"),
        (-1.0, 1.0, "; if -1 stands for black: (x + 1) / 2"),
        (-2.1, 2.6, ""),  # mean and deviation of ImageNet
        (0.0, 65535.0, ""),
        (0.0, 1.7, ""),
    ],
)
def test_floats_outside_their_range_get_the_hint_that_fits_them(tiny, low, high, hint):
    image = torch.full((3, 4, 4), low)
    image[0, 0, 0] = high
    with pytest.raises(ValueError) as told:
        tiny.compress(image)
    assert str(told.value).endswith(f"got values from {low:.6g} to {high:.6g}{hint}")


# ---- surroundings: random state, default type and device, torch.compile, devices


@pytest.fixture
def surroundings() -> Iterator[None]:
    """Puts the defaults of the process back, and the shipped codecs out of memory."""
    registry._load_shipped.cache_clear()
    yield
    torch.set_default_device("cpu")
    torch.set_default_dtype(torch.float32)
    registry._load_shipped.cache_clear()


def weights_of(codec: fastlic.Codec) -> dict[str, torch.Tensor]:
    return codec.transforms().state_dict()


@pytest.mark.parametrize("name", ["jahp", "mcquic", *(f"tiny_pixels_{family}" for family in FAMILIES), "tiny_jahp"])
def test_load_leaves_the_random_state_alone(name, surroundings):
    before = torch.get_rng_state()
    fastlic.load(GOLDEN / f"{name}.safetensors" if "_" in name else name)
    assert torch.equal(torch.get_rng_state(), before)


def test_state_dicts_and_conversions_leave_it_alone_too(x):
    torch.manual_seed(1)
    state = MLICPlusPlus(N=8, M=16, widths=(4, 4, 4)).state_dict()
    before = torch.get_rng_state()
    fastlic.Codec(MLICPlusPlus.from_state_dict(state), calibration=[x.float() / 255])
    assert torch.equal(torch.get_rng_state(), before)


def test_another_thread_draws_the_same_numbers_while_a_codec_is_loaded():
    def drawn(beside) -> torch.Tensor:
        thread = threading.Thread(target=beside)
        torch.manual_seed(1)
        thread.start()
        numbers = torch.stack([torch.rand(100) for _ in range(300)])
        thread.join()
        return numbers

    assert torch.equal(drawn(lambda: fastlic.load(TINY)), drawn(lambda: None))


@pytest.mark.parametrize(
    ("family", "default"), [*itertools.product(FAMILIES, ["float64", "meta"]), ("jahp", "bfloat16")]
)
def test_a_codec_is_the_same_under_any_default_type_and_device(family, default, surroundings, x):
    path = GOLDEN / f"tiny_pixels_{family}.safetensors"
    expected = fastlic.Codec.load(path)
    ways = ("integer", "float")
    streams = [expected.compress(x, transforms=way) for way in ways]
    images = [expected.decompress(stream, transforms=way) for stream, way in zip(streams, ways, strict=True)]
    if default == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(getattr(torch, default))
    codec = fastlic.load(path)
    assert codec.fingerprint == expected.fingerprint
    for way, stream, image in zip(ways, streams, images, strict=True):
        assert codec.compress(x, transforms=way) == stream
        found = codec.decompress(stream, transforms=way)
        assert found.dtype == torch.float32 and found.device.type == "cpu" and torch.equal(found, image)
    found = weights_of(codec)
    for name, value in weights_of(expected).items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("default", ["float64", "meta"])
def test_shipped_weights_load_under_any_default_type_and_device(default, surroundings, x, pixels):
    expected = light.compress(pixels)
    if default == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(torch.float64)
    assert fastlic.compress(x) == expected
    assert fastlic.decompress(expected).dtype == torch.float32


COMPILED = """
import sys
import numpy as np, torch
import fastlic
from fastlic import light
assert "torch._dynamo" not in sys.modules, "the compiler is imported where nobody compiles"
pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
x = torch.from_numpy(pixels).permute(2, 0, 1)
expected = light.compress(pixels)
assert "torch._dynamo" not in sys.modules, "the compiler is imported where nobody compiles"


class Around(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        data = fastlic.compress((x * self.scale).to(torch.uint8))
        return fastlic.decompress(data) * 2


try:
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
except Exception as error:
    print("torch.compile does not work here:", str(error)[:200])
    sys.exit()
assert torch.compile(lambda x: fastlic.compress(x), backend="eager")(x) == expected
shown = torch.compile(Around(), backend="eager")(x)
assert torch.equal(shown, 2 * fastlic.decompress(expected))
codec = fastlic.load("jahp")
assert torch.compile(lambda x: codec.compress(x, 4) + codec.compress(x + 0), backend="eager")(x) == 2 * expected
assert torch.compile(lambda x: light.compress(x), backend="eager")(pixels) == expected
"""


def test_the_compiler_is_told_to_leave_alone_what_makes_and_reads_streams():
    calls = [fastlic.compress, fastlic.decompress, fastlic.load, light.compress, light.decompress]
    calls += [getattr(fastlic.Codec, name) for name in ("compress", "decompress", "analyse", "encode", "estimate")]
    assert [call for call in calls if not getattr(call, "_torchdynamo_disable", False)] == []


@pytest.mark.parametrize("name", ["jahp", "mcquic"])
def test_nobody_who_does_not_compile_waits_for_the_compiler(name, fresh_process):
    path = Path(__file__).parent / "golden" / f"tiny_pixels_{name}.safetensors"
    script = (
        "import sys, torch\nfrom fastlic import Codec\n"
        f"codec = Codec.load({str(path)!r})\n"
        "codec.decompress(codec.compress(torch.zeros(3, 40, 50, dtype=torch.uint8)))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert fresh_process(script) == ["False"]


@pytest.mark.slow
def test_a_compiled_caller_gets_the_bytes_and_pixels_of_a_plain_one(tmp_path):
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    if "torch.compile does not work here" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("device", ["mps", "cuda:99", "xpu", "hpu", "privateuseone", "nonesuch"])
def test_a_device_that_is_not_there_is_told_in_words(device, data):
    if device in ("mps", "xpu") and getattr(torch, device).is_available():
        pytest.skip("it is there")
    with pytest.raises(ValueError, match=rf"^device '{device}' cannot be had here: torch \S+ offers cpu"):
        fastlic.decompress(data, device=device)
    with pytest.raises(ValueError, match="device 'meta' has no memory"):
        fastlic.decompress(data, device="meta")
