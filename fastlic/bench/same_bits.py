"""``python -m fastlic.bench.same_bits FOLDER``: does any instruction set, thread count or batch change a bit?

Every image of the folder is analysed once. Its latents are then coded and decoded by the engine on each instruction set
with 1, 2 and 4 threads in batches of 1, 3 and 8; streams and decoded latents are compared with those of the first
setting. Prints the number of differences and exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from fastlic import _native
from fastlic.bench.lifelike import lifelike
from fastlic.codec import Codec, drivers
from fastlic.codec.image_files import read_image

LEVELS = ["scalar", "avx2", "avx512", "avx512vnni"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".ppm", ".bmp"}
Pair = tuple[torch.Tensor, torch.Tensor]


def analysed(codec: Codec, folder: Path) -> list[Pair]:
    """Float latents (z, y) of every image, at the middle quality of codecs that serve several."""
    quality = (1 + codec.qualities) / 2 if codec.qualities else None
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [codec._analyse(read_image(path).pixels.float() / 255, quality) for path in files]


def run(codec: Codec, latents: list[Pair], threads: int, batch: int) -> list[tuple[bytes, ...]]:
    """Per image: its sections, and the bytes of the latents that encoder and decoder see."""
    results = []
    for first in range(0, len(latents), batch):
        group = latents[first : first + batch]
        coded = drivers.encode_many(codec.entropy, group, backend="cpp", threads=threads)
        streams = [(sections, *y.shape[1:]) for (sections, _), (_, y) in zip(coded, group, strict=True)]
        decoded = drivers.decode_many(codec.entropy, streams, backend="cpp", threads=threads)
        for (sections, seen), back in zip(coded, decoded, strict=True):
            maps = (seen.z, back.z, seen.y, back.y)
            results.append((*sections, *(part.contiguous().numpy().tobytes() for part in maps)))
    return results


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.bench.same_bits", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--codec", type=Path, help="codec file; default: JAHP 192/192 with random lifelike weights")
    options = parser.parse_args(arguments)
    codec = Codec.load(options.codec) if options.codec else Codec(lifelike(), name="lifelike")
    latents = analysed(codec, options.folder)
    if not latents:
        print(f"no images in {options.folder}", file=sys.stderr)
        return 2
    levels = LEVELS[: LEVELS.index(_native.best_isa()) + 1]
    before = _native.get_isa()
    expected: list[tuple[bytes, ...]] = []
    compared = differences = 0
    for isa in reversed(levels):
        _native.set_isa(isa)
        for threads in (1, 2, 4):
            for batch in (1, 3, 8):
                results = run(codec, latents, threads, batch)
                expected = expected or results
                # Section by section, and what the decoder saw against what the encoder saw.
                wrong = sum(
                    got != want or got[2] != got[3] or got[4] != got[5]
                    for got, want in zip(results, expected, strict=True)
                )
                compared, differences = compared + len(results), differences + wrong
        print(f"{isa}: {differences} differences so far in {compared} images", flush=True)
    _native.set_isa(before)
    settings = f"{len(levels)} instruction sets x 3 thread counts x 3 batches"
    print(f"{differences} differences: {settings} x {len(latents)} images")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
