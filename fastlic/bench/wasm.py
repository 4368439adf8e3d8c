"""``python -m fastlic.bench.wasm``: decoding in a browser beside the same core compiled for this machine.

For each shipped model a photo of 512 x 768 at quality 4. Chromium, headless, runs flic.wasm in a worker; the message to
it and back counts. Natively one thread decodes to uint8. Both take turns; times are medians of the clock, the ratio is
that of CPU time over all rounds, which other work on the machine disturbs less. csrc/wasm/build.sh builds what runs in
the browser, from this checkout. Sizes of files follow, as they are, by gzip -9 and by brotli -q 11.
"""

from __future__ import annotations

import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import fastlic
from fastlic import Codec
from fastlic.bench import report
from fastlic.bench.chromium import Chromium, served
from fastlic.codec.calibration import PHOTO
from fastlic.codec.cards import cards
from fastlic.codec.image_files import read_image

ROOT = Path(fastlic.__file__).resolve().parents[1]
SIZE = (512, 768)
_OPEN = """
const { load } = await import("./flic/flic.js");
window.flic = await load({ weights: "weights/%s.safetensors" });
window.data = new Uint8Array(await (await fetch("image.flic")).arrayBuffer());
for (let i = 0; i < 4; i++) await flic.decode(data);
"""
_BROTLI = "process.stdout.write(zlib.brotliCompressSync(fs.readFileSync(0)))"  # of quality 11
_DECODE = "const begin = performance.now(); await flic.decode(data); return performance.now() - begin;"


def photo() -> torch.Tensor:
    """The demonstration photo and its mirror images, side by side, cut to SIZE."""
    image = read_image(PHOTO).pixels
    wide = torch.cat([image, image.flip(2)], 2)
    return torch.cat([wide, wide.flip(1)], 1)[:, : SIZE[0], : SIZE[1]].contiguous()


def times(name: str, built: Path, rounds: int) -> tuple[float, float, float]:
    """Milliseconds in the browser and natively, and the ratio of CPU times."""
    codec: Codec = fastlic.load(name)
    data = codec.compress(photo(), 4 if codec.qualities else None)
    assert isinstance(data, bytes)
    browser, native, cpu = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        (site / "index.html").write_text("<!doctype html><title>bench</title>")
        (site / "image.flic").write_bytes(data)
        (site / "flic").symlink_to(built)
        (site / "weights").symlink_to(ROOT / "fastlic" / "weights")
        with served(site) as url, Chromium() as page:
            page.open(f"{url}/index.html")
            page.evaluate(_OPEN % name)
            codec.decompress(data, dtype=torch.uint8)
            before = page.cpu_seconds()
            for _ in range(rounds):
                browser.append(page.evaluate(_DECODE))
                begin, cpu_begin = time.perf_counter(), time.thread_time()
                codec.decompress(data, dtype=torch.uint8)
                native.append(1e3 * (time.perf_counter() - begin))
                cpu += time.thread_time() - cpu_begin
            ratio = (page.cpu_seconds() - before) / cpu
    return statistics.median(browser), statistics.median(native), ratio


def sizes(built: Path) -> list[list[str]]:
    """Bytes of what a page fetches: as it is, by gzip, by brotli."""
    weights = sorted((ROOT / "fastlic" / "weights").glob("*.safetensors"))
    rows = []
    for path in [*(built / name for name in ("flic.wasm", "flic.mjs", "flic.js", "flic-worker.js")), *weights]:
        data = path.read_bytes()
        brotli = subprocess.run(["node", "-e", _BROTLI], input=data, stdout=subprocess.PIPE, check=True).stdout
        cells = (len(data), len(gzip.compress(data, 9)), len(brotli))
        rows.append([path.name, *(f"{n:,}" for n in cells)])
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.wasm", __doc__)
    parser.add_argument("--models", nargs="+", default=sorted(cards()), metavar="NAME")
    parser.add_argument("--built", type=Path, default=ROOT / "build" / "wasm", help="folder of the build, kept")
    parser.add_argument("--rounds", type=int, default=15, help="decodings of each side (default: 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line per model")
    options = parser.parse_args(arguments)
    subprocess.run([str(ROOT / "csrc" / "wasm" / "build.sh"), str(options.built)], check=True, stdout=2)
    torch.set_num_threads(1)
    rows = []
    for name in options.models:
        report.progress(f"{name} ...")
        browser, native, ratio = times(name, options.built.resolve(), options.rounds)
        rows.append([name, f"{browser:.0f}", f"{native:.0f}", f"{ratio:.2f}x"])
        if options.json:
            line = {"model": name, "browser_ms": browser, "native_ms": native, "ratio": ratio, **report.machine()}
            report.append_json(options.json, line)
    report.progress()
    print(report.about())
    print(report.markdown(["decode 512 x 768", "Chromium, ms", "native, ms", "CPU time"], rows))
    print()
    print(report.markdown(["file", "bytes", "gzip", "brotli"], sizes(options.built)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
