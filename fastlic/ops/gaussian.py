"""rANS with an exact Gaussian per symbol: any mean, any scale, no tables. The stream is specified in docs/stream.md.

    data = encode_gaussian(symbols, mean, scale)
    assert (decode_gaussian(data, mean, scale) == symbols).all()

The probability of symbol k is that of (k - 1/2, k + 1/2) under N(mean, scale), with the mean rounded to 1/256 and the
scale to 7 significant bits. Both sides derive integers from the bits of float32 numbers, so means and scales must be
equal on both sides, and then any two machines agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.ops import _arguments as arguments
from fastlic.ops.rans import Bytes, _lanes, as_symbols
from fastlic.ops.reference import gaussian as reference

Backend = Literal["reference", "cpp"]

ENCODE: dict[str, Callable[..., bytes]] = {"reference": reference.gaussian_encode, "cpp": _native.gaussian_encode}
DECODE: dict[str, Callable[..., None]] = {"reference": reference.gaussian_decode, "cpp": _native.gaussian_decode}


def _parameters(mean: Any, scale: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    m, s = arguments.array("mean", mean, "fiu"), arguments.array("scale", scale, "fiu")
    if m.shape != s.shape:
        m, s = np.broadcast_arrays(m, s)
    with np.errstate(over="ignore"):  # an infinity, which is refused
        m, s = np.ascontiguousarray(m, dtype=np.float32), np.ascontiguousarray(s, dtype=np.float32)
    if m.size and not (np.isfinite(m).all() and np.isfinite(s).all() and s.min() > 0):
        raise ValueError("means must be finite and scales finite and positive")
    return m, s


def encode_gaussian(
    symbols: Any,  # [...] any integer type, every int32 survives
    mean: Any,  # [...] float, numpy or CPU torch
    scale: Any,  # [...] float > 0, the standard deviation
    *,
    lanes: int = 0,
    backend: Backend = "cpp",
) -> bytes:
    """Codes integers under N(mean, scale), in C order. ``lanes``: as for rans_encode."""
    q = np.ascontiguousarray(as_symbols(symbols), dtype=np.int32)
    m, s = _parameters(mean, scale)
    if m.shape != q.shape:
        m, s = np.ascontiguousarray(np.broadcast_to(m, q.shape)), np.ascontiguousarray(np.broadcast_to(s, q.shape))
    return arguments.implementation(ENCODE, backend)(q.reshape(-1), m.reshape(-1), s.reshape(-1), _lanes(lanes))


def decode_gaussian(data: Bytes, mean: Any, scale: Any, *, backend: Backend = "cpp") -> NDArray[np.int32]:
    """Inverse of :func:`encode_gaussian`, int32 in the shape of mean and scale.

    Raises:
        CorruptStreamError: the bytes do not hold exactly these symbols.
        TypeError: means or scales that are no real numbers, or no bytes.
        ValueError: means or scales out of range or of shapes that do not fit, or an unknown backend.
    """
    m, s = _parameters(mean, scale)
    out = np.empty(m.shape, dtype=np.int32)
    arguments.implementation(DECODE, backend)(data, m.reshape(-1), s.reshape(-1), out.reshape(-1))
    return out
