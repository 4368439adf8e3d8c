"""``python -m fastlic.bench.wasm``: decoding in a browser beside the same core compiled for this machine.

For each shipped model a photo of 512 x 768 at quality 4. Chromium, headless, runs flic.wasm in a worker; the message to
it and back counts. Natively one thread decodes to uint8. Both take turns; times are medians of the clock, the ratio is
that of CPU time over all rounds, which other work on the machine disturbs less. csrc/wasm/build.sh builds what runs in
the browser, from this checkout. Sizes of files follow, as they are, by gzip -9 and by brotli -q 11.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

import fastlic
from fastlic import Codec
from fastlic.bench import report
from fastlic.bench.chromium import Chromium, served
from fastlic.bench.photos import tiled
from fastlic.bench.runner import medians, timed
from fastlic.codec.cards import cards

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


def times(name: str, built: Path, rounds: int) -> tuple[float, float, float]:
    """Milliseconds in the browser and natively, and the ratio of CPU times."""
    codec: Codec = fastlic.load(name)
    data = codec.compress(tiled(*SIZE))
    assert isinstance(data, bytes)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        (site / "index.html").write_text("<!doctype html><title>bench</title>")
        (site / "image.flic").write_bytes(data)
        (site / "flic").symlink_to(built)
        (site / "weights").symlink_to(ROOT / "fastlic" / "weights")
        with served(site) as url, Chromium() as page:
            page.open(f"{url}/index.html")
            page.evaluate(_OPEN % name)
            decode = partial(codec.decompress, data, dtype=torch.uint8)
            decode()
            browser, native = page.cpu_seconds(), time.thread_time()
            parts = [lambda: {"browser": page.evaluate(_DECODE)}, timed("native", decode)]
            found = medians(parts, rounds)
            ratio = (page.cpu_seconds() - browser) / (time.thread_time() - native)
    return found["browser"], 1e3 * found["native"], ratio


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
    options = parser.parse_args(arguments)
    subprocess.run([str(ROOT / "csrc" / "wasm" / "build.sh"), str(options.built)], check=True, stdout=2)
    torch.set_num_threads(1)
    rows = []
    for name in options.models:
        report.progress(f"{name} ...")
        browser, native, ratio = times(name, options.built.resolve(), options.rounds)
        rows.append([name, f"{browser:.0f}", f"{native:.0f}", f"{ratio:.2f}x"])
    report.progress()
    print(report.about())
    print(report.markdown(["decode 512 x 768", "Chromium, ms", "native, ms", "CPU time"], rows))
    print()
    print(report.markdown(["file", "bytes", "gzip", "brotli"], sizes(options.built)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
