"""``python -m fastlic.bench.targets FOLDER``: how near targets are met on the images of a folder, in how many encodes.

Of each image five targets of each kind, evenly spaced from what quality 1 gives to what the last one does.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np

from fastlic import light
from fastlic.bench import report
from fastlic.bench.photos import images
from fastlic.codec.container import QUALITY_STEPS
from fastlic.codec.targets import Goal, Kind, psnr, search

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_KINDS: tuple[Kind, ...] = ("target_bytes", "target_bpp", "target_psnr")


def met(codec: light.Codec, x: np.ndarray) -> list[tuple[Kind, int, float]]:
    """(kind, encodes, how far off: a share of the bytes, or dB) of every target of one image."""
    pixels = x.shape[0] * x.shape[1]

    @cache
    def encode(quality: float, worth: float = 1.0) -> bytes:
        return codec.encode(x, round(quality * QUALITY_STEPS), 1, pixels, (), None, worth)

    @cache
    def psnr_of(data: bytes) -> float:
        return psnr(x, light.decompress(data, codec, threads=1))

    first, last = encode(1.0), encode(float(codec.qualities))
    found = []
    for share in _SHARES:
        size = len(first) * (len(last) / len(first)) ** share
        wanted = (round(size), 8 * size / pixels, psnr_of(first) + share * (psnr_of(last) - psnr_of(first)))
        for kind, value in zip(_KINDS, wanted, strict=True):
            result = search(Goal(kind, value), encode, psnr_of, codec.qualities, pixels)
            unit = pixels / 8 if kind == "target_bpp" else 1
            off = psnr_of(result.data) - value if kind == "target_psnr" else len(result.data) / (value * unit) - 1
            found.append((kind, result.encodes, off))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.targets", __doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="jahp", metavar="NAME")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    options = parser.parse_args(arguments)
    codec, found = light.load(options.model), []
    for name, x in images(options.folder, options.limit):
        report.progress(name)
        found += met(codec, x.permute(1, 2, 0).contiguous().numpy())
    report.progress()
    rows = []
    for kind in _KINDS:
        encodes, off = (np.array(column) for column in zip(*[f[1:] for f in found if f[0] == kind], strict=True))
        shown = [f"{v:.3f} dB" if kind == "target_psnr" else f"{v:.2%}" for v in (np.median(abs(off)), abs(off).max())]
        rows.append([kind, f"{np.median(encodes):g}, {encodes.max()}", ", ".join(shown)])
    print(report.markdown(["target", "encodes, median and worst", "off by, median and worst"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
