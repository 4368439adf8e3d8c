"""The name of a set of frozen integers: what a stream carries to say which weights decode it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

FINGERPRINT_BYTES = 8


def of_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """8 bytes of BLAKE2b over every array's name, type, shape and content."""
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    for name, array in sorted(arrays.items()):
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        digest.update(f"{name}|{little.dtype.str}|{little.shape}|".encode())
        digest.update(little.tobytes())
    return digest.digest()
