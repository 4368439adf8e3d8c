"""The ``.flic`` container: the one place that lays out or reads its bytes (drawn in docs/format.md).

    magic "FLIC" | version u8 | model u8 | quality u8 | sections u8 | fingerprint 8 bytes     16 bytes, fixed
    height varint | width varint                                                              2..6 bytes
    per section: length varint | CRC-32C of the section u32
    CRC-32C of everything above u32
    the sections, back to back, up to the last byte of the data

Version 2 differs from version 1 in what the fingerprint covers. Both are read, version 2 is written.

Integers are little-endian; a varint is unsigned LEB128 in its shortest form. The coded bytes inside a section are the
coder's business (docs/stream.md).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fastlic.arguments import check_fields, checked
from fastlic.errors import CorruptStreamError
from fastlic.ops.checksum import crc32c

MAGIC = b"FLIC"
VERSION = 2  # what is written
VERSIONS = (1, 2)  # what is read
SUFFIX = ".flic"

Bytes = bytes | bytearray | memoryview

# Model ids are part of the format: never renumbered, never reused.
MODEL_IDS = {"factorized": 1, "mean-scale": 2, "jahp": 3, "mlic": 4, "mlic+": 5, "mlic++": 6, "mcquic": 7, "scale": 8}

MAX_DIMENSION = (1 << 20) - 1  # pixels in height or width; config.max_pixels limits their product
MAX_SECTIONS = 64
MAX_SECTION_BYTES = (1 << 32) - 1

_FIXED = struct.Struct("<4sBBBB8s")
_CRC = struct.Struct("<I")
_QUALITY_STEPS = 16  # quality is stored in sixteenths, so 0 < quality <= 255 / 16
_FINGERPRINT_BYTES = 8
# 5 bytes of 7 bits hold any value up to MAX_SECTION_BYTES; a sixth could only be damage.
_VARINT_MAX_BYTES = 5


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
    if not 0 < quality < 256 / _QUALITY_STEPS:
        raise ValueError(f"quality must be above 0 and at most {255 / _QUALITY_STEPS}, got {quality}")
    return min(max(round(quality * _QUALITY_STEPS), 1), 255) / _QUALITY_STEPS


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
    if not 1 <= len(sections) <= MAX_SECTIONS:
        raise ValueError(f"a container holds 1 to {MAX_SECTIONS} sections, got {len(sections)}")
    quality = 0 if header.quality is None else int(header.quality * _QUALITY_STEPS)
    head = bytearray(_FIXED.pack(MAGIC, header.version, header.model_id, quality, len(sections), header.fingerprint))
    head += _varint(header.height) + _varint(header.width)
    for section in sections:
        if len(section) > MAX_SECTION_BYTES:
            raise ValueError(f"a section holds at most {MAX_SECTION_BYTES} bytes, got {len(section)}")
        head += _varint(len(section)) + _CRC.pack(crc32c(section))
    head += _CRC.pack(crc32c(bytes(head)))
    return b"".join([head, *sections])


def unpack(data: Bytes, count: int | None = None) -> tuple[Header, list[bytes]]:
    """The header and the sections of ``.flic`` bytes, every checksum verified.

    The size that the header claims is within the format's limits; to hold it to the caller's is the caller's business
    (``config.check_pixels``).

    Args:
        count: read and verify only that many leading sections; those behind them may be damaged or missing.

    Raises:
        CorruptStreamError: damaged, truncated, extended, of a newer version, or no ``.flic`` data at all.
    """
    data = _as_bytes(data)
    if count is not None and not isinstance(count, int):
        raise TypeError(f"count must be a whole number of sections or None, got {type(count).__name__}")
    layout = parse(data)
    wanted = layout.section_lengths[:count]
    expected = layout.framing_bytes + sum(wanted)
    if len(data) < expected:
        raise CorruptStreamError(f"the sections end at byte {expected}, but only {len(data)} bytes are present")
    if len(data) > expected and count is None:
        raise CorruptStreamError(
            f"{len(data) - expected} extra bytes follow the last section, which ends at {expected}"
        )
    sections = []
    start = layout.framing_bytes
    for index, (length, checksum) in enumerate(zip(wanted, layout.section_checksums[:count], strict=True)):
        section = data[start : start + length]
        if crc32c(section) != checksum:
            raise CorruptStreamError(f"section {index} (bytes {start} to {start + length}) fails its checksum")
        sections.append(section)
        start += length
    return layout.header, sections


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
    data = _as_bytes(data)
    if not data or data[:4] != MAGIC[: len(data)]:
        raise CorruptStreamError("this is no fastlic data: it does not begin with FLIC")
    reader = _Reader(data)
    _, version, model_id, quality, count, fingerprint = _FIXED.unpack(reader.take(_FIXED.size, "the fixed fields"))
    # Before all else: another version may lay out everything after this byte in another way.
    if version not in VERSIONS:
        raise CorruptStreamError(
            f"format version {version}; this fastlic reads versions {' and '.join(map(str, VERSIONS))}"
            + ("; a newer fastlic may read it: pip install --upgrade fastlic" if version > VERSION else "")
        )
    height, width = reader.varint("the height"), reader.varint("the width")
    lengths, checksums = [], []
    for index in range(count):
        lengths.append(reader.varint(f"the length of section {index}"))
        checksums.append(_CRC.unpack(reader.take(_CRC.size, f"the checksum of section {index}"))[0])
    head = reader.position
    if crc32c(data[:head]) != _CRC.unpack(reader.take(_CRC.size, "the header's checksum"))[0]:
        raise CorruptStreamError(f"the header (bytes 0 to {head}) fails its checksum")
    try:
        header = Header(model_id, quality / _QUALITY_STEPS if quality else None, fingerprint, height, width, version)
    except ValueError as error:
        raise CorruptStreamError(str(error)) from error
    if not 1 <= count <= MAX_SECTIONS:
        raise CorruptStreamError(f"a container holds 1 to {MAX_SECTIONS} sections, this one says {count}")
    return Layout(header, tuple(lengths), tuple(checksums), reader.position)


def _check_header(header: Header) -> None:
    if header.version not in VERSIONS:
        raise ValueError(f"format versions are {' and '.join(map(str, VERSIONS))}, got {header.version}")
    if not 1 <= header.model_id <= 255:
        raise ValueError(f"a model id is a number from 1 to 255, got {header.model_id}")
    if header.quality is not None and header.quality != round_quality(header.quality):
        raise ValueError(f"quality must be a multiple of 1/{_QUALITY_STEPS} (see round_quality), got {header.quality}")
    if len(header.fingerprint) != _FINGERPRINT_BYTES:
        raise ValueError(f"a fingerprint has {_FINGERPRINT_BYTES} bytes, got {len(header.fingerprint)}")
    height, width = header.height, header.width
    if not (1 <= height <= MAX_DIMENSION and 1 <= width <= MAX_DIMENSION):
        raise ValueError(f"height and width must be 1 to {MAX_DIMENSION}, got {height} x {width} (height x width)")


def _as_bytes(data: Bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"compressed data must be bytes, got {type(data).__name__}")
    return bytes(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """A cursor that knows where the data ends and says what was missing there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, size: int, what: str) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise CorruptStreamError(f"the data ends after {len(self._data)} bytes, inside {what}")
        piece = self._data[self.position : end]
        self.position = end
        return piece

    def varint(self, what: str) -> int:
        value = 0
        for place in range(_VARINT_MAX_BYTES):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                # One value, one spelling: a last byte of zero only lengthens the number.
                if byte == 0 and place > 0:
                    raise CorruptStreamError(f"{what}, at byte {self.position - 1}, is not in its shortest form")
                return value
        raise CorruptStreamError(f"{what}, before byte {self.position}, is longer than {_VARINT_MAX_BYTES} bytes")
