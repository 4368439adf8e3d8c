"""What integer transforms lose beside float ones: decibels and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastlic.codec import Codec
from fastlic.evaluate import psnr


class Compared(NamedTuple):
    """One image at one quality, or their mean; integers less floats."""

    floats: float  # PSNR in dB
    both: float  # dB, both ways by integers
    synthesis: float  # dB, of the float encoder's stream
    bytes: float  # share of the float encoder's


def compare(codec: Codec, floats: Codec, images: Sequence[Tensor], quality: float | None) -> Iterator[Compared]:
    """Each image by the integer transforms of ``codec`` and by the float ones of ``floats``.

    Args:
        floats: has the entropy integers of ``codec``, which reads its streams; or ``codec`` itself.
        images: uint8 [3, H, W].

    Raises:
        ValueError: a codec without such transforms.
    """
    for image in images:
        stream, own = floats.compress(image, quality, transforms="float"), codec.compress(image, quality)
        assert isinstance(stream, bytes) and isinstance(own, bytes)
        before = _psnr(floats, stream, image, "float")
        both, synthesis = (_psnr(codec, data, image, "integer") for data in (own, stream))
        yield Compared(before, both - before, synthesis - before, len(own) / len(stream) - 1)


def _psnr(codec: Codec, data: bytes, image: Tensor, transforms: str) -> float:
    decoded = codec.decompress(data, dtype=torch.uint8, transforms=transforms)  # type: ignore[arg-type]
    assert isinstance(decoded, Tensor)
    return psnr(decoded, image)
