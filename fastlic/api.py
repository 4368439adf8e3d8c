"""What ``import fastlic`` offers, behind imports that take seconds: ``fastlic`` itself loads this module when asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fastlic
from fastlic.codec.cards import cards
from fastlic.codec.codec import Bytes, Codec
from fastlic.codec.registry import for_stream, load


def compress(
    x: Tensor, model: str | Codec = fastlic.DEFAULT_MODEL, quality: float = fastlic.DEFAULT_QUALITY
) -> bytes | list[bytes]:
    """Compress an image with shipped weights; see :meth:`Codec.compress`.

    Args:
        x: [3, H, W] or [1, 3, H, W], uint8 or floating point in [0, 1]; [B, 3, H, W] with B > 1 gives a list.
        model: name of shipped weights, path of a codec file, or a codec.
        quality: 1 (smallest) to 8 (best), fractions allowed.
    """
    codec = model if isinstance(model, Codec) else load(model)
    return codec.compress(x, quality if codec.qualities else None)


def decompress(
    data: Bytes | Sequence[Bytes],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **preview: int | None,
) -> Tensor | list[Tensor]:
    """Decompress ``.flic`` bytes to [3, H, W]; the stream itself says which weights it needs.

    Args:
        data: one stream, or a list of streams, which gives a list of tensors.
        device: where the result lies.
        dtype: floating point in [0, 1], or torch.uint8.
        preview: a coarser image from the stream's first sections, for models whose codec has it: ``levels=1``. See
            :meth:`Codec.decompress`.

    Raises:
        fastlic.errors.CorruptStreamError: the bytes are damaged.
        fastlic.errors.ModelMismatchError: the weights are neither shipped nor loaded in this process.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        return [for_stream(item).decompress(item, device, dtype, "auto", **preview) for item in data]  # type: ignore[misc]
    return for_stream(data).decompress(data, device, dtype, "auto", **preview)


def info() -> dict[str, Any]:
    """Versions, instruction sets, devices and shipped weights of this installation; and why something is missing."""
    from fastlic.ops.backends import backends

    shown = ("family", "fingerprint", "entropy_fingerprint")
    weights = {name: {key: card[key] for key in shown} for name, card in cards().items()}
    return {"version": fastlic.__version__, "torch": torch.__version__, "weights": weights, **backends()}
