"""Which file is written for which: nothing is lost, and what cannot be is told before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastlic import light
from fastlic.codec import image_files
from fastlic.codec.image_files import encode_image

PIXELS = torch.randint(0, 256, (24, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()


@pytest.fixture
def model(tiny_codec_file) -> list[str]:
    return ["-m", str(tiny_codec_file)]


@pytest.fixture
def untouched(monkeypatch):
    """No image may be read and no stream decoded."""

    def work(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(image_files, "read_image", work)
    monkeypatch.setattr(light, "decompress", work)


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_image(PIXELS, Path(name).suffix))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- nothing is lost


def test_the_demo_overwrites_nothing(fastlic_command, model, tmp_path, untouched):
    for name in ("photo.png", "photo.flic"):
        folder = tmp_path / name.replace(".", "")
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        result = fastlic_command("demo", "--out", folder.name, *model)
        assert (result.code, result.err) == (
            1,
            f"Error: {folder.name}/{name} exists, and demo overwrites nothing: name another folder with --out\n",
        )
        assert content(folder) == {name: b"mine"}


def test_the_demo_makes_a_folder_of_its_own_each_time(fastlic_command, model, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"mine")
    for folder in ("fastlic-demo", "fastlic-demo-2"):
        assert fastlic_command("demo", *model).code == 0
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["photo.flic", "photo.png"]
    assert (tmp_path / "photo.png").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["z.png", "z.JPG", "z.gif", "z.heic"])
def test_a_stream_is_not_written_into_a_file_named_like_an_image(fastlic_command, model, tmp_path, untouched, name):
    write(tmp_path, "a.png")
    result = fastlic_command("compress", "a.png", "-o", name, *model)
    assert result.code == 2
    assert f"{name}: what compress writes is no {name[1:]} image; name it .flic" in result.err
    assert list(content(tmp_path)) == ["a.png"]


@pytest.mark.parametrize("arguments", [["a.flic", "-o", "a.flic"], ["a.png", "-o", "a.png"], ["a.flic", "-o", "b"]])
def test_a_decompressed_image_is_not_written_over_a_stream(fastlic_command, model, tmp_path, untouched, arguments):
    (tmp_path / "a.flic").write_bytes(b"mine")
    result = fastlic_command("decompress", *arguments, *model)
    assert result.code == 1 and result.err.startswith("Error: ")
    assert content(tmp_path) == {"a.flic": b"mine"}


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_output_that_is_an_input_is_refused_by_whatever_name(fastlic_command, model, tmp_path, untouched, link):
    write(tmp_path, "a.png", "b.png")
    before = content(tmp_path)
    link(tmp_path / "b.png", tmp_path / "a.flic")
    for arguments in (["a.png", "b.png", "--overwrite"], ["b.png", "a.flic"]):
        result = fastlic_command("compress", *arguments, *model)
        assert (result.code, result.err) == (
            1,
            "Error: a.flic is an input, b.png: input and output are the same file\n",
        )
    assert before.items() <= content(tmp_path).items()


def test_a_file_that_appears_meanwhile_is_kept(fastlic_command, model, tmp_path, monkeypatch):
    write(tmp_path, "a.png")
    read = image_files.read_image

    def slowly(*arguments, **options):
        (tmp_path / "a.flic").write_bytes(b"another's")
        return read(*arguments, **options)

    monkeypatch.setattr(image_files, "read_image", slowly)
    result = fastlic_command("compress", "a.png", *model)
    assert (result.code, result.err) == (1, "Error: a.png: a.flic exists: --overwrite replaces it\n")
    assert (tmp_path / "a.flic").read_bytes() == b"another's"


# ---- folders


def test_images_that_a_folder_has_and_nobody_reads_are_counted_by_kind(fastlic_command, model, tmp_path):
    write(tmp_path / "in", "a.png")
    for name in ("b.gif", "deep/c.GIF", "d.heic", "e.txt", "f.flic"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    words = "3 files skipped: 2 .gif, 1 .heic, which fastlic does not read"
    result = fastlic_command("compress", "in", "--output-dir", "out", *model)
    assert (result.code, result.err) == (0, f"{words}\n")
    assert fastlic_command("compress", "in", "--output-dir", "out2", "--quiet", *model).err == ""
    (tmp_path / "in" / "a.png").unlink()
    assert words in fastlic_command("compress", "in", "--output-dir", "out", *model).err
    assert "skipped" not in fastlic_command("decompress", "in", "--output-dir", "back", *model).err


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_two_inputs_for_one_name_are_told_before_any_work(fastlic_command, model, tmp_path, untouched, command):
    first, second = ("a.jpg", "a.webp") if command == "compress" else ("a.flic", "a.mcq")
    for name in (first, second):
        (tmp_path / name).write_bytes(b"")
    result = fastlic_command(command, ".", *model)
    target = "a.flic" if command == "compress" else "a.png"
    assert result.code == 1
    assert f"{target} would be written from {first} and from {second}: --keep-suffix writes {first}" in result.err


def test_two_inputs_of_one_name_are_not_told_of_an_option_that_is_no_help(fastlic_command, model, tmp_path, untouched):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(b"")
    result = fastlic_command("compress", "a/x.png", "b/x.png", "--output-dir", "o", "--keep-suffix", *model)
    assert result.code == 1 and "both are called x.png: name their folders, or one at a time" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["compress", "a.png", "x.jpg"], 2, "x.jpg is not there; what compress writes is named .flic"),
        (["compress", "b.png", "a.png"], 1, "b.png: No such file or directory"),
        (["compress", "none.png"], 1, "none.png: No such file or directory"),
        (["decompress", "a.png"], 1, "a.png is no input of decompress, which reads .flic, .mcq"),
    ],
)
def test_what_is_no_input_is_told_before_any_work(fastlic_command, model, tmp_path, untouched, arguments, code, words):
    write(tmp_path, "a.png")
    before = content(tmp_path)
    result = fastlic_command(*arguments, *model)
    assert result.code == code and words in result.err
    assert content(tmp_path) == before


def test_whole_names_keep_apart_what_would_collide(fastlic_command, model, tmp_path):
    write(tmp_path / "in", "a.jpg", "a.webp")
    assert fastlic_command("compress", "in", "--output-dir", "out", "--keep-suffix", *model).code == 0
    assert sorted(content(tmp_path / "out")) == ["a.jpg.flic", "a.webp.flic"]


def test_an_input_that_is_named_twice_is_one_job(fastlic_command, model, tmp_path):
    write(tmp_path, "a.png")
    assert fastlic_command("compress", "a.png", "a.png", ".", *model).out.count("a.png -> a.flic") == 1


def test_existing_outputs_are_told_once_and_before_any_work(fastlic_command, model, tmp_path, untouched):
    write(tmp_path, "a.png", "b.png", "c.png")
    for name in ("b.flic", "c.flic"):
        (tmp_path / name).write_bytes(b"mine")
    result = fastlic_command("compress", ".", *model)
    assert (result.code, result.err) == (
        1,
        "Error: 2 of 3 outputs exist, the first b.flic: --overwrite replaces, --skip-existing keeps what exists\n",
    )
    assert not (tmp_path / "a.flic").exists()


def test_a_run_that_was_interrupted_goes_on_where_it_stood(fastlic_command, model, tmp_path):
    write(tmp_path, "a.png", "b.png")
    assert fastlic_command("compress", "a.png", "b.png", *model).code == 0
    whole = (tmp_path / "b.flic").read_bytes()
    (tmp_path / "b.flic").unlink()
    (tmp_path / "a.flic").write_bytes(b"kept")
    result = fastlic_command("compress", "a.png", "b.png", "--skip-existing", *model)
    assert result.code == 0 and "1 of 2 files, 1 kept that existed" in result.out
    assert ((tmp_path / "a.flic").read_bytes(), (tmp_path / "b.flic").read_bytes()) == (b"kept", whole)
    for name in ("a", "b"):  # a spelled-out output too
        result = fastlic_command("compress", f"{name}.png", "a.flic", "--skip-existing", *model)
        assert (result.code, result.out) == (0, "a.flic exists and was kept\n")
    assert fastlic_command("compress", "a.png", "b.png", "--overwrite", *model).code == 0
    assert (tmp_path / "a.flic").read_bytes() == whole
    assert fastlic_command("compress", "a.png", "--overwrite", "--skip-existing", *model).code == 2


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/nowhere"])
def test_a_folder_for_outputs_that_cannot_be_is_told_before_any_work(
    fastlic_command, model, tmp_path, untouched, place
):
    write(tmp_path, "a.png")
    (tmp_path / "file").write_bytes(b"mine")
    result = fastlic_command("compress", "a.png", "--output-dir", place, *model)
    assert result.code == 1 and result.err.startswith(f"Error: {place}: ")


# ---- formats


@pytest.mark.parametrize("option", [["-o", "a.xyz"], ["--format", "xyz"], ["-o", "-", "--format", "gif"]])
def test_a_format_that_is_not_written_is_told_before_any_work(fastlic_command, model, tmp_path, untouched, option):
    (tmp_path / "a.flic").write_bytes(b"")
    result = fastlic_command("decompress", "a.flic", *option, *model)
    assert result.code == 1 and "cannot write" in result.err


def test_a_file_called_dash_can_be_named(fastlic_command, model, tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "a.png").rename(tmp_path / "-")
    assert fastlic_command("compress", "./-", "a.flic", *model).code == 0
    assert Image.open(tmp_path / "-").size == (40, 24)
