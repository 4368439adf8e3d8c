"""``.mcq`` files: McQuic 0.1.40's own bytes both ways, and words for what is damaged."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

import fastlic
from fastlic import Codec
from fastlic.cli.main import cli
from fastlic.codec import mcq
from fastlic.codec.mcq import McqCoder, parse, quantised_cdf, serialise
from fastlic.errors import BackendUnavailable, CorruptStreamError, FastlicError, ModelMismatchError
from fastlic.models import McQuic
from fastlic.models.mcquic import save_published

pytest.importorskip("msgpack")

GOLDEN = Path(__file__).parents[1] / "golden"
SAMPLE = GOLDEN / "mcquic_sample.mcq"  # written by McQuic 0.1.40, 512x768, m=2, random weights


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """What McQuic 0.1.40's Python made of an image; its streams are also what its own C++ coder writes."""
    return load_file(GOLDEN / "mcquic_official.safetensors")


@pytest.fixture(scope="module")
def coder(official: dict[str, Tensor]) -> McqCoder:
    state = {k.removeprefix("model/"): v.float() for k, v in official.items() if k.startswith("model/")}
    return McqCoder(McQuic.from_state_dict(state), "qp_2_msssim")


@pytest.fixture(scope="module")
def file(official: dict[str, Tensor]) -> bytes:
    return bytes(official["mcq_file"].numpy())


@pytest.mark.golden
def test_an_official_file_is_read_to_the_official_codes_and_image(coder: McqCoder, official, file: bytes):
    codes, size = coder.unpack(file)
    assert size == (100, 140)
    assert all(torch.equal(code, official[f"codes/{n}"][0].long()) for n, code in enumerate(codes))
    expected = ((official["restored_every_third"] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(coder.decompress(file)[:, ::3, ::3], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.golden
def test_the_same_image_gives_the_official_streams_and_fields(coder: McqCoder, official, file: bytes):
    # Fields and every coded byte; the order of keys in the outer map depends on the writer's libraries.
    assert parse(coder.compress(official["image"])) == parse(file)


@pytest.mark.golden
def test_a_real_file_is_written_again_byte_for_byte():
    data = SAMPLE.read_bytes()
    fields = parse(data)
    assert (fields.groups, fields.words, fields.height, fields.width) == (2, (8192, 2048, 512), 512, 768)
    assert fields.sizes == ((32, 48), (16, 24), (8, 12)) and fields.version == "0.1.40"
    assert serialise(fields) == data


@pytest.mark.golden
def test_integer_tables_are_those_of_the_original():
    """Widths that pmfToQuantizedCDF of McQuic 0.1.40 gave; zeros take slots from the narrowest that can spare one."""
    assert quantised_cdf(np.float32([0.5, 0.5])).tolist() == [0, 32768, 65536]
    assert quantised_cdf(np.float32([1, 0, 0])).tolist() == [0, 65534, 65535, 65536]
    assert np.diff(quantised_cdf(np.float32([0.9999, 0.00005, 0, 0.00005]))).tolist() == TABLE
    with pytest.raises(ValueError, match="not all zero"):
        quantised_cdf(np.zeros(4, dtype=np.float32))


TABLE = [65529, 2, 1, 4]


@pytest.mark.parametrize("size", [(1, 1), (43, 130), (128, 256)])
def test_images_of_any_size_round_trip(coder: McqCoder, size: tuple[int, int]):
    x = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    data = coder.compress(x)
    codes, read = coder.unpack(data)
    assert read == size and coder.pack(codes, size) == data
    image = coder.decompress(data, dtype=torch.uint8)
    assert image.shape == x.shape and image.dtype == torch.uint8


def test_every_truncation_and_every_extra_byte_is_reported(coder: McqCoder, file: bytes):
    for end in range(len(file)):
        with pytest.raises(CorruptStreamError):
            coder.unpack(file[:end])
    with pytest.raises(CorruptStreamError):
        coder.unpack(file + b"\0")


@pytest.mark.fuzz
def test_any_changed_byte_is_an_error_or_codes_of_the_same_shape(coder: McqCoder, file: bytes):
    codes, _ = coder.unpack(file)
    reported = 0
    for position in range(len(file)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(file)
            damaged[position] ^= change
            try:
                others, _ = coder.unpack(bytes(damaged))
                assert [c.shape for c in others] == [c.shape for c in codes]
            except FastlicError:
                reported += 1
    assert reported > 2 * len(file)


def test_forged_fields_are_held_to_each_other_and_to_the_limits(coder: McqCoder, file: bytes):
    fields = parse(file)
    for change, words in (
        ({"version": "0.1.41"}, "version 0.1.41"),
        ({"version": "1.0.0"}, "version 1.0.0"),
        ({"version": "new"}, "version is none"),
        ({"height": 1 << 20}, "must be 1 to"),
        ({"height": 0}, "must be 1 to"),
        ({"height": 300}, "do not fit"),
        ({"sizes": ((8, 16), (4, 8), (2, 5))}, "do not fit"),
        ({"contents": fields.contents[:2]}, "do not agree"),
    ):
        with pytest.raises(CorruptStreamError, match=words):
            coder.unpack(serialise(dataclasses.replace(fields, **change)))
    with pytest.raises(ModelMismatchError, match="m=3"):
        coder.unpack(serialise(dataclasses.replace(fields, groups=3)))
    huge = dataclasses.replace(fields, height=8192, width=8192, sizes=((512, 512), (256, 256), (128, 128)))
    with pytest.raises(CorruptStreamError, match="too few"):
        coder.unpack(serialise(huge))


def test_a_path_that_a_file_names_is_not_opened(coder: McqCoder, file: bytes, tmp_path: Path):
    trap = tmp_path / "trap.mcquic"
    trap.write_bytes(b"not even a pickle")
    fields = dataclasses.replace(parse(file), qp=str(trap))
    assert torch.equal(coder.decompress(serialise(fields)), coder.decompress(file))


def test_without_msgpack_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, file: bytes):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(BackendUnavailable, match=r"fastlic\[mcquic\]"):
        parse(file)


def test_the_command_line_describes_and_decompresses(coder: McqCoder, file: bytes, tmp_path: Path):
    (tmp_path / "photo.mcq").write_bytes(file)
    weights = tmp_path / "qp_2_msssim_00000000.mcquic"
    torch.save({"model": coder.model.state_dict(), "config": {}, "version": "0.1.40"}, weights)
    run = CliRunner().invoke
    described = run(cli, ["info", str(tmp_path / "photo.mcq")])
    assert described.exit_code == 0 and "McQuic 0.1.40" in described.output and "qp_2_msssim" in described.output
    done = run(cli, ["decompress", str(tmp_path / "photo.mcq"), str(tmp_path / "photo.png"), "-m", str(weights)])
    assert done.exit_code == 0, done.output
    from fastlic.codec.image_files import read_image

    assert torch.equal(read_image(tmp_path / "photo.png").pixels, coder.decompress(file, dtype=torch.uint8))
    refused = run(cli, ["decompress", str(tmp_path / "photo.mcq"), "--format", "ppm"])
    assert refused.exit_code == 1 and "need the McQuic weights" in refused.output


def test_the_command_line_compresses_to_what_mcquic_reads(coder: McqCoder, tmp_path: Path):
    from fastlic.codec.image_files import encode_image, read_image

    photo, weights = tmp_path / "photo.png", tmp_path / "weights.mcquic"
    photo.write_bytes(encode_image((torch.rand(60, 50, 3) * 255).to(torch.uint8).numpy(), ".png"))
    save_published(coder.model, weights)
    run = CliRunner().invoke
    named = run(cli, ["compress", str(photo), str(tmp_path / "named.mcq"), "-m", str(weights)])
    assert named.exit_code == 0 and "PSNR" in named.output, named.output
    derived = run(cli, ["compress", str(photo), "-m", str(weights), "--format", "mcq"])
    assert derived.exit_code == 0, derived.output
    data = (tmp_path / "photo.mcq").read_bytes()
    assert data == (tmp_path / "named.mcq").read_bytes()
    assert parse(data).contents == parse(coder.compress(read_image(photo).pixels)).contents
    refused = run(cli, ["compress", str(photo), str(tmp_path / "other.mcq")])
    assert refused.exit_code == 1 and "need the McQuic weights" in refused.output
    with_quality = run(cli, ["compress", str(photo), str(tmp_path / "q.mcq"), "-m", str(weights), "-q", "3"])
    assert with_quality.exit_code != 0 and "one fixed rate" in with_quality.output


def test_qualities_are_prices_that_published_weights_leave_out(tmp_path: Path):
    torch.manual_seed(0)
    priced, x = McqCoder(McQuic(8, 2, [32, 16], [40.0, 1.0])), torch.rand(3, 60, 50)
    assert priced.compress(x) == priced.compress(x, 2) != priced.compress(x, 1)
    save_published(priced.model, tmp_path / "weights.mcquic")
    published = mcq.coder_of(fastlic.load(tmp_path / "weights.mcquic"))
    assert not published.model.prices
    assert parse(published.compress(x)).contents == parse(priced.compress(x)).contents


def test_a_coder_is_a_copy_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = McQuic(8, 2, [32, 16]).double().train()
    coder, image = McqCoder(model), torch.rand(3, 60, 50)
    data = coder.compress(image)
    assert model.training and all(weight.dtype == torch.float64 for weight in model.parameters())
    assert all(weight.requires_grad for weight in model._encoder.parameters())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert coder.compress(image) == data


def test_a_codec_for_coding_alone_and_its_published_form_write_the_same_files(
    coder: McqCoder, photo: Tensor, tmp_path: Path
):
    Codec(coder.model, [photo]).save(tmp_path / "small.safetensors", half=True, training=False)
    small = mcq.coder_of(fastlic.load(tmp_path / "small.safetensors"))
    save_published(small.model, tmp_path / "small.mcquic")
    x = torch.rand(3, 40, 70, generator=torch.Generator().manual_seed(1))
    again = mcq.coder_of(fastlic.load(tmp_path / "small.mcquic"))
    assert parse(again.compress(x)) == dataclasses.replace(parse(small.compress(x)), qp="small")
    assert torch.equal(again.decompress(small.compress(x)), small.decompress(small.compress(x)))


def test_lists_are_not_reserved_by_the_length_they_claim():
    bomb = b"".join(b"\xdd\x00\x10\x00\x00" for _ in range(500)) + bytes(1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptStreamError, match=r"no \.mcq file"):
            parse(bomb)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_control_characters_in_a_file_do_not_reach_the_terminal(file: bytes, tmp_path: Path):
    (tmp_path / "x.mcq").write_bytes(serialise(dataclasses.replace(parse(file), qp="\x1b]0;title\x07")))
    described = CliRunner().invoke(cli, ["info", str(tmp_path / "x.mcq")])
    assert described.exit_code == 0 and "\x1b" not in described.output and "title" in described.output


def test_published_weights_make_a_flic_codec_too(coder: McqCoder, photo: Tensor, tmp_path: Path):
    weights = tmp_path / "qp_2_msssim_00000000.mcquic"
    torch.save({"model": coder.model.state_dict(), "config": {}, "version": "0.1.40"}, weights)
    codec = fastlic.load(weights)
    assert codec.fingerprint == Codec(coder.model).fingerprint and codec.name == "qp_2_msssim_00000000"
    assert torch.equal(fastlic.decompress(fastlic.compress(photo, codec)), codec.decompress(codec.compress(photo)))
    assert isinstance(mcq.coder_of(codec), McqCoder)
