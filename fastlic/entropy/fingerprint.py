"""Names of frozen weights: what a stream carries to say which codec decodes it (docs/format.md, Fingerprints)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlic.arguments import checked

FINGERPRINT_BYTES = 8


@checked
def of_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """8 bytes of BLAKE2b over every array's name, type, shape and content: the entropy integers of a codec.

    Streams of format version 1 carry it.
    """
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    for part in _parts(arrays):
        digest.update(part)
    return digest.digest()


@checked
def of_codec(
    family: str, config: Mapping[str, Any], integers: Mapping[str, np.ndarray], floats: Mapping[str, np.ndarray]
) -> bytes:
    """8 bytes of BLAKE2b over all that decides over the pixels of a decoded image.

    Streams of format version 2 carry it.

    Args:
        config: the model's constructor arguments that are not defaults, as JSON holds them.
        integers: the entropy integers.
        floats: float32, finite; the weights that a decoder reads. They count as rounded to float16, so that a codec
            saved in half precision keeps its name; an array that float16 cannot hold counts as it is.
    """
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    digest.update(f"{family}|{json.dumps(config, sort_keys=True, separators=(',', ':'))}|".encode())
    for part in _parts(integers):
        digest.update(part)
    for part in _parts({f"float/{name}": _rounded(array) for name, array in floats.items()}):
        digest.update(part)
    return digest.digest()


def _parts(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    parts = []
    for name, array in sorted(arrays.items()):
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        parts += [f"{name}|{little.dtype.str}|{little.shape}|".encode(), little.tobytes()]
    return parts


def _rounded(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array
