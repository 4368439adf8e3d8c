"""Rate and distortion of one photo at a glance: the shipped models beside JPEG, WebP and AVIF.

    python examples/rate_distortion.py PHOTO --out rate_distortion.png

This is `fastlic eval` for one picture, in a few lines; needs matplotlib (pip install "fastlic[eval]").
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, features

from fastlic import light
from fastlic.evaluate.peers import PEERS

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("--out", type=Path, default=Path("rate_distortion.png"))
parser.add_argument("--qualities", type=float, nargs="+", default=range(1, 9), help="of fastlic's models")
parser.add_argument("--models", nargs="+", default=["jahp", "mlic++", "mcquic"])
parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
options = parser.parse_args()

pixels = np.array(Image.open(options.photo).convert("RGB"))
x = torch.from_numpy(pixels).permute(2, 0, 1)
bits = 8 / (pixels.shape[0] * pixels.shape[1])

figure = Figure(figsize=(7, 4.2), layout="constrained")
axes = figure.subplots()
for model in options.models:
    codec, points = light.load(model), []
    for quality in options.qualities:
        data = light.compress(pixels, codec, quality)
        points.append((bits * len(data), light.psnr(pixels, light.decompress(data, codec))))
    axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=2, label=model)
    print(model, " ".join(f"{bpp:.3f}:{psnr:.2f}" for bpp, psnr in points))
reach = axes.get_xlim()[1]
for name in options.peers:
    if not features.check({"jpeg": "jpg"}.get(name, name)):
        continue
    peer, points = PEERS[name], []
    for step in peer.qualities:
        file = peer.compress(x, step)
        decoded = peer.decompress(file).permute(1, 2, 0).contiguous().numpy()
        points.append((bits * len(file), light.psnr(pixels, decoded)))
    axes.plot(*zip(*points, strict=True), marker=".", linewidth=1, linestyle="--", label=str(peer))
axes.set(xlabel="bits per pixel (whole file)", ylabel="PSNR (dB, RGB)", xlim=(0, reach), title=options.photo.name)
axes.grid(alpha=0.3)
axes.legend(frameon=False, fontsize=8)
figure.savefig(options.out, dpi=110)
