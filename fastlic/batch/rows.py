"""Callables from rows to rows: the bytes of image files to ``.flic`` bytes, and back.

They hold their settings and nothing else, so they travel to other processes; weights are opened by the first image in
each process. What is wrong with an image is a text in its row. What is wrong with the settings (no such weights, no
such quality) is an exception: it would be wrong with every image.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

import fastlic
from fastlic import config, light
from fastlic.codec import container
from fastlic.codec.container import SUFFIX
from fastlic.codec.image_files import SUFFIXES, WRITTEN, colour_of, encode_image, format_of, read_image

Row = dict[str, Any]
_Many = Callable[[Iterable[Any]], list[Row]]


class Coder:
    """What :class:`Compressor` and :class:`Decompressor` have in common, and what shards ask them for."""

    ACTION: ClassVar[str]  # "compress"
    TAKES: ClassVar[tuple[str, ...]]  # suffixes of the files that are taken
    NAMES: ClassVar[tuple[str, ...]]  # of the column of such files, by custom
    COLUMN: ClassVar[str]  # that is new, of files
    TYPES: ClassVar[Mapping[str, str]]  # of all new columns, as pyarrow calls them
    column: str
    keep: bool

    def __call__(self, rows: Any) -> Any:
        return self.mapped(rows, lambda values: list(map(self.one, values)))

    def mapped(self, rows: Any, many: _Many) -> Any:
        """What a call gives, by a caller's own ``many`` in place of ``one`` for each value in turn."""
        self.open()
        return _mapped(rows, self.column, many, self.TYPES, self.keep)

    def open(self) -> None:
        """What the first call would do before its first image: open weights, hold settings against each other."""
        raise NotImplementedError

    def one(self, data: Any) -> Row:
        """The new columns for one file's bytes; never an exception because of them."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """All settings that decide over outputs, as JSON has them."""
        raise NotImplementedError

    @property
    def makes(self) -> str:
        """Suffix of the files that are made (".flic")."""
        raise NotImplementedError


# Names of columns, and the types that tables have for them; arrays of numpy and pandas hold them as objects, since an
# integer column has no None and numpy's own bytes lose their last zeros.
_COMPRESSED = {
    "flic": "large_binary",
    "width": "int64",
    "height": "int64",
    "bpp": "float64",
    "fingerprint": "string",
    "error": "string",
}
_DECOMPRESSED = {"image": "large_binary", "width": "int64", "height": "int64", "error": "string"}


@dataclass(frozen=True)
class Compressor(Coder):
    """Image files to ``.flic`` bytes.

    Called with one row (a dict) or a batch: a dict of columns, a pandas DataFrame, a pyarrow Table or RecordBatch. The
    answer is of the same kind. The column of image files is left out of it, unless ``keep``; others stay, and these are
    new: ``flic`` (bytes), ``width`` and ``height`` (pixels), ``bpp`` (bits per pixel), ``fingerprint`` (of the weights,
    hexadecimal), ``error`` (text; then the others are None).

    Args:
        model: name of shipped weights, or a codec file that each machine has.
        quality: as of ``fastlic.compress``.
        column: of the image files' bytes.
        background: colour under transparent images; None: they keep their alpha.
        max_pixels: as of ``fastlic.compress``.
        threads: of one image; with one process per core 1.
        keep: whether the image files stay in the rows.

    Raises:
        CodecFileError, ValueError, TypeError: the settings cannot work; from the first call.
        KeyError: no such column.
    """

    model: str | os.PathLike[str] = fastlic.DEFAULT_MODEL
    quality: float = fastlic.DEFAULT_QUALITY
    column: str = "bytes"
    background: str | None = None
    max_pixels: int | None = None
    threads: int = 1
    keep: bool = False

    ACTION = "compress"
    TAKES = SUFFIXES
    NAMES = ("bytes", "image", "jpg", "jpeg", "png", "webp")
    COLUMN = "flic"
    TYPES = _COMPRESSED

    def codec(self) -> light.Codec:
        """The codec, opened once per process and held against the other settings."""
        return _opened(self)

    def open(self) -> None:
        self.codec()

    @property
    def makes(self) -> str:
        return SUFFIX

    def identity(self) -> dict[str, Any]:
        codec = self.codec()
        return {
            "fingerprint": codec.fingerprint.hex(),
            "quality": float(self.quality) if codec.qualities else None,
            "background": self.background,
            "max_pixels": self.max_pixels,
            "keep": self.keep,
        }

    def one(self, data: Any) -> Row:
        codec = self.codec()
        try:
            picture = read_image(io.BytesIO(_bytes(data)), self.background, self.max_pixels, channels=None)
            flic = light.compress(
                picture.array,
                codec,
                self.quality,
                threads=self.threads,
                max_pixels=self.max_pixels,
                metadata=picture.metadata,
            )
            height, width = picture.array.shape[:2]
            fingerprint = container.peek(flic).fingerprint.hex()
            values: tuple[Any, ...] = (flic, width, height, 8 * len(flic) / (width * height), fingerprint, None)
        except Exception as error:
            values = (None, None, None, None, None, said(error))
        return dict(zip(_COMPRESSED, values, strict=True))


@dataclass(frozen=True)
class Decompressor(Coder):
    """``.flic`` bytes to image files, or to pixels.

    Takes and gives what :class:`Compressor` does. New columns: ``image`` (bytes of an image file, or uint8 [H, W, C]),
    ``width``, ``height``, ``error``.

    Args:
        model: as of ``fastlic.light.decompress``; None: the shipped weights that a stream names.
        column: of the ``.flic`` bytes.
        suffix: of the image files (".png"); None: arrays, which a pyarrow Table cannot hold.
        max_pixels, threads, keep: as of :class:`Compressor`.
    """

    model: str | os.PathLike[str] | None = None
    column: str = "flic"
    suffix: str | None = ".png"
    max_pixels: int | None = None
    threads: int = 1
    keep: bool = False

    ACTION = "decompress"
    TAKES = (SUFFIX,)
    NAMES = ("flic", "bytes")
    COLUMN = "image"
    TYPES = _DECOMPRESSED

    def __post_init__(self) -> None:
        if self.suffix is not None and self.suffix.lower() not in WRITTEN:
            raise ValueError(f"suffix must be one of {', '.join(WRITTEN)} or None, got {self.suffix!r}")

    def open(self) -> None:
        if self.model is not None:
            light.load(self.model)
        if self.suffix is not None:
            format_of(self.suffix)
        config.max_pixels(self.max_pixels)

    @property
    def makes(self) -> str:
        if self.suffix is None:
            raise ValueError("files are no arrays: name the suffix of an image format")
        return self.suffix

    def identity(self) -> dict[str, Any]:
        return {
            "model": None if self.model is None else light.load(self.model).fingerprint.hex(),
            "suffix": self.suffix,
            "max_pixels": self.max_pixels,
            "keep": self.keep,
        }

    def mapped(self, rows: Any, many: _Many) -> Any:
        if self.suffix is None and type(rows).__module__.partition(".")[0] == "pyarrow":
            raise ValueError("a pyarrow Table holds no arrays of several sizes: name the suffix of an image format")
        return super().mapped(rows, many)

    def one(self, data: Any) -> Row:
        try:
            flic = _bytes(data)
            x = light.decompress(flic, self.model, threads=self.threads, max_pixels=self.max_pixels)
            values: tuple[Any, ...] = (
                x if self.suffix is None else encode_image(x, self.suffix, container.read_metadata(flic)),
                x.shape[1],
                x.shape[0],
                None,
            )
        except Exception as error:
            values = (None, None, None, said(error))
        return dict(zip(_DECOMPRESSED, values, strict=True))


def said(error: BaseException) -> str:
    """An error as a column holds it: its class, and its text in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]


@lru_cache(maxsize=16)
def _opened(settings: Compressor) -> light.Codec:
    """Raises what settings that cannot work lead to, before any image is blamed for them."""
    codec = light.load(settings.model)
    light.compress(np.zeros((1, 1, 3), np.uint8), codec, settings.quality, threads=settings.threads)
    config.max_pixels(settings.max_pixels)
    if settings.background is not None:
        colour_of(settings.background)
    return codec


def _bytes(data: Any) -> bytes:
    if isinstance(data, Mapping):  # {"bytes": ..., "path": ...}: images in parquet files of Hugging Face datasets
        data = data.get("bytes")
    if data is None or isinstance(data, float):  # pandas has NaN where there is nothing
        raise ValueError("the row holds no bytes")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the bytes of a file are expected, got {type(data).__name__}")
    return bytes(data)


def _mapped(rows: Any, column: str, many: _Many, types: Mapping[str, str], keep: bool) -> Any:
    """``rows`` with the columns that ``many`` makes of the values of ``column``, in the kind that they came in."""
    package = type(rows).__module__.partition(".")[0]
    names = rows.schema.names if package == "pyarrow" else list(rows)
    if column not in names:
        raise KeyError(f"the rows have no column {column!r}, only {', '.join(map(str, names))}")
    kept = [name for name in names if (keep or name != column) and name not in types]
    if package == "pyarrow":
        return _table(rows, kept, many(value.as_py() for value in rows.column(column)), types)
    values = rows[column]
    if package != "pandas" and (values is None or isinstance(values, bytes | bytearray | memoryview | Mapping)):
        return {**{name: rows[name] for name in kept}, **many([values])[0]}
    if getattr(getattr(values, "dtype", None), "kind", "") == "S":
        raise TypeError("numpy's own bytes lose zeros at their end: make the column of dtype object")
    results = many(values)
    new = {name: _objects([result[name] for result in results]) for name in types}
    return rows[kept].assign(**new) if package == "pandas" else {**{name: rows[name] for name in kept}, **new}


def _objects(values: list[Any]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # not at once: arrays of one shape would become one array
        out[i] = value
    return out


def _table(rows: Any, kept: list[str], results: list[Row], types: Mapping[str, str]) -> Any:
    import pyarrow as pa

    new = [pa.array([result[name] for result in results], getattr(pa, kind)()) for name, kind in types.items()]
    return type(rows).from_arrays([*map(rows.column, kept), *new], names=[*kept, *types])
