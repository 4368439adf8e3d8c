"""Does any instruction set, thread count or batch change a bit of a file, a latent or a pixel?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlic.codec import Codec
from fastlic.ops.backends import instruction_set, instruction_sets, torch_threads

THREADS = (1, 2, 4)


class Image(NamedTuple):
    """What a setting made of one image."""

    stream: bytes
    latents: tuple[bytes, ...]
    pixels: bytes


class Compared(NamedTuple):
    isa: str
    images: int  # how many were coded, decoded and compared
    different: int
    streams: str  # SHA-256 of all streams of the first setting, one after the other
    pixels: str  # and of all pixels, uint8 [3, H, W] each


def same_bits(
    codec: Codec, images: Sequence[Tensor], quality: float | None, batches: Sequence[int]
) -> Iterator[Compared]:
    """Code and decode on each instruction set, the best first, with each number of threads, in batches of each size.

    An image differs if its stream, a latent or a pixel is not that of the first setting, or the decoder's latents are
    not the encoder's. Float transforms promise no bits: of a codec with no others, images are analysed once, and pixels
    not compared.
    """
    expected: list[Image] = []
    analysed = None if codec.pixels is not None else [codec.analyse(image, quality) for image in images]
    for isa in reversed(instruction_sets()):
        count = different = 0
        with instruction_set(isa):
            for threads in THREADS:
                with torch_threads(threads):
                    own = analysed or [codec.analyse(image, quality) for image in images]
                    runs = [_run(codec, own, batch) for batch in batches]
                for run in runs:
                    expected = expected or [made for made, _ in run]
                    different += sum(
                        made != wanted or not same for (made, same), wanted in zip(run, expected, strict=True)
                    )
                    count += len(run)
        yield Compared(
            isa,
            count,
            different,
            _digest(image.stream for image in expected),
            _digest(image.pixels for image in expected),
        )


def _digest(parts: Iterator[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _run(codec: Codec, analysed: Sequence[Any], batch: int) -> list[tuple[Image, bool]]:
    """What became of each image, and whether the decoder saw the encoder's latents."""
    results = []
    for first in range(0, len(analysed), batch):
        coded = codec.encode(analysed[first : first + batch], "cpp")
        streams = [data for data, _ in coded]
        pixels = (
            codec.decompress(streams, dtype=torch.uint8)
            if codec.pixels is not None
            else [torch.empty(0)] * len(streams)
        )
        for (data, seen), back, image in zip(coded, codec.decode_latents(streams), pixels, strict=True):
            mine, theirs = (
                tuple(part.contiguous().numpy().tobytes() for part in side.values()) for side in (seen, back)
            )
            results.append((Image(data, mine, image.numpy().tobytes()), mine == theirs))
    return results
