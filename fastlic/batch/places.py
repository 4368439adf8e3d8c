"""Folders and files by path or fsspec URL; what is written has its name when it is whole, and not before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastlic.errors import optional
from fastlic.files import written_whole


def located(url: str) -> tuple[Any, str]:
    """A path or URL as fsspec has it: the file system, and the path in it."""
    fs, path = optional("fsspec.core", "batch").url_to_fs(url)
    return fs, (os.path.realpath(path) if local(fs) else path.rstrip("/"))


def local(fs: Any) -> bool:
    """Whether it is the file system of this machine, where a rename is one step."""
    return type(fs).__name__ == "LocalFileSystem"


@contextlib.contextmanager
def written(fs: Any, path: str) -> Iterator[BinaryIO]:
    """A file open for writing that takes the name ``path`` when the block ends without an exception.

    Here it is ``fastlic.files.written_whole``. Elsewhere the bytes go to a ``.fastlic-*.partial`` beside it, which the
    file system moves: object stores copy it in one step.
    """
    folder = path.rpartition("/")[0]
    if local(fs):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with written_whole(Path(path)) as file:
            yield file
        return
    fs.makedirs(folder, exist_ok=True)
    partial = f"{folder}/.fastlic-{os.urandom(8).hex()}.partial"
    try:
        with fs.open(partial, "wb") as file:
            yield file
        fs.mv(partial, path)
    except BaseException:
        with contextlib.suppress(Exception):
            fs.rm_file(partial)
        raise
