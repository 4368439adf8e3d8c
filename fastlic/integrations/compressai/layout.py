"""How the CompressAI that is installed lays out its latent codecs: as 1.2.8 does, or as its main branch since 2026.

Decided by what classes and modules have and do, never by a version: the branch has none, and its code travels in forks.

| | 1.2.8 | main branch |
|---|---|---|
| h_a, h_s of a HyperpriorLatentCodec | in its codec "hyper", a HyperLatentCodec | its own |
| the codec of z, and its key in ``shape`` | "hyper" | "z", an EntropyBottleneckLatentCodec |
| what codecs call the shape of a latent | rows, columns; some with channels before them | channels, rows, columns |
| the shape of channel groups | a list, one for each group | that of the whole latent |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlic.integrations.compressai.theirs import EntropyBottleneckLatentCodec, HyperLatentCodec


class HyperBranch(NamedTuple):
    """The way from y over z to parameters."""

    h_a: Any
    h_s: Any
    bottleneck: Any


def hyper_key(codec: Any) -> str:
    """What a HyperpriorLatentCodec calls its codec of z, and z's part of ``shape``."""
    return "z" if "z" in codec.latent_codec else "hyper"


def hyper_branch(codec: Any) -> HyperBranch:
    """That of a HyperpriorLatentCodec.

    Raises:
        ValueError: it is of a kind that is not known.
    """
    own = codec.latent_codec[hyper_key(codec)]
    if type(own) is HyperLatentCodec and hyper_key(codec) == "hyper":
        return HyperBranch(own.h_a, own.h_s, own.entropy_bottleneck)
    if type(own) is EntropyBottleneckLatentCodec and hasattr(codec, "h_a") and hasattr(codec, "h_s"):
        return HyperBranch(codec.h_a, codec.h_s, own.entropy_bottleneck)
    raise ValueError(f"its hyper codec is a {type(own).__name__}")


def hyper_channels(codec: Any) -> int | None:
    """Channels of z, if its codec says so."""
    channels = getattr(getattr(codec.latent_codec[hyper_key(codec)], "entropy_bottleneck", None), "channels", None)
    return channels if isinstance(channels, int) else None


@lru_cache(maxsize=1)
def shapes_name_channels() -> bool:
    """Whether latent codecs call the shape of a latent (channels, rows, columns), and channel groups too: tried out."""

    def same(latent: Any, *_: Any) -> Any:
        return latent

    if not hasattr(EntropyBottleneckLatentCodec, "compress"):  # a CompressAI without latent codecs
        return False
    codec: Any = SimpleNamespace(entropy_bottleneck=SimpleNamespace(compress=same, decompress=same))
    return len(EntropyBottleneckLatentCodec.compress(codec, torch.zeros(1, 1, 1, 1))["shape"]) > 2


def shape_of(latent: Tensor) -> torch.Size:
    """What ``compress`` calls the shape of a latent [B, C, h, w]."""
    return latent.shape[1:] if shapes_name_channels() else latent.shape[2:]


def expected_shape(channels: int, size: Sequence[int]) -> torch.Size:
    """The same of a latent that is not there yet; ``size``: its rows and columns."""
    return torch.Size((channels, *size) if shapes_name_channels() else size)
