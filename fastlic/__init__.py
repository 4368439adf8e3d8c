"""fastlic: learned image compression, fast and dependable.

data = fastlic.compress(x)           # x: [3, H, W], uint8 or float in [0, 1]
x_hat = fastlic.decompress(data)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastlic import errors

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
    from fastlic import train as train
    from fastlic.api import compress, decompress, info
    from fastlic.codec.codec import Codec
    from fastlic.codec.container import Bytes, StreamInfo
    from fastlic.codec.registry import load
    from fastlic.integrations.compressai import accelerate, accelerated, restore

    __version__: str

DEFAULT_MODEL = "jahp"
DEFAULT_QUALITY = 4

__all__ = [
    "Codec",
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
    "restore",
]

# Where names live that are imported when they are first used: torch alone takes seconds on a busy machine.
_HOMES = {
    **dict.fromkeys(("compress", "decompress", "info"), "fastlic.api"),
    "Codec": "fastlic.codec.codec",
    "StreamInfo": "fastlic.codec.container",
    "load": "fastlic.codec.registry",
    **dict.fromkeys(("accelerate", "accelerated", "restore"), "fastlic.integrations.compressai"),
}
_PACKAGES = ("batch", "codec", "config", "entropy", "evaluate", "integrations", "light", "models", "ops", "train")


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


def peek(data: Bytes) -> StreamInfo:
    """What ``.flic`` bytes say about themselves, without decoding: size, model, quality, weights, lengths of sections.

    Reads the head alone, whose checksum is verified: some 600 bytes at most; the sections need not be present. No pixel
    limit is asked, so that sizes can be looked at before they are allowed.

    Raises:
        fastlic.errors.CorruptStreamError: the head is damaged, cut short, of a newer version, or none.
    """
    from fastlic.codec import container

    return container.look(data)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PACKAGES, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("fastlic")
    except metadata.PackageNotFoundError:  # a source tree on the path, never installed
        return "0+unknown"
