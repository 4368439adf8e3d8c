"""Photographs to files and back with CompressAI's mbt2018, as it is and with fastlic: two lines differ.

    python examples/compressai_roundtrip.py PHOTO ...                plain CompressAI
    python examples/compressai_roundtrip.py --fastlic PHOTO ...      the same script, accelerated

The first accelerated run converts the model and keeps the conversion beside the files; later runs, and other machines,
read it. ``--random`` takes random weights in place of the published ones, which CompressAI downloads.
"""

import argparse
import pickle
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from compressai.ops import compute_padding
from compressai.zoo import mbt2018
from PIL import Image

import fastlic

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photos", nargs="+", type=Path)
parser.add_argument("--fastlic", action="store_true", help="accelerate the model")
parser.add_argument("--random", action="store_true", help="random weights, nothing to download")
parser.add_argument("--out", type=Path, default=Path("roundtrip"), help="folder of the files (default: roundtrip)")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
clock = time.perf_counter()


def lap(what: str) -> None:
    global clock
    print(f"{what:45} {time.perf_counter() - clock:8.2f} s")
    clock = time.perf_counter()


if options.random:
    from fastlic.lifelike.compressai import lively

    model = lively("mbt2018")
else:
    model = mbt2018(quality=3, pretrained=True).eval()
lap("model")

if options.fastlic:  # all that is new
    conversion = options.out / "mbt2018.safetensors"
    report = fastlic.accelerate(model, calibration=conversion if conversion.exists() else None)
    report.save(conversion)
    lap("fastlic.accelerate")

with torch.no_grad():
    for photo in options.photos:
        x = torch.from_numpy(np.array(Image.open(photo).convert("RGB"))).permute(2, 0, 1)[None] / 255
        pad, unpad = compute_padding(x.shape[2], x.shape[3], min_div=64)
        coded = model.compress(F.pad(x, pad))
        file = options.out / f"{photo.stem}.bin"
        file.write_bytes(pickle.dumps((coded["strings"], tuple(coded["shape"]), unpad)))
        lap(f"{photo.name}: to {file.stat().st_size} bytes")

        strings, shape, unpad = pickle.loads(file.read_bytes())
        x_hat = F.pad(model.decompress(strings, shape)["x_hat"], unpad)[0]
        pixels = (x_hat * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(options.out / f"{photo.stem}.png")
        lap(f"{photo.name}: back to a picture")
