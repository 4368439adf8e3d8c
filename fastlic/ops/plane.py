"""A lossless plane of 8-bit samples (docs/stream.md, section 6): how alpha is coded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments


def plane_encode(samples: NDArray[np.uint8]) -> bytes:
    """The bytes of a plane.

    Args:
        samples: uint8 [H, W].

    Raises:
        TypeError, ValueError: no such array.
    """
    array = arguments.array("samples", samples, "iu")
    if array.dtype != np.uint8 or array.ndim != 2:
        raise ValueError(f"samples must be uint8 [H, W], got {array.dtype} {list(array.shape)}")
    return _native.plane_encode(np.ascontiguousarray(array))


def plane_decode(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """The samples of a plane: uint8 [height, width].

    Raises:
        CorruptStreamError: bytes that no such plane has.
        ValueError: sides that are negative or that no image has.
    """
    for name, side in (("height", height), ("width", width)):
        if isinstance(side, bool) or not isinstance(side, int) or side < 0:
            raise ValueError(f"{name} must be a whole number from 0 on, got {side!r}")
    return _native.plane_decode(data, height, width)
