"""Files are whole or absent: who interrupts, who else writes, what lies there already."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from fastlic import files
from fastlic.files import write_whole, written_whole


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, MemoryError, OSError])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch, interrupt, step):
    (tmp_path / "a.flic").write_bytes(b"old")

    def stop(*_):
        raise OSError(errno.EIO, "broken") if interrupt is OSError else interrupt

    if step != "write":
        monkeypatch.setattr(os, step, stop)
    with pytest.raises(interrupt) as raised, written_whole(tmp_path / "a.flic") as file:
        file.write(b"new")
        if step == "write":
            stop()
    assert content(tmp_path) == {"a.flic": b"old"}
    if interrupt is OSError:
        assert raised.value.filename == str(tmp_path / "a.flic")


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, written_whole(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    assert raised.value.filename == str(tmp_path / "other")
    assert content(tmp_path) == {}


@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "replaced"])
def test_a_kill_before_any_system_call_leaves_the_old_file_or_the_new_one(tmp_path, before):
    # One child per step, forked from this one: os.* calls are counted, and the child kills itself at number k.
    seen = []
    for step in range(20):
        folder = tmp_path / str(step)
        folder.mkdir()
        if before is not None:
            (folder / "a").write_bytes(before)
        child = os.fork()
        if child == 0:
            try:
                _kill_at(step)
                write_whole(folder / "a", b"new" * 100_000)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        found = (folder / "a").read_bytes() if (folder / "a").exists() else None
        assert found in (before, b"new" * 100_000), f"step {step}"
        seen.append(found)
        if os.WIFEXITED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert step >= 6  # every step of the way was one of them
    assert seen[0] == before and seen[-1] != before


def _kill_at(step: int) -> None:
    """Kill this process at its ``step``-th audited or patched call from now on."""
    left = [step]

    def count() -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def counted(function):
        def call(*arguments, **named):
            count()
            return function(*arguments, **named)

        return call

    for name in ("fsync", "replace", "unlink", "open", "stat", "close"):
        setattr(os, name, counted(getattr(os, name)))
    import builtins

    opened = builtins.open

    def half_writer(*arguments, **named):
        count()
        file = opened(*arguments, **named)
        if "x" in arguments[1]:
            return _Halves(file, count)
        return file

    builtins.open = half_writer  # what ``files`` calls


class _Halves:
    """A file whose every write is two, with a step between them."""

    def __init__(self, file, count) -> None:
        self._file, self._count = file, count

    def write(self, data: bytes) -> None:
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._file.write(part)
            self._file.flush()
            self._count()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    order = []

    def noted(name, call):
        def noting(*arguments):
            order.append(f"{name} folder" if name == "fsync" and _is_folder(arguments[0]) else name)
            return call(*arguments)

        return noting

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    write_whole(tmp_path / "a", b"new")
    assert order == ["fsync", "replace", "fsync folder"]


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_a_new_file_has_the_permissions_of_the_umask_and_a_replaced_one_keeps_its_own(tmp_path):
    write_whole(tmp_path / "a", b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    for mode in (0o600, 0o664):
        (tmp_path / "a").chmod(mode)
        write_whole(tmp_path / "a", b"newer")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_write_protected_files_and_folders_are_told():
    with tempfile.TemporaryDirectory() as name:  # which may be opened to everybody, other than tmp_path
        folder = Path(name)
        (folder / "a").write_bytes(b"old")
        (folder / "a").chmod(0o444)
        folder.chmod(0o777)
        assert _as_nobody(lambda: write_whole(folder / "a", b"new")) == (errno.EACCES, str(folder / "a"))
        folder.chmod(0o555)
        assert _as_nobody(lambda: write_whole(folder / "b", b"new")) == (errno.EACCES, str(folder / "b"))
        assert content(folder) == {"a": b"old"}
        folder.chmod(0o755)


def _as_nobody(attempt) -> tuple[int, str]:
    """(errno, file name) of the error that ``attempt`` raises for a user who is not root."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            attempt()
        except OSError as error:
            os.write(writer, json.dumps([error.errno, error.filename]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    number, name = json.loads(told)
    return number, name


def test_links_are_followed_to_files_that_are_and_to_files_that_will_be(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_bytes(b"old")
    for name in ("real", "later"):
        (tmp_path / name).symlink_to(tmp_path / "there" / name)
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == b"new"
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["later", "real"]


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda path: path.symlink_to(path), errno.ELOOP),
        (lambda path: path.mkdir(), errno.EISDIR),
        (lambda path: path.symlink_to(path.parent), errno.EISDIR),
        (lambda path: path.symlink_to(path.parent / "none" / "a"), errno.ENOENT),
    ],
    ids=["links in circles", "a folder", "a link to a folder", "a link to nowhere"],
)
def test_what_cannot_be_a_file_is_told_by_its_name(tmp_path, make, number):
    path = tmp_path / "a"
    make(path)
    for attempt in (lambda: write_whole(path, b"new"), lambda: files.status(path)):
        with pytest.raises(OSError) as raised:
            attempt()
        assert (raised.value.errno, raised.value.filename) == (number, str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_devices_and_pipes_are_written_to(tmp_path):
    write_whole(Path("/dev/null"), b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError) as raised:
        write_whole(Path("/dev/full"), b"new")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/dev/full")
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", b"new" * 100_000)
    reader.join(30)
    assert read == [b"new" * 100_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_planted_link_is_not_followed_and_two_savers_do_not_collide(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".fastlic-0000000000000000.partial").symlink_to(tmp_path / "victim")
    with monkeypatch.context() as patched:
        patched.setattr(os, "urandom", bytes)  # somebody guessed the name
        with pytest.raises(FileExistsError):
            write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"

    with written_whole(tmp_path / "b") as first, written_whole(tmp_path / "b") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "b").read_bytes() == b"first"  # whose block ended last


def test_a_full_disk_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # Python ignores SIGXFSZ: an error comes in its place
    try:
        with pytest.raises(OSError) as raised:
            write_whole(tmp_path / "a", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / "a"))
    assert content(tmp_path) == {"a": b"old"}


def test_names_of_any_length_and_any_bytes_can_be_written(tmp_path):
    for name in ("a" * 255, "new\nline", os.fsdecode(b"\xff\xfe")):
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_codecs_and_conversions_are_written_whole_with_the_permissions_of_the_umask(tmp_path, tiny_codec, monkeypatch):
    tiny_codec.save(tmp_path / "a.safetensors")
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640
    whole = (tmp_path / "a.safetensors").read_bytes()
    # The name that earlier releases used for what is not yet whole.
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "a.safetensors.partial").symlink_to(tmp_path / "victim")
    tiny_codec.save(tmp_path / "a.safetensors", half=True)
    assert (tmp_path / "victim").read_bytes() == b"precious"
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    tiny = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        tiny_codec.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == tiny != whole


def test_nothing_else_in_the_package_opens_files_for_writing():
    """Appending logs apart, every file is written through ``files``."""
    done = subprocess.run(
        ["grep", "-rnE",
         r"write_bytes|write_text|open\([^)]*[\"'][wx]b?[\"']|save_file|torch\.save\([^)]*path|os\.replace",
         "--include=*.py", str(Path(files.__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    left = [line for line in done.stdout.splitlines() if "/bench/" not in line and "/fastlic/files.py" not in line]
    left = [line for line in left if "/fastlic/batch/places.py" not in line]  # URLs
    assert left == []
