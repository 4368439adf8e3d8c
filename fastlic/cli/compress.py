"""``fastlic compress``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastlic.cli import files, options
from fastlic.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor


@click.command()
@options.inputs
@options.output
@options.output_dir
@click.option("-q", "--quality", type=float, help="1 (smallest) to 8 (best), fractions allowed.  [default: 4]")
@options.model
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["flic", "mcq"]),
    default="flic",
    show_default=True,
    help="Format of derived names; mcq is McQuic's own and needs McQuic weights.",
)
@click.option("--verify/--no-verify", default=None, help="Decompress and print PSNR.  [default: for a single input]")
@click.option("--background", metavar="COLOR", help="Lay transparent images on this colour (white, #aabbcc).")
@options.force
@options.max_pixels
@options.device
def compress(
    inputs: tuple[Path, ...],
    output: Path | None,
    output_dir: Path | None,
    quality: float | None,
    model: str,
    suffix: str,
    verify: bool | None,
    background: str | None,
    force: bool,
    max_pixels: int | None,
    device: str,
) -> None:
    """Compress images: IN.png OUT.flic, or several inputs and folders (searched to any depth).

    Without an output name, IN.flic is written beside IN.png. OUT.mcq makes a file for McQuic 0.1.40.
    """
    import torch

    import fastlic
    from fastlic.codec import mcq
    from fastlic.codec.container import SUFFIX
    from fastlic.codec.image_files import SUFFIXES, read_image
    from fastlic.evaluate import psnr

    jobs = files.plan(
        inputs,
        output,
        output_dir,
        names_output=lambda path: path.suffix.lower() in (SUFFIX, mcq.SUFFIX),
        suffixes=SUFFIXES,
        target_suffix=f".{suffix}",
        force=force,
    )
    codec = fastlic.load(model)
    level = options.checked_quality(codec, quality)
    check = len(jobs) == 1 if verify is None else verify

    def work(job: files.Job) -> str:
        picture = read_image(job.source, background, max_pixels)
        x = picture.pixels.to(device)
        began = time.perf_counter()
        coder = mcq.coder_of(codec) if job.target.suffix.lower() == mcq.SUFFIX else codec
        data = coder.compress(x, level, max_pixels=max_pixels)
        seconds = time.perf_counter() - began
        assert isinstance(data, bytes)  # one image in, one stream out
        write_whole(job.target, data, make_folder=output_dir is not None)
        parts = [summary(x, data), f"compressed in {seconds:.2f} s"]
        if check:
            began = time.perf_counter()
            x_hat = coder.decompress(data, device, torch.uint8, max_pixels=max_pixels)
            assert isinstance(x_hat, torch.Tensor)
            seconds = time.perf_counter() - began
            parts += [f"decompressed in {seconds:.2f} s", f"PSNR {psnr(x, x_hat):.2f} dB"]
        return ", ".join([*parts, *(f"({note})" for note in picture.notes)])

    files.run(jobs, work)


def summary(x: Tensor, data: bytes) -> str:
    """Shape, size and rate in words; ``x`` is [3, H, W]."""
    height, width = x.shape[1:]
    return f"{width}x{height}, {len(data):,} bytes, {8 * len(data) / (height * width):.3f} bpp"
