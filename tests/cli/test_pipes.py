"""Standard input and output: bytes and nothing else, no temporary files, no waiting for readers that have gone."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastlic.codec.image_files import encode_image
from fastlic.files import write_whole

PIXELS = torch.randint(0, 256, (24, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()
PNG = encode_image(PIXELS, ".png")


@pytest.fixture
def command(tiny_codec_file, tmp_path):
    """command("compress", ..., input=bytes, stdout=...) -> CompletedProcess of a process of its own, with the codec."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess:
        whole = [sys.executable, "-m", "fastlic", *arguments, "-m", str(tiny_codec_file)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path, "timeout": 120, **options}
        return subprocess.run(whole, check=False, **options)  # type: ignore[call-overload]

    return run


@pytest.fixture
def stream(tiny_codec) -> bytes:
    return tiny_codec.compress(torch.from_numpy(PIXELS).permute(2, 0, 1), 4)


def test_bytes_go_from_standard_input_to_standard_output_and_words_to_stderr(command, stream, tiny_codec, tmp_path):
    packed = command("compress", "-", input=PNG)
    assert (packed.returncode, packed.stdout) == (0, stream)
    assert packed.stderr.startswith(b"standard input -> standard output: 40x24, ")
    x_hat = tiny_codec.decompress(stream, dtype=torch.uint8).permute(1, 2, 0).numpy()
    unpacked = command("decompress", "-", "-", input=stream)
    assert unpacked.stdout == encode_image(x_hat, ".png")  # PNG unless --format says otherwise
    as_ppm = command("decompress", "-", "-o", "-", "--format", "ppm", "--quiet", input=stream)
    assert (as_ppm.stdout, as_ppm.stderr) == (encode_image(x_hat, ".ppm"), b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_every_name_of_standard_output_is_it_and_a_file_behind_it_is_not_replaced(command, stream, tmp_path, name):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "out").write_bytes(b"before ")
    with open(tmp_path / "out", "ab") as out:
        done = command("compress", "a.png", "-o", name, "--quiet", stdout=out)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == b"before " + stream
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "out"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_reader_that_has_gone_ends_the_command_quietly(command, stream, tmp_path, name):
    (tmp_path / "a.flic").write_bytes(stream)
    reader, writer = os.pipe()
    os.close(reader)
    done = command("decompress", "a.flic", "-o", name, "--format", "ppm", "--quiet", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_behind_standard_output_is_told(command):
    with open("/dev/full", "wb") as full:
        done = command("compress", "-", "--quiet", input=PNG, stdout=full)
    assert (done.returncode, done.stderr) == (1, b"Error: standard output: No space left on device\n")


def test_bytes_are_not_written_to_a_terminal_nor_read_from_one(command, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    ours, theirs = pty.openpty()
    try:
        written = command("compress", "a.png", "-", stdout=theirs)
        read = command("compress", "-", "out.flic", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert written.returncode == 2 and b"standard output is a terminal" in written.stderr
    assert read.returncode == 1 and b"Error: standard input: it is closed or a terminal" in read.stderr


def test_a_pipe_is_an_input_like_any_file(command, stream, tmp_path):
    reader, writer = os.pipe()
    os.write(writer, PNG)
    os.close(writer)
    done = command("compress", f"/dev/fd/{reader}", "out.flic", pass_fds=[reader])  # as bash's <(command) names it
    os.close(reader)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.flic").read_bytes() == stream


@pytest.mark.parametrize("content", [b"", b"no image", PNG[:100]])
def test_what_is_no_image_on_standard_input_is_told_and_nothing_is_written(fastlic_command, monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    result = fastlic_command("compress", "-", "a.flic")
    assert result.code == 1 and result.err.startswith("Error: standard input: ")
    assert not Path("a.flic").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress", "-", "a.png"], "standard input (-) has no name"),
        (["compress", "-", "--output-dir", "x"], "standard input (-) has no name"),
        (["compress", "a.png", "-o", "-", "--json"], "--json and the file both want standard output"),
        (["compress", "a.png", "b.png", "-o", "-"], "--output takes one input file"),
    ],
)
def test_dashes_that_make_no_sense_are_wrong_usage(fastlic_command, arguments, words):
    result = fastlic_command(*arguments)
    assert result.code == 2 and words in result.err


def test_quiet_prints_errors_only(fastlic_command, tiny_codec_file, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "bad.png").write_bytes(b"")
    result = fastlic_command("compress", "a.png", "bad.png", "--quiet", "-m", tiny_codec_file)
    assert (result.code, result.out) == (1, "") and result.err.count("\n") == 1
    assert Image.open(tmp_path / "a.png").size == (40, 24) and (tmp_path / "a.flic").exists()


def test_an_open_descriptor_is_written_to_from_where_it_stands(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        file.write(b"before ")
        file.flush()
        write_whole(Path(f"/dev/fd/{file.fileno()}"), b"new ")
        write_whole(Path(f"/proc/self/fd/{file.fileno()}"), b"newer")
    assert (tmp_path / "a").read_bytes() == b"before new newer"
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):  # rather than waiting for a reader
        write_whole(Path(f"/dev/fd/{writer}"), b"new")
    os.close(writer)
