"""Codec files (docs/format.md, "Codec files"), and the core's own codec, which runs one without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlic import _native
from fastlic.errors import BackendUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Stored = tuple[str, str, str, dict[str, Any], dict[str, Any], dict[str, Any], list[bytes]]

# Codec(data): decode(stream, parts, threads, max_pixels, channels) and encode(pixels [H, W, 1..4], sixteenths of
# quality, threads, max_pixels, metadata), which are attachments as of fastlic.ops.container.
NativeCodec = _native.Codec


def require_instruction_set() -> None:
    """Read ``FASTLIC_ISA`` before a file is read, which is not to blame for it.

    Raises:
        BackendUnavailable: it names none that this processor runs.
    """
    try:
        _native.get_isa()
    except ValueError as error:
        raise BackendUnavailable(f"FASTLIC_ISA: {error}") from None


def read_codec_file(data: bytes) -> Stored:
    """Name, family, configuration as JSON, floats, entropy integers and transforms by name, and ``reads``.

    Raises:
        ValueError: no codec file, a damaged one, or one of a newer layout; the message says which.
    """
    return _native.read_codec_file(data)


def unpack_weights(
    size: int,
    shapes: list[tuple[int, ...]],
    data: NDArray[np.uint8],
    classes: NDArray[np.int8],
    windows: NDArray[np.int16],
    tables: NDArray[np.int16],
) -> list[NDArray[Any]]:
    """Arrays that were packed, int8 or int16.

    Args:
        size: bytes of a value, 1 or 2.
        shapes: of the arrays; the other arguments as of ``fastlic.codec.packing.Packed``.

    Raises:
        ValueError: parts that are not valid or do not fit each other. What is reserved before is in proportion to
            ``data``.
    """
    return _native.unpack(size, shapes, data, classes, windows, tables)
