"""``python -m fastlic.bench.same_bits FOLDER``: does any instruction set, thread count or batch change a bit?

Every image of the folder is analysed once. Its latents are then coded and decoded by the engine on each instruction set
with 1, 2 and 4 threads in several batches; streams and decoded latents are compared with those of the first
setting. Prints the number of differences and exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fastlic import _native
from fastlic.bench.lifelike import lifelike, lifelike_mlic, photo
from fastlic.codec import Codec
from fastlic.codec.image_files import read_image
from fastlic.models import MLIC, MLICPlus, MLICPlusPlus
from fastlic.models.mlic import Sizes

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".ppm", ".bmp"}
Size = tuple[int, int]
MLIC_FAMILIES = {cls.family: cls for cls in (MLIC, MLICPlus, MLICPlusPlus)}


def random_codec(family: str) -> Codec:
    """JAHP at CompressAI's size; the MLIC family at that of the shipped codec, for scalar loops take long."""
    if family == "jahp":
        return Codec(lifelike(), name="lifelike")
    sizes = Sizes((64, 64, 64), (32, 64, 32), (64, 32), (64, 32), (128, 96, 64), (32, 32))
    model = lifelike_mlic(MLIC_FAMILIES[family], 64, 192, widths=(24, 48, 96), sizes=sizes)
    return Codec(model, [photo()[:, :256, :256]], name="lifelike")


def analysed(codec: Codec, folder: Path, most: int) -> list[tuple[object, Size]]:
    """Analysis and size of the first images, at the middle quality of codecs that serve several."""
    quality = (1 + codec.qualities) / 2 if codec.qualities else None
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:most]
    pixels = (read_image(path).pixels.float() / 255 for path in files)
    return [(codec._analyse(x, quality), (x.shape[1], x.shape[2])) for x in pixels]


def run(codec: Codec, images: list[tuple[object, Size]], threads: int, batch: int) -> list[tuple[bytes, ...]]:
    """Per image: its sections, and the bytes of every latent as the encoder sees it and as the decoder does."""
    coder, results = codec._coder, []
    for first in range(0, len(images), batch):
        group = images[first : first + batch]
        coded = coder.encode_many([latents for latents, _ in group], "cpp", threads)
        streams = [(sections, size) for (sections, _), (_, size) in zip(coded, group, strict=True)]
        decoded = coder.decode_many(streams, "cpp", threads, {})
        for (sections, seen), back in zip(coded, decoded, strict=True):
            pairs = zip(coder.named(seen).values(), coder.named(back).values(), strict=True)
            maps = [part.contiguous().numpy().tobytes() for pair in pairs for part in pair]
            results.append((*sections, *maps))
    return results


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastlic.bench.same_bits", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--codec", type=Path, help="codec file; default: random lifelike weights")
    parser.add_argument("--family", choices=["jahp", *MLIC_FAMILIES], default="jahp", help="of random weights")
    parser.add_argument("--images", type=int, default=sys.maxsize, metavar="N", help="the first N images only")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 3, 8], metavar="B", help="default: 1 3 8")
    options = parser.parse_args(arguments)
    codec = Codec.load(options.codec) if options.codec else random_codec(options.family)
    images = analysed(codec, options.folder, options.images)
    if not images:
        print(f"no images in {options.folder}", file=sys.stderr)
        return 2
    levels = _native.supported_isas()
    before, sections = _native.get_isa(), codec._coder.sections_needed({})
    expected: list[tuple[bytes, ...]] = []
    compared = differences = 0
    for isa in reversed(levels):
        _native.set_isa(isa)
        for threads in (1, 2, 4):
            for batch in options.batches:
                results = run(codec, images, threads, batch)
                expected = expected or results
                # Section by section, and what the decoder saw against what the encoder saw.
                wrong = sum(
                    got != want or got[sections::2] != got[sections + 1 :: 2]
                    for got, want in zip(results, expected, strict=True)
                )
                compared, differences = compared + len(results), differences + wrong
        print(f"{isa}: {differences} differences so far in {compared} images", flush=True)
    _native.set_isa(before)
    settings = f"{len(levels)} instruction sets x 3 thread counts x {len(options.batches)} batches"
    print(f"{differences} differences: {settings} x {len(images)} images")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
