"""``fastlic decompress``."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastlic.cli import files, options
from fastlic.errors import CodecFileError, ModelMismatchError
from fastlic.files import read_bounded, write_whole

if TYPE_CHECKING:
    import numpy as np

    import fastlic


@click.command()
@options.inputs
@options.output
@options.output_dir
@click.option(
    "-m", "--model", help="Codec file that the streams were made with.  [default: shipped weights that fit the stream]"
)
@click.option("--format", "suffix", default="png", show_default=True, help="Image format of derived names.")
@options.force
@options.max_pixels
@options.device
def decompress(
    inputs: tuple[Path, ...],
    output: Path | None,
    output_dir: Path | None,
    model: str | None,
    suffix: str,
    force: bool,
    max_pixels: int | None,
    device: str,
) -> None:
    """Decompress .flic files: IN.flic OUT.png, or several inputs and folders (searched to any depth).

    Without an output name, IN.png is written beside IN.flic. McQuic's .mcq files are read too, given their weights:
    --model NAME or FILE.
    """
    from fastlic.codec.container import SUFFIX, Metadata, read_metadata
    from fastlic.codec.image_files import encode_image, keeps_metadata
    from fastlic.codec.mcq_file import SUFFIX as MCQ

    jobs = files.plan(
        inputs,
        output,
        output_dir,
        names_output=lambda path: path.suffix.lower() not in (SUFFIX, MCQ) and not path.is_dir(),
        suffixes=[SUFFIX, MCQ],
        target_suffix=f".{suffix.lstrip('.')}",
        force=force,
    )

    if model is not None:
        _check(model)

    def work(job: files.Job) -> str:
        data = read_bounded(job.source)
        began = time.perf_counter()
        pixels = None
        if device == "cpu" and job.source.suffix.lower() != MCQ:
            pixels = _without_torch(data, model, max_pixels)
        if pixels is None:
            pixels = _with_torch(data, model, job.source.suffix.lower() == MCQ, device, max_pixels)
        seconds = time.perf_counter() - began
        metadata = Metadata() if job.source.suffix.lower() == MCQ else read_metadata(data)
        image = encode_image(pixels, job.target.suffix, metadata)
        write_whole(job.target, image, make_folder=output_dir is not None)
        lost = metadata and not keeps_metadata(job.target.suffix)
        note = f" (colour profile, EXIF and XMP not kept: {job.target.suffix} has no place)" if lost else ""
        return f"{pixels.shape[1]}x{pixels.shape[0]}, {len(image):,} bytes, decompressed in {seconds:.2f} s{note}"

    files.run(jobs, work)


def _check(model: str) -> None:
    """Report a model that there is not before any file is read."""
    from fastlic import light

    try:
        light.load(model)
    except CodecFileError:
        _loaded(model)


@lru_cache(maxsize=1)
def _loaded(model: str) -> fastlic.Codec:
    import fastlic

    return fastlic.load(model)


def _without_torch(data: bytes, model: str | None, max_pixels: int | None) -> np.ndarray | None:
    """Pixels uint8 [H, W] or [H, W, C]; None: float transforms, or whoever knows more codecs has to say."""
    from fastlic import light

    try:
        return light.decompress(data, model, max_pixels=max_pixels)
    except (CodecFileError, ModelMismatchError):
        return None


def _with_torch(data: bytes, model: str | None, mcq_file: bool, device: str, max_pixels: int | None) -> np.ndarray:
    import torch

    import fastlic
    from fastlic.codec import mcq

    codec = None if model is None else _loaded(model)
    if mcq_file:
        x: object = mcq.coder_of(codec).decompress(data, device, torch.uint8, max_pixels=max_pixels)
    else:
        x = (codec or fastlic).decompress(data, device, torch.uint8, max_pixels=max_pixels)
    assert isinstance(x, torch.Tensor)  # one stream in, one image out
    return x.permute(1, 2, 0).cpu().numpy()
