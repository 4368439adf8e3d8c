"""A numcodecs codec, ``{"id": "fastlic", "quality": 4}``: chunks that are images, as ``.flic`` streams. **Lossy.**"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlic import DEFAULT_MODEL, DEFAULT_QUALITY, light
from fastlic.codec import container
from fastlic.codec.cards import cards
from fastlic.errors import CorruptStreamError, optional

Codec: Any = optional("numcodecs.abc", "zarr").Codec


class Fastlic(Codec):
    """Arrays uint8 [..., H, W, 3] whose leading sides are 1, to bytes and back; what comes back is not what went in.

    Args:
        model: name of shipped weights, or of a codec file; readers need them too.
        quality: 1 to 8, as of ``fastlic.compress``.
    """

    codec_id = "fastlic"

    def __init__(self, model: str = DEFAULT_MODEL, quality: float = DEFAULT_QUALITY) -> None:
        self.model, self.quality = model, quality

    def encode(self, buf: Any) -> bytes:
        """The bytes of a ``.flic`` file.

        Raises:
            TypeError, ValueError: another dtype or shape, or settings that cannot work.
        """
        array = np.asarray(buf)
        return light.compress(array.reshape(image_shape(array.shape)), self.model, self.quality, threads=1)

    def decode(self, buf: Any, out: Any = None) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], or ``out`` filled with them.

        Raises:
            CorruptStreamError: damaged, or of another size than ``out``.
        """
        data = bytes(buf)
        if out is None:
            return self._pixels(data)
        target = np.asarray(out)
        head, shape = container.peek(data), image_shape(target.shape)
        if (head.height, head.width) != shape[:2]:  # before any work: the chunk's size is known
            raise CorruptStreamError(f"the stream holds {head.height} x {head.width} pixels, the chunk {shape[:2]}")
        target[...] = self._pixels(data).reshape(target.shape)
        return target

    def _pixels(self, data: bytes) -> NDArray[np.uint8]:
        return light.decompress(data, None if self.model in cards() else self.model, threads=1, channels=3)


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[H, W, 3] of a chunk that is one image.

    Raises:
        ValueError: it is none.
    """
    if len(shape) < 3 or shape[-1] != 3 or any(side != 1 for side in shape[:-3]):
        raise ValueError(f"a chunk is one image, [H, W, 3] or [1, ..., H, W, 3], got {list(shape)}")
    return tuple(shape[-3:])
