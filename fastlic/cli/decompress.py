"""``fastlic decompress``."""

from __future__ import annotations

from pathlib import Path

import click

from fastlic.cli import files, jobs, options
from fastlic.cli.coder import Coder, is_mcq
from fastlic.cli.progress import written


@click.command()
@options.files
@options.stream_model
@click.option(
    "--format",
    "suffix",
    default="png",
    show_default=True,
    help="Image format of derived names, standard output, devices and pipes: png, ppm, jpg, ...",
)
@options.region
@options.strip
@options.max_pixels
@options.device
def decompress(
    request: files.Request,
    model: str | None,
    suffix: str,
    region: tuple[int, int, int, int] | None,
    strip: bool,
    max_pixels: int | None,
    device: str,
) -> None:
    """Decompress .flic files: IN.flic OUT.png, or several inputs and folders (searched to any depth).

    Without an output name, IN.png is written beside IN.flic. McQuic's .mcq files are read too, given their weights:
    --model NAME or FILE. A dash is standard input, a .flic, or standard output, where lines for the user go to stderr.
    """
    from fastlic.codec import mcq_file
    from fastlic.codec.container import SUFFIX, Metadata, peek, read_metadata
    from fastlic.codec.image_files import encode_image, format_of, keeps_metadata

    suffix = f".{suffix.lstrip('.')}"

    def image_suffix(path: Path) -> str:
        return suffix if files.is_unnamed(path) else path.suffix

    plan = files.plan(
        request,
        names_output=lambda path: path.suffix.lower() not in (SUFFIX, mcq_file.SUFFIX) and not path.is_dir(),
        suffixes=[SUFFIX, mcq_file.SUFFIX],
        refused=files.image_suffixes(),
        target_suffix=suffix,
        check_output=lambda path: format_of(image_suffix(path)),
    )
    coder = Coder(model, device, threads=jobs.threads(request, plan), max_pixels=max_pixels, quiet=request.quiet)

    def work(job: files.Job, watch: jobs.Watch) -> jobs.Done:
        data = files.contents(job.source)
        watch.lap("reading")
        pixels = coder.decompress(data, is_mcq(job.source), region=region)
        watch.lap("decompressing")
        metadata = Metadata() if strip or is_mcq(job.source) else read_metadata(data)
        own = image_suffix(job.target)
        with written("encoding", request.quiet):
            image = encode_image(pixels, own, metadata)
        lost = metadata and not keeps_metadata(own)
        notes = (f"colour profile, EXIF and XMP not kept: {own} has no place for them",) if lost else ()
        watch.lap("encoding")
        height, width = pixels.shape[:2]
        whole = mcq_file.parse(data) if is_mcq(job.source) else peek(data)
        return jobs.Done(image, height, width, len(data), notes=notes, stream_pixels=whole.height * whole.width)

    jobs.run(plan, request, "decompressed", work)
