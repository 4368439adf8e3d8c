"""``fastlic demo``: the whole round trip on a photo that ships with the package."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastlic.cli import options
from fastlic.cli.compress import summary
from fastlic.cli.files import say
from fastlic.files import write_whole


@click.command()
@click.option("-q", "--quality", type=float, help="1 (smallest) to 8 (best), fractions allowed.  [default: 4]")
@click.option("--out", type=options.PATH, default=".", show_default=True, help="Folder for photo.flic and photo.png.")
@options.model
@options.device
def demo(quality: float | None, out: Path, model: str, device: str) -> None:
    """Compress and decompress a photo; writes photo.flic and photo.png."""
    import torch

    import fastlic
    from fastlic.codec.calibration import PHOTO
    from fastlic.codec.image_files import encode_image, read_image
    from fastlic.evaluate import psnr

    codec = fastlic.load(model)
    level = options.checked_quality(codec, quality)
    x = read_image(PHOTO).pixels.to(device)
    codec.compress(x, level)  # the first call also pays for loading kernels; the times below are those of any later one

    began = time.perf_counter()
    data = codec.compress(x, level)
    compressed = time.perf_counter()
    assert isinstance(data, bytes)
    x_hat = codec.decompress(data, device, torch.uint8)
    decompressed = time.perf_counter()
    assert isinstance(x_hat, torch.Tensor)

    write_whole(out / "photo.flic", data, make_folder=True)
    write_whole(out / "photo.png", encode_image(x_hat.permute(1, 2, 0).numpy(), ".png"), make_folder=True)
    raw = x.numel()
    say(f"{codec.name}, quality {level:g}" if level is not None else codec.name)
    say(f"{out / 'photo.flic'}: {summary(x, data)}, 1/{raw / len(data):.0f} of the raw {raw:,} bytes")
    say(f"{out / 'photo.png'}: decoded, PSNR {psnr(x, x_hat):.2f} dB")
    say(f"compressed in {compressed - began:.2f} s, decompressed in {decompressed - compressed:.2f} s")
