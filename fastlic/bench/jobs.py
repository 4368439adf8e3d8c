"""How much sooner ``fastlic compress`` and ``decompress`` are through many files with ``--jobs``.

``python -m fastlic.bench.jobs`` times whole processes, start and writing included, on 200 photos made of the
demonstration photo: one job on one thread, one job on a thread per core (what the command does unasked), and two jobs
on one thread each. They take turns; the figures are medians. On two idle cores two jobs are to be 1.9 times as fast as
the first.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fastlic.bench import report
from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import encode_image, read_image

_FORMATS = {"compress": "flic", "decompress": "png"}


def photos(folder: Path, count: int, megapixels: float) -> None:
    """PNG files 000.png, ... of that size each, all different."""
    photo = read_image(PHOTO).array
    height, width = (round((megapixels * 1e6 * a / b) ** 0.5) for a, b in ((2, 3), (3, 2)))
    tiled = np.tile(photo, (-(-height // photo.shape[0]), -(-width // photo.shape[1]), 1))[:height, :width]
    for index in range(count):
        moved = np.roll(tiled, (7 * index, 11 * index), (0, 1))
        (folder / f"{index:03}.png").write_bytes(encode_image(moved, ".png"))


def seconds(command: str, source: Path, target: Path, options: list[str], jobs: int) -> float:
    """Wall time of one process; ``target`` is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    line = [sys.executable, "-m", "fastlic", *options, command, str(source), "--output-dir", str(target), "--quiet"]
    began = time.perf_counter()
    subprocess.run([*line, "--jobs", str(jobs), "--format", _FORMATS[command]], check=True)
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.jobs", __doc__)
    parser.add_argument("--count", type=int, default=200, help="photos")
    parser.add_argument("--megapixels", type=float, default=1.0, help="of a photo")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    asked = parser.parse_args(arguments)
    ways = {"1 job, 1 thread": (["--threads", "1"], 1), "1 job": ([], 1), f"{asked.jobs} jobs": ([], asked.jobs)}
    print(report.about())
    with tempfile.TemporaryDirectory() as name:
        source, packed, unpacked = (Path(name) / part for part in ("photos", "packed", "unpacked"))
        source.mkdir()
        photos(source, asked.count, asked.megapixels)
        for command, read, written in (("compress", source, packed), ("decompress", packed, unpacked)):
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(asked.repeat):
                for way, (options, jobs) in ways.items():
                    taken[way].append(seconds(command, read, written, options, jobs))
            first = statistics.median(taken["1 job, 1 thread"])
            for way, times in taken.items():
                middle = statistics.median(times)
                print(f"{command:<11}{way:<16}{middle:8.2f} s  {first / middle:5.2f} x", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
