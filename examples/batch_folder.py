"""A folder of photographs to .flic and back, several at once: fastlic.light in a pool of threads.

    python examples/batch_folder.py FOLDER OUT

The core runs without Python's lock, so threads are enough. Each image gets one thread; the codec is opened once. An
image that fails is reported and stops nothing.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

import fastlic
from fastlic import light

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--model", default="jahp")
parser.add_argument("--quality", type=float, default=4)
parser.add_argument("--workers", type=int, default=os.cpu_count())
options = parser.parse_args()

codec = light.load(options.model)


def one(path: Path) -> str:
    try:
        pixels = np.array(Image.open(path).convert("RGB"))
        data = light.compress(pixels, codec, options.quality, threads=1)
        psnr = light.psnr(pixels, light.decompress(data, codec, threads=1))
    except (OSError, ValueError, fastlic.errors.FastlicError) as error:
        return f"{path.name}: {error}"
    target = options.out / path.relative_to(options.folder).with_suffix(".flic")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return f"{path.name}: {path.stat().st_size:,} to {len(data):,} bytes, {psnr:.2f} dB"


began = time.perf_counter()
paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
with ThreadPoolExecutor(options.workers) as pool:
    for line in pool.map(one, paths):
        print(line)
print(f"{len(paths)} images in {time.perf_counter() - began:.1f} s, {options.workers} at once")
