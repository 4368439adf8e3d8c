"""``python -m fastlic.bench.effort FOLDER``: bytes at equal quality and time of efforts, on the images of a folder.

Real bytes, pixels of real decoding, BD-rates against effort 0, CPU time of one thread. What a codec measures once for
a quality stays outside the times.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import fastlic
from fastlic.bench import report
from fastlic.bench.photos import images
from fastlic.codec.codec import Codec
from fastlic.evaluate import psnr
from fastlic.evaluate.bd_rate import bd_rate
from fastlic.evaluate.metrics import MS_SSIM_MIN_SIDE, ms_ssim

Point = tuple[float, ...]  # bits per pixel, dB of PSNR, seconds, perhaps dB of MS-SSIM


def point(codec: Codec, x: Tensor, quality: float, effort: int, structure: bool = False) -> Point:
    """One image [3, H, W] uint8, compressed and decompressed; ``structure``: whether MS-SSIM is measured."""
    codec.compress(x[:, :32, :32], quality, effort=effort)
    began = time.process_time()
    data = codec.compress(x, quality, effort=effort)
    seconds = time.process_time() - began
    assert isinstance(data, bytes)  # of one image
    shown = codec.decompress([data], dtype=torch.uint8)[0]
    own = (8 * len(data) / (x.shape[1] * x.shape[2]), psnr(x, shown), seconds)
    if not structure:
        return own
    similarity = ms_ssim(x, shown)
    if similarity is None:
        raise ValueError(f"MS-SSIM needs {MS_SSIM_MIN_SIDE} pixels a side, got {list(x.shape)}")
    return *own, -10 * math.log10(1 - similarity)


def _saved(base: NDArray[np.float64], own: NDArray[np.float64], column: int) -> list[str]:
    """Bytes at equal quality, which is in ``column`` of points [images, qualities, columns]; of single images, too."""

    def rate(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        anchor, test = ([(p[0], p[column]) for p in points.tolist()] for points in (a, b))
        return bd_rate(anchor, test)

    single = [rate(a, b) for a, b in zip(base, own, strict=True)]
    return [f"{rate(base.mean(0), own.mean(0)):+.1f} %", f"{min(single):+.1f} to {max(single):+.1f} %"]


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.effort", __doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="jahp", metavar="NAME")
    parser.add_argument("--efforts", nargs="+", type=int, default=[1, 3, 6, 7, 8, 9], metavar="N")
    parser.add_argument("--qualities", nargs="+", type=float, default=[2, 5, 8], metavar="Q")
    parser.add_argument("--ms-ssim", action="store_true", help="compare bytes at equal MS-SSIM, too")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    codec, efforts = fastlic.load(options.model), [0, *(e for e in options.efforts if e)]
    curves: dict[int, list[list[Point]]] = {effort: [] for effort in efforts}
    for name, x in images(options.folder, options.limit):
        for effort, curve in curves.items():
            report.progress(f"{name} effort {effort}")
            curve.append([point(codec, x, quality, effort, options.ms_ssim) for quality in options.qualities])
    report.progress()
    base = np.array(curves[0])
    print(f"{codec.name}, {len(base)} images, qualities {options.qualities}; {report.about()}")
    measures = {"PSNR": 1, "MS-SSIM": 3} if options.ms_ssim else {"PSNR": 1}
    rows = []
    for effort in efforts[1:]:
        own = np.array(curves[effort])
        saved = [cell for column in measures.values() for cell in _saved(base, own, column)]
        rows.append([str(effort), *saved, f"{own[..., 2].sum() / base[..., 2].sum():.1f}x"])
    heads = [cell for name in measures for cell in (f"bytes at equal {name}", "of single images")]
    print(report.markdown(["effort", *heads, "CPU time"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
