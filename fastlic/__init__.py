"""fastlic: learned image compression, fast and dependable.

data = fastlic.compress(x)           # x: [3, H, W], uint8 or float in [0, 1]
x_hat = fastlic.decompress(data)
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastlic import errors
from fastlic.codec.codec import Bytes, Codec
from fastlic.codec.registry import cards, for_stream, load

if TYPE_CHECKING:
    from fastlic.integrations.compressai import accelerate, accelerated, restore

try:
    __version__ = version("fastlic")
except PackageNotFoundError:  # a source tree on the path, never installed
    __version__ = "0+unknown"

DEFAULT_MODEL = "jahp"
DEFAULT_QUALITY = 4

__all__ = [
    "Codec",
    "__version__",
    "accelerate",
    "accelerated",
    "compress",
    "decompress",
    "errors",
    "info",
    "load",
    "restore",
]

_INTEGRATIONS = {name: "fastlic.integrations.compressai" for name in ("accelerate", "accelerated", "restore")}


def __getattr__(name: str) -> Any:
    """Integrations are imported when they are first used."""
    if name not in _INTEGRATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_INTEGRATIONS[name]), name)
    globals()[name] = value
    return value


def compress(x: Tensor, model: str | Codec = DEFAULT_MODEL, quality: float = DEFAULT_QUALITY) -> bytes | list[bytes]:
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
    return {"version": __version__, "torch": torch.__version__, "weights": weights, **backends()}
