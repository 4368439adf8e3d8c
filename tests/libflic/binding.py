"""libflic by ctypes, for tests and measurements: flic.h in Python, with neither torch nor numpy."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

OK, ARGUMENT, STREAM, CODEC, UNSUPPORTED, WRONG_CODEC, LIMIT, MEMORY, IO, INTERNAL, STOPPED = range(11)
RGB, RGBA, GREY, GREY_ALPHA = range(4)
CHANNELS = {RGB: 3, RGBA: 4, GREY: 1, GREY_ALPHA: 2}


class Error(ctypes.Structure):
    _fields_ = [("status", c_int), ("message", c_char * 256)]


class Header(ctypes.Structure):
    _fields_ = [
        ("width", c_uint32),
        ("height", c_uint32),
        ("version", c_uint32),
        ("model", c_uint32),
        ("quality", c_double),
        ("fingerprint", c_uint8 * 8),
        ("sections", c_uint32),
        ("framing_bytes", c_uint32),
        ("channels", c_uint32),
    ]


class Bytes(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class Metadata(ctypes.Structure):
    _fields_ = [("icc_profile", Bytes), ("exif", Bytes), ("xmp", Bytes)]


class Info(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("family", c_char_p),
        ("fingerprint", c_uint8 * 8),
        ("entropy_fingerprint", c_uint8 * 8),
        ("qualities", c_uint32),
        ("previews", c_uint32),
    ]


PROGRESS = ctypes.CFUNCTYPE(c_int, c_void_p, c_double)


class Region(ctypes.Structure):
    _fields_ = [("left", c_uint32), ("top", c_uint32), ("width", c_uint32), ("height", c_uint32)]


ALLOCATE = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_size_t, c_size_t)
RELEASE = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)


class Allocator(ctypes.Structure):
    _fields_ = [("allocate", ALLOCATE), ("release", RELEASE), ("user", c_void_p)]


class OpenOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("allocator", POINTER(Allocator)),
        ("decode_only", c_uint32),
        ("reserved", c_uint32),
    ]


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("format", c_uint32),
        ("threads", c_uint32),
        ("parts", c_uint32),
        ("max_pixels", c_uint64),
        ("max_memory", c_uint64),
        ("metadata", POINTER(Metadata)),
        ("progress", PROGRESS),
        ("user", c_void_p),
        ("region", POINTER(Region)),
        ("allocator", POINTER(Allocator)),
    ]


def options(**own: Any) -> Options:
    """FLIC_OPTIONS_INIT, and what differs from it."""
    out = Options(ctypes.sizeof(Options), RGB, 1, 0, 0, 0, None, PROGRESS(), None, None, None)
    for name, value in own.items():
        setattr(out, name, value)
    return out


class Refused(Exception):
    """A status other than FLIC_OK, and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


_ENCODED = [POINTER(Options), POINTER(c_void_p), POINTER(c_size_t), POINTER(Error)]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "flic_version": (c_uint32, []),
    "flic_read_header": (c_int, [c_char_p, c_size_t, POINTER(Header), POINTER(Error)]),
    "flic_read_metadata": (c_int, [c_char_p, c_size_t, POINTER(Metadata), POINTER(Error)]),
    "flic_model_name": (c_char_p, [c_uint32]),
    "flic_codec_open_memory": (c_int, [c_char_p, c_size_t, POINTER(c_void_p), POINTER(Error)]),
    "flic_codec_open_file": (c_int, [c_char_p, POINTER(c_void_p), POINTER(Error)]),
    "flic_codec_open_memory_with": (
        c_int,
        [c_char_p, c_size_t, POINTER(OpenOptions), POINTER(c_void_p), POINTER(Error)],
    ),
    "flic_codec_open_file_with": (c_int, [c_char_p, POINTER(OpenOptions), POINTER(c_void_p), POINTER(Error)]),
    "flic_embedded": (c_void_p, [c_uint32, POINTER(c_char_p), POINTER(c_size_t)]),
    "flic_codec_close": (None, [c_void_p]),
    "flic_codec_get_info": (c_int, [c_void_p, POINTER(Info), POINTER(Error)]),
    "flic_codec_reads": (c_int, [c_void_p, POINTER(Header)]),
    "flic_memory_needed": (c_uint64, [c_void_p, c_uint32, c_uint32, c_uint32, c_int]),
    "flic_decode": (
        c_int,
        [c_void_p, c_char_p, c_size_t, POINTER(Options), c_void_p, c_size_t, c_size_t, POINTER(Error)],
    ),
    "flic_encode": (
        c_int,
        [c_void_p, c_void_p, c_uint32, c_uint32, c_size_t, c_double, *_ENCODED],
    ),
    "flic_free": (None, [c_void_p]),
}


def load(path: str | Path) -> Any:
    """The library with types of all its functions."""
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Library:
    """The functions of flic.h that do something, failures as :class:`Refused`."""

    def __init__(self, path: str | Path) -> None:
        self.c = load(path)

    def check(self, status: int, error: Error) -> None:
        assert error.status == status
        if status != OK:
            raise Refused(status, error.message.decode())
        assert error.message == b""

    def header(self, data: bytes) -> Header:
        header, error = Header(), Error()
        self.check(self.c.flic_read_header(data, len(data), byref(header), byref(error)), error)
        return header

    def open(self, source: str | Path | bytes) -> Codec:
        """Of a path, or of the bytes of a file."""
        codec, error = c_void_p(), Error()
        if isinstance(source, bytes):
            status = self.c.flic_codec_open_memory(source, len(source), byref(codec), byref(error))
        else:
            status = self.c.flic_codec_open_file(str(source).encode(), byref(codec), byref(error))
        assert bool(codec) == (status == OK)
        self.check(status, error)
        return Codec(self, codec)

    def open_with(self, path: str | Path, allocator: Any = None, decode_only: int = 0, **own: int) -> Codec:
        """By FLIC_OPEN_OPTIONS_INIT, and what differs from it."""
        codec, error = c_void_p(), Error()
        given = OpenOptions(ctypes.sizeof(OpenOptions), allocator, decode_only, 0)
        for name, value in own.items():
            setattr(given, name, value)
        status = self.c.flic_codec_open_file_with(str(path).encode(), byref(given), byref(codec), byref(error))
        assert bool(codec) == (status == OK)
        self.check(status, error)
        return Codec(self, codec)


class Codec:
    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    def __del__(self) -> None:
        self.library.c.flic_codec_close(self.handle)

    def info(self) -> Info:
        info, error = Info(), Error()
        self.library.check(self.library.c.flic_codec_get_info(self.handle, byref(info), byref(error)), error)
        return info

    def decode(self, data: bytes, stride: int | None = None, **own: Any) -> bytes:
        """Rows of pixels, each ``stride`` bytes long; bytes behind a row's pixels are left at 0xA5."""
        header, error, given = self.library.header(data), Error(), options(**own)
        size = given.region.contents if given.region else header
        stride = stride or size.width * CHANNELS[given.format]
        pixels = ctypes.create_string_buffer(b"\xa5" * (stride * size.height), stride * size.height)
        room = len(pixels)
        status = self.library.c.flic_decode(
            self.handle, data, len(data), byref(given), pixels, room, stride, byref(error)
        )
        self.library.check(status, error)
        return pixels.raw

    def encode(self, pixels: bytes, width: int, height: int, quality: float, stride: int = 0, **own: Any) -> bytes:
        data, size, error, given = c_void_p(), c_size_t(), Error(), options(**own)
        stride = stride or width * CHANNELS.get(given.format, 3)
        status = self.library.c.flic_encode(
            self.handle, pixels, width, height, stride, quality, byref(given), byref(data), byref(size), byref(error)
        )
        assert bool(data) == (status == OK)
        self.library.check(status, error)
        out = ctypes.string_at(data, size.value)
        self.library.c.flic_free(data)
        return out

    def memory(self, width: int, height: int, threads: int, encode: bool) -> int:
        return self.library.c.flic_memory_needed(self.handle, width, height, threads, encode)
