"""Images per second: of one core, and of Ray on this machine beside the command line.

    python -m fastlic.bench.scale                       500 photos, two workers
    python -m fastlic.bench.scale --back                the same streams back to images
    python -m fastlic.bench.scale --core                images of 2 MP on one thread, which docs/scale.md reckons with

The photos, 0.2 MP each, are the demonstration photo from different places on, as JPEG files. The same folder is
compressed in turns by `fastlic compress --jobs`, `fastlic batch --jobs`, and a pipeline of Ray Data of as many cores,
its first and a later one; its rows are written as parquet files. Start-up counts for each: of Python for the commands,
of workers and of Ray's own actors for the pipeline. The cluster itself is up before; the row "from nothing" has what
that took, and the import of Ray, added. Packages are to be compiled, as pip does (`python -m compileall`): workers
import.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from fastlic import light
from fastlic.batch import Compressor, Decompressor
from fastlic.batch import ray as cluster
from fastlic.bench import report
from fastlic.bench.photos import photos
from fastlic.bench.runner import Figures, Runs, medians, process, timed
from fastlic.errors import optional

COMPRESS = "compress FOLDER --output-dir OUT --no-verify --jobs JOBS"
WAYS = {"fastlic compress": COMPRESS, "fastlic batch": "batch FOLDER OUT --jobs JOBS"}
BACK = {
    "fastlic decompress": "decompress FOLDER --output-dir OUT --jobs JOBS",
    "fastlic batch -d": "batch FOLDER OUT --jobs JOBS --decompress",
}
FIRST, LATER, STARTED = "Ray Data", "Ray Data, later", "Ray Data, from nothing"
SETTLED = 3  # seconds that Ray's workers may take to be there after its init


def core(megapixels: float, count: int) -> tuple[Figures, int, int]:
    """Seconds of CPU time per image of one thread, an image file in, a stream out, back to pixels, and back to a PNG
    file; and bytes of both files."""
    with tempfile.TemporaryDirectory() as temporary:
        photos(Path(temporary) / "photo", 1, megapixels, ".jpg")
        data = (Path(temporary) / "photo" / "00000.jpg").read_bytes()
    compressor, decompressor = Compressor(), Decompressor()
    stream = compressor.one(data)["flic"]  # opens the weights
    runs: Runs = {
        "compress": partial(compressor.one, data),
        "decompress": partial(light.decompress, stream, threads=1),
        "decompress to PNG": partial(decompressor.one, stream),
    }
    found = medians([timed(name, run, "process") for name, run in runs.items()], count)
    return found, len(data), len(stream)


def command(text: str, folder: Path, out: Path, jobs: int) -> float:
    """Seconds of ``fastlic`` with these words."""
    given = {"FOLDER": str(folder), "OUT": str(out), "JOBS": str(jobs)}
    return process([sys.executable, "-m", "fastlic", *(given.get(word, word) for word in text.split())])[0]


def pipeline(back: bool, folder: Path, out: Path) -> float:
    """Seconds of Ray Data."""
    began = time.perf_counter()
    step = Decompressor(column="bytes") if back else Compressor()
    cluster.apply(cluster.read(str(folder)), step).write_parquet(str(out))
    return time.perf_counter() - began


def _written(out: Path) -> int:
    if files := [*out.glob("*.flic"), *out.glob("*.png")]:
        return len(files)
    parquet = optional("pyarrow.parquet", "ray")
    return sum(parquet.read_metadata(path).num_rows for path in out.glob("*.parquet"))


def compare(count: int, jobs: int, runs: int, back: bool = False) -> list[tuple[str, ...]]:
    """Rows of a table: way, seconds, images per second, ratio to the first."""
    began = time.perf_counter()
    ray = optional("ray", "ray")
    context = optional("ray.data", "ray").DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    imported = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        photos(folder, count, 0.2, ".jpg")
        if back:
            streams = Path(temporary) / "streams"
            command(COMPRESS, folder, streams, jobs)
            folder = streams

        def checked(name: str, run: partial[float]) -> Figures:
            report.progress(name)
            with tempfile.TemporaryDirectory(dir=temporary) as out:
                seconds = run(folder=folder, out=Path(out))
                if (found := _written(Path(out))) != count:
                    raise RuntimeError(f"{name} wrote {found} of {count} images")
            return {name: seconds}

        def pipelines() -> Figures:
            began = time.perf_counter()
            ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False, logging_level="warning")
            up = imported + time.perf_counter() - began
            time.sleep(SETTLED)
            try:
                first, later = (checked(name, partial(pipeline, back)) for name in (FIRST, LATER))
            finally:
                ray.shutdown()
            return {**first, **later, STARTED: up + first[FIRST]}

        ways = (BACK if back else WAYS).items()
        commands = [partial(checked, name, partial(command, text, jobs=jobs)) for name, text in ways]
        taken = medians([*commands, pipelines], runs)
    report.progress()
    first = next(iter(taken.values()))
    rows: list[tuple[str, ...]] = [("way", "seconds", "images/s", "throughput")]
    return rows + [(name, f"{s:.2f}", f"{count / s:.2f}", f"{first / s:.2f}x") for name, s in taken.items()]


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.scale", __doc__)
    parser.add_argument("--photos", type=int, default=500, metavar="N", help="default: 500")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each way, in turns (default: 3)")
    parser.add_argument("--back", action="store_true", help="time the way back, of streams to PNG files")
    parser.add_argument("--core", action="store_true", help="only the rate of one thread, in CPU time")
    parser.add_argument("--megapixels", type=float, default=2.0, help="of --core (default: 2)")
    options = parser.parse_args(arguments)
    load = f", load {os.getloadavg()[0]:.1f}"
    if options.core:
        taken, before, after = core(options.megapixels, options.runs)
        print(report.about() + load)
        for name, seconds in taken.items():
            print(f"{name}: {seconds:.3f} s of CPU time, {1 / seconds:.2f} images/s per core")
        print(f"JPEG {before:,} bytes, .flic {after:,} bytes, {options.megapixels:g} MP")
        return 0
    rows = compare(options.photos, options.workers, options.runs, options.back)
    print(report.about() + load, *report.columns(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
