"""How the package writes files: whole or not at all, whatever interrupts and whoever else writes there.

A temporary file of a name that nobody can know is made in the same folder, filled, brought to the disk, and renamed
over the target; the folder is brought to the disk after that. A process killed on the way leaves what was there before,
and at most a ``.fastlic-*.partial`` beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing that takes the name ``path`` when the block ends without an exception.

    A new file has the permissions that the umask leaves. One that replaces another keeps that one's, belongs to who
    writes it, and is refused where the old one is write-protected. Through a link the file behind it is replaced. A
    device or a pipe cannot be replaced, and is written to as the block goes.

    Raises:
        OSError: with the name ``path``: a folder, links that lead in circles, a missing folder, a full disk, ...
    """
    partial = None
    try:
        there = status(path)
        if there is not None and not stat.S_ISREG(there.st_mode):
            with open(path, "wb") as file:
                yield file
            return
        target = os.path.realpath(path)
        folder = os.path.dirname(target)
        partial = os.path.join(folder, f".fastlic-{os.urandom(8).hex()}.partial")
        try:
            with open(partial, "xb") as file:  # exclusive: follows no link that somebody put there
                if there is not None:
                    os.chmod(partial, stat.S_IMODE(there.st_mode) & 0o777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        _sync_folder(folder)
    except OSError as error:
        if error.filename is None or error.filename == partial:  # not one about another file, from inside the block
            error.filename, error.filename2 = str(path), None
        raise


def write_whole(path: Path, content: bytes, make_folder: bool = False) -> None:
    """Write ``content`` as :func:`written_whole` does, into a folder that is made first if ``make_folder`` says so."""
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(content)


def status(path: Path) -> os.stat_result | None:
    """What lies at ``path``, or behind the link there, before it is written to; None: nothing yet.

    Long work asks beforehand, so that it does not end in what can be told at once.

    Raises:
        OSError: it cannot be written to: a folder, write-protected, or links in circles; or its folder is missing.
    """
    try:
        there = os.stat(path)
    except FileNotFoundError:
        folder = os.path.dirname(os.path.realpath(path))
        if not os.path.isdir(folder):
            raise
        return None
    if stat.S_ISDIR(there.st_mode):
        raise _error(errno.EISDIR, path)
    if not os.access(path, os.W_OK):
        raise _error(errno.EACCES, path)
    return there


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))  # of the class that belongs to the number


def _sync_folder(folder: str) -> None:
    """The new name on the disk too, where the folder may be read and its file system can do that."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
