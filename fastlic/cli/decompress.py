"""``fastlic decompress``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastlic.cli import files, options
from fastlic.files import read_bounded, write_whole


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
    import torch

    import fastlic
    from fastlic.codec import mcq
    from fastlic.codec.container import SUFFIX
    from fastlic.codec.image_files import encode_image

    jobs = files.plan(
        inputs,
        output,
        output_dir,
        names_output=lambda path: path.suffix.lower() not in (SUFFIX, mcq.SUFFIX) and not path.is_dir(),
        suffixes=[SUFFIX, mcq.SUFFIX],
        target_suffix=f".{suffix.lstrip('.')}",
        force=force,
    )
    codec = fastlic.load(model) if model else None

    def work(job: files.Job) -> str:
        data = read_bounded(job.source)
        began = time.perf_counter()
        if job.source.suffix.lower() == mcq.SUFFIX:
            x: object = mcq.coder_of(codec).decompress(data, device, torch.uint8, max_pixels=max_pixels)
        else:
            x = (codec or fastlic).decompress(data, device, torch.uint8, max_pixels=max_pixels)
        assert isinstance(x, torch.Tensor)  # one stream in, one image out
        seconds = time.perf_counter() - began
        image = encode_image(x, job.target.suffix)
        write_whole(job.target, image, make_folder=output_dir is not None)
        return f"{x.shape[2]}x{x.shape[1]}, {len(image):,} bytes, decompressed in {seconds:.2f} s"

    files.run(jobs, work)
