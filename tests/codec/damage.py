"""What every codec does with streams that somebody changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastlic.codec import container
from fastlic.codec.codec import Codec
from fastlic.errors import CorruptStreamError, FastlicError


def noise() -> Tensor:
    """A small image, [3, 20, 20] in [0, 1]."""
    return torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))


def check_every_change(codec: Codec, data: bytes) -> None:
    """Every truncation, every flipped byte and an extra byte are reported."""
    for position in range(len(data)):
        with pytest.raises(CorruptStreamError):
            codec.decompress(data[:position])
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        with pytest.raises(FastlicError):
            codec.decompress(bytes(damaged))
    with pytest.raises(CorruptStreamError):
        codec.decompress(data + b"\0")


def reported_of_100_under_valid_checksums(codec: Codec, data: bytes) -> int:
    """Changes of one bit that a hostile writer made valid checksums for: each ends with an image or an error."""
    image = codec.decompress(data)
    header, sections = container.unpack(data)
    draw = np.random.default_rng(1)
    reported = 0
    for _ in range(100):
        damaged = [bytearray(section) for section in sections]
        which = damaged[draw.integers(len(sections))]
        which[draw.integers(len(which))] ^= 1 << draw.integers(8)
        try:
            found = codec.decompress(container.pack(header, [bytes(section) for section in damaged]))
            assert found.shape == image.shape and bool(torch.isfinite(found).all())
        except CorruptStreamError:
            reported += 1
    return reported
