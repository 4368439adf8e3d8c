"""Does any instruction set, thread count or batch change a bit?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from fastlic.codec import Codec
from fastlic.codec.codec import Analysis
from fastlic.ops.backends import instruction_set, instruction_sets

THREADS = (1, 2, 4)


class Compared(NamedTuple):
    isa: str
    images: int  # how many were coded, decoded and compared
    different: int


def same_bits(codec: Codec, analysed: Sequence[Analysis], batches: Sequence[int]) -> Iterator[Compared]:
    """Code and decode on each instruction set, the best first, with each number of threads, in batches of each size.

    An image differs if its stream or a latent is not that of the first setting, or the decoder's latents are not the
    encoder's. Analysis is done once: transforms are floats and promise no bits.
    """
    expected: list[tuple[bytes, ...]] = []
    before = torch.get_num_threads()
    for isa in reversed(instruction_sets()):
        images = different = 0
        with instruction_set(isa):
            for threads in THREADS:
                torch.set_num_threads(threads)
                try:
                    runs = [_run(codec, analysed, batch) for batch in batches]
                finally:
                    torch.set_num_threads(before)
                for run in runs:
                    expected = expected or [encoded for encoded, _ in run]
                    for (encoded, decoded), wanted in zip(run, expected, strict=True):
                        different += encoded != wanted or decoded != wanted
                    images += len(run)
        yield Compared(isa, images, different)


def _run(codec: Codec, analysed: Sequence[Analysis], batch: int) -> list[tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
    """Per image: its stream and the bytes of its latents, as the encoder sees them and as the decoder does."""
    results = []
    for first in range(0, len(analysed), batch):
        coded = codec.encode(analysed[first : first + batch], "cpp")
        decoded = codec.decode_latents([data for data, _ in coded])
        for (data, seen), back in zip(coded, decoded, strict=True):
            each = ((data, *(part.contiguous().numpy().tobytes() for part in side.values())) for side in (seen, back))
            results.append((next(each), next(each)))
    return results
