"""Random damage to containers, many times over: an error or the same content, never anything else."""

from __future__ import annotations

import os
import random

import pytest

from fastlic.codec import container
from fastlic.errors import CorruptStreamError

RUNS = int(os.environ.get("FASTLIC_FUZZ_RUNS", "200000"))


def damaged(data: bytes, source: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        kind, at = source.randrange(4), source.randrange(len(out) + 1)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del out[at : at + source.randrange(1, 9)]
        elif kind == 2:
            out[at:at] = source.randbytes(source.randrange(1, 9))
        elif at < len(out):
            out[at] = source.randrange(256)
    return bytes(out)


@pytest.mark.slow
@pytest.mark.fuzz
def test_damaged_containers_are_errors():
    source = random.Random(7)
    header = container.Header(3, 4.5, bytes(range(8)), 300, 4000)
    whole = container.pack(header, [b"z" * 9, bytes(range(60))])
    for _ in range(RUNS):
        data = damaged(whole, source)
        if data == whole:
            continue
        with pytest.raises(CorruptStreamError):
            container.unpack(data)
        try:
            head = container.peek(data)
        except CorruptStreamError:
            continue
        assert head.height * head.width <= 1 << 27
