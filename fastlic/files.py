"""How the package writes files: whole or not at all, whatever interrupts and whoever else writes there.

A temporary file of a name that nobody can know is made in the same folder, filled, brought to the disk, and renamed
over the target; the folder is brought to the disk after that. A process killed on the way leaves what was there before,
and at most a ``.fastlic-*.partial`` beside it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin, get_type_hints


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing that takes the name ``path`` when the block ends without an exception.

    A new file has the permissions that the umask leaves. One that replaces another keeps that one's, belongs to who
    writes it, and is refused where the old one is write-protected. Through a link the file behind it is replaced. A
    device or a pipe cannot be replaced, and is written to as the block goes; so is what a descriptor of this process
    has open (/dev/fd/3, /dev/stderr), from where it stands.

    Raises:
        OSError: with the name ``path``: a folder, links that lead in circles, a missing folder, a full disk, ...
    """
    partial = None
    try:
        if (descriptor := _descriptor(path)) is not None:
            with open(os.dup(descriptor), "wb") as file:  # opened by name, a pipe without readers would wait for one
                yield file
            return
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


def read_bounded(source: Path | BinaryIO, most: int = 1 << 30) -> bytes:
    """The content of a file, or of a pipe; a device such as /dev/zero has no end, and its memory none either.

    Args:
        source: a path, or what is open for reading and stays so.

    Raises:
        ValueError: more than ``most`` bytes.
    """
    data = bytearray()
    name = source if isinstance(source, Path) else "it"
    with open(source, "rb") if isinstance(source, Path) else contextlib.nullcontext(source) as file:
        while part := file.read(1 << 20):
            data += part
            if len(data) > most:
                raise ValueError(f"{name} holds more than {most:,} bytes, which no such file does")
    return bytes(data)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: no JSON, or another kind of value; the message names the file.
    """
    try:
        content = json.loads(read_bounded(path, 1 << 28))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__} where an object is expected")
    return content


def check_types(cls: type, values: Mapping[str, Any]) -> None:
    """Check what a file says against the types that the dataclass ``cls`` declares for its fields.

    Numbers are finite and below 2^63, a whole one will do for a float, and True is none.

    Raises:
        ValueError: the first value of another type, by its name.
    """
    for name, declared in get_type_hints(cls).items():
        if name not in values:
            continue
        value = values[name]
        options = get_args(declared) if isinstance(declared, UnionType) else (declared,)
        kinds = [get_origin(option) or option for option in options]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number:
            good = (float in kinds or (int in kinds and isinstance(value, int))) and abs(value) < 1 << 63
        else:
            good = isinstance(value, tuple(kinds)) and (not isinstance(value, bool) or bool in kinds)
        if not good:
            words = getattr(declared, "__name__", str(declared))
            raise ValueError(f"{name} must be of type {words}, got {value!r:.60}")


def status(path: Path) -> os.stat_result | None:
    """What lies at ``path``, or behind the link there, before it is written to; None: nothing yet.

    Long work asks beforehand, so that it does not end in what can be told at once.

    Raises:
        OSError: it cannot be written to: a folder, write-protected, or links in circles; or its folder is missing.
    """
    try:
        there = os.stat(path)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
            folder = os.path.dirname(os.path.realpath(path) if os.path.islink(path) else path)
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}", str(path)) from None
        return None
    if stat.S_ISDIR(there.st_mode):
        raise _error(errno.EISDIR, path)
    if not os.access(path, os.W_OK):
        raise _error(errno.EACCES, path)
    return there


def _descriptor(path: Path) -> int | None:
    """The number of the open file of this process that the path is another name of; None: an ordinary path."""
    named = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
    form = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", str(path))
    return int(form[1]) if form else named.get(str(path))


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
