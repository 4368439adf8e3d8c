"""``python -m fastlic.bench.libflic BUILD``: the command flic beside what the library does within it.

BUILD is a folder with libflic.so and flic (docs/libflic.md). Of each image: wall time of ``flic decode`` from the start
of the process to the file written and its peak of memory; of the library alone, in a process that has it loaded, the
time to open the codec, to decode the image, and to decode 128x128 pixels of its middle; and of Python from its start to
the pixels of ``fastlic.light``, with its peak. They take turns; what is printed are medians.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import Tensor

import fastlic
from fastlic.bench import report
from fastlic.codec.calibration import PHOTO
from fastlic.codec.cards import WEIGHTS
from fastlic.codec.image_files import find_images, read_image


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
    """What of flic.h is timed."""

    def __init__(self, path: Path) -> None:
        self._c: Any = ctypes.CDLL(str(path))

    def open(self, codec: Path) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._check(self._c.flic_codec_open_file(os.fsencode(codec), ctypes.byref(handle), None))
        return handle

    def close(self, handle: ctypes.c_void_p) -> None:
        self._c.flic_codec_close(handle)

    def decode(
        self,
        handle: ctypes.c_void_p,
        data: bytes,
        pixels: Any,
        width: int,
        threads: int,
        region: tuple[int, int, int, int] | None = None,
    ) -> None:
        part = None if region is None else ctypes.pointer(_Region(*region))
        options = _Options(ctypes.sizeof(_Options), 0, threads, 0, 0, 0, None, None, None, part)
        size, room, stride = (ctypes.c_size_t(count) for count in (len(data), len(pixels), 3 * width))
        self._check(self._c.flic_decode(handle, data, size, ctypes.byref(options), pixels, room, stride, None))

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise RuntimeError(f"libflic says {status}")


# Started by a small process: a fork counts what its parent had in memory.
_START = """
import os, sys, time
began = time.perf_counter()
child = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - began, usage.ru_maxrss << 10)
sys.exit(os.waitstatus_to_exitcode(status))
"""


# Python's own way to the pixels of a file, without torch.
_LIGHT = """
import sys
from fastlic import light
light.decompress(open(sys.argv[1], "rb").read(), threads=int(sys.argv[2]))
"""


def process(command: list[str]) -> tuple[float, int]:
    """Seconds from start to end of a process, and its peak of memory in bytes."""
    start = [sys.executable, "-I", "-S", "-c", _START, *command]
    seconds, peak = subprocess.run(start, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(seconds), int(peak)


def measure(build: Path, model: str, image: Tensor, runs: int, threads: int, folder: Path) -> dict[str, float]:
    """Medians, by column; the image is [3, H, W] uint8."""
    library, weights = Library(build / "libflic.so"), WEIGHTS / f"{model}.safetensors"
    data = fastlic.compress(image, model)
    assert isinstance(data, bytes)  # one image in, one stream out
    (folder / "x.flic").write_bytes(data)
    command = [str(build / "flic"), "decode", str(folder / "x.flic"), str(folder / "x.ppm")]
    command += ["--codec", str(weights), "--threads", str(threads)]
    pixels = ctypes.create_string_buffer(image.numel())
    python = [sys.executable, "-c", _LIGHT, str(folder / "x.flic"), str(threads)]
    columns = ("process", "open", "decode", "region", "peak", "python", "python peak")
    height, width = image.shape[1:]
    middle = (width // 2 - min(width, 128) // 2, height // 2 - min(height, 128) // 2, min(width, 128), min(height, 128))
    found: dict[str, list[float]] = {name: [] for name in columns}
    for _ in range(runs + 1):
        seconds, peak = process(command)
        began = time.perf_counter()
        handle = library.open(weights)
        opened = time.perf_counter() - began
        began = time.perf_counter()
        library.decode(handle, data, pixels, image.shape[2], threads)
        decoded = time.perf_counter() - began
        part = ctypes.create_string_buffer(3 * middle[2] * middle[3])
        began = time.perf_counter()
        library.decode(handle, data, part, middle[2], threads, middle)
        parted = time.perf_counter() - began
        library.close(handle)
        for name, value in zip(columns, (seconds, opened, decoded, parted, peak, *process(python)), strict=True):
            found[name].append(value)
    assert (folder / "x.ppm").read_bytes().endswith(pixels.raw)
    return {name: statistics.median(values[1:]) for name, values in found.items()}  # the first one warms caches


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.libflic", __doc__)
    parser.add_argument("build", type=Path, metavar="BUILD", help="folder with libflic.so and flic")
    parser.add_argument("--models", nargs="+", default=["jahp"], metavar="NAME", help="shipped weights (default: jahp)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="default: the demonstration photo")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="images of FOLDER (default: 24)")
    parser.add_argument("--runs", type=int, default=9, help="of each image (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    options = parser.parse_args(arguments)
    if not hasattr(os, "wait4"):
        print("this system does not tell what a process took", file=sys.stderr)
        return 2
    paths = [PHOTO] if options.images is None else find_images(options.images)[: options.limit]
    flic = ("process ms", "open ms", "decode ms", "128x128 ms", "process/decode", "peak MB")
    rows: list[tuple[str, ...]] = [("image", *flic, "python ms", "peak MB")]
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            results = []
            for path in paths:
                image = read_image(path).pixels
                one = measure(options.build.resolve(), model, image, options.runs, options.threads, Path(folder))
                results.append(one)
                rows.append(_row(f"{model} {path.name} {image.shape[1]}x{image.shape[2]}", one))
                report.progress(rows[-1][0])
            if len(paths) > 1:
                middle = {name: statistics.median(one[name] for one in results) for name in results[0]}
                rows.append(_row(f"{model}, median of {len(paths)}", middle))
    report.progress()
    print(report.about(), *report.columns(rows), sep="\n")
    return 0


def _row(name: str, one: dict[str, float]) -> tuple[str, ...]:
    milliseconds = (f"{1e3 * one[key]:.1f}" for key in ("process", "open", "decode", "region"))
    python = (f"{1e3 * one['python']:.1f}", f"{one['python peak'] / 1e6:.1f}")
    return (name, *milliseconds, f"{one['process'] / one['decode']:.2f}x", f"{one['peak'] / 1e6:.1f}", *python)


if __name__ == "__main__":
    sys.exit(main())
