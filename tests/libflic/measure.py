"""Prints what calls really take beside what flic_memory_needed says: ``measure.py LIBRARY CODEC SIDE:SIDE THREADS...``.

A JSON list of [way, threads, promised, measured] in bytes. Each call runs in a fork of its own, with nothing freed
before it that it could use again.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import binding


def kilobytes(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def grown(call) -> int:
    """Bytes by which a call raises the peak of a fork of this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
        before = kilobytes("VmRSS:")
        call()
        os.write(write, str(kilobytes("VmHWM:") - before << 10).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    return int(os.read(read, 100))


def picture(width: int, height: int) -> bytes:
    """Something with edges, gradients and grain."""
    noise = os.urandom(1 << 16)
    return bytes(
        min((x // 3 + y // 2 + (97 if (x // 40 + y // 56) % 2 else 0) + noise[(x * 7 + y * 31 + c) % 65536] // 16), 255)
        for y in range(height)
        for x in range(width)
        for c in range(3)
    )


def main(library: str, path: str, size: str, *threads: str) -> None:
    codec = binding.Library(library).open(path)
    width, height = map(int, size.split(":"))
    pixels = picture(width, height)
    quality = min(codec.info().qualities, 4)
    data = codec.encode(pixels, width, height, quality)
    out = ctypes.create_string_buffer(len(pixels))  # its pages are there beforehand
    rows = []
    for count in map(int, threads):
        own = binding.options(threads=count)

        def decode(own: binding.Options = own) -> None:
            error = binding.Error()
            status = codec.library.c.flic_decode(
                codec.handle, data, len(data), ctypes.byref(own), out, len(out), 3 * width, ctypes.byref(error)
            )
            assert status == 0, error.message

        def encode(count: int = count) -> None:
            codec.encode(pixels, width, height, quality, threads=count)

        for way, call in (("decode", decode), ("encode", encode)):
            rows.append([way, count, codec.memory(width, height, count, way == "encode"), grown(call)])
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
