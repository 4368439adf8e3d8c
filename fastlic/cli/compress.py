"""``fastlic compress``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastlic.cli import files, options
from fastlic.errors import CodecFileError
from fastlic.files import write_whole

if TYPE_CHECKING:
    import numpy as np

    from fastlic.codec.image_files import Picture


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
@click.option("--strip", is_flag=True, help="Leave out colour profile, EXIF and XMP, which are kept otherwise.")
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
    strip: bool,
    force: bool,
    max_pixels: int | None,
    device: str,
) -> None:
    """Compress images: IN.png OUT.flic, or several inputs and folders (searched to any depth).

    Without an output name, IN.flic is written beside IN.png. OUT.mcq makes a file for McQuic 0.1.40.
    """
    from fastlic import light
    from fastlic.codec.container import SUFFIX, Metadata
    from fastlic.codec.image_files import SUFFIXES, read_image
    from fastlic.codec.mcq_file import SUFFIX as MCQ

    jobs = files.plan(
        inputs,
        output,
        output_dir,
        names_output=lambda path: path.suffix.lower() in (SUFFIX, MCQ),
        suffixes=SUFFIXES,
        target_suffix=f".{suffix}",
        force=force,
    )
    with_torch = device != "cpu" or any(job.target.suffix.lower() == MCQ for job in jobs)
    _, encode, decode = coder(model, device, quality, max_pixels, with_torch)
    check = len(jobs) == 1 if verify is None else verify

    def work(job: files.Job) -> str:
        as_mcq = job.target.suffix.lower() == MCQ
        picture = read_image(job.source, background, max_pixels, channels=3 if as_mcq else None)
        if strip:
            picture = dataclasses.replace(picture, metadata=Metadata())
        began = time.perf_counter()
        data = encode(picture, as_mcq)
        seconds = time.perf_counter() - began
        write_whole(job.target, data, make_folder=output_dir is not None)
        parts = [summary(picture.array, data), f"compressed in {seconds:.2f} s"]
        if check:
            began = time.perf_counter()
            pixels = decode(data, as_mcq)
            seconds = time.perf_counter() - began
            parts += [f"decompressed in {seconds:.2f} s", f"PSNR {light.psnr(picture.array, pixels):.2f} dB"]
        return ", ".join([*parts, *(f"({note})" for note in picture.notes)])

    files.run(jobs, work)


Encode = Callable[["Picture", bool], bytes]
Decode = Callable[[bytes, bool], "np.ndarray"]


def coder(
    model: str, device: str, quality: float | None, max_pixels: int | None, with_torch: bool
) -> tuple[Any, Encode, Decode]:
    """The codec, and both ways by it: without torch where the codec has integer transforms and nobody needs more."""
    from fastlic import light

    if not with_torch:
        try:
            codec = light.load(model)
        except CodecFileError:  # float transforms; or the whole library says what is wrong
            with_torch = True
    if with_torch:
        return _torch_coder(model, device, quality, max_pixels)
    level = options.checked_quality(codec, quality) or 0
    return (
        codec,
        lambda picture, _: light.compress(
            picture.array, codec, level, max_pixels=max_pixels, metadata=picture.metadata
        ),
        lambda data, _: _three_axes(light.decompress(data, codec, max_pixels=max_pixels)),
    )


def _torch_coder(model: str, device: str, quality: float | None, max_pixels: int | None) -> tuple[Any, Encode, Decode]:
    import torch

    import fastlic
    from fastlic.codec import mcq

    codec = fastlic.load(model)
    level = options.checked_quality(codec, quality)

    def encode(picture: Picture, as_mcq: bool) -> bytes:
        x = picture.pixels.to(device)
        data = (
            mcq.coder_of(codec).compress(x, level, max_pixels=max_pixels)
            if as_mcq
            else codec.compress(x, level, max_pixels=max_pixels, metadata=picture.metadata)
        )
        assert isinstance(data, bytes)  # one image in, one stream out
        return data

    def decode(data: bytes, as_mcq: bool) -> np.ndarray:
        coder = mcq.coder_of(codec) if as_mcq else codec
        x = coder.decompress(data, device, torch.uint8, max_pixels=max_pixels)
        assert isinstance(x, torch.Tensor)
        return x.permute(1, 2, 0).cpu().numpy()

    return codec, encode, decode


def _three_axes(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def summary(pixels: np.ndarray, data: bytes) -> str:
    """Shape, size and rate in words; ``pixels`` are [H, W, C]."""
    height, width = pixels.shape[:2]
    return f"{width}x{height}, {len(data):,} bytes, {8 * len(data) / (height * width):.3f} bpp"
