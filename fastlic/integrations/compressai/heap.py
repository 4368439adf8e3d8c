"""Memory of large maps, kept from layer to layer.

glibc gives every block above 32 MB back to the system when it is freed, and the system clears the next one page by
page: 2 us for 4 kB, more than many a layer takes to fill them. So while a transform runs blocks come from the heap and
stay there; afterwards free memory is given back. Numbers do not change, nor does the peak of a transform.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# mallopt's names for what is set, and values: while kept, and afterwards those that glibc arrives at by itself once
# blocks of 32 MB have been freed, its own limit.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
_USUAL = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**26))

_LOCK = threading.Lock()
_users = 0


@functools.cache
def _glibc() -> Any:
    """The C library, if it is one that can be told; or None."""
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version, library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):  # another system, another library
        return None
    return library


@contextmanager
def kept() -> Iterator[None]:
    """Free memory stays with the process until the last of those that are inside leaves."""
    library = _glibc()
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
    finally:
        _leave(library)


def _enter(library: Any) -> None:
    global _users
    with _LOCK:
        _users += 1
        if _users == 1:
            for name, value in _KEPT:
                library.mallopt(name, value)


def _leave(library: Any) -> None:
    global _users
    with _LOCK:
        _users -= 1
        if _users == 0:
            for name, value in _USUAL:
                library.mallopt(name, value)
            library.malloc_trim(0)
