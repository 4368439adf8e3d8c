"""What callers name: the bytes of a stream, or an image, as a path, as an open file, or as itself.

Neither torch nor Pillow is imported before somebody needs it.
"""

from __future__ import annotations

import errno
import io
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeIs

from fastlic import config
from fastlic.arguments import checked, is_number
from fastlic.codec.container import Bytes, Metadata
from fastlic.errors import CorruptStreamError

if TYPE_CHECKING:
    from PIL import Image


class Readable(Protocol):
    """A binary file: ``open(path, "rb")``, ``io.BytesIO``, a response of a server."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes from where it stands; all that is left for -1."""


PathName = str | os.PathLike[str]
Stream = Bytes | PathName | Readable
Picturable: TypeAlias = "NDArray[np.uint8] | Image.Image | PathName | Readable"  # what is no tensor, and still an image

_HEAD = 4096  # bytes; the heads of most streams are shorter


def is_file(source: object) -> TypeIs[Readable]:
    """Whether it is an open file, or reads like one; ``read_from`` and Pillow say what is wrong with it."""
    return callable(getattr(source, "read", None)) and not isinstance(source, type)


def is_stream(data: object) -> TypeIs[Stream]:
    """Whether ``data`` names one stream, not a sequence of them."""
    return isinstance(data, bytes | bytearray | memoryview | str | os.PathLike) or is_file(data)


def streams_of(data: Stream | Sequence[Stream]) -> tuple[list[bytes], bool]:
    """The bytes of each stream, and whether one was named by itself.

    Raises:
        TypeError, OSError: as of :func:`stream_of`.
    """
    if is_stream(data):
        return [stream_of(data)], True
    if not isinstance(data, Iterable) or isinstance(data, Mapping | Set) or _has_buffer(data):
        raise TypeError(f"expected compressed data, {_STREAM}, or a list of such; got {_named(data)}")
    return [stream_of(item) for item in data], False


def _has_buffer(data: object) -> bool:
    """Whether it is an array of numbers: its bytes may be a stream, its items are none."""
    try:
        return memoryview(data).format != "O"  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return False


def _named(data: object) -> str:
    """The type of what is no stream, and what makes one of it."""
    name = f"the class {data.__name__}" if isinstance(data, type) else type(data).__name__
    return f"{name}: its bytes are x.tobytes()" if isinstance(data, np.ndarray | array) else name


_STREAM = "bytes, a path or a binary file"


def stream_of(data: Stream) -> bytes:
    """The bytes of one stream; a file is read from where it stands to its end.

    Raises:
        TypeError: nothing of that kind, or a file that was opened as text.
        OSError: the file cannot be read; FileNotFoundError if there is none.
        CorruptStreamError: a file that stands at its end.
        ValueError: a str that cannot be a path.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if isinstance(data, str | os.PathLike):
        with open_file(data, "compressed data are bytes, not str") as file:
            return file.read()
    if is_file(data):
        return read_from(data) or _nothing_left(data)
    raise TypeError(f"expected compressed data, {_STREAM}; got {_named(data)}")


def _nothing_left(file: Readable) -> bytes:
    """No bytes, of a file that holds none; of one that was read before, an error that says so."""
    place = file.tell() if hasattr(file, "seekable") and file.seekable() else 0  # type: ignore[attr-defined]
    if place:
        raise CorruptStreamError(f"this is no fastlic data: the file stands at position {place}, its end: seek(0)?")
    return b""


def head_of(data: Stream) -> bytes:
    """At least the head of one stream; a file that can be is left standing where it stood.

    Raises:
        TypeError, OSError, ValueError: as of :func:`stream_of`.
    """
    if isinstance(data, str | os.PathLike):
        with open_file(data, "compressed data are bytes, not str") as file:
            return head_of(file)
    if not is_file(data):
        return stream_of(data)
    start = data.tell() if hasattr(data, "seekable") and data.seekable() else None  # type: ignore[attr-defined]
    try:
        return read_head(data) or _nothing_left(data)
    finally:
        if start is not None:
            data.seek(start)  # type: ignore[attr-defined]


def read_head(file: Readable) -> bytes:
    """The head of the stream in ``file``, and perhaps some of what follows; all of it where the head is damaged."""
    from fastlic.codec import container

    data = read_from(file, _HEAD)
    try:
        container.peek(data)
    except CorruptStreamError:
        if data[:4] == b"FLIC":
            data += read_from(file)
    return data


@checked
def read_from(file: Any, size: int = -1) -> bytes:
    """What a binary file holds from where it stands: ``size`` bytes, or all that is left if that is less or size is -1.

    Raises:
        TypeError: a file that was opened as text, or one that gives no bytes.
    """
    if isinstance(file, io.TextIOBase):
        raise TypeError("the file was opened as text: open(path, 'rb') opens it as bytes")
    if not is_file(file):
        raise TypeError(f"a binary file is wanted, got {type(file).__name__}")
    if hasattr(file, "readable") and not file.readable():
        raise ValueError("the file is not open for reading: open(path, 'rb') opens it so")
    data = b""
    while size < 0 or len(data) < size:  # pipes and responses of servers give what has arrived
        part = file.read(size - len(data) if size > 0 else size)
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError(f"a binary file is wanted; read() of this {type(file).__name__} gave {type(part).__name__}")
        data += part
        if size < 0 or not part:
            break
    return data


@checked
def open_file(path: PathName, otherwise: str) -> io.BufferedReader:
    """The file of that name, opened to be read.

    Args:
        otherwise: what to add for a str that is no file.

    Raises:
        OSError: the file cannot be read; FileNotFoundError if there is none.
        ValueError: a str that cannot be a path.
    """
    added = f"; {otherwise}" if isinstance(path, str) else ""
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, f"{os.strerror(errno.ENOENT)}{added}", os.fspath(path)) from error
    except ValueError as error:  # a zero within it, or what no file system can spell
        raise ValueError(f"{os.fspath(path)!r:.60} is no path{added}") from error


def picture_of(x: object, max_pixels: int | None = None) -> tuple[NDArray[np.uint8], Metadata]:
    """The pixels of one image, uint8 [H, W, C] in one piece, and what belongs to them.

    Args:
        x: an array uint8 [H, W, C], C being 3, or 1 for grey, and one more with alpha; or [H, W] for grey. Or a
            ``PIL.Image.Image``; the path of an image file; or a binary file that holds one. The latter three as
            ``fastlic.codec.image_files.read_image`` has them, grey, alpha and metadata kept.
        max_pixels: largest height x width.

    Raises:
        TypeError, ValueError: no such image; the message says what came.
        OSError: the file cannot be read.
        PixelLimitError: a larger image, before any pixel is read.
    """
    if not isinstance(x, np.ndarray):
        from fastlic.codec.image_files import read_image

        picture = read_image(x, max_pixels=max_pixels, channels=None)  # type: ignore[arg-type]
        return np.ascontiguousarray(picture.array), picture.metadata
    if x.dtype != np.uint8:
        hint = "; an image in [0, 1]: (255 * x).round().astype(np.uint8)" if x.dtype.kind == "f" else ""
        raise TypeError(f"x must be a numpy array uint8 [H, W, 1 to 4] or [H, W], got {x.dtype}{hint}")
    given = x[:, :, None] if x.ndim == 2 else x
    if given.ndim != 3 or not 1 <= given.shape[2] <= 4 or 0 in x.shape:
        hint = "; channels come last: np.moveaxis(x, 0, -1)" if x.ndim == 3 and x.shape[0] in (1, 3, 4) else ""
        hint = "; one image of a batch at a time: x[0]" if x.ndim == 4 else hint
        raise ValueError(f"x must be [H, W, 1 to 4] or [H, W] with H and W at least 1, got {list(x.shape)}{hint}")
    config.check_pixels(x.shape[0], x.shape[1], max_pixels)
    return np.ascontiguousarray(given), Metadata()


def model_and_quality(model: Any, quality: float | None) -> tuple[Any, float | None]:
    """Both of them; a number in the place of the model is the quality: ``compress(x, 4)``.

    Raises:
        TypeError: a quality in either place.
    """
    if isinstance(model, bool) or not is_number(model):
        return model, quality
    if quality is not None:
        raise TypeError(f"two qualities, {model!r} and {quality!r}: name the model, compress(x, model, quality)")
    return config.DEFAULT_MODEL, model
