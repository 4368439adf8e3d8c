"""Codebook indexes under a context model: rANS with the frequencies that the words around each code give.

data = encode_codes(codes, context)                       # context: fastlic.entropy.code_context.IntegerCodeContext
assert (decode_codes(data, context, height, width) == codes).all()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
Floats = NDArray[np.float32]


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


def _encode_reference(codes: list[Codes], context: Context, threads: int) -> list[bytes]:
    return [reference.encode(own, context) for own in codes]


def _encode_native(codes: list[Codes], context: Context, threads: int) -> list[bytes]:
    return context.native.encode_many(codes, threads)


def _decode_reference(data: list[Bytes], out: list[Codes], context: Context, threads: int) -> None:
    for stream, own in zip(data, out, strict=True):
        reference.decode(stream, own, context)


def _decode_native(data: list[Bytes], out: list[Codes], context: Context, threads: int) -> None:
    context.native.decode_many(data, out, threads)


def _native_frequencies(codes: Codes, context: Context) -> NDArray[np.uint32]:
    return context.native.frequencies(codes)


ENCODE: dict[str, Callable[..., list[bytes]]] = {"reference": _encode_reference, "cpp": _encode_native}
DECODE: dict[str, Callable[..., None]] = {"reference": _decode_reference, "cpp": _decode_native}
FREQUENCIES: dict[str, Callable[..., NDArray[np.uint32]]] = {
    "reference": reference.code_frequencies,
    "cpp": _native_frequencies,
}


def _choose_native(vectors: Floats, words: Floats, prices: Floats, context: Context) -> Codes:
    return context.native.choose(vectors, words, prices)


CHOOSE: dict[str, Callable[..., Codes]] = {"reference": reference.choose, "cpp": _choose_native}


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


def encode_codes_many(
    codes: Sequence[Any], context: Context, *, threads: int = 1, backend: Backend = "cpp"
) -> list[bytes]:
    """Codes of each image, integers [m, h, w] in 0..k-1, as bytes, on ``threads`` threads."""
    images = [_checked(own, context) for own in arguments.sequence("codes", codes)]
    encode: Callable[..., list[bytes]] = arguments.implementation(ENCODE, backend)
    return encode(images, _checked_context(context), arguments.integer("threads", threads, 1))


def decode_codes_many(
    streams: Sequence[tuple[Bytes, int, int]], context: Context, *, threads: int = 1, backend: Backend = "cpp"
) -> list[Codes]:
    """int32 [m, height, width] of each image from its bytes, height and width, on ``threads`` threads.

    Raises:
        CorruptStreamError: the bytes do not hold exactly these codes.
    """
    _checked_context(context)
    # Every other word has a frequency of 1: what is allocated stays in proportion to the bytes that came.
    cheapest = -np.log2(1 - (context.k - 1) / (1 << context.precision))
    every, out = [], []
    for stream in arguments.sequence("streams", streams):
        if not isinstance(stream, tuple | list) or len(stream) != 3:
            raise TypeError(f"streams must be (data, height, width), got {stream!r:.100}")
        data, height, width = stream
        height, width = arguments.integer("height", height, 0), arguments.integer("width", width, 0)
        if not isinstance(data, bytes | bytearray | memoryview | np.ndarray):
            raise TypeError(f"data must be bytes, got {type(data).__name__}")
        count = context.m * height * width
        if count * cheapest > 8 * len(data) + 64:
            raise CorruptStreamError(f"{len(data)} bytes are too few for {count} codes")
        every.append(data)
        out.append(np.zeros((context.m, height, width), dtype=np.int32))
    arguments.implementation(DECODE, backend)(every, out, context, arguments.integer("threads", threads, 1))
    return out


def encode_codes(codes: Any, context: Context, *, backend: Backend = "cpp") -> bytes:
    """Codes, integers [m, h, w] in 0..k-1, as bytes."""
    return encode_codes_many([codes], context, backend=backend)[0]


def decode_codes(data: Bytes, context: Context, height: int, width: int, *, backend: Backend = "cpp") -> Codes:
    """int32 [m, height, width] from what ``encode_codes`` gave.

    Raises:
        CorruptStreamError: the bytes do not hold exactly these codes.
    """
    return decode_codes_many([(data, height, width)], context, backend=backend)[0]


def code_frequencies(codes: Any, context: Context, *, backend: Backend = "cpp") -> NDArray[np.uint32]:
    """uint32 [m, h, w]: the frequency, of 2^precision, that each of these codes is coded with."""
    found: NDArray[np.uint32] = arguments.implementation(FREQUENCIES, backend)(_checked(codes, context), context)
    return found


def _floats(name: str, value: Any, expected: str, shape: tuple[int | None, ...]) -> Floats:
    array = arguments.array(name, value, "f")
    fits = array.ndim == len(shape) and all(n in (None, own) for n, own in zip(shape, array.shape, strict=True))
    if array.dtype != np.float32 or not fits:
        raise ValueError(f"{name} must be float32 {expected}, got {array.dtype} {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return np.ascontiguousarray(array)


def choose_codes(vectors: Any, words: Any, prices: Any, context: Context, *, backend: Backend = "cpp") -> Codes:
    """Codes that stand for vectors at few bits: in coding order the word of least cost, given those chosen before it.

    The cost of a word is its squared distance to the vector, terms taken and summed in float64 in channel order, plus
    the price times the bits that it takes more than the likeliest word; bits are differences of logits, whole 2^-8. Of
    words of equal cost the lowest index is taken. The answer does not depend on the backend or the machine.

    Args:
        vectors: float32 [h, w, m, d].
        words: float32 [m, k, d], those of the context's codes.
        prices: float32 [h, w, m], what a bit costs in squared distance.

    Returns:
        int32 [m, h, w].

    Raises:
        TypeError, ValueError: types or shapes that do not fit, or values that are not finite.
    """
    _checked_context(context)
    book = _floats("words", words, f"[{context.m}, {context.k}, d]", (context.m, context.k, None))
    depth = book.shape[2]
    own = _floats("vectors", vectors, f"[h, w, {context.m}, {depth}]", (None, None, context.m, depth))
    height, width = own.shape[:2]
    paid = _floats("prices", prices, f"[{height}, {width}, {context.m}]", (height, width, context.m))
    found: Codes = arguments.implementation(CHOOSE, backend)(own, book, paid, context)
    return found
