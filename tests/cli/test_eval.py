"""``fastlic eval``: figures from real files, peers, JSON and plot."""

from __future__ import annotations

import json
import sys

import pytest

from fastlic.codec import Codec
from fastlic.codec.image_files import read_image
from fastlic.evaluate import psnr


def test_records_are_those_of_real_files(fastlic_command, photos, tiny_codec, tiny_codec_file, tmp_path):
    result = fastlic_command(
        "eval", photos, "-m", tiny_codec_file, "--qualities", "1,3.5", "--peers", "jpeg,webp",
        "--estimate", "--no-ms-ssim", "--json", "out.json",
    )  # fmt: skip
    assert result.code == 0
    assert "over estimate %" in result.out
    assert "BD-rate against JPEG (Pillow, optimize=True)" in result.out

    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["codecs"] == {"tiny": tiny_codec.fingerprint.hex()}
    record = next(r for r in stored["records"] if (r["image"], r["quality"]) == ("chelsea.png", 3.5))
    x = read_image(photos / "chelsea.png").pixels
    data = tiny_codec.compress(x, 3.5)
    assert record["size"] == len(data)
    assert record["bpp"] == 8 * len(data) / (161 * 97)
    assert record["psnr"] == psnr(x, (tiny_codec.decompress(data) * 255).round().byte())
    assert record["framing_bytes"] <= 48
    assert record["same_latents"] is None

    ours = [row for row in stored["averages"] if row["codec"] == "tiny"]
    assert [row["quality"] for row in ours] == [1, 3.5]
    assert ours[0]["bpp"] == pytest.approx(sum(r["bpp"] for r in stored["records"] if r["quality"] == 1) / 2)
    assert [r["anchor"] for r in stored["bd_rate"]] == ["JPEG", "WebP"]
    assert stored["machine"]["threads"] >= 1


def test_the_plot_is_drawn(fastlic_command, photos, tiny_codec_file, tmp_path):
    pytest.importorskip("matplotlib")
    options = ["--qualities", "1,2", "--limit", 1, "--no-ms-ssim", "--peers", "jpeg", "--plot"]
    assert fastlic_command("eval", photos, "-m", tiny_codec_file, *options, "rd.png").code == 0
    assert (tmp_path / "rd.png").read_bytes().startswith(b"\x89PNG")
    refused = fastlic_command("eval", photos, "-m", tiny_codec_file, *options, "rd.gif")
    assert refused.code == 1
    assert ".png, .svg, .pdf" in refused.err


def test_earlier_records_are_reported_again_without_measuring(
    fastlic_command, photos, tiny_codec_file, tmp_path, monkeypatch
):
    options = ["eval", photos, "-m", tiny_codec_file, "--peers", "jpeg", "--no-ms-ssim"]
    first = fastlic_command(*options, "--qualities", "1,2", "--json", "out.json")
    assert first.code == 0
    monkeypatch.setattr("fastlic.evaluate.run.evaluate", None)
    again = fastlic_command(*options, "--records", "out.json", "--published", "--json", "again.json")
    assert again.code == 0, again.err
    assert again.out.startswith(first.out)
    assert "BD-rate against mbt2018 as published (CompressAI" in again.out
    stored = [json.loads((tmp_path / name).read_text())["records"] for name in ("out.json", "again.json")]
    assert stored[0] == stored[1]
    (tmp_path / "bad.json").write_text("{}")
    assert "holds no records" in fastlic_command(*options, "--records", "bad.json").err


def test_several_codecs_are_compared_with_each_other(fastlic_command, photos, tiny_codec, tiny_codec_file, tmp_path):
    other = Codec(tiny_codec.model, calibration=[read_image(photos / "chelsea.png").pixels], name="other")
    other.save(tmp_path / "other.safetensors")
    common = ["--peers", "", "--no-ms-ssim", "--limit", 1]
    both = ["eval", photos, "-m", tiny_codec_file, "-m", "other.safetensors", *common]
    together = fastlic_command(*both, "--qualities", "1,3", "--json", "a.json")
    assert together.code == 0, together.err
    assert "BD-rate of other against tiny: " in together.out
    stored = json.loads((tmp_path / "a.json").read_text())
    assert stored["codecs"] == {"tiny": tiny_codec.fingerprint.hex(), "other": other.fingerprint.hex()}
    assert [(r["codec"], r["anchor"]) for r in stored["bd_rate"]] == [("other", "tiny")]

    # The records of each alone say the same together.
    for name, file in (("tiny", tiny_codec_file), ("other", "other.safetensors")):
        options = ["-m", file, *common, "--qualities", "1,3", "--json", f"{name}.json"]
        assert fastlic_command("eval", photos, *options).code == 0
    files = ["--records", "tiny.json", "--records", "other.json"]
    merged = fastlic_command(*both, *files)
    assert merged.out.splitlines()[-1] == together.out.splitlines()[-1]

    twice = fastlic_command("eval", photos, "-m", tiny_codec_file, "-m", tiny_codec_file)
    assert twice.code == 2
    assert "same name" in twice.err


def test_a_missing_extra_is_named_before_the_work(fastlic_command, photos, tiny_codec_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = fastlic_command("eval", photos, "-m", tiny_codec_file, "--plot", "rd.png")
    assert result.code == 1
    assert 'matplotlib is needed: pip install "fastlic[eval]"' in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--qualities", "1,x"], "no list of numbers"),
        (["--qualities", "0"], "quality must be from 1 to 8"),
        (["--peers", "jpeg,gif"], "gif: peers are jpeg, webp, avif"),
        (["--limit", "0"], "x>=1"),
    ],
)
def test_wrong_options_exit_with_2(fastlic_command, photos, tiny_codec_file, options, message):
    result = fastlic_command("eval", photos, "-m", tiny_codec_file, *options)
    assert result.code == 2
    assert message in result.err


def test_a_folder_without_images_is_told(fastlic_command, tmp_path):
    result = fastlic_command("eval", tmp_path)
    assert result.code == 1
    assert "holds no image" in result.err


def test_different_latents_fail_the_run(fastlic_command, photos, tiny_codec_file, monkeypatch):
    monkeypatch.setattr("fastlic.evaluate.run.same_latents", lambda *_: False)
    options = ["--qualities", "1", "--limit", 1, "--check", "--no-ms-ssim", "--peers", ""]
    result = fastlic_command("eval", photos, "-m", tiny_codec_file, *options)
    assert result.code == 1
    assert "DIFFERENT" in result.out
