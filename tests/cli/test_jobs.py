"""``--jobs`` and ``--json``: the same files as one after the other, lines in order, ends without remains."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fastlic import light
from fastlic.cli import jobs
from fastlic.codec.image_files import encode_image, read_image

NAMES = [f"{letter}.png" for letter in "abcdefgh"]


@pytest.fixture
def model(tiny_codec_file) -> list[str]:
    return ["-m", str(tiny_codec_file), "-q", "2"]


@pytest.fixture
def images(tmp_path) -> list[str]:
    """Eight files of different sizes, the third no image."""
    for index, name in enumerate(NAMES):
        pixels = np.random.default_rng(index).integers(0, 256, (16 + index, 24, 3), np.uint8)
        (tmp_path / name).write_bytes(b"no image" if index == 2 else encode_image(pixels, ".png"))
    return NAMES


@pytest.mark.parametrize("jobs", [2, 3, 0])
def test_several_at_a_time_give_the_files_lines_and_errors_of_one(fastlic_command, images, model, tmp_path, jobs):
    one = fastlic_command("compress", *images, "--output-dir", "one", "--json", *model)
    several = fastlic_command("compress", *images, "--output-dir", "many", "--json", "--jobs", jobs, *model)
    assert several.code == one.code == 1
    assert several.err == one.err and one.err.startswith("Error: c.png: no image that Pillow can read as ")
    lines = [[json.loads(line) for line in result.out.splitlines()] for result in (one, several)]
    assert [facts["path"] for facts in lines[1]] == images
    for a, b in zip(*lines, strict=True):
        assert {**a, "seconds": 0, "output": 0} == {**b, "seconds": 0, "output": 0}
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "many").iterdir()} and len(files) == 7
    back = fastlic_command("decompress", "many", "--output-dir", "back", "--jobs", jobs, "--format=ppm", *model[:2])
    assert back.code == 0 and "7 of 7 files" in back.out
    assert back.out.index("a.flic") < back.out.index("d.flic") < back.out.index("h.flic")


def test_as_many_as_asked_for_run_at_a_time_on_one_thread_each(fastlic_command, images, model, monkeypatch):
    together, seen = threading.Barrier(2, timeout=60), []
    compress = light.compress

    def met(*arguments, threads, **named):
        seen.append(threads)
        if len(seen) <= 2:
            together.wait()  # breaks unless another is here at the same time
        return compress(*arguments, threads=threads, **named)

    monkeypatch.setattr(light, "compress", met)
    assert fastlic_command("compress", "a.png", "b.png", "--jobs", 2, *model).code == 0
    assert fastlic_command("compress", "a.png", "b.png", "--overwrite", *model).code == 0
    assert fastlic_command("--threads", 3, "compress", "a.png", "b.png", "-f", "--jobs", 2, *model).code == 0
    assert seen == [1, 1, 0, 0, 3, 3]


def test_a_line_of_json_tells_all_of_a_file(fastlic_command, photos, model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    result = fastlic_command("compress", photos / "chelsea.png", "a.flic", "--json", *model)
    facts = json.loads(result.out)
    size = (tmp_path / "a.flic").stat().st_size
    assert (result.code, facts["path"], facts["output"]) == (0, str(photos / "chelsea.png"), "a.flic")
    assert (facts["bytes"], facts["width"], facts["height"]) == (size, 161, 97)
    assert facts["bpp"] == pytest.approx(8 * size / (161 * 97), abs=1e-6) and 0 < facts["seconds"] < 60
    pixels = light.decompress((tmp_path / "a.flic").read_bytes(), model[1])
    expected = light.psnr(read_image(photos / "chelsea.png").array, pixels)
    assert facts["psnr"] == pytest.approx(expected, abs=1e-4) and "error" not in facts

    kept = fastlic_command("compress", photos / "chelsea.png", "a.flic", "--json", "--skip-existing", *model)
    assert json.loads(kept.out) == {"path": str(photos / "chelsea.png"), "output": "a.flic", "skipped": True}
    failed = fastlic_command("compress", "bad.png", "--json", *model)
    assert failed.code == 1 and failed.err.startswith("Error: bad.png: ")
    assert json.loads(failed.out) == {"path": "bad.png", "output": "bad.flic", "error": failed.err[7:-1]}
    back = json.loads(fastlic_command("decompress", "a.flic", "--json", *model[:2]).out)
    assert (back["bytes"], back["bpp"]) == ((tmp_path / "a.png").stat().st_size, facts["bpp"]) and "psnr" not in back


def test_the_time_is_that_of_the_whole_file_and_its_parts_add_up(fastlic_command, photos, model, monkeypatch):
    def slowly(call):
        def slow(*arguments, **named):
            time.sleep(0.05)
            return call(*arguments, **named)

        return slow

    monkeypatch.setattr("fastlic.codec.image_files.read_image", slowly(read_image))
    monkeypatch.setattr(jobs, "write_whole", slowly(jobs.write_whole))
    line = fastlic_command("compress", photos / "chelsea.png", "a.flic", *model).out
    whole, parts = line.split(" compressed in ")[1].split(" s (")
    seconds = {part.split()[0]: float(part.split()[1]) for part in parts.split(")")[0].split(", ")}
    assert list(seconds) == ["reading", "compressing", "verifying", "writing"]
    assert seconds["reading"] >= 0.05 and seconds["writing"] >= 0.05
    assert float(whole) == pytest.approx(sum(seconds.values()), abs=0.021)


_SLOW = """
    import os, signal, sys, time
    from fastlic import light
    from fastlic.cli.main import main
    compress, slow = light.compress, sys.argv.pop(1)
    ends = {signal.SIGINT, signal.SIGTERM}
    if slow == "others":  # the signal goes to another thread than the one that waits
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    def work(x, *arguments, **named):
        if slow in ("work", "others") and len(x) > 16:  # all but the first
            if slow == "others":
                time.sleep(1)  # till the first is over, and this one waited for
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
            os.write(2, b"working\\n")
            time.sleep(60)
        return compress(x, *arguments, **named)
    light.compress = work
    if slow == "writing":
        fsync = os.fsync
        def slowly(descriptor):
            os.write(2, b"working\\n")
            time.sleep(1)
            fsync(descriptor)
        os.fsync = slowly
    main()
"""


@pytest.mark.parametrize("slow", ["work", "others", "writing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_jobs_at_once_and_leaves_whole_files(images, model, tmp_path, number, slow):
    command = [sys.executable, "-c", textwrap.dedent(_SLOW), slow, "compress", *images, "--jobs", "3", *model]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stderr is not None and running.stderr.readline() == "working\n"
    began = time.monotonic()
    os.kill(running.pid, number)
    _, err = running.communicate(timeout=50)
    assert time.monotonic() - began < 30  # long before the work would be over
    assert running.returncode == 128 + number and "Traceback" not in err
    said = [line for line in err.split() if line != "working"]  # which other jobs may say later
    assert said == ["interrupted" if number == signal.SIGINT else "terminated"]
    assert list(tmp_path.glob(".fastlic*")) == []
    for path in tmp_path.glob("*.flic"):
        assert light.decompress(path.read_bytes(), model[1]).shape[1] == 24


def test_output_that_nobody_reads_ends_all_jobs(images, model, tmp_path):
    command = [sys.executable, "-m", "fastlic", "compress", *images, "--jobs", "3", *model]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
    assert list(tmp_path.glob(".fastlic*")) == []


def test_a_bug_in_a_job_ends_with_its_traceback_and_does_not_hang(images, model, tmp_path):
    script = """
        from fastlic import light
        from fastlic.cli.main import main
        def wrong(*_, **__): raise AssertionError("a bug")
        light.compress = wrong
        main()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), "compress", *images, "--jobs", "2", *model]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "AssertionError: a bug" in done.stderr
    assert not any(path.suffix == ".flic" for path in Path(tmp_path).iterdir())


def test_progress_and_the_time_left_are_shown_on_a_terminal_alone(images, model, tmp_path):
    command = [sys.executable, "-m", "fastlic", "compress", "d.png", "e.png", "f.png", *model]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, timeout=60, text=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0 and "/3 [" in shown and "<" in shown
    assert done.stdout.count("\n") == 4 and "[" not in done.stdout
    again = subprocess.run([*command, "-f"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (again.returncode, again.stderr) == (0, "")
