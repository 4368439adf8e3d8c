"""fastlic: learned image compression, fast and dependable.

data = fastlic.compress(x)           # x: [3, H, W], uint8 or float in [0, 1]
x_hat = fastlic.decompress(data)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastlic import errors
from fastlic.config import DEFAULT_MODEL as DEFAULT_MODEL
from fastlic.config import DEFAULT_QUALITY as DEFAULT_QUALITY

if TYPE_CHECKING:
    from fastlic import batch as batch
    from fastlic import codec as codec
    from fastlic import config as config
    from fastlic import entropy as entropy
    from fastlic import evaluate as evaluate
    from fastlic import integrations as integrations
    from fastlic import light as light
    from fastlic import models as models
    from fastlic import ops as ops
    from fastlic import pillow as pillow
    from fastlic import train as train
    from fastlic.api import compress, decompress, info
    from fastlic.codec.codec import Codec
    from fastlic.codec.container import Metadata, StreamInfo
    from fastlic.codec.registry import load
    from fastlic.codec.sources import Stream
    from fastlic.integrations.compressai import accelerate, accelerated, restore

    __version__: str

__all__ = [
    "Codec",
    "Metadata",
    "StreamInfo",
    "__version__",
    "accelerate",
    "accelerated",
    "compress",
    "decompress",
    "errors",
    "info",
    "load",
    "peek",
    "read_metadata",
    "restore",
]

# Where names live that are imported when they are first used: torch alone takes seconds on a busy machine.
_HOMES = {
    **dict.fromkeys(("compress", "decompress", "info"), "fastlic.api"),
    "Codec": "fastlic.codec.codec",
    **dict.fromkeys(("Metadata", "StreamInfo"), "fastlic.codec.container"),
    "load": "fastlic.codec.registry",
    **dict.fromkeys(("accelerate", "accelerated", "restore"), "fastlic.integrations.compressai"),
}
_PACKAGES = (
    "batch",
    "codec",
    "config",
    "entropy",
    "evaluate",
    "integrations",
    "light",
    "models",
    "ops",
    "pillow",
    "train",
)


def __getattr__(name: str) -> Any:
    value: Any
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"fastlic.{name}")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def peek(data: Stream) -> StreamInfo:
    """What a stream says about itself, without decoding: size, channels, model, quality, weights, and how many bytes
    each section and each piece of metadata has.

    Args:
        data: bytes, a path or a binary file; one that can be sought in is left standing where it stood.

    Reads the head alone, whose checksum is verified: mostly 40 bytes, 3 kB at most; the sections need not be present.
    No pixel limit is asked, so that sizes can be looked at before they are allowed.

    Raises:
        fastlic.errors.CorruptStreamError: the head is damaged, cut short, of a newer version, or none.
        OSError: a file that cannot be read.
    """
    from fastlic.codec import container, sources

    return container.look(sources.head_of(data))


def read_metadata(data: Stream) -> Metadata:
    """Colour profile, EXIF and XMP of a stream; nothing is decoded.

    Args:
        data: bytes, a path, or a binary file, which is read to its end.

    Raises:
        fastlic.errors.CorruptStreamError: damaged, cut short, of a newer version, or no stream at all.
        OSError: a file that cannot be read.
    """
    from fastlic.codec import container, sources

    return container.read_metadata(sources.stream_of(data))


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PACKAGES, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("fastlic")
    except metadata.PackageNotFoundError:  # a source tree on the path, never installed
        return "0+unknown"
