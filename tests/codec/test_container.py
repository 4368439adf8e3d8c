"""The container's promises: whatever happens to its bytes is reported, and version 1 stays version 1."""

from __future__ import annotations

import dataclasses
import mmap
import random
import struct
import tracemalloc
from pathlib import Path

import pytest

from fastlic.codec import container
from fastlic.codec.container import Header, Metadata, pack, peek, unpack
from fastlic.errors import CorruptStreamError
from fastlic.ops.checksum import crc32c
from fastlic.ops.container import pack_container

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_HEADER = Header(model_id=3, quality=4.5, fingerprint=bytes(range(8)), height=512, width=768)
GOLDEN_ATTACHMENTS = [(1, b"\x80\x01\x02"), (2, bytes(300)), (3, b"MM\0*\0\0\0\x08"), (4, b"<x:xmp>"), (9, b"")]
GOLDEN_SECTIONS = [b"side information", bytes(range(256)) * 2]
DATA = pack(GOLDEN_HEADER, GOLDEN_SECTIONS)
FRAMING = len(DATA) - sum(map(len, GOLDEN_SECTIONS))


def with_valid_checksum(head: bytes) -> bytes:
    return head + struct.pack("<I", crc32c(head))


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


@pytest.mark.golden
@pytest.mark.parametrize("version", container.VERSIONS)
def test_the_bytes_of_a_version_never_change(version):
    golden = (GOLDEN / f"container_v{version}.flic").read_bytes()
    attached = GOLDEN_ATTACHMENTS if version > 2 else []
    header = dataclasses.replace(GOLDEN_HEADER, version=version, channels=4 if attached else 3)
    assert pack(header, GOLDEN_SECTIONS, attached) == golden
    assert unpack(golden) == (header, GOLDEN_SECTIONS)
    assert list(container.attachments(golden).items()) == attached


def test_metadata_and_alpha_lie_before_the_sections_and_are_read_without_them():
    header = dataclasses.replace(GOLDEN_HEADER, version=3, channels=4)
    data = pack(header, GOLDEN_SECTIONS, GOLDEN_ATTACHMENTS)
    info = container.look(data)
    sizes = {"alpha": 3, "icc_profile": 300, "exif": 8, "xmp": 7, "unknown (9)": 0}
    assert (info.channels, info.attachment_bytes, info.version) == (4, sizes, 3)
    present = data[: info.framing_bytes + sum(sizes.values())]
    assert data == present + b"".join(GOLDEN_SECTIONS)
    assert container.read_metadata(present) == Metadata(*(own for _, own in GOLDEN_ATTACHMENTS[1:4]))
    assert container.read_metadata(DATA) == Metadata() and not Metadata()
    with pytest.raises(CorruptStreamError, match="only"):
        container.read_metadata(present[:-1])
    for place in range(info.framing_bytes, len(present)):
        changed = present[:place] + bytes([present[place] ^ 1]) + present[place + 1 :]
        with pytest.raises(CorruptStreamError, match=r"attachment \d .* fails its checksum"):
            container.read_metadata(changed)


@pytest.mark.parametrize(
    ("changes", "attachments", "words"),
    [
        ({"version": 3, "channels": 4}, [], "no alpha"),
        ({"version": 3, "channels": 3}, [(1, b"a")], "an alpha"),
        ({"version": 3, "channels": 2}, [(2, b"a"), (1, b"b")], "ascend"),
        ({"version": 3}, [(2, b"a"), (2, b"b")], "ascend"),
        ({"version": 2}, [(2, b"a")], "no attachments"),
    ],
)
def test_what_no_reader_takes_is_not_written(changes, attachments, words):
    with pytest.raises(ValueError, match=words):
        pack(dataclasses.replace(GOLDEN_HEADER, **changes), GOLDEN_SECTIONS, attachments)


@pytest.mark.parametrize(("place", "value", "words"), [(0, 0, "1 to 4"), (0, 5, "1 to 4"), (0, 3, "an alpha")])
def test_channels_that_no_image_has_are_damage(place, value, words):
    header = dataclasses.replace(GOLDEN_HEADER, version=3, channels=4)
    data = pack(header, GOLDEN_SECTIONS, GOLDEN_ATTACHMENTS)
    head = bytearray(data[: container.look(data).framing_bytes - 4])
    head[16 + 4 + place] = value  # behind two sides of two bytes
    with pytest.raises(CorruptStreamError, match=words):
        peek(with_valid_checksum(bytes(head)))


@pytest.mark.parametrize("quality", [None, 1 / 16, 1.0, 4.0625, 255 / 16])
@pytest.mark.parametrize(
    "size", [(1, 1), (127, 128), (1, container.MAX_DIMENSION), (container.MAX_DIMENSION, 1), (16384, 8192)]
)
@pytest.mark.parametrize("sections", [[b""], [b"a", b""], [b"x" * 127, b"y" * 128, b"z" * 70000], [b"."] * 64])
def test_what_is_packed_comes_back(quality, size, sections):
    header = Header(255, quality, b"12345678", *size)
    data = pack(header, sections)
    assert unpack(data) == (header, sections)
    assert unpack(bytearray(data)) == unpack(memoryview(data)) == (header, sections)
    assert peek(data) == header


def test_framing_of_a_photo_leaves_room_for_the_coder_within_48_bytes():
    data = pack(Header(3, 4.0, bytes(8), 16383, 8192), [b"z" * 16383, b"y" * 2_000_000])
    assert len(data) - 16383 - 2_000_000 <= 38


@pytest.mark.fuzz
def test_truncation_at_any_byte_is_reported():
    for cut in range(len(DATA)):
        with pytest.raises(CorruptStreamError):
            unpack(DATA[:cut])


@pytest.mark.fuzz
def test_any_changed_byte_is_reported():
    for position in range(len(DATA)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(DATA)
            damaged[position] ^= change
            with pytest.raises(CorruptStreamError):
                unpack(damaged)


@pytest.mark.fuzz
def test_any_flipped_bit_of_the_header_is_reported_by_peek_too():
    for bit in range(8 * FRAMING):
        damaged = bytearray(DATA)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptStreamError):
            peek(damaged)


@pytest.mark.fuzz
def test_leading_sections_are_read_without_the_rest():
    end = FRAMING + len(GOLDEN_SECTIONS[0])
    for data in (DATA, DATA[:end], DATA[:-1] + b"\xff", DATA + b"more"):
        assert unpack(data, 1) == (GOLDEN_HEADER, GOLDEN_SECTIONS[:1])
    for cut in range(end):
        with pytest.raises(CorruptStreamError):
            unpack(DATA[:cut], 1)
    with pytest.raises(CorruptStreamError, match="section 0"):
        unpack(DATA[: end - 1] + b"\xff", 1)


@pytest.mark.parametrize("extra", [b"\0", b"FLIC", DATA])
def test_extra_bytes_are_reported(extra):
    with pytest.raises(CorruptStreamError, match="extra bytes"):
        unpack(DATA + extra)


@pytest.mark.fuzz
def test_random_bytes_are_reported():
    draw = random.Random(1)
    for _ in range(2000):
        noise = draw.randbytes(draw.randrange(80))
        for data in (noise, b"FLIC\x01" + noise, DATA[: draw.randrange(len(DATA))] + noise):
            with pytest.raises(CorruptStreamError):
                unpack(data)


def test_swapped_sections_are_reported():
    header, (z, y) = GOLDEN_HEADER, [b"one section", b"two section"]
    data = pack(header, [z, y])
    with pytest.raises(CorruptStreamError, match="section 0"):
        unpack(data[: -len(z + y)] + y + z)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((3, 0, 2, 0, 5), "height and width"),
        ((3, 0, 2, 5, 0), "height and width"),
        ((3, 0, 2, (1 << 35) - 1, (1 << 35) - 1), "height and width"),
        ((3, 0, 2, 1 << 20, 1), "height and width"),
        ((0, 0, 2, 5, 5), "model id"),
        ((3, 0, 0, 5, 5), "1 to 64 sections"),
        ((3, 0, 65, 5, 5), "1 to 64 sections"),
        ((3, 0, 255, 5, 5), "1 to 64 sections"),
    ],
)
def test_a_forged_header_with_a_valid_checksum_is_held_to_the_limits(fields, message):
    model, quality, count, height, width = fields
    head = struct.pack("<4sBBBB8s", b"FLIC", 1, model, quality, count, bytes(8))
    head += varint(height) + varint(width)
    head += (varint((1 << 35) - 1) + bytes(4)) * count
    tracemalloc.start()
    with pytest.raises(CorruptStreamError, match=message):
        unpack(with_valid_checksum(head))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_a_claimed_length_allocates_nothing():
    head = struct.pack("<4sBBBB8s", b"FLIC", 1, 3, 0, 1, bytes(8)) + b"\x05\x05" + b"\xff\xff\xff\xff\x0f" + bytes(4)
    tracemalloc.start()
    with pytest.raises(CorruptStreamError, match="only 34 bytes are present"):
        unpack(with_valid_checksum(head) + b"few")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("varint", [b"\x85\x00", b"\x80\x80\x00", b"\xff\xff\xff\xff\xff\x01"])
def test_a_number_has_one_spelling(varint):
    head = struct.pack("<4sBBBB8s", b"FLIC", 1, 3, 0, 1, bytes(8)) + varint + b"\x05\x01" + bytes(4)
    with pytest.raises(CorruptStreamError, match="the height"):
        peek(with_valid_checksum(head))


def test_a_newer_version_asks_for_an_upgrade():
    with pytest.raises(CorruptStreamError, match=r"format version 4; this fastlic reads versions 1 to 3; .*upgrade"):
        unpack(DATA[:4] + b"\x04" + DATA[5:])


def test_no_unknown_version_is_written():
    with pytest.raises(ValueError, match="format versions are 1 to 3, got 4"):
        pack(dataclasses.replace(GOLDEN_HEADER, version=4), GOLDEN_SECTIONS)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"flic"])
def test_other_files_are_told_apart(data):
    with pytest.raises(CorruptStreamError, match=r"this is no fastlic data: it (is empty|does not begin with FLIC)"):
        unpack(data)


def test_only_bytes_are_read():
    with pytest.raises(TypeError, match="must be bytes, got str"):
        unpack("FLIC")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_id": 0}, "model id"),
        ({"model_id": 256}, "model id"),
        ({"quality": 4.3}, "multiple of 1/16"),
        ({"quality": float("nan")}, "quality"),
        ({"quality": 16.0}, "quality"),
        ({"quality": 0.0}, "quality"),
        ({"fingerprint": b"short"}, "8 bytes"),
        ({"height": 0}, "height and width"),
        ({"width": 1 << 20}, "height and width"),
    ],
)
def test_nothing_is_written_that_would_not_be_read(change, message):
    with pytest.raises(ValueError, match=message):
        pack(dataclasses.replace(GOLDEN_HEADER, **change), GOLDEN_SECTIONS)


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_sections_is_checked(count):
    with pytest.raises(ValueError, match="1 to 64 sections"):
        pack(GOLDEN_HEADER, [b""] * count)


def test_a_header_is_held_to_the_format_when_it_is_made():
    with pytest.raises(ValueError, match="height and width"):
        container.Header(3, 4.0, bytes(8), 0, 5)


def test_the_head_is_read_whatever_size_it_claims():
    """How large is too large is the caller's question, and reading the head is how it is answered."""
    header = dataclasses.replace(GOLDEN_HEADER, height=1 << 19, width=1 << 19)
    data = pack(header, [b"y", b"zz"])
    assert peek(data) == header
    expected = container.StreamInfo(
        1 << 19, 1 << 19, "jahp", header.quality, header.fingerprint.hex(), 2, (1, 2), 36, 3, {}
    )
    for present in (data, data[:-3]):
        assert container.look(present) == expected
    with pytest.raises(CorruptStreamError, match="ends after"):
        container.look(data[:-4])


@pytest.mark.parametrize(("given", "kept"), [(4, 4.0), (4.3, 4.3125), (0.001, 1 / 16), (15.99, 255 / 16)])
def test_quality_is_rounded_to_sixteenths(given, kept):
    assert container.round_quality(given) == kept


@pytest.mark.parametrize("quality", [0, -1, 16, float("inf"), float("nan")])
def test_quality_that_no_header_can_hold_is_refused(quality):
    with pytest.raises(ValueError, match=r"above 0 and at most 15\.9375"):
        container.round_quality(quality)


def test_model_ids_never_change():
    assert container.MODEL_IDS == {
        "factorized": 1, "mean-scale": 2, "jahp": 3, "mlic": 4, "mlic+": 5, "mlic++": 6, "mcquic": 7, "scale": 8
    }  # fmt: skip
    assert container.model_name(6) == "mlic++"
    assert container.model_name(9) == "unknown (9)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: container.round_quality("5"), "quality must be of type float"),
        (lambda: container.model_name("jahp"), "model_id must be of type int"),
        (lambda: pack("header", [b""]), "header must be of type Header"),
        (lambda: pack(GOLDEN_HEADER, ["text"]), "sections must be of type"),
        (lambda: Header("3", 4.5, bytes(8), 5, 5), "model_id must be of type int"),
        (lambda: unpack(DATA, 1.5), "count must be a whole number of sections or None, got float"),
    ],
)
def test_arguments_of_other_types_are_refused_in_words(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_limits_are_those_of_the_format():
    """docs/format.md has the same numbers."""
    assert (container.MAX_DIMENSION, container.MAX_SECTIONS, container.MAX_SECTION_BYTES) == (1048575, 64, 4294967295)


def test_a_section_has_at_most_4_gigabytes():
    head = struct.pack("<4sBBBB8s", b"FLIC", 1, 3, 0, 1, bytes(8)) + b"\x05\x05" + varint((1 << 32) - 1) + bytes(4)
    assert container.look(with_valid_checksum(head)).section_bytes == ((1 << 32) - 1,)
    # Read-only pages that nobody touches take no memory.
    section = mmap.mmap(-1, 1 << 32, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    with section, pytest.raises(ValueError, match="a section holds at most 4294967295 bytes, got 4294967296"):
        pack_container((2, 3, 0, bytes(8), 5, 5, 3), [section])


def test_a_negative_number_of_sections_is_refused():
    with pytest.raises(ValueError, match="count must be 0 or more, got -1"):
        unpack(DATA, -1)


def test_more_sections_than_there_are_is_all_of_them():
    for count in (2, 3, 1 << 70):
        assert unpack(DATA + b"more", count) == (GOLDEN_HEADER, GOLDEN_SECTIONS)


@pytest.mark.parametrize("value", [GOLDEN_HEADER, container.look(DATA), container.parse(DATA)])
def test_what_a_head_says_cannot_be_changed(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 1)
