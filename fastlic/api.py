"""What ``import fastlic`` offers, behind imports that take seconds: ``fastlic`` itself loads this module when asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fastlic
from fastlic import config
from fastlic.codec import container
from fastlic.codec.cards import cards
from fastlic.codec.codec import Codec, Transforms
from fastlic.codec.families import Backend
from fastlic.codec.registry import for_stream, load
from fastlic.codec.sources import Picturable, Stream, model_and_quality, streams_of
from fastlic.models.defaults import undisturbed


@undisturbed
def compress(
    x: Tensor | Picturable,
    model: str | os.PathLike[str] | Codec | float = fastlic.DEFAULT_MODEL,
    quality: float | None = None,
    *,
    target_bpp: float | None = None,
    target_bytes: float | None = None,
    target_psnr: float | None = None,
    effort: int = 0,
    max_pixels: int | None = None,
    transforms: Transforms | None = None,
    backend: Backend = "auto",
    metadata: container.Metadata | None = None,
) -> bytes | list[bytes]:
    """Compress an image with shipped weights; see :meth:`Codec.compress`.

    Args:
        x: a tensor [C, H, W], uint8 or floating point in [0, 1], or a batch [B, C, H, W], which gives a list; C is 3,
            or 1 for grey, and one more with alpha. Or an array uint8 [H, W, C] or [H, W], an image of Pillow's, the
            path of an image file, or a binary file that holds one.
        model: name of shipped weights, path of a codec file, or a codec. A number here is the quality.
        quality: 1 (smallest) to 8 (best), fractions allowed; None: 4. Of no meaning to a codec of one rate.
        target_bpp, target_bytes, target_psnr: one of them in place of a quality: bits per pixel, bytes at most, or dB
            over RGB, of each image (docs/effort.md).
        effort: 0 to 9, of every shipped codec; a higher one needs fewer bytes for the same PSNR, and more time
            (docs/effort.md).
        max_pixels: largest height x width; default: 89,478,485, or ``FASTLIC_MAX_PIXELS``.
        transforms: ``"integer"``, the default where the weights have them: the same bytes on every machine; or
            ``"float"``.
        backend: of :meth:`Codec.compress`; ``"triton"`` runs on a GPU (docs/gpu.md). The bytes do not depend on it.
        metadata: colour profile, EXIF and XMP to keep in the stream; None: those of an image of Pillow's or of a file.
            :func:`fastlic.read_metadata` gives them back.

    Returns:
        ``.flic`` bytes; of a batch a list of them.

    Raises:
        TypeError, ValueError: what was received and what is expected; ValueError for a target out of reach and for a
            model that is neither shipped nor a file.
        OSError: a file that cannot be read.
        fastlic.errors.CodecFileError: a file that is no codec, or a damaged one.
        fastlic.errors.BackendUnavailable: ``backend`` or a model on the hub needs what is not there.
        fastlic.errors.PixelLimitError: a larger image, before it is looked at.
        fastlic.errors.OutOfMemoryError: what it is named after.
    """
    chosen, quality = model_and_quality(model, quality)
    if not isinstance(chosen, Codec | str | os.PathLike):
        kind = type(chosen)
        named = f"a codec of {kind.__module__}" if kind.__name__ == "Codec" else kind.__name__
        raise TypeError(f"model must be a name, a path, or a codec that fastlic.load gives, got {named}")
    codec = chosen if isinstance(chosen, Codec) else load(chosen)
    level = quality if codec.qualities else None
    return codec.compress(
        x,
        level,
        backend,
        target_bpp=target_bpp,
        target_bytes=target_bytes,
        target_psnr=target_psnr,
        effort=effort,
        max_pixels=max_pixels,
        transforms=transforms,
        metadata=metadata,
    )


@undisturbed
def decompress(
    data: Stream | Sequence[Stream],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    max_pixels: int | None = None,
    transforms: Transforms | None = None,
    backend: Backend = "auto",
    channels: int | None = None,
    **preview: int | None,
) -> Tensor | list[Tensor]:
    """Decompress a ``.flic`` stream to [C, H, W]; the stream itself says which weights it needs.

    Args:
        data: bytes, a path, or a binary file, which is read to its end; a list of such gives a list of tensors.
        device: where the result lies.
        dtype: floating point in [0, 1], or torch.uint8.
        max_pixels: largest height x width that a stream may claim, previews included; default: 89,478,485, or
            ``FASTLIC_MAX_PIXELS``. :func:`fastlic.peek` tells the size beforehand.
        transforms: ``"integer"``, the default where the weights have them: the same pixels on every machine; or
            ``"float"``, on ``device``.
        backend: as of :func:`compress`.
        channels: C, 1 for grey, 3 for RGB, 2 and 4 with alpha; default: those of the image that was compressed.
        preview: a coarser image from the stream's first sections, for models whose codec has it: ``levels=1``. See
            :meth:`Codec.decompress`.

    Raises:
        fastlic.errors.CorruptStreamError: the bytes are damaged.
        OSError: a file that cannot be read.
        fastlic.errors.ModelMismatchError: the weights are neither shipped nor loaded in this process.
        fastlic.errors.PixelLimitError: a larger image, before weights are loaded or anything is decoded.
        fastlic.errors.OutOfMemoryError: what it is named after.
    """
    streams, single = streams_of(data)
    for item in streams:
        head = container.peek(item)
        config.check_pixels(head.height, head.width, max_pixels)
    codecs = [for_stream(item) for item in streams]
    images: list[Any] = [None] * len(streams)
    for codec in dict.fromkeys(codecs):  # streams of one codec together
        members = [i for i, own in enumerate(codecs) if own is codec]
        made: Any = codec.decompress(
            [streams[i] for i in members],
            device,
            dtype,
            backend,
            max_pixels=max_pixels,
            transforms=transforms,
            channels=channels,
            **preview,
        )
        for i, image in zip(members, made, strict=True):
            images[i] = image
    return images[0] if single else images


def info() -> dict[str, Any]:
    """Versions, instruction sets, devices and shipped weights of this installation; and why something is missing."""
    from fastlic.ops.backends import backends

    shown = ("family", "fingerprint", "entropy_fingerprint", "reads")
    weights = {name: {key: card[key] for key in shown if key in card} for name, card in cards().items()}
    return {"version": fastlic.__version__, "torch": torch.__version__, "weights": weights, **backends()}
