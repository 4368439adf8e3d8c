"""What a schedule of slices or groups of channels yields."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from fastlic.entropy.schedule import Latents


@dataclass(frozen=True)
class Pass:
    """Symbols that are coded together, position by position.

    Attributes:
        section: 0 for the hyper latent z, 1 and up for the latent y.
        where: int64 [n], raster positions in that section's map.
        channels: (first, behind the last) channel.
        indexes: uint8 [n, channels], table of each symbol.
        means: int64 [n, channels] in units of 2^-6, what the symbol is a difference from; None for z.
    """

    section: int
    where: Tensor
    channels: tuple[int, int]
    indexes: Tensor
    means: Tensor | None


Schedule = Generator[Pass, Tensor, Latents]
