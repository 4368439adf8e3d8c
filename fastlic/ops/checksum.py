"""CRC-32C (Castagnoli), the checksum of every container section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlic import _native

if TYPE_CHECKING:  # headers are read without numpy
    import numpy as np
    from numpy.typing import NDArray


def crc32c(data: bytes | bytearray | memoryview | NDArray[np.uint8], crc: int = 0) -> int:
    """Checksum of ``data``; pass an earlier result as ``crc`` to continue over a second piece."""
    return _native.crc32c(data, crc)
