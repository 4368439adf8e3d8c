"""``python -m fastlic.bench.codes CODEC FOLDER``: whether the codebook search picks the words that it should.

Every vector that the codec quantises on every image of the folder is searched again in float64, word by word, in plain
torch. Two words at the very same float64 distance are a tie, of which the lower index counts. For comparison: how many
of the words a search by float32 distances, McQuic's own formulation, would choose otherwise, and how much farther away
the worst of those is. Of a codec with a context for its codes also how many bits that saves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

import fastlic
from fastlic.bench.same_bits import SUFFIXES
from fastlic.bench.suites.mcquic import all_distances
from fastlic.codec.image_files import read_image
from fastlic.models.mcquic import quantizer
from fastlic.ops.codebook import codebook_nearest

Searched = tuple[Tensor, Tensor, Tensor]  # x [n, m, d], words [m, k, d], indexes [n, m]


def quality_of(codec: fastlic.Codec) -> float | None:
    """The default quality, or None for a codec of one rate."""
    return min(float(fastlic.DEFAULT_QUALITY), float(codec.qualities)) if codec.qualities else None


def searches(codec: fastlic.Codec, image: Tensor) -> list[Searched]:
    """What the codec searched on one image [3, H, W], and found."""
    seen: list[Searched] = []

    def search(x: Tensor, words: Tensor) -> Tensor:
        seen.append((x, words, codebook_nearest(x, words)))
        return seen[-1][2]

    with patch.object(quantizer, "codebook_nearest", search):
        codec.latents(image, quality_of(codec))
    return seen


def compare(x: Tensor, words: Tensor, found: Tensor) -> tuple[int, int, float]:
    """How many indexes differ from the float64 search, how many of McQuic's do, and how much those lose at worst."""
    exact = codebook_nearest(x, words, backend="reference")
    n, m, d = x.shape
    other = all_distances(x.reshape(1, n, m * d).transpose(1, 2).reshape(1, m * d, 1, n), words)[0, :, 0].t()
    loss = distance(x, words, other) / distance(x, words, exact).clamp_min(1e-30) - 1
    return int((found != exact).sum()), int((other != exact).sum()), float(loss.max())


def distance(x: Tensor, words: Tensor, codes: Tensor) -> Tensor:
    """float64 [n, m], squared."""
    chosen = words.gather(1, codes.t()[..., None].expand(-1, -1, x.shape[2])).transpose(0, 1)
    return (x.double() - chosen.double()).square().sum(-1)


def bits(codec: fastlic.Codec, images: Sequence[Tensor]) -> tuple[float, float]:
    """Information of all codes of ``images`` under the codec's tables alone, and with the context it may have."""
    plain = replace(codec.entropy, context=None)
    sums = [0.0, 0.0]
    for image in images:
        for name, codes in codec.latents(image, quality_of(codec)).items():
            level = int(name.removeprefix("codes_"))
            for i, tables in enumerate((plain, codec.entropy)):
                sums[i] += tables.bits(level, codes.numpy())
    return sums[0], sums[1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.bench.codes", description=__doc__)
    parser.add_argument("codec", help="shipped weights, a codec file or a .mcquic checkpoint")
    parser.add_argument("folder", type=Path, help="folder of images")
    options = parser.parse_args(arguments)
    codec = fastlic.load(options.codec)
    if codec.family != "mcquic":
        print(f"{codec!r} searches no codebook", file=sys.stderr)
        return 2
    files = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        print(f"no images in {options.folder}", file=sys.stderr)
        return 2
    total = wrong = otherwise = 0
    worst = 0.0
    images = [read_image(path).pixels for path in files]
    for image in images:
        for x, words, found in searches(codec, image):
            ours, theirs, loss = compare(x, words, found)
            total, wrong, otherwise, worst = total + found.numel(), wrong + ours, otherwise + theirs, max(worst, loss)
    print(f"{len(files)} images, {codec!r}: {total} indexes, {wrong} differ from the float64 search")
    print(f"float32 distances would choose {otherwise} otherwise, the worst {100 * worst:.2g} % farther away (squared)")
    if codec.entropy.context is not None:
        plain, known = bits(codec, images)
        print(f"{plain / 8e3:.1f} kB of codes by how often words are used, {known / 8e3:.1f} kB with their context: "
              f"{100 * (1 - known / plain):.1f} % less")  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
