"""``fastlic demo``: the whole round trip on a photo that ships with the package."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import click

from fastlic.cli import options
from fastlic.cli.coder import Coder
from fastlic.cli.words import say
from fastlic.files import write_whole


@click.command()
@options.quality
@click.option("--out", type=options.PATH, help="Folder to write to.  [default: a new one, fastlic-demo]")
@options.model
@options.device
def demo(quality: float | None, out: Path | None, model: str, device: str) -> None:
    """Compress and decompress a photo; writes photo.flic and photo.png, and over no file that exists."""
    from fastlic import light
    from fastlic.codec.calibration import PHOTO
    from fastlic.codec.image_files import encode_image, read_image

    if out is None:
        names = itertools.chain(["fastlic-demo"], (f"fastlic-demo-{n}" for n in itertools.count(2)))
        out = next(path for path in map(Path, names) if not os.path.lexists(path))
    stream, image = out / "photo.flic", out / "photo.png"
    for path in (stream, image):
        if os.path.lexists(path):
            raise ValueError(f"{path} exists, and demo overwrites nothing: name another folder with --out")
    coder = Coder(model, device, threads=options.threads() or 0)
    level = coder.quality(quality)
    picture = read_image(PHOTO)
    wish = coder.wish(quality)
    coder.compress(picture, wish)  # the first call pays for loading kernels too; the times are those of any later one

    began = time.perf_counter()
    data = coder.compress(picture, wish)
    compressed = time.perf_counter()
    pixels = coder.decompress(data)
    decompressed = time.perf_counter()

    write_whole(stream, data, make_folder=True)
    write_whole(image, encode_image(pixels, ".png"), make_folder=True)
    (height, width), raw = picture.array.shape[:2], picture.array.size
    say(f"{coder.codec.name}, quality {level:g}" if level is not None else coder.codec.name)
    say(
        f"{stream}: {width}x{height}, {len(data):,} bytes, {8 * len(data) / (height * width):.3f} bpp, "
        f"1/{raw / len(data):.0f} of the raw {raw:,} bytes"
    )
    say(f"{image}: decoded, PSNR {light.psnr(picture.array, pixels):.2f} dB")
    say(f"compressed in {compressed - began:.2f} s, decompressed in {decompressed - compressed:.2f} s")
