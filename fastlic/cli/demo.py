"""``fastlic demo``: the whole round trip on a photo that ships with the package."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastlic.cli import options
from fastlic.cli.compress import coder, summary
from fastlic.cli.files import say
from fastlic.files import write_whole


@click.command()
@click.option("-q", "--quality", type=float, help="1 (smallest) to 8 (best), fractions allowed.  [default: 4]")
@click.option("--out", type=options.PATH, default=".", show_default=True, help="Folder for photo.flic and photo.png.")
@options.model
@options.device
def demo(quality: float | None, out: Path, model: str, device: str) -> None:
    """Compress and decompress a photo; writes photo.flic and photo.png."""
    from fastlic import light
    from fastlic.codec.calibration import PHOTO
    from fastlic.codec.image_files import encode_image, read_image

    codec, encode, decode = coder(model, device, quality, None, device != "cpu")
    level = options.checked_quality(codec, quality)
    picture = read_image(PHOTO)
    encode(picture, False)  # the first call also pays for loading kernels; the times below are those of any later one

    began = time.perf_counter()
    data = encode(picture, False)
    compressed = time.perf_counter()
    pixels = decode(data, False)
    decompressed = time.perf_counter()

    write_whole(out / "photo.flic", data, make_folder=True)
    write_whole(out / "photo.png", encode_image(pixels, ".png"), make_folder=True)
    raw = picture.array.size
    say(f"{codec.name}, quality {level:g}" if level is not None else codec.name)
    say(f"{out / 'photo.flic'}: {summary(picture.array, data)}, 1/{raw / len(data):.0f} of the raw {raw:,} bytes")
    say(f"{out / 'photo.png'}: decoded, PSNR {light.psnr(picture.array, pixels):.2f} dB")
    say(f"compressed in {compressed - began:.2f} s, decompressed in {decompressed - compressed:.2f} s")
