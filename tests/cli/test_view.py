"""``fastlic view``: the pixels of the file, in a viewer or in the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import ImageShow

from fastlic import light

PIXELS = torch.zeros(3, 40, 60, dtype=torch.uint8)
PIXELS[0, :20] = 200  # red above, blue below
PIXELS[2, 20:] = 200


@pytest.fixture
def stream(tiny_codec, tmp_path) -> np.ndarray:
    data = tiny_codec.compress(PIXELS, 8)
    (tmp_path / "a.flic").write_bytes(data)
    return tiny_codec.decompress(data, dtype=torch.uint8).permute(1, 2, 0).numpy()


def test_the_viewer_gets_the_pixels(fastlic_command, stream, tiny_codec_file, monkeypatch):
    shown = []
    monkeypatch.setattr(shutil, "which", lambda name: None)  # which is asked first
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append((np.array(image), title)) or True)
    result = fastlic_command("view", "a.flic", "-m", tiny_codec_file)
    assert (result.code, result.out, result.err) == (0, "", "")
    ((pixels, title),) = shown
    assert np.array_equal(pixels, stream) and title == "a.flic"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (4, "RGBA")])
def test_the_viewer_gets_grey_and_alpha_as_they_are(fastlic_command, tmp_path, monkeypatch, channels, mode):
    x = np.random.default_rng(0).integers(0, 256, (20, 30, channels)).astype(np.uint8)
    (tmp_path / "a.flic").write_bytes(light.compress(x))
    shown = []
    monkeypatch.setattr(shutil, "which", lambda name: None)  # which is asked first
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append(image) or True)
    assert fastlic_command("view", "a.flic").code == 0
    assert shown[0].mode == mode
    assert np.array_equal(np.array(shown[0]), light.decompress((tmp_path / "a.flic").read_bytes()))
    assert fastlic_command("view", "a.flic", "--terminal").code == 0


def test_no_viewer_is_told_with_the_way_out(fastlic_command, stream, tiny_codec_file, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(ImageShow, "_viewers", [])
    result = fastlic_command("view", "a.flic", "-m", tiny_codec_file)
    assert result.code == 1 and "--terminal draws it here" in result.err


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="viewers of their own")
@pytest.mark.parametrize(("ends", "code"), [("exit 3", 1), ("exit 0", 0), ("exec sleep 9", 0)])
def test_an_xdg_open_that_fails_is_no_viewer_and_one_that_stays_is(
    fastlic_command, stream, tiny_codec_file, tmp_path, monkeypatch, ends, code
):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "xdg-open").write_text(f"#!/bin/sh\n{ends}\n")
    (tmp_path / "bin" / "xdg-open").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("fastlic.cli.view._PATIENCE", 0.5)
    result = fastlic_command("view", "a.flic", "-m", tiny_codec_file)
    assert result.code == code and ("--terminal draws it here" in result.err) == (code == 1)


@pytest.mark.parametrize(("columns", "lines", "size"), [(30, 40, (30, 10)), (200, 9, (24, 8)), (200, 100, (60, 20))])
def test_the_terminal_is_filled_and_no_pixel_is_enlarged(
    fastlic_command, stream, tiny_codec_file, monkeypatch, columns, lines, size
):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    rows = fastlic_command("view", "a.flic", "--terminal", "-m", tiny_codec_file).out.splitlines()
    assert (rows[0].count("▀"), len(rows)) == size
    colours = [[int(n) for n in re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+)m", row)[3]] for row in (rows[0], rows[-1])]
    assert np.argmax(colours[0]) == 0 and np.argmax(colours[1]) == 2


def test_what_is_no_stream_is_told(fastlic_command, tmp_path):
    (tmp_path / "a.flic").write_bytes(b"FLIC")
    for name, words in (("a.flic", "Error: a.flic: "), ("none.flic", "Error: none.flic: No such file or directory")):
        result = fastlic_command("view", name)
        assert result.code == 1 and result.err.startswith(words)
