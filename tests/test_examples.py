"""Examples run as the gallery says, on real photos, and leave the pictures that it shows."""

from __future__ import annotations

import runpy
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from fastlic.codec.calibration import PHOTO

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
IMAGES = ROOT / "tests" / "images"
ASTRONAUT = IMAGES / "astronaut.png"


@pytest.fixture
def example(monkeypatch, tmp_path, capsys):
    """example("crops", argument, ...) -> what it printed; the current folder is an empty one."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_crops_show_each_codec_in_no_more_bytes_than_fastlic_needs(example):
    out = example("crops", ASTRONAUT, "--box", 100, 50, 200, 150, "--out", "crops.webp")
    found = dict(line.split(": ") for line in out.splitlines() if ": " in line)
    sizes = {name: int(text.split()[0].replace(",", "")) for name, text in found.items()}
    assert set(sizes) >= {"JPEG", "fastlic, jahp"}
    assert max(sizes.values()) == sizes["fastlic, jahp"]
    assert size("crops.webp") == (308, 268)


def test_qualities_rise_in_bytes_and_decibels(example):
    out = example("qualities", IMAGES / "chelsea.png", "--box", 0, 0, 90, 90, "--out", "qualities.webp")
    figures = [line.replace(",", "").split() for line in out.splitlines()]
    assert [int(words[2]) for words in figures] == sorted(int(words[2]) for words in figures)
    assert [float(words[4]) for words in figures] == sorted(float(words[4]) for words in figures)
    assert size("qualities.webp") == (372, 248)


@pytest.mark.slow
def test_previews_become_better_with_each_part(example):
    out = example("previews", IMAGES / "chelsea.png", "--out", "previews.webp")
    psnr = [float(line.split()[-2]) for line in out.splitlines()]
    assert psnr[:3] == sorted(psnr[:3])
    assert psnr[3:] == sorted(psnr[3:])
    assert Path("previews.webp").exists()


def test_rate_distortion_draws_models_and_peers(example):
    pytest.importorskip("matplotlib")
    few = ("--qualities", 4, "--models", "jahp", "--peers", "jpeg")
    assert example("rate_distortion", IMAGES / "chelsea.png", *few, "--out", "curves.png").startswith("jahp ")
    assert size("curves.png") == (770, 462)


def test_a_batch_reports_a_bad_image_and_goes_on(example, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "bad.png").write_bytes(b"no image")
    (photos / "good.png").write_bytes((IMAGES / "chelsea.png").read_bytes())
    out = example("batch_folder", photos, "packed", "--workers", 2)
    assert "bad.png: cannot identify" in out
    assert "2 images in" in out
    assert (tmp_path / "packed" / "good.flic").exists()


def test_a_batch_of_the_test_photos_prints_what_the_gallery_says(example):
    out = example("batch_folder", IMAGES, "packed", "--workers", 1)
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    lines = out.splitlines()[:2]
    assert [line.split(": ")[0] for line in lines] == ["astronaut.png", "chelsea.png"]
    # Decibels to the digit; bytes have the container's framing in them, which a new version may change.
    assert [line for line in lines if line.split(", ")[-1] not in gallery] == []


def test_strangers_files_get_the_answers_of_the_gallery(example):
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    answers = [line for line in example("strangers_files").splitlines() if not line.startswith("damaged")]
    assert len(answers) == 3
    assert [line for line in answers if line not in gallery] == []


@pytest.mark.slow
def test_toy_training_makes_a_codec_that_codes_another_photo(example):
    out = example("train_toy", PHOTO, ASTRONAUT, "--steps", 2, "--out", "own.webp")
    assert "own: " in out
    assert size("own.webp")[1] == 233 + 34


@pytest.mark.slow
@pytest.mark.parametrize("accelerated", [(), ("--fastlic",)])
def test_compressai_round_trip_with_and_without_fastlic(example, accelerated):
    pytest.importorskip("compressai")
    out = example("compressai_roundtrip", "--random", *accelerated, IMAGES / "chelsea.png")
    assert ("fastlic.accelerate" in out) == bool(accelerated)
    assert Path("roundtrip/chelsea.png").exists()


def test_the_web_demo_is_served_with_types_that_browsers_take(tmp_path):
    for name in ("flic.wasm", "flic.mjs"):
        (tmp_path / name).touch()  # as if it were built
    command = [sys.executable, EXAMPLES / "web_demo.py", tmp_path, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            address = server.stdout.readline().strip().removesuffix("demo/")
            for name, kind in (("flic.mjs", "text/javascript"), ("flic.wasm", "application/wasm")):
                with urllib.request.urlopen(address + name, timeout=20) as answer:
                    assert answer.headers["Content-Type"] == kind
        finally:
            server.terminate()


def test_every_example_is_in_the_gallery():
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__")
    assert [name for name in names if f"../examples/{name}" not in gallery] == []


def test_pictures_of_the_site_are_small_and_shown():
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    assert [path.name for path in pictures if f"pictures/{path.name}" not in pages] == []
    assert [path.name for path in pictures if path.stat().st_size > 150_000] == []
