"""The ``.flic`` container in Python's terms; csrc/fastlic/container.cpp lays out and reads its bytes (docs/format.md).

The coded bytes inside a section are the coder's business (docs/stream.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastlic.arguments import check_fields, checked
from fastlic.ops.container import (
    Fields,
    container_limits,
    container_models,
    pack_container,
    parse_container,
    unpack_container,
)

# The version that is written; pixels in height or width, whose product config.max_pixels limits.
VERSION, MAX_DIMENSION, MAX_SECTIONS, MAX_SECTION_BYTES = container_limits()
VERSIONS = tuple(range(1, VERSION + 1))  # what is read
SUFFIX = ".flic"

Bytes = bytes | bytearray | memoryview

# Model ids are part of the format: never renumbered, never reused.
MODEL_IDS = container_models()

QUALITY_STEPS = 16  # quality is stored in sixteenths, so 0 < quality <= 255 / 16
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True)
class Header:
    """What the decoder must know before it reads a section.

    Raises:
        ValueError: a field that the format does not allow.
    """

    model_id: int  # a value of MODEL_IDS; other ids in 1..255 pass, and the codec reports them
    quality: float | None  # a multiple of 1/16 in (0, 16), or None for a model of one fixed rate
    fingerprint: bytes  # 8 bytes that name the codec; in version 1 its entropy integers alone
    height: int  # pixels
    width: int  # pixels
    version: int = VERSION  # of the format

    def __post_init__(self) -> None:
        check_fields(self)
        _check_header(self)


@dataclass(frozen=True)
class StreamInfo:
    """What the head of a stream says, without any decoding: see ``fastlic.peek``."""

    height: int  # pixels
    width: int  # pixels
    model: str  # the family, e.g. "jahp"; "unknown (id)" for one that a later release may have added
    quality: float | None  # None for a model of one fixed rate
    fingerprint: str  # of the weights, in hexadecimal, as fastlic.info() lists them
    version: int  # of the format; in version 1 the fingerprint is that of the entropy integers
    section_bytes: tuple[int, ...]  # of each section
    framing_bytes: int  # everything before the first section


@dataclass(frozen=True)
class Layout:
    """The parsed head: the header and where each section lies."""

    header: Header
    section_lengths: tuple[int, ...]  # bytes
    section_checksums: tuple[int, ...]
    framing_bytes: int  # everything before the first section


@checked
def round_quality(quality: float) -> float:
    """The nearest quality that the header can hold, a multiple of 1/16.

    Raises:
        ValueError: the result is outside 1/16 .. 255/16.
    """
    # The range is checked before rounding, which would turn NaN or infinity into another error.
    if not 0 < quality < 256 / QUALITY_STEPS:
        raise ValueError(f"quality must be above 0 and at most {255 / QUALITY_STEPS}, got {quality}")
    return min(max(round(quality * QUALITY_STEPS), 1), 255) / QUALITY_STEPS


@checked
def model_name(model_id: int) -> str:
    """The family of a model id, or ``"unknown (id)"`` for one that a later release may have added."""
    names = {number: name for name, number in MODEL_IDS.items()}
    return names.get(model_id, f"unknown ({model_id})")


@checked
def pack(header: Header, sections: Sequence[bytes]) -> bytes:
    """Lay out one image as ``.flic`` bytes.

    Raises:
        ValueError: more or larger sections than the format allows.
    """
    quality = 0 if header.quality is None else int(header.quality * QUALITY_STEPS)
    fields = (header.version, header.model_id, quality, header.fingerprint, header.height, header.width)
    return pack_container(fields, sections)


def unpack(data: Bytes, count: int | None = None) -> tuple[Header, list[bytes]]:
    """The header and the sections of ``.flic`` bytes, every checksum verified.

    The size that the header claims is within the format's limits; to hold it to the caller's is the caller's business
    (``config.check_pixels``).

    Args:
        count: read and verify only that many leading sections; those behind them may be damaged or missing.

    Raises:
        CorruptStreamError: damaged, truncated, extended, of a newer version, or no ``.flic`` data at all.
        ValueError: a negative count.
    """
    fields, sections = unpack_container(_as_bytes(data), count)
    return _header(fields), sections


def peek(data: Bytes) -> Header:
    """The header alone; its checksum is verified, the sections need not be present.

    Raises:
        CorruptStreamError: as for :func:`unpack`.
    """
    return parse(data).header


def look(data: Bytes) -> StreamInfo:
    """What the head says, in a caller's terms; as for :func:`peek`.

    Raises:
        CorruptStreamError: as for :func:`unpack`.
    """
    layout = parse(data)
    header = layout.header
    return StreamInfo(
        header.height,
        header.width,
        model_name(header.model_id),
        header.quality,
        header.fingerprint.hex(),
        header.version,
        layout.section_lengths,
        layout.framing_bytes,
    )


def parse(data: Bytes) -> Layout:
    """Read and check the head of ``.flic`` bytes; allocates nothing that grows with the claimed size of the image.

    Raises:
        CorruptStreamError: as for :func:`unpack`.
    """
    fields, lengths, checksums, framing = parse_container(_as_bytes(data))
    return Layout(_header(fields), lengths, checksums, framing)


def _header(fields: Fields) -> Header:
    version, model_id, quality, fingerprint, height, width = fields
    return Header(model_id, quality / QUALITY_STEPS if quality else None, fingerprint, height, width, version)


def _check_header(header: Header) -> None:
    if header.version not in VERSIONS:
        raise ValueError(f"format versions are {' and '.join(map(str, VERSIONS))}, got {header.version}")
    if not 1 <= header.model_id <= 255:
        raise ValueError(f"a model id is a number from 1 to 255, got {header.model_id}")
    if header.quality is not None and header.quality != round_quality(header.quality):
        raise ValueError(f"quality must be a multiple of 1/{QUALITY_STEPS} (see round_quality), got {header.quality}")
    if len(header.fingerprint) != _FINGERPRINT_BYTES:
        raise ValueError(f"a fingerprint has {_FINGERPRINT_BYTES} bytes, got {len(header.fingerprint)}")
    height, width = header.height, header.width
    if not (1 <= height <= MAX_DIMENSION and 1 <= width <= MAX_DIMENSION):
        raise ValueError(f"height and width must be 1 to {MAX_DIMENSION}, got {height} x {width} (height x width)")


def _as_bytes(data: Bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"compressed data must be bytes, got {type(data).__name__}")
    return bytes(data)
