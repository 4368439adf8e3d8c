"""``python -m fastlic.bench.packing [CODEC ...]``: what packing saves of codec files, and what it costs to read them.

Every codec is written with float16 weights twice, int8 weights as they are (layout 1) and packed (layout 2,
fastlic.codec.packing); both files are read in turns, and medians count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import fastlic
from fastlic import Codec
from fastlic.codec import packing

_READS = 9


def sizes(codec: Codec) -> tuple[int, int]:
    """(int8 weights that are packed, bytes that they take with tables and classes)."""
    packed = packing.pack(codec.entropy.to_arrays())
    if packed is None:
        return 0, 0
    values = sum(array.size for array in packing.unpack(packed).values())
    return values, packed.data.nbytes + packed.classes.nbytes + packed.tables.nbytes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.bench.packing", description=__doc__)
    parser.add_argument("codecs", nargs="*", default=["jahp", "mlic++", "mcquic"], help="shipped weights or files")
    options = parser.parse_args(arguments)
    titles = ("codec", "int8 weights", "packed", "bits a weight", "file, plain and packed", "read, plain and packed")
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for name in options.codecs:
        codec = fastlic.load(name)
        values, taken = sizes(codec)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{kind}.safetensors" for kind in ("plain", "packed")]
            seconds: list[list[float]] = [[], []]
            for path, packed in zip(files, (False, True), strict=True):
                codec.save(path, half=True, training=False, packed=packed)
            for _ in range(_READS):
                for path, spent in zip(files, seconds, strict=True):
                    began = time.perf_counter()
                    Codec.load(path)
                    spent.append(time.perf_counter() - began)
            bytes_ = [path.stat().st_size / 1e6 for path in files]
        plain, slow = (1e3 * statistics.median(spent) for spent in seconds)
        bits = 8 * taken / values if values else 8.0
        print(f"| `{name}` | {values / 1e6:.2f} MB | {taken / 1e6:.2f} MB | {bits:.2f} | "
              f"{bytes_[0]:.2f}, {bytes_[1]:.2f} MB | {plain:.0f}, {slow:.0f} ms |")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
