"""``fastlic batch``: what it prints, its exit codes, and what it says where its packages are missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import fastlic.batch
from fastlic import light

TINY = Path(__file__).parents[1] / "golden" / "tiny_pixels_jahp.safetensors"


@pytest.fixture
def folder(photos, tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "chelsea.png", tmp_path / "photos")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    return tmp_path / "photos"


@pytest.fixture
def packages():
    for name in ("fsspec", "pyarrow", "webdataset"):
        pytest.importorskip(name)


def test_shards_are_written_told_and_skipped_the_next_time(packages, fastlic_command, folder, tmp_path):
    command = ("batch", folder, tmp_path / "out", "-m", TINY, "--jobs", 2, "--shard-size", 2)
    missing = fastlic_command(*command, "--check")
    assert missing.code == 1 and "0 of 1 shards complete" in missing.out
    first = fastlic_command(*command, "-q", 2)
    assert first.code == 0, first.err
    assert "00000: written, 2 images, 1 failed" in first.out
    assert "1 of 1 shards complete: 2 images, 1 of them failed" in first.out
    packed = fastlic_command("compress", folder / "chelsea.png", "a.flic", "-m", TINY, "-q", 2)
    assert packed.code == 0
    assert (tmp_path / "out" / "chelsea.flic").read_bytes() == (tmp_path / "a.flic").read_bytes()

    again = fastlic_command(*command, "-q", 2)
    assert again.code == 0 and "00000: complete" in again.out
    other = fastlic_command(*command, "-q", 3)
    assert other.code == 1 and "quality 2.0, not 3.0" in other.err and "--force" in other.err


def test_an_interrupted_run_tells_what_is_complete_and_goes_on(
    packages, fastlic_command, folder, tmp_path, monkeypatch
):
    command = ("batch", folder, tmp_path / "out", "-m", TINY, "--shard-size", 1, "--max-failed", 1)
    whole = fastlic.batch.run

    def stopped(*arguments, **named):
        yield next(iter(whole(*arguments, **named)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fastlic.batch, "run", stopped)
        ended = fastlic_command(*command)
    assert ended.code == 130
    said = ["1 shards are complete; the same command goes on with the others", "interrupted"]
    assert [line for line in ended.err.splitlines() if line] == said
    assert "2 of 2 shards complete" in fastlic_command(*command).out


def test_threads_are_those_of_an_image_and_change_no_byte(packages, fastlic_command, folder, monkeypatch):
    seen = []
    compress = light.compress

    def met(*arguments, threads, **named):
        seen.append(threads)
        return compress(*arguments, threads=threads, **named)

    monkeypatch.setattr(light, "compress", met)
    for options in ((), ("--threads", 3)):
        assert fastlic_command(*options, "batch", folder, "out", "-m", TINY, "--shard-size", 2, "-f").code == 0
    assert set(seen[: len(seen) // 2]) == {1} and set(seen[len(seen) // 2 :]) == {3}
    assert "complete" in fastlic_command("batch", folder, "out", "-m", TINY, "--shard-size", 2).out


def test_a_job_array_shares_the_shards(packages, fastlic_command, folder, tmp_path):
    for task in ("0/2", "1/2"):
        done = fastlic_command(
            *("batch", folder, "out", "-m", TINY, "--shard", task, "--shard-size", 1, "--max-failed", 1)
        )
        assert done.code == 0 and "1 of 1 shards complete" in done.out
    assert fastlic_command("batch", folder, "out", "-m", TINY, "--shard-size", 1, "--check").code == 0


def test_streams_become_the_images_that_decompress_makes(packages, fastlic_command, folder, tmp_path):
    assert fastlic_command("batch", folder, "packed", "-m", TINY).code == 0
    done = fastlic_command("batch", "packed", "back", "--decompress", "-m", TINY, "--format", "ppm")
    assert done.code == 0 and "1 of 1 shards complete: 1 images, 0 of them failed" in done.out, done.err
    one = fastlic_command("decompress", "packed/chelsea.flic", "one.ppm", "-m", TINY)
    assert one.code == 0
    assert (tmp_path / "back" / "chelsea.ppm").read_bytes() == (tmp_path / "one.ppm").read_bytes()
    other = fastlic_command("batch", "packed", "other", "-d")
    assert other.code == 1 and "ModelMismatchError" in other.err and "1 of 1 images failed" in other.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-d", "-q", 3), "--quality is of images that are compressed"),
        (("-d", "--background", "white"), "--background is of images that are compressed"),
        (("--format", "jpg"), "--format is of images that --decompress makes"),
    ],
)
def test_options_of_the_other_direction_are_wrong_usage(options, told, fastlic_command):
    done = fastlic_command("batch", "a", "b", *options)
    assert done.code == 2 and told in done.err


@pytest.mark.parametrize("task", ["2/2", "1", "-1/2", "a/b", "0/0"])
def test_a_task_that_is_none_is_wrong_usage(task, fastlic_command):
    done = fastlic_command("batch", "a", "b", f"--shard={task}")
    assert done.code == 2
    assert ("the first of 2 is 0/2, the last one 1/2" if task == "2/2" else "the first of 8 is 0/8") in done.err


@pytest.mark.parametrize("name", ["fsspec", "pyarrow", "webdataset"])
def test_a_missing_package_is_told_with_what_to_install(name, fastlic_command, folder, tmp_path, monkeypatch):
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    done = fastlic_command("batch", folder, tmp_path / "out", "--to", "tar")
    assert done.code == 1 and 'pip install "fastlic[batch]"' in done.err


def test_no_number_of_jobs_is_one_per_core_as_for_other_commands(fastlic_command, monkeypatch, tmp_path):
    from fastlic import batch

    seen, cores = [], len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setattr(batch, "run", lambda source, target, settings, **_: seen.append(settings.jobs) or [])
    for jobs in ("0", "3"):
        assert fastlic_command("batch", tmp_path, tmp_path / "out", "-m", TINY, "--jobs", jobs).code == 0
    assert fastlic_command("batch", tmp_path, tmp_path / "out", "-m", TINY, "--jobs", -1).code == 2
    assert seen == [cores, 3]
