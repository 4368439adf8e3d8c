"""From pixels to bytes and back: the container, image files, and the codec that drives an entropy model."""

from fastlic.codec.codec import Codec

__all__ = ["Codec"]
