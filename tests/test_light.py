"""fastlic.light: the same bytes and pixels as fastlic's own, in processes that never see torch."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import fastlic
from fastlic import light
from fastlic.codec import container
from fastlic.codec.calibration import PHOTO
from fastlic.codec.cards import cards
from fastlic.codec.image_files import read_image
from fastlic.errors import CodecFileError, CorruptStreamError, ModelMismatchError, PixelLimitError
from fastlic.models import McQuic

GOLDEN = Path(__file__).parent / "golden"
PIXEL_CODECS = sorted(path.stem for path in GOLDEN.glob("tiny_pixels_*.safetensors"))


@pytest.fixture(scope="module")
def photo(photos: Path) -> np.ndarray:
    return read_image(photos / "astronaut.png").pixels.permute(1, 2, 0).contiguous().numpy()


@pytest.mark.parametrize("name", PIXEL_CODECS)
def test_golden_streams_give_the_pixels_of_the_whole_library(name):
    path, data = GOLDEN / f"{name}.safetensors", (GOLDEN / f"{name}_v2.flic").read_bytes()
    expected = fastlic.Codec.load(path).decompress(data, dtype=torch.uint8)
    assert isinstance(expected, torch.Tensor)
    assert np.array_equal(light.decompress(data, path), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", cards())
def test_bytes_and_pixels_are_those_of_the_whole_library(name, threads, photo):
    x = torch.from_numpy(photo).permute(2, 0, 1)
    for quality in (1, 4.3125, 8):
        data = fastlic.compress(x, name, quality)
        assert light.compress(photo, name, quality, threads=threads) == data
        expected = fastlic.decompress(data, dtype=torch.uint8)
        assert isinstance(expected, torch.Tensor)
        assert np.array_equal(light.decompress(data, threads=threads), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["jahp", "mlic++"])
def test_every_sixteenth_of_a_quality_gives_the_bytes_of_the_whole_library(name):
    small = np.random.default_rng(3).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    x, codec = torch.from_numpy(small).permute(2, 0, 1), fastlic.load(name)
    for sixteenth in range(16, 129):
        assert light.compress(small, name, sixteenth / 16) == codec.compress(x, sixteenth / 16), sixteenth


@pytest.mark.parametrize(("name", "option", "parts"), [("mcquic", "levels", 1), ("mlic++", "slices", 3)])
def test_previews_are_those_of_the_whole_library(name, option, parts, photo):
    data = light.compress(photo, name)
    expected = fastlic.decompress(data, dtype=torch.uint8, **{option: parts})
    assert isinstance(expected, torch.Tensor)
    assert np.array_equal(light.decompress(data, parts=parts), expected.permute(1, 2, 0).numpy())
    with pytest.raises(ValueError, match="parts must be 0"):
        light.decompress(data, parts=9)


def test_grey_stays_one_channel_and_its_latents_are_those_of_three_equal_ones(photo):
    grey = photo[:, :, 0]
    data, of_three = light.compress(grey), light.compress(np.repeat(grey[:, :, None], 3, axis=2))
    assert container.unpack(data)[1] == container.unpack(of_three)[1]
    assert light.decompress(data).shape == grey.shape
    assert data == light.compress(grey[:, :, None])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_and_metadata_are_those_of_the_whole_library(channels, photo):
    planes = np.dstack([photo, np.where(photo[:, :, :1] > 99, 255, photo[:, :, :1])])
    x = np.ascontiguousarray(planes[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]])
    metadata = fastlic.Metadata(icc_profile=b"profile", xmp=b"<xmp/>") if channels > 2 else None
    data = light.compress(x, metadata=metadata)
    tensor = torch.from_numpy(x).permute(2, 0, 1)
    assert data == fastlic.compress(tensor, metadata=metadata)
    assert fastlic.read_metadata(data) == (metadata or fastlic.Metadata())
    if channels % 2 == 0:
        assert np.array_equal(light.decompress(data)[:, :, -1], x[:, :, -1])
    for asked in (None, 1, 2, 3, 4):
        pixels = light.decompress(data, channels=asked)
        whole = fastlic.decompress(data, dtype=torch.uint8, channels=asked)
        assert whole.shape[0] == (asked or channels)
        assert np.array_equal(pixels.reshape(*pixels.shape[:2], -1), whole.permute(1, 2, 0).numpy())
        floats = fastlic.decompress(data, channels=asked)
        assert torch.equal(floats, whole / 255)


def test_neither_torch_nor_pillow_is_imported(tmp_path, photo):
    (tmp_path / "x.flic").write_bytes(light.compress(photo))
    code = (
        "import sys, fastlic.light\n"
        "x = fastlic.light.decompress(open(sys.argv[1], 'rb').read())\n"
        "fastlic.light.compress(x)\n"
        "print(sorted({'torch', 'PIL', 'safetensors'} & set(sys.modules)), x.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.flic")], capture_output=True, text=True)
    assert done.stdout.split() == ["[]", *str(photo.shape).split()], done.stderr


def within(x: np.ndarray, region: tuple[int, int, int, int]) -> np.ndarray:
    left, top, width, height = region
    return x[top : top + height, left : left + width]


@pytest.mark.parametrize("name", cards())
def test_a_region_has_the_pixels_that_it_has_in_the_whole_image(name, photo):
    height, width = photo.shape[:2]
    data = light.compress(photo, name)
    whole, rng = light.decompress(data), np.random.default_rng(7)
    corners = [(0, 0, 1, 1), (width - 1, height - 1, 1, 1), (0, height // 2, width, 3), (0, 0, width, height)]
    for left, top in rng.integers(0, [width, height], (6, 2)).tolist():
        size = rng.integers(1, [width - left, height - top], endpoint=True).tolist()
        corners.append((left, top, *size))
    for region in corners:
        assert np.array_equal(light.decompress(data, region=region, threads=2), within(whole, region)), region


@pytest.mark.parametrize("name", PIXEL_CODECS)
def test_regions_of_golden_streams_are_parts_of_the_golden_pixels(name):
    path, data = GOLDEN / f"{name}.safetensors", (GOLDEN / f"{name}_v2.flic").read_bytes()
    whole = light.decompress(data, path)
    for region in ((17, 5, 20, 30), (0, 40, 9, 8), (50, 0, 7, 11)):
        assert np.array_equal(light.decompress(data, path, region=region), within(whole, region))


def test_regions_keep_alpha_grey_and_previews(photo):
    alpha = np.dstack([photo, np.arange(photo[:, :, 0].size).reshape(photo.shape[:2]) % 251]).astype(np.uint8)
    region = (31, 7, 40, 64)
    for pixels, model, parts in ((alpha, "jahp", 0), (alpha[:, :, 0], "jahp", 0), (photo, "mcquic", 1)):
        data = light.compress(pixels, model)
        whole = light.decompress(data, parts=parts)
        assert np.array_equal(light.decompress(data, parts=parts, region=region), within(whole, region))


@pytest.mark.parametrize("region", [(0, 0, 0, 5), (0, 0, 5, 0), (290, 0, 400, 1), (0, 2**31 - 1, 1, 1)])
def test_regions_beyond_the_image_are_refused_with_its_size(region, photo):
    with pytest.raises(ValueError, match=f"does not lie in an image of {photo.shape[0]} x {photo.shape[1]}"):
        light.decompress(light.compress(photo), region=region)


def test_a_region_may_come_from_an_array(photo):
    data, region = light.compress(photo), np.array([3, 4, 20, 30])
    assert np.array_equal(light.decompress(data, region=region), within(light.decompress(data), (3, 4, 20, 30)))  # type: ignore[arg-type]


@pytest.mark.parametrize("region", [(0, 0, 5), "0055", (0.0, 0, 5, 5), (-1, 0, 5, 5), (0, 0, 2**31, 1), 5])
def test_what_is_no_region_is_refused(region, photo):
    with pytest.raises(ValueError, match="left, top, width and height"):
        light.decompress(light.compress(photo), region=region)


def test_wrong_arguments_are_named(tmp_path, photo):
    data = light.compress(photo)
    with pytest.raises(TypeError, match="uint8"):
        light.compress(photo.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[H, W, 1 to 4\]"):
        light.compress(photo[:, :, :0])
    with pytest.raises(ValueError, match="quality must be from 1 to 8"):
        light.compress(photo, quality=9)
    with pytest.raises(ValueError, match="neither a codec file nor one of the shipped"):
        light.compress(photo, "none")
    with pytest.raises(CorruptStreamError):
        light.decompress(data[:-1])
    with pytest.raises(PixelLimitError, match="above the limit of 100"):
        light.decompress(data, max_pixels=100)
    with pytest.raises(ModelMismatchError, match="'mlic\\+\\+'"):
        light.decompress(light.compress(photo, "mlic++"), "jahp")
    with pytest.raises(ModelMismatchError, match="which do not ship"):
        light.decompress((GOLDEN / "tiny_pixels_jahp_v2.flic").read_bytes())
    with pytest.raises(CodecFileError, match="its transforms are floats"):
        light.load(GOLDEN / "tiny_jahp.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no codec")
    with pytest.raises(CodecFileError, match="no readable safetensors file"):
        light.load(tmp_path / "bad.safetensors")


def test_a_mcquic_with_codebooks_of_the_published_sizes_has_the_fingerprint_of_the_whole_library(tmp_path):
    torch.manual_seed(1)
    codec = fastlic.Codec(McQuic(4, 1), calibration=[torch.rand(3, 128, 128)])
    assert codec.config["k"] == [8192, 2048, 512]
    codec.save(tmp_path / "c.safetensors")
    assert light.load(tmp_path / "c.safetensors").fingerprint == codec.fingerprint
    x = np.random.default_rng(1).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    data = light.compress(x, tmp_path / "c.safetensors")
    expected = codec.decompress(data, dtype=torch.uint8)
    assert isinstance(expected, torch.Tensor)
    assert np.array_equal(light.decompress(data, tmp_path / "c.safetensors"), expected.permute(1, 2, 0).numpy())


def test_shipped_weights_are_held_against_their_cards(monkeypatch):
    cards = {name: {**card, "sha256": "0" * 64} for name, card in light.cards().items()}
    monkeypatch.setattr(light, "cards", lambda: cards)
    with pytest.raises(CodecFileError, match="its SHA-256 is not 0000"):
        light.load("jahp")


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """Long enough for the core to tell how far it is: about 2 MP."""
    return np.tile(read_image(PHOTO).array, (3, 3, 1))[:1200, :1800]


@pytest.mark.parametrize(("name", "rows"), [("jahp", 1200), ("mcquic", 420), ("mlic++", 420)])
def test_progress_is_told_in_shares_that_rise_to_the_whole_and_changes_no_bit(name, rows, large):
    large, shares = large[:rows], list[float]()
    data = light.compress(large, name, threads=1, progress=shares.append)
    coded = len(shares)
    pixels = light.decompress(data, threads=1, progress=shares.append)
    for each in (shares[:coded], shares[coded:]):
        assert each and each == sorted(each) and each[0] >= 0 and each[-1] <= 1
    assert light.compress(large, name) == data and np.array_equal(light.decompress(data), pixels)


def test_what_progress_raises_ends_the_call_and_the_next_one_goes_on(large):
    def stop(share: float) -> None:
        raise RuntimeError(f"at {share:.3f}")

    data = light.compress(large)
    for call in (light.compress, light.decompress):
        with pytest.raises(RuntimeError, match=r"at 0\."):
            call(large if call is light.compress else data, threads=1, progress=stop)
    inner: list[int] = []
    assert light.compress(large, threads=1, progress=lambda _: inner.append(len(light.compress(large[:16])))) == data
    assert len(set(inner)) == 1


class Alarm(Exception):
    """What a handler of a signal raises, as Ctrl-C's does."""


@pytest.mark.parametrize("call", [light.compress, light.decompress])
def test_a_signal_ends_a_call_that_nobody_watches(call, large):
    def ring(number: int, frame: object) -> None:
        raise Alarm

    given = large[:800] if call is light.compress else light.compress(large[:800])
    began = time.thread_time()
    call(given, threads=1)
    whole = time.thread_time() - began
    handler = signal.signal(signal.SIGVTALRM, ring)
    try:
        began = time.thread_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, whole / 4)  # of CPU time, as what is compared
        with pytest.raises(Alarm):
            call(given, threads=1)
        assert time.thread_time() - began < 0.9 * whole
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)


def test_a_codec_is_copied_as_itself_and_pickling_it_says_what_to_do_instead(photo):
    codec = light.load("jahp")
    assert copy.deepcopy([codec])[0] is copy.copy(codec) is codec
    with pytest.raises(TypeError, match=r"hand its name or path to the other process, and fastlic\.light\.load opens"):
        pickle.dumps(codec)


@pytest.mark.parametrize("call", [light.compress, light.decompress])
def test_progress_that_cannot_be_called_is_refused(call, large):
    given = large[:16] if call is light.compress else light.compress(large[:16])
    with pytest.raises(TypeError, match="progress must be callable, or None, got int"):
        call(given, progress=1)
