"""The bytes of ``.flic`` files (docs/format.md). ``fastlic.codec.container`` has the same in a caller's terms.

A header is a tuple here: version, model id, quality in sixteenths (0: one rate), fingerprint (8 bytes), height and
width in pixels, channels. An attachment is its kind, a number from 1 to 255, and its bytes; kinds ascend.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fastlic import _native

Fields = tuple[int, int, int, bytes, int, int, int]
Entry = tuple[int, int, int]


def parse_container(data: bytes) -> tuple[Fields, tuple[int, ...], tuple[int, ...], int, tuple[Entry, ...]]:
    """The header, lengths and checksums of the sections, how many bytes the head has, and (kind, length, checksum) of
    each attachment.

    Raises:
        CorruptStreamError: damaged before the sections, of a newer version, or no ``.flic`` data at all.
    """
    return _native.container_parse(data)


def unpack_container(data: bytes, count: int | None = None) -> tuple[Fields, list[bytes]]:
    """The header and the sections, or the ``count`` leading ones alone, every checksum verified.

    Raises:
        TypeError: data that is no bytes, a count that is no whole number.
        CorruptStreamError: as for :func:`parse_container`, or sections damaged, missing or followed by more.
        ValueError: a negative count.
    """
    if count is not None and not isinstance(count, int):
        raise TypeError(f"count must be a whole number of sections or None, got {type(count).__name__}")
    if count is not None:
        if count < 0:
            raise ValueError(f"count must be 0 or more, got {count}")
        count = min(count, sys.maxsize)
    return _native.container_unpack(data, count)


def container_attachments(data: bytes) -> list[tuple[int, bytes]]:
    """The attachments, every checksum verified; the sections need not be there.

    Raises:
        CorruptStreamError: as for :func:`parse_container`, or attachments damaged or missing.
    """
    return _native.container_attachments(data)


def pack_container(header: Fields, sections: Sequence[bytes], attachments: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """One image as ``.flic`` bytes.

    Raises:
        ValueError: what the format does not allow.
    """
    return _native.container_pack(*header, sections, attachments)


def container_models() -> dict[str, int]:
    """The ids of all families that have one."""
    return _native.container_models()


def container_limits() -> tuple[int, int, int, int]:
    """The version that is written, and the most that the format allows: pixels of a side, sections, bytes of each."""
    return _native.container_limits()
