"""Codebook indexes under a context model: rANS with the frequencies that the words around each code give.

data = encode_codes(codes, context)                       # context: fastlic.entropy.code_context.IntegerCodeContext
assert (decode_codes(data, context, height, width) == codes).all()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fastlic import _native
from fastlic.errors import CorruptStreamError
from fastlic.ops import _arguments as arguments
from fastlic.ops.rans import Bytes
from fastlic.ops.reference import code_context as reference

Backend = Literal["reference", "cpp"]
Codes = NDArray[np.int32]


Packed = _native.CodeContext


def pack_code_context(arrays: Mapping[str, NDArray[Any]]) -> Packed:
    """A context's arrays (``IntegerCodeContext.to_arrays``), checked and laid out for the core.

    Raises:
        ValueError: an array is missing, of another type or shape or out of range, or an accumulator could leave int32.
    """
    try:
        own = arguments.instance("arrays", arrays, Mapping)
        return Packed({str(name): arguments.array(str(name), array, "fiub") for name, array in own.items()})
    except TypeError as error:  # an array of a type that the core does not read at all
        raise ValueError(str(error)) from error


class Context(Protocol):
    """What these functions need of a context; the reference reads the rest of ``IntegerCodeContext``."""

    @property
    def native(self) -> Packed: ...
    @property
    def m(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def precision(self) -> int: ...


def _native_encode(codes: Codes, context: Context) -> bytes:
    return context.native.encode(codes)


def _native_frequencies(codes: Codes, context: Context) -> NDArray[np.uint32]:
    return context.native.frequencies(codes)


def _native_decode(data: Bytes, out: Codes, context: Context) -> None:
    context.native.decode(data, out)


ENCODE: dict[str, Callable[..., bytes]] = {"reference": reference.encode, "cpp": _native_encode}
DECODE: dict[str, Callable[..., None]] = {"reference": reference.decode, "cpp": _native_decode}
FREQUENCIES: dict[str, Callable[..., NDArray[np.uint32]]] = {
    "reference": reference.code_frequencies,
    "cpp": _native_frequencies,
}


def _checked_context(context: Context) -> Context:
    if not isinstance(getattr(context, "native", None), Packed):
        raise TypeError(f"context must be an IntegerCodeContext, got {type(context).__name__}")
    return context


def _checked(codes: Any, context: Context) -> Codes:
    _checked_context(context)
    array = arguments.array("codes", codes, "iu")
    if array.dtype.kind not in "iu" or array.ndim != 3 or array.shape[0] != context.m:
        raise ValueError(f"codes must be integers [{context.m}, h, w], got {array.dtype} {list(array.shape)}")
    if array.size and not (array.min() >= 0 and array.max() < context.k):
        raise ValueError(f"codes must lie in 0..{context.k - 1}, got {array.min()}..{array.max()}")
    return np.ascontiguousarray(array, dtype=np.int32)


def encode_codes(codes: Any, context: Context, *, backend: Backend = "cpp") -> bytes:
    """Codes, integers [m, h, w] in 0..k-1, as bytes."""
    encode: Callable[..., bytes] = arguments.implementation(ENCODE, backend)
    return encode(_checked(codes, context), context)


def decode_codes(data: Bytes, context: Context, height: int, width: int, *, backend: Backend = "cpp") -> Codes:
    """int32 [m, height, width] from what ``encode_codes`` gave.

    Raises:
        CorruptStreamError: the bytes do not hold exactly these codes.
    """
    _checked_context(context)
    height, width = arguments.integer("height", height, 0), arguments.integer("width", width, 0)
    if not isinstance(data, bytes | bytearray | memoryview | np.ndarray):
        raise TypeError(f"data must be bytes, got {type(data).__name__}")
    count = context.m * height * width
    # Every other word has a frequency of 1: what is allocated stays in proportion to the bytes that came.
    cheapest = -np.log2(1 - (context.k - 1) / (1 << context.precision))
    if count * cheapest > 8 * len(data) + 64:
        raise CorruptStreamError(f"{len(data)} bytes are too few for {count} codes")
    out = np.zeros((context.m, height, width), dtype=np.int32)
    arguments.implementation(DECODE, backend)(data, out, context)
    return out


def code_frequencies(codes: Any, context: Context, *, backend: Backend = "cpp") -> NDArray[np.uint32]:
    """uint32 [m, h, w]: the frequency, of 2^precision, that each of these codes is coded with."""
    found: NDArray[np.uint32] = arguments.implementation(FREQUENCIES, backend)(_checked(codes, context), context)
    return found
