"""Folders and files by path or fsspec URL; what is written has its name when it is whole, and not before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastlic.errors import BackendUnavailable, optional
from fastlic.files import written_whole


def located(url: str) -> tuple[Any, str]:
    """A path or URL as fsspec has it: the file system, and the path in it.

    Raises:
        BackendUnavailable: no fsspec, or not the package that it needs for this URL.
        ValueError: a URL of no kind that it knows.
    """
    core = optional("fsspec.core", "batch")
    try:
        fs, path = core.url_to_fs(url)
    except ImportError as error:  # the package of this kind of URL; fsspec names it
        raise BackendUnavailable(f"{url}: {error}") from error
    return fs, (os.path.realpath(path) if local(fs) else path.rstrip("/"))


def local(fs: Any) -> bool:
    """Whether it is the file system of this machine, where a rename is one step."""
    return type(fs).__name__ == "LocalFileSystem"


@contextlib.contextmanager
def written(fs: Any, path: str, replace: bool = True) -> Iterator[BinaryIO]:
    """A file open for writing that takes the name ``path`` when the block ends without an exception.

    Here it is ``fastlic.files.written_whole``. Elsewhere the bytes go to a ``.fastlic-*.partial`` beside it, which the
    file system moves: object stores copy it in one step.

    Args:
        replace: whether another file may be there already; else only one with the same bytes.

    Raises:
        ValueError: there is, and it is left as it was.
    """
    folder = path.rpartition("/")[0]
    if local(fs):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with written_whole(Path(path)) as file:
            yield file
            file.flush()
            _check(fs, path, file.name, replace)
        return
    fs.makedirs(folder, exist_ok=True)
    partial = f"{folder}/.fastlic-{os.urandom(8).hex()}.partial"
    try:
        with fs.open(partial, "wb") as file:
            yield file
        _check(fs, path, partial, replace)
        fs.mv(partial, path)
    except BaseException:
        with contextlib.suppress(Exception):
            fs.rm_file(partial)
        raise


def _check(fs: Any, path: str, partial: str, replace: bool) -> None:
    if not replace and fs.exists(path) and not _same(fs, path, partial):
        raise ValueError(f"{path} is there, and is not what this run makes")


def _same(fs: Any, one: str, other: str) -> bool:
    if fs.size(one) != fs.size(other):
        return False
    with fs.open(one, "rb") as a, fs.open(other, "rb") as b:
        while part := a.read(1 << 20):
            if part != b.read(len(part)):
                return False
    return True
