"""How much sooner ``fastlic compress`` and ``decompress`` are through many files with ``--jobs``.

``python -m fastlic.bench.jobs`` times whole processes, start and writing included, on 200 photos made of the
demonstration photo: one job on one thread, one job on a thread per core (what the command does unasked), and two jobs
on one thread each. They take turns; the figures are medians. On two idle cores two jobs are to be 1.9 times as fast as
the first.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from fastlic.bench import report
from fastlic.bench.photos import photos
from fastlic.bench.runner import Figures, medians, process

WAYS = {"1 job, 1 thread": ("1", "--threads", "1"), "1 job": ("1",), "2 jobs": ("2",)}  # --jobs, and what goes before
FORMATS = {"compress": "flic", "decompress": "png"}


def run(command: str, way: str, source: Path, target: Path) -> Figures:
    """Wall time of one process; ``target`` is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    jobs, *options = WAYS[way]
    line = [sys.executable, "-m", "fastlic", *options, command, str(source), "--output-dir", str(target)]
    return {way: process([*line, "--quiet", "--jobs", jobs, "--format", FORMATS[command]])[0]}


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.jobs", __doc__)
    parser.add_argument("--count", type=int, default=200, help="photos")
    parser.add_argument("--megapixels", type=float, default=1.0, help="of a photo")
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args(arguments)
    print(report.about())
    with tempfile.TemporaryDirectory() as name:
        source, packed, unpacked = (Path(name) / part for part in ("photos", "packed", "unpacked"))
        photos(source, options.count, options.megapixels, ".png")
        for command, read, written in (("compress", source, packed), ("decompress", packed, unpacked)):
            taken = medians([partial(run, command, way, read, written) for way in WAYS], options.repeat)
            for way, seconds in taken.items():
                ratio = taken["1 job, 1 thread"] / seconds
                print(f"{command:<11}{way:<16}{seconds:8.2f} s  {ratio:5.2f} x", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
