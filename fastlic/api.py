"""What ``import fastlic`` offers, behind imports that take seconds: ``fastlic`` itself loads this module when asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fastlic
from fastlic import config
from fastlic.codec import container
from fastlic.codec.cards import cards
from fastlic.codec.codec import Bytes, Codec, Transforms
from fastlic.codec.registry import for_stream, load


def compress(
    x: Tensor,
    model: str | Codec = fastlic.DEFAULT_MODEL,
    quality: float | None = None,
    *,
    target_bpp: float | None = None,
    target_bytes: float | None = None,
    target_psnr: float | None = None,
    effort: int = 0,
    max_pixels: int | None = None,
    transforms: Transforms | None = None,
) -> bytes | list[bytes]:
    """Compress an image with shipped weights; see :meth:`Codec.compress`.

    Args:
        x: [3, H, W] or [1, 3, H, W], uint8 or floating point in [0, 1]; [B, 3, H, W] with B > 1 gives a list.
        model: name of shipped weights, path of a codec file, or a codec.
        quality: 1 (smallest) to 8 (best), fractions allowed; 4 by default.
        target_bpp, target_bytes, target_psnr: one of them in place of a quality: bits per pixel, bytes at most, or dB
            over RGB, of each image (docs/effort.md).
        effort: 0 to 9, the more the smaller and slower, of ``jahp`` and ``mlic++`` (docs/effort.md).
        max_pixels: largest height x width; default: 89,478,485, or ``FASTLIC_MAX_PIXELS``.
        transforms: ``"integer"``, the default where the weights have them: the same bytes on every machine; or
            ``"float"``.
    """
    codec = model if isinstance(model, Codec) else load(model)
    if quality is None and target_bpp is target_bytes is target_psnr is None:
        quality = fastlic.DEFAULT_QUALITY
    return codec.compress(
        x,
        quality if codec.qualities else None,
        target_bpp=target_bpp,
        target_bytes=target_bytes,
        target_psnr=target_psnr,
        effort=effort,
        max_pixels=max_pixels,
        transforms=transforms,
    )


def decompress(
    data: Bytes | Sequence[Bytes],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    max_pixels: int | None = None,
    transforms: Transforms | None = None,
    **preview: int | None,
) -> Tensor | list[Tensor]:
    """Decompress ``.flic`` bytes to [3, H, W]; the stream itself says which weights it needs.

    Args:
        data: one stream, or a list of streams, which gives a list of tensors.
        device: where the result lies.
        dtype: floating point in [0, 1], or torch.uint8.
        max_pixels: largest height x width that a stream may claim, previews included; default: 89,478,485, or
            ``FASTLIC_MAX_PIXELS``. :func:`fastlic.peek` tells the size beforehand.
        transforms: ``"integer"``, the default where the weights have them: the same pixels on every machine; or
            ``"float"``, on ``device``.
        preview: a coarser image from the stream's first sections, for models whose codec has it: ``levels=1``. See
            :meth:`Codec.decompress`.

    Raises:
        fastlic.errors.CorruptStreamError: the bytes are damaged.
        fastlic.errors.ModelMismatchError: the weights are neither shipped nor loaded in this process.
        fastlic.errors.PixelLimitError: a larger image, before weights are loaded or anything is decoded.
        fastlic.errors.OutOfMemoryError: what it is named after.
    """
    single = isinstance(data, (bytes, bytearray, memoryview))
    streams: list[Any] = [data] if single else list(data)
    for item in streams:
        head = container.peek(item)
        config.check_pixels(head.height, head.width, max_pixels)
    codecs = [for_stream(item) for item in streams]
    images: list[Any] = [
        codec.decompress(item, device, dtype, "auto", max_pixels=max_pixels, transforms=transforms, **preview)
        for codec, item in zip(codecs, streams, strict=True)
    ]
    return images[0] if single else images


def info() -> dict[str, Any]:
    """Versions, instruction sets, devices and shipped weights of this installation; and why something is missing."""
    from fastlic.ops.backends import backends

    shown = ("family", "fingerprint", "entropy_fingerprint", "reads")
    weights = {name: {key: card[key] for key in shown if key in card} for name, card in cards().items()}
    return {"version": fastlic.__version__, "torch": torch.__version__, "weights": weights, **backends()}
