"""From pixels to bytes and back: the container, image files, and the codec that drives an entropy model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlic.codec.codec import Codec

__all__ = ["Codec"]


def __getattr__(name: str) -> Any:
    """The codec needs torch; whoever reads a container's header does not."""
    if name != "Codec":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastlic.codec.codec import Codec

    return Codec


def __dir__() -> list[str]:
    return sorted({*globals(), "Codec"})
