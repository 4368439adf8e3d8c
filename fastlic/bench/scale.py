"""Images per second: of one core, and of Ray on this machine beside the command line.

    python -m fastlic.bench.scale                       500 photos, two workers
    python -m fastlic.bench.scale --back                the same streams back to images
    python -m fastlic.bench.scale --core                images of 2 MP on one thread, which docs/scale.md reckons with

The photos are crops of the demonstration photo, each at its own place, as JPEG files. The same folder is compressed in
turns by `fastlic compress --jobs`, `fastlic batch --jobs`, and a pipeline of Ray Data of as many cores, its
first and a later one; its rows are written as parquet files. Start-up counts for each: of Python for the commands, of
workers and of Ray's own actors for the pipeline. The cluster itself is up before; the row "from nothing" has what that
took, and the import of Ray, added. Packages are to be compiled, as pip does (`python -m compileall`): workers import.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fastlic import light
from fastlic.batch import Compressor, Decompressor
from fastlic.batch import ray as cluster
from fastlic.bench import report
from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import find_images
from fastlic.errors import optional


def photos(folder: Path, count: int, source: Path | None) -> None:
    """So many different crops, about 0.2 MP of the demonstration photo or crops of the images in a folder, as JPEGs."""
    folder.mkdir()
    paths = [PHOTO] if source is None else find_images(source)
    random = np.random.default_rng(0)
    for i in range(count):
        with Image.open(paths[i % len(paths)]) as image:
            width, height = (int(side * 0.9) for side in image.size)
            left, top = random.integers(0, image.width - width + 1), random.integers(0, image.height - height + 1)
            image.convert("RGB").crop((left, top, left + width, top + height)).save(folder / f"{i:05d}.jpg", quality=92)


def core(megapixels: float, count: int, quality: float) -> dict[str, float]:
    """Seconds of CPU time per image of one thread: an image file in, a stream out, back to pixels, and back to a PNG
    file; and sizes in bytes."""
    with Image.open(PHOTO) as image:
        photo = np.array(image.convert("RGB"))
    tile = np.concatenate([photo, photo[:, ::-1]], 1)
    tile = np.concatenate([tile, tile[::-1]], 0)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    whole = np.tile(tile, (height // tile.shape[0] + 1, width // tile.shape[1] + 1, 1))[:height, :width]
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "JPEG", quality=92)
    compressor = Compressor(quality=quality)
    row = compressor.one(file.getvalue())  # opens the weights
    times: dict[str, list[float]] = {"compress": [], "decompress": [], "decompress to PNG": []}
    for _ in range(count):
        began = time.process_time()
        compressor.one(file.getvalue())
        middle = time.process_time()
        light.decompress(row["flic"], threads=1)
        end = time.process_time()
        Decompressor().one(row["flic"])
        times["compress"].append(middle - began)
        times["decompress"].append(end - middle)
        times["decompress to PNG"].append(time.process_time() - end)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {**seconds, "bytes_in": float(len(file.getvalue())), "bytes_out": float(len(row["flic"]))}


def compress_command(folder: Path, out: Path, jobs: int, quality: float) -> None:
    _run("compress", str(folder), "--output-dir", str(out), "--no-verify", "--jobs", str(jobs), "-q", str(quality))


def batch_command(folder: Path, out: Path, jobs: int, quality: float) -> None:
    _run("batch", str(folder), str(out), "--jobs", str(jobs), "-q", str(quality))


def ray_pipeline(folder: Path, out: Path, jobs: int, quality: float) -> None:
    cluster.apply(cluster.read(str(folder)), Compressor(quality=quality)).write_parquet(str(out))


def decompress_command(folder: Path, out: Path, jobs: int, quality: float) -> None:
    _run("decompress", str(folder), "--output-dir", str(out), "--jobs", str(jobs))


def batch_back(folder: Path, out: Path, jobs: int, quality: float) -> None:
    _run("batch", str(folder), str(out), "--jobs", str(jobs), "--decompress")


def ray_back(folder: Path, out: Path, jobs: int, quality: float) -> None:
    cluster.apply(cluster.read(str(folder)), Decompressor(column="bytes")).write_parquet(str(out))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "fastlic", *arguments], stdout=subprocess.DEVNULL, check=True)


FIRST, LATER, STARTED = "Ray Data", "Ray Data, later", "Ray Data, from nothing"
Ways = dict[str, Callable[[Path, Path, int, float], None]]
WAYS: Ways = {
    "fastlic compress": compress_command,
    "fastlic batch": batch_command,
    FIRST: ray_pipeline,
    LATER: ray_pipeline,
}
BACK: Ways = {
    "fastlic decompress": decompress_command,
    "fastlic batch -d": batch_back,
    FIRST: ray_back,
    LATER: ray_back,
}
SETTLED = 3  # seconds that Ray's workers may take to be there after its init


def _written(out: Path) -> int:
    if files := [*out.glob("*.flic"), *out.glob("*.png")]:
        return len(files)
    parquet = optional("pyarrow.parquet", "ray")
    return sum(parquet.read_metadata(path).num_rows for path in out.glob("*.parquet"))


def compare(
    count: int, jobs: int, runs: int, quality: float, source: Path | None, back: bool = False
) -> list[tuple[str, ...]]:
    """Rows of a table: way, seconds, images per second, ratio to the first."""
    ways = BACK if back else WAYS
    began = time.perf_counter()
    ray = optional("ray", "ray")
    context = optional("ray.data", "ray").DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    start = time.perf_counter() - began
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, STARTED]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        photos(folder, count, source)
        if back:
            photographs, folder = folder, Path(temporary) / "streams"
            compress_command(photographs, folder, jobs, quality)

        def timed(run: int, *names: str) -> None:
            for name in names:
                report.progress(f"{name}, run {run + 1} of {runs}")
                out = Path(temporary) / f"{name.replace(' ', '-')}-{run}"
                began = time.perf_counter()
                ways[name](folder, out, jobs, quality)
                seconds[name].append(time.perf_counter() - began)
                if (found := _written(out)) != count:
                    raise RuntimeError(f"{name} wrote {found} of {count} images")

        for run in range(runs):
            timed(run, *(name for name in ways if name not in (FIRST, LATER)))
            began = time.perf_counter()
            ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False, logging_level="warning")
            up = start + time.perf_counter() - began
            time.sleep(SETTLED)
            try:
                timed(run, FIRST, LATER)
            finally:
                ray.shutdown()
            seconds[STARTED].append(up + seconds[FIRST][-1])
    report.progress()
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    first = middle[next(iter(ways))]
    rows: list[tuple[str, ...]] = [("way", "seconds", "images/s", "throughput")]
    rows += [(name, f"{s:.2f}", f"{count / s:.2f}", f"{first / s:.2f}x") for name, s in middle.items()]
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.scale", __doc__)
    parser.add_argument("--photos", type=int, default=500, metavar="N", help="default: 500")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="crop these in place of the demonstration photo")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each way, in turns (default: 3)")
    parser.add_argument("--quality", type=float, default=4.0, help="default: 4")
    parser.add_argument("--back", action="store_true", help="time the way back, of streams to PNG files")
    parser.add_argument("--core", action="store_true", help="only the rate of one thread, in CPU time")
    parser.add_argument("--megapixels", type=float, default=2.0, help="of --core (default: 2)")
    options = parser.parse_args(arguments)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    if options.core:
        one = core(options.megapixels, max(1, options.runs), options.quality)
        print(report.about() + load)
        for name in ("compress", "decompress", "decompress to PNG"):
            print(f"{name}: {one[name]:.3f} s of CPU time, {1 / one[name]:.2f} images/s per core")
        print(f"JPEG {one['bytes_in']:,.0f} bytes, .flic {one['bytes_out']:,.0f} bytes, {options.megapixels:g} MP")
        return 0
    rows = compare(options.photos, options.workers, options.runs, options.quality, options.images, options.back)
    print(report.about() + load, *report.columns(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
