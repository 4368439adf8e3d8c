"""The fields of ``.mcq`` files: one msgpack map, read and written without torch.

Sizes and a name for the weights, then one stream per level, the finest first; fastlic.codec.mcq reads the streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastlic.arguments import checked
from fastlic.errors import CorruptStreamError, optional

SUFFIX = ".mcq"
VERSION = (0, 1, 40)  # the newest that wrote this layout, and what files written here say
_MULTIPLE = 128  # to which McQuic pads images: the model's PUBLISHED_MULTIPLE, which is not to be had without torch

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True)
class McqFile:
    """What a file says about itself; levels from the finest to the deepest."""

    qp: str  # name or path of the weights, as their user gave it: for display, never for opening
    version: str
    groups: int
    words: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]  # (height, width) of the codes
    height: int
    width: int
    contents: tuple[bytes, ...]


@checked
def parse(data: Bytes) -> McqFile:
    """Read a file's fields and check them against each other; the size is within the format's limits, not a caller's.

    Raises:
        CorruptStreamError: damaged, of a newer version, or no ``.mcq`` file.
        BackendUnavailable: msgpack is not installed.
    """
    msgpack = optional("msgpack", "mcquic")
    try:
        # Limits of the reader's own: a list is reserved by the length that it claims, before its content is seen.
        content = msgpack.unpackb(
            bytes(data), raw=False, strict_map_key=True, max_array_len=8, max_map_len=16, max_ext_len=0
        )
    except Exception as error:  # msgpack has no common base of what bad bytes raise
        raise CorruptStreamError(f"this is no .mcq file: {' '.join(str(error).split()) or 'no msgpack map'}") from error
    head = _get(content, "fileHeader", dict)
    codes, image = _get(head, "codeSize", dict), _get(head, "imageSize", dict)
    version = _get(head, "version", str)
    _check_version(version)
    heights, widths, words = (tuple(_numbers(codes, name)) for name in ("heights", "widths", "k"))
    contents = tuple(_get(content, "contents", list))
    if not 1 <= len(words) <= 8 or not len(heights) == len(widths) == len(words) == len(contents):
        raise CorruptStreamError(
            "the .mcq file's levels do not agree: heights, widths, k and contents differ in length"
        )
    if not all(isinstance(part, bytes) for part in contents):
        raise CorruptStreamError("the .mcq file's contents are not bytes")
    height, width, channels = (_number(image, name) for name in ("height", "width", "channel"))
    if channels != 3:
        raise CorruptStreamError(f"the .mcq file holds {channels} channels; 3 are expected")
    stride = 8 << len(words)
    multiple = max(_MULTIPLE, stride)
    padded = [max(-(-side // multiple) * multiple, 2 * stride) for side in (height, width)]
    sizes = tuple(zip(heights, widths, strict=True))
    expected = tuple((padded[0] >> level, padded[1] >> level) for level in range(4, 4 + len(words)))
    cropped = tuple((height >> level, width >> level) for level in range(4, 4 + len(words)))
    if sizes != expected and not (height % multiple == width % multiple == 0 and sizes == cropped):
        raise CorruptStreamError(f"the .mcq file's codes of {sizes} do not fit its image of {height} x {width}")
    return McqFile(_get(head, "qp", str), version, _number(codes, "m"), words, sizes, height, width, contents)


@checked
def serialise(file: McqFile) -> bytes:
    """The bytes that McQuic 0.1.40 writes for these fields."""
    head = {
        "qp": file.qp,
        "version": file.version,
        "codeSize": {
            "m": file.groups,
            "heights": [height for height, _ in file.sizes],
            "widths": [width for _, width in file.sizes],
            "k": list(file.words),
        },
        "imageSize": {"height": file.height, "width": file.width, "channel": 3},
    }
    packed: bytes = optional("msgpack", "mcquic").packb(
        {"fileHeader": head, "contents": list(file.contents)}, use_bin_type=True
    )
    return packed


def _get(content: Any, name: str, kind: type) -> Any:
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CorruptStreamError(f"this is no .mcq file: {name!r} ({kind.__name__}) is missing")
    return value


def _number(content: dict[str, Any], name: str) -> int:
    value: int = _get(content, name, int)
    if not 1 <= value < 1 << 20:
        raise CorruptStreamError(f"the .mcq file's {name} must be 1 to {(1 << 20) - 1}, got {value}")
    return value


def _numbers(content: dict[str, Any], name: str) -> list[int]:
    values = _get(content, name, list)
    return [_number({name: value}, name) for value in values]


def _check_version(version: str) -> None:
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise CorruptStreamError(f"the .mcq file's version is none: {version!r:.40}")
    newest = ".".join(map(str, VERSION))
    if int(parts[0]) != VERSION[0] or tuple(map(int, parts)) > VERSION:
        raise CorruptStreamError(f"the .mcq file is of version {version}; 0.0.0 to {newest} are read")
