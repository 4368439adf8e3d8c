"""The ``.flic`` container in Python's terms; csrc/fastlic/container.cpp lays out and reads its bytes (docs/format.md).

The coded bytes inside a section are the coder's business (docs/stream.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from fastlic.arguments import check_fields, checked, is_whole
from fastlic.ops.container import (
    Fields,
    container_attachments,
    container_limits,
    container_models,
    pack_container,
    parse_container,
    unpack_container,
)

# The last version; pixels in height or width, whose product config.max_pixels limits.
VERSION, MAX_DIMENSION, MAX_SECTIONS, MAX_SECTION_BYTES = container_limits()
VERSIONS = tuple(range(1, VERSION + 1))  # what is read
SUFFIX = ".flic"

Bytes = bytes | bytearray | memoryview

# Model ids are part of the format: never renumbered, never reused.
MODEL_IDS = container_models()

PLAIN_VERSION = 2  # what is written of images of three channels and no metadata; VERSION of others

# Kinds of attachments; of others a later release may know.
KINDS = {"alpha": 1, "icc_profile": 2, "exif": 3, "xmp": 4}

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
    version: int = PLAIN_VERSION  # of the format
    channels: int = 3  # of the image: 1 grey, 3 red, green and blue; 2 and 4 with alpha

    def __post_init__(self) -> None:
        check_fields(self)
        _check_header(self)


@dataclass(frozen=True)
class Metadata:
    """Bytes that travel with an image; no codec looks into them. Empty: there are none.

    Raises:
        TypeError: what is no bytes.
    """

    icc_profile: bytes = b""  # of the colours of the pixels
    exif: bytes = b""  # from its TIFF header on, without "Exif\0\0"
    xmp: bytes = b""  # UTF-8

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def attachments(self) -> list[tuple[int, bytes]]:
        """Those that there are, by kind."""
        named = ((KINDS[field.name], getattr(self, field.name)) for field in fields(self))
        return [(kind, own) for kind, own in named if own]

    def __bool__(self) -> bool:
        return bool(self.attachments)


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
    framing_bytes: int  # all before attachments and sections
    channels: int  # of the image: 1 grey, 3 red, green and blue; 2 and 4 with alpha
    attachment_bytes: dict[str, int]  # of those that there are: "alpha", "icc_profile", "exif", "xmp", "unknown (9)"


@dataclass(frozen=True)
class Layout:
    """The parsed head: the header and where each section lies."""

    header: Header
    section_lengths: tuple[int, ...]  # bytes
    framing_bytes: int  # all before attachments and sections
    attachments: tuple[tuple[int, int, int], ...] = ()  # kind, length in bytes and checksum of each


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
def pack(header: Header, sections: Sequence[bytes], attachments: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """Lay out one image as ``.flic`` bytes.

    Args:
        attachments: kinds, numbers that ascend, and bytes. Version 3 has them; an image of 2 or 4 channels needs alpha.

    Raises:
        ValueError: more or larger sections than the format allows, or attachments that do not fit the header.
    """
    quality = 0 if header.quality is None else int(header.quality * QUALITY_STEPS)
    own = (header.version, header.model_id, quality, header.fingerprint, header.height, header.width, header.channels)
    return pack_container(own, sections, attachments)


def check_channels(channels: int | None) -> None:
    """Raises ValueError unless a decoded image can have so many channels, or None: those of its stream."""
    if channels is not None and (not is_whole(channels) or not 1 <= channels <= 4):
        raise ValueError(f"channels must be 1 (grey), 3 (RGB), 2 or 4 (with alpha) or None, got {channels!r}")


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
    own, sections = unpack_container(_as_bytes(data), count)
    return _header(own), sections


def attachments(data: Bytes) -> dict[int, bytes]:
    """The attachments by kind, every checksum verified; the sections behind them need not be present.

    Raises:
        CorruptStreamError: as for :func:`unpack`.
    """
    return dict(container_attachments(_as_bytes(data)))


def read_metadata(data: Bytes) -> Metadata:
    """Profile, EXIF and XMP of ``.flic`` bytes; nothing is decoded.

    Raises:
        CorruptStreamError: as for :func:`unpack`.
    """
    found = attachments(data)
    return Metadata(**{field.name: found.get(KINDS[field.name], b"") for field in fields(Metadata)})


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
        header.channels,
        {_kind_name(kind): length for kind, length, _ in layout.attachments},
    )


def parse(data: Bytes) -> Layout:
    """Read and check the head of ``.flic`` bytes; allocates nothing that grows with the claimed size of the image.

    Raises:
        CorruptStreamError: as for :func:`unpack`.
    """
    own, lengths, _, framing, attached = parse_container(_as_bytes(data))
    return Layout(_header(own), lengths, framing, attached)


def _kind_name(kind: int) -> str:
    return {number: name for name, number in KINDS.items()}.get(kind, f"unknown ({kind})")


def _header(own: Fields) -> Header:
    version, model_id, quality, fingerprint, height, width, channels = own
    level = quality / QUALITY_STEPS if quality else None
    return Header(model_id, level, fingerprint, height, width, version, channels)


def _check_header(header: Header) -> None:
    if header.version not in VERSIONS:
        raise ValueError(f"format versions are 1 to {VERSION}, got {header.version}")
    if not 1 <= header.channels <= 4:
        raise ValueError(f"an image has 1 to 4 channels, got {header.channels}")
    if header.channels != 3 and header.version <= PLAIN_VERSION:
        raise ValueError(f"format versions 1 and 2 have 3 channels, got {header.channels}")
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
