"""Mutations that know a format: parse, change a field or a part, put lengths and checksums right again.

Every mutator is ``mutate(data, draw) -> bytes``; ``draw`` is a ``random.Random``, so that a seed gives the same bytes
everywhere. What a mutator cannot parse (inputs from elsewhere) it changes byte by byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

from fastlic.ops.checksum import crc32c

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 64, 127, 128, 255, 256, 1000, 4096, 32767, 65535, 65536, 1 << 20, (1 << 31) - 1)
HUGE = (1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 64)


def number(draw: random.Random) -> int:
    """A number as damage has it: small mostly, an edge often, huge or negative at times."""
    kind = draw.randrange(8)
    if kind < 3:
        return draw.randrange(20)
    if kind < 6:
        return draw.choice(NUMBERS) + draw.randrange(-1, 2)
    return draw.choice(HUGE) if kind == 6 else -draw.choice(NUMBERS + HUGE)


def of_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flips, edges, insertions, deletions, repetitions and zeros."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        kind, at = draw.randrange(9), draw.randrange(len(out) + 1)
        size = draw.choice((1, 1, 2, 4, 8, 40))
        if kind <= 1 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 2 and at < len(out):
            out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at:at] = draw.randbytes(size)
        elif kind == 5:
            out[at : at + size] = draw.randbytes(min(size, len(out) - at))
        elif kind == 6:
            out[at:at] = out[max(0, at - size) : at]
        elif kind == 7:
            out[at : at + size] = bytes(min(size, len(out) - at))
        else:
            del out[at:]
    return bytes(out)


def of_json(value: Any, draw: random.Random) -> Any:
    """Another JSON value: a part replaced, removed, repeated or renamed, at any depth."""
    if isinstance(value, dict) and value and draw.randrange(6):
        key = draw.choice(sorted(value, key=str))
        kind = draw.randrange(10)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return value | {draw.choice(("", "x", "0", f"{key}.0", f"{key}s")): value[key]}
        return value | {key: of_json(value[key], draw)}
    if isinstance(value, list) and value and draw.randrange(6):
        at, kind = draw.randrange(len(value)), draw.randrange(10)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return value[:at] + value[at : at + 1] + value[at:]
        return [*value[:at], of_json(value[at], draw), *value[at + 1 :]]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and draw.randrange(4):
        return draw.choice((number(draw), value + 1, value - 1, -value, value * 2, float(value), str(value)))
    if isinstance(value, bytes) and draw.randrange(8):
        return of_bytes(value, draw)
    if isinstance(value, str) and draw.randrange(4):
        return of_bytes(value.encode(), draw).decode(errors="replace")
    return draw.choice(
        (None, True, False, number(draw), 0.5, float("nan"), 1e308, "", "x", "jahp", [], {}, [[]], [1, 2])
    )


# ---- .flic


class Flic:
    """Fields of a container as they stand in its bytes; ``pack`` writes them with checksums that fit."""

    FIXED = struct.Struct("<4sBBBB8s")

    def __init__(self, data: bytes) -> None:
        self.fixed = list(self.FIXED.unpack_from(data))
        at = self.FIXED.size
        self.height, at = _read_varint(data, at)
        self.width, at = _read_varint(data, at)
        self.channels = 3  # these two are version 3's alone
        self.attachments: list[tuple[int, bytes]] = []
        kinds = []
        if self.fixed[1] >= 3:
            self.channels, count = data[at], data[at + 1]
            at += 2
            for _ in range(count):
                length, end = _read_varint(data, at + 1)
                kinds.append((data[at], length))
                at = end + 4
        lengths = []
        for _ in range(self.fixed[4]):
            length, at = _read_varint(data, at)
            lengths.append(length)
            at += 4
        at += 4
        for kind, length in kinds:
            self.attachments.append((kind, data[at : at + length]))
            at += length
        self.sections: list[bytes] = []
        for length in lengths:
            self.sections.append(data[at : at + length])
            at += length

    def pack(self) -> bytes:
        head = bytearray(self.FIXED.pack(*self.fixed))
        head += _varint(self.height) + _varint(self.width)
        attachments = self.attachments if self.fixed[1] >= 3 else []
        if self.fixed[1] >= 3:
            head += bytes([self.channels & 0xFF, len(attachments) & 0xFF])
        for kind, own in attachments:
            head += bytes([kind & 0xFF]) + _varint(len(own)) + struct.pack("<I", crc32c(own))
        for section in self.sections:
            head += _varint(len(section)) + struct.pack("<I", crc32c(section))
        head += struct.pack("<I", crc32c(bytes(head)))
        return b"".join([head, *(own for _, own in attachments), *self.sections])


def of_flic(data: bytes, draw: random.Random) -> bytes:
    """A section changed, now and then a field or the sections' number; checksums fit, but for one of 32."""
    try:
        file = Flic(data)
    except (struct.error, IndexError):
        return of_bytes(data, draw)
    kind = draw.randrange(16)
    if file.fixed[1] == 3 and kind in (4, 5):
        _of_version_3(file, draw)
    elif kind == 0:
        side = draw.choice((number(draw), file.height + draw.randrange(-16, 17), draw.randrange(1, 130)))
        file.height = min(max(side, 0), (1 << 35) - 1)
    elif kind == 1:
        side = draw.choice((number(draw), file.width + draw.randrange(-16, 17), draw.randrange(1, 130)))
        file.width = min(max(side, 0), (1 << 35) - 1)
    elif kind == 2:
        which = draw.choice((1, 2, 3, 3, 3, 3, 4))
        file.fixed[which] = draw.choice((draw.randrange(256), draw.randrange(10), draw.randrange(129)))
    elif kind == 3 and file.sections:
        which, other = draw.randrange(len(file.sections)), draw.randrange(len(file.sections))
        change = draw.randrange(3)
        if change == 0:
            file.sections[which], file.sections[other] = file.sections[other], file.sections[which]
        elif change == 1:
            del file.sections[which]
        else:
            file.sections.insert(which, file.sections[other])
        file.fixed[4] = len(file.sections) & 0xFF
    elif file.sections:
        which = draw.randrange(len(file.sections))
        file.sections[which] = of_bytes(file.sections[which], draw)
    out = file.pack()
    return of_bytes(out, draw) if draw.randrange(32) == 0 else out


def _of_version_3(file: Flic, draw: random.Random) -> None:
    """The channels, or an attachment: its bytes, its kind, one more or one less."""
    own, change = file.attachments, draw.randrange(6)
    if change == 0 or not own:
        file.channels = draw.choice((1, 2, 3, 4, draw.randrange(256)))
        return
    which = draw.randrange(len(own))
    kind, data = own[which]
    if change == 1:
        own[which] = (draw.choice((1, 2, 3, 4, 5, draw.randrange(256))), data)
    elif change == 2:
        del own[which]
    elif change == 3:
        own.insert(which + 1, (kind + draw.randrange(3), draw.randbytes(draw.randrange(20))))
    else:
        own[which] = (kind, of_bytes(data, draw))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


# ---- safetensors


class Safetensors:
    """Header and tensors; ``pack`` lays tensors out anew, so that offsets fit what they hold."""

    def __init__(self, data: bytes) -> None:
        (size,) = struct.unpack_from("<Q", data)
        self.header: dict[str, Any] = json.loads(data[8 : 8 + size])
        if not isinstance(self.header, dict):
            raise ValueError("the header is no object")
        self.metadata = self.header.pop("__metadata__", None)
        for entry in self.header.values():
            if not isinstance(entry["dtype"], str) or not all(type(n) is int for n in entry["shape"]):
                raise ValueError("a tensor without a type or a shape")
        body = data[8 + size :]
        self.tensors = {name: body[slice(*entry["data_offsets"])] for name, entry in self.header.items()}

    def pack(self) -> bytes:
        header: dict[str, Any] = {} if self.metadata is None else {"__metadata__": self.metadata}
        at = 0
        for name, entry in self.header.items():
            size = len(self.tensors[name])
            header[name] = entry | {"data_offsets": [at, at + size]}
            at += size
        return self.join(header)

    def join(self, header: Any) -> bytes:
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + b"".join(self.tensors[name] for name in self.header)


_SIZES = {"U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8, "BOOL": 1}
_FLOATS = {"F16": "<e", "F32": "<f", "F64": "<d"}


def _of_tensor(file: Safetensors, name: str, draw: random.Random) -> None:
    entry, body = file.header[name], bytearray(file.tensors[name])
    size = _SIZES.get(entry["dtype"], 1)
    kind = draw.randrange(12)
    if kind == 0:  # another shape of as many bytes
        shape = draw.choice(([len(body) // size], [1, len(body) // size], [len(body) // size, 1], [1] * 9, []))
        file.header[name] = entry | {"shape": shape}
    elif kind == 1:  # another shape, and bytes for it
        shape = [max(0, n + draw.choice((-1, 0, 0, 1, n))) for n in entry["shape"]] or [draw.randrange(4)]
        count = size
        for extent in shape:
            count *= extent
        file.header[name] = entry | {"shape": shape}
        file.tensors[name] = (bytes(body) * (count // max(len(body), 1) + 1))[:count].ljust(count, b"\1")
    elif kind == 2:  # another type of the same size, or of another
        dtype = draw.choice(sorted(_SIZES))
        file.header[name] = entry | {"dtype": dtype}
        if _SIZES[dtype] != size:
            count = len(body) // size * _SIZES[dtype]
            file.tensors[name] = (bytes(body) * _SIZES[dtype])[:count]
    elif body and kind < 8:  # numbers of its type, at the edges of it
        at = draw.randrange(len(body) // size) * size if len(body) >= size else 0
        for _ in range(draw.choice((1, 1, 1, 3, 50))):
            middle = size - 1
            edges = (bytes(size), b"\xff" * size, b"\xff" * middle + b"\x7f", bytes(middle) + b"\x80")
            value = draw.choice(edges)
            if entry["dtype"] in _FLOATS and draw.randrange(2):
                value = struct.pack(_FLOATS[entry["dtype"]], draw.choice((float("nan"), float("inf"), 0, -1, 6e4)))
            body[at : at + size] = draw.choice((value, draw.randbytes(size)))
            at = (at + size * draw.choice((1, 1, 7))) % len(body)
        file.tensors[name] = bytes(body)
    elif body:
        changed = of_bytes(bytes(body), draw)[: len(body)]
        file.tensors[name] = changed.ljust(len(body), b"\0")


_DIGEST = re.compile(rb'(\\"sha256\\": \\")[0-9a-f]{64}')


def sealed(data: bytes) -> bytes:
    """A codec file with the digest that fits it, if it states one (fastlic/codec/storage.py)."""
    blank = _DIGEST.sub(lambda found: found[1] + b"0" * 64, data, count=1)
    digest = hashlib.sha256(blank).hexdigest().encode()
    return _DIGEST.sub(lambda found: found[1] + digest, data, count=1)


def of_safetensors(data: bytes, draw: random.Random, about: str = "fastlic") -> bytes:
    """A tensor, its description, the metadata (JSON inside JSON under ``about``) or the header itself changed.

    The digest fits again, but for one of 32.
    """
    changed = _of_safetensors(data, draw, about)
    return sealed(changed) if draw.randrange(32) else changed


def _of_safetensors(data: bytes, draw: random.Random, about: str) -> bytes:
    try:
        file = Safetensors(data)
    except (ValueError, KeyError, TypeError, struct.error):
        return of_bytes(data, draw)
    if not file.header:
        return of_bytes(data, draw)
    names = sorted(file.header)
    name = draw.choice(names)
    kind = draw.randrange(20)
    if kind < 9:
        _of_tensor(file, name, draw)
    elif kind == 9:
        del file.header[name]
    elif kind == 10:
        other = draw.choice((draw.choice(names), f"{name}x", name.replace(".", "/", 1), "float/x", "entropy/x"))
        file.header = {other if k == name else k: v for k, v in file.header.items()}
        file.tensors[other] = file.tensors[name]
    elif kind == 11:
        other = draw.choice(names)
        file.header[name], file.header[other] = file.header[other], file.header[name]
        file.tensors[name], file.tensors[other] = file.tensors[other], file.tensors[name]
    elif kind < 17 and isinstance(file.metadata, dict):
        try:
            inner = json.loads(file.metadata[about])
            text = json.dumps(of_json(inner, draw))
            if kind == 16:
                text = of_bytes(text.encode(), draw).decode("latin-1")
            file.metadata = file.metadata | {about: text}
        except (KeyError, ValueError, TypeError):
            changed = of_json(file.metadata, draw)
            file.metadata = {k: str(v) for k, v in changed.items()} if isinstance(changed, dict) else None
    elif kind == 17:
        file.metadata = draw.choice((None, {}, {about: ""}, {about: "[]"}, {about: "null"}, {about: "{}"}))
    elif kind == 18:
        header = {"__metadata__": file.metadata} | file.header
        return file.join(of_json(header, draw))
    else:
        return of_bytes(data[: draw.choice((9, 300, len(data)))], draw) + data[300:]
    return file.pack()


# ---- msgpack (.mcq), zip archives (.mcquic), lists of strings


def of_msgpack(data: bytes, draw: random.Random) -> bytes:
    """A value of the tree changed; strings of codes mostly, whose content no checksum guards."""
    import msgpack

    try:
        tree = msgpack.unpackb(data, raw=False)
        if draw.randrange(3) and tree["contents"]:
            which = draw.randrange(len(tree["contents"]))
            tree["contents"][which] = of_bytes(tree["contents"][which], draw)
        else:
            tree = of_json(tree, draw)
        return msgpack.packb(tree, use_bin_type=True)
    except Exception:  # what msgpack raises has no common base
        return of_bytes(data, draw)


def of_zip(data: bytes, draw: random.Random) -> bytes:
    """An entry changed, removed or renamed; lengths and checksums are the archive's own again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            entries = [(info.filename, old.read(info)) for info in old.infolist()]
    except Exception:  # zipfile raises what the bytes make it trip over
        return of_bytes(data, draw)
    if not entries:
        return of_bytes(data, draw)
    pickles = [i for i, (name, _) in enumerate(entries) if name.endswith(".pkl")]
    which = draw.choice(pickles) if pickles and draw.randrange(2) else draw.randrange(len(entries))
    name, body = entries[which]
    kind = draw.randrange(12)
    if kind == 0:
        del entries[which]
    elif kind == 1:
        entries[which] = (draw.choice(entries)[0] + draw.choice(("", "x", "0")), body)
    elif kind == 2:
        entries.append((name, of_bytes(body, draw)))
    else:
        entries[which] = (name, of_bytes(body, draw))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as new:
        warnings.simplefilter("ignore")  # names that are there twice are the point
        for entry, content in entries:
            new.writestr(zipfile.ZipInfo(entry.replace("\0", "_") or "_", (1980, 1, 1, 0, 0, 0)), content)
    return of_bytes(out.getvalue(), draw) if draw.randrange(24) == 0 else out.getvalue()


def join(parts: list[bytes]) -> bytes:
    """Several strings as one input."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def split(data: bytes) -> list[bytes]:
    """Inverse of :func:`join`; lengths beyond the end stop there."""
    parts, at = [], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return parts


def of_strings(data: bytes, draw: random.Random) -> bytes:
    parts = split(data)
    if not parts or draw.randrange(16) == 0:
        return of_bytes(data, draw)
    which = draw.randrange(len(parts))
    parts[which] = of_bytes(parts[which], draw)
    return join(parts)


def of_wrapped(data: bytes, draw: random.Random) -> bytes:
    """Strings of accelerated models (native_stream): the payload changed under a checksum that fits."""
    parts = split(data)
    if not parts:
        return of_bytes(data, draw)
    which = draw.randrange(len(parts))
    part = parts[which]
    if which < 2 and len(part) > 7 and draw.randrange(8):
        payload = of_bytes(part[7:], draw)
        parts[which] = part[:3] + struct.pack("<I", crc32c(payload)) + payload
    else:
        parts[which] = of_bytes(part, draw)
    return join(parts)
