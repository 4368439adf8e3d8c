"""fastlic's own streams inside the ``strings`` of a CompressAI model.

Every string is

    1 byte    0xF1: magic and version
    2 bytes   check of the model: what encoder and decoder must agree on before the first symbol
    4 bytes   CRC-32C of the payload
    payload   a section of the native coder (docs/stream.md)

so that damage, other weights and parameters that came out differently are told apart.
"""

from __future__ import annotations

import struct
from typing import Any

from fastlic.errors import CorruptStreamError, ModelMismatchError
from fastlic.ops.checksum import crc32c

MAGIC = 0xF1
HEADER = struct.Struct("<BHI")


def fold(check: int) -> int:
    """32 bits to the 16 that a header has room for."""
    return (check ^ check >> 16) & 0xFFFF


def wrap(payload: bytes, check: int) -> bytes:
    return HEADER.pack(MAGIC, fold(check), crc32c(payload)) + payload


def unwrap(data: Any, check: int, reason: str) -> bytes:
    """The payload.

    Raises:
        CorruptStreamError: no stream of this kind, or its bytes were altered.
        ModelMismatchError: an intact stream that was made with something else; ``reason`` says what to look at.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"strings must hold bytes, got {type(data).__name__}")
    data = bytes(data)
    if len(data) < HEADER.size or data[0] != MAGIC:
        raise CorruptStreamError(
            f"{len(data)} bytes that are no fastlic stream: made by plain CompressAI, or with format='compressai'?"
        )
    _, stored, checksum = HEADER.unpack_from(data)
    payload = data[HEADER.size :]
    if crc32c(payload) != checksum:
        raise CorruptStreamError("the checksum of a string does not match: its bytes were altered")
    if stored != fold(check):
        raise ModelMismatchError(reason)
    return payload
