"""``python -m fastlic.bench.libflic BUILD``: the command flic beside what the library does within it.

BUILD is a folder with libflic.so and flic (docs/libflic.md). Of each image: wall time of ``flic decode`` from the start
of the process to the file written and its peak of memory; of the library alone, in a process that has it loaded, the
time to open the codec, to decode the image, and to decode 128x128 pixels of its middle; and of Python from its start to
the pixels of ``fastlic.light``, with its peak. They take turns; what is printed are medians.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

import fastlic
from fastlic.bench import report
from fastlic.bench.photos import images
from fastlic.bench.runner import Figures, Part, medians, process, timed
from fastlic.codec.cards import WEIGHTS


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("left", "top", "width", "height")]


class _Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("format", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("parts", ctypes.c_uint32),
        ("max_pixels", ctypes.c_uint64),
        ("max_memory", ctypes.c_uint64),
        ("metadata", ctypes.c_void_p),
        ("progress", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
        ("region", ctypes.POINTER(_Region)),
    ]


class Library:
    """What of flic.h is timed, with one codec and one thread."""

    def __init__(self, path: Path, codec: Path) -> None:
        self._c: Any = ctypes.CDLL(str(path))
        self._codec, self._handle = os.fsencode(codec), ctypes.c_void_p()

    def open(self) -> None:
        self._check(self._c.flic_codec_open_file(self._codec, ctypes.byref(self._handle), None))

    def close(self) -> None:
        self._c.flic_codec_close(self._handle)
        self._handle = ctypes.c_void_p()

    def decode(self, data: bytes, pixels: Any, width: int, region: _Region | None = None) -> None:
        options = _Options(ctypes.sizeof(_Options), threads=1, region=ctypes.pointer(region) if region else None)
        size, room, stride = (ctypes.c_size_t(count) for count in (len(data), len(pixels), 3 * width))
        self._check(self._c.flic_decode(self._handle, data, size, ctypes.byref(options), pixels, room, stride, None))

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise RuntimeError(f"libflic says {status}")


# Python's own way to the pixels of a file, without torch.
_LIGHT = """
import sys
from fastlic import light
light.decompress(open(sys.argv[1], "rb").read(), threads=1)
"""


def measure(build: Path, model: str, image: Tensor, runs: int, folder: Path) -> Figures:
    """Medians, by column; the image is [3, H, W] uint8."""
    weights = WEIGHTS / f"{model}.safetensors"
    library = Library(build / "libflic.so", weights)
    data = fastlic.compress(image, model)
    assert isinstance(data, bytes)  # one image in, one stream out
    stream, shown = folder / "x.flic", folder / "x.ppm"
    stream.write_bytes(data)
    command = [str(build / "flic"), "decode", str(stream), str(shown), "--codec", str(weights), "--threads", "1"]
    height, width = image.shape[1:]
    across, down = min(width, 128), min(height, 128)
    middle = _Region(width // 2 - across // 2, height // 2 - down // 2, across, down)
    pixels, part = (ctypes.create_string_buffer(size) for size in (image.numel(), 3 * across * down))

    def started(name: str, command: list[str]) -> Figures:
        seconds, peak = process(command)
        return {name: seconds, f"{name} peak": peak}

    def opened() -> Figures:
        library.close()
        return timed("open", library.open)()

    parts: list[Part] = [
        partial(started, "process", command),
        opened,
        timed("decode", partial(library.decode, data, pixels, width)),
        timed("region", partial(library.decode, data, part, across, middle)),
        partial(started, "python", [sys.executable, "-c", _LIGHT, str(stream)]),
    ]
    found = medians(parts, runs, unmeasured=1)  # which warms caches
    library.close()
    assert shown.read_bytes().endswith(pixels.raw)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.libflic", __doc__)
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder with libflic.so and flic")
    parser.add_argument("--models", nargs="+", default=["jahp"], metavar="NAME", help="shipped weights (default: jahp)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="default: the demonstration photo")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="images of FOLDER (default: 24)")
    parser.add_argument("--runs", type=int, default=9, help="of each image (default: 9)")
    options = parser.parse_args(arguments)
    flic = ("process ms", "open ms", "decode ms", "128x128 ms", "process/decode", "peak MB")
    rows: list[tuple[str, ...]] = [("image", *flic, "python ms", "peak MB")]
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            results = []
            for name, image in images(options.images, options.limit):
                results.append(measure(options.build.resolve(), model, image, options.runs, Path(folder)))
                rows.append(_row(f"{model} {name} {image.shape[1]}x{image.shape[2]}", results[-1]))
                report.progress(rows[-1][0])
            if len(results) > 1:
                middle = medians([partial(dict, one) for one in results], 1)
                rows.append(_row(f"{model}, median of {len(results)}", middle))
    report.progress()
    print(report.about(), *report.columns(rows), sep="\n")
    return 0


def _row(name: str, one: Figures) -> tuple[str, ...]:
    milliseconds = (f"{1e3 * one[key]:.1f}" for key in ("process", "open", "decode", "region"))
    python = (f"{1e3 * one['python']:.1f}", f"{one['python peak'] / 1e6:.1f}")
    return (name, *milliseconds, f"{one['process'] / one['decode']:.2f}x", f"{one['process peak'] / 1e6:.1f}", *python)


if __name__ == "__main__":
    sys.exit(main())
