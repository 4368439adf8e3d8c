"""``fastlic compress``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from fastlic.cli import files, jobs, options
from fastlic.cli.coder import Coder, is_mcq
from fastlic.cli.words import DASH


@click.command()
@options.files
@options.quality
@options.targets
@options.effort
@options.model
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["flic", "mcq"]),
    default="flic",
    show_default=True,
    help="Format of derived names and of standard output; mcq is McQuic's own and needs McQuic weights.",
)
@click.option("--verify/--no-verify", default=None, help="Decompress and print PSNR.  [default: for a single input]")
@options.background
@options.strip
@options.max_pixels
@options.device
def compress(
    request: files.Request,
    quality: float | None,
    target_bpp: float | None,
    target_bytes: float | None,
    target_psnr: float | None,
    effort: int,
    model: str,
    suffix: str,
    verify: bool | None,
    background: str | None,
    strip: bool,
    max_pixels: int | None,
    device: str,
) -> None:
    """Compress images: IN.png OUT.flic, or several inputs and folders (searched to any depth).

    Without an output name, IN.flic is written beside IN.png. OUT.mcq makes a file for McQuic 0.1.40. A dash is standard
    input or standard output, where lines for the user go to stderr.
    """
    from fastlic import light, peek
    from fastlic.codec.container import SUFFIX, Metadata
    from fastlic.codec.image_files import SUFFIXES, read_image

    plan = files.plan(
        request,
        names_output=lambda path: (
            path == DASH or path.suffix.lower() == SUFFIX or is_mcq(path) or path.is_char_device()
        ),
        suffixes=SUFFIXES,
        others=files.image_suffixes(),
        target_suffix=f".{suffix}",
        check_output=_check_output,
    )

    def as_mcq(job: files.Job) -> bool:
        return suffix == "mcq" if files.is_unnamed(job.target) else is_mcq(job.target)

    some_mcq = any(map(as_mcq, plan.jobs))
    coder = Coder(
        model,
        device,
        threads=jobs.threads(request, plan),
        max_pixels=max_pixels,
        needs_torch=effort > 0 or some_mcq,
        quiet=request.quiet,
    )
    target = options.chosen_target(quality, target_bpp, target_bytes, target_psnr)
    wish = coder.wish(quality, target, effort)
    if (target or effort) and some_mcq:
        raise click.UsageError("a .mcq file has neither target nor effort")
    check = len(plan.jobs) == 1 if verify is None else verify

    def work(job: files.Job, watch: jobs.Watch) -> jobs.Done:
        channels = 3 if as_mcq(job) else None
        picture = read_image(files.seekable(job.source), background, max_pixels, channels=channels)
        if strip:
            picture = replace(picture, metadata=Metadata())
        watch.lap("reading")
        data = coder.compress(picture, wish, as_mcq(job))
        watch.lap("compressing")
        psnr = None
        if check:
            psnr = light.psnr(picture.array, coder.decompress(data, as_mcq(job), "verifying"))
            watch.lap("verifying")
        height, width = picture.array.shape[:2]
        notes = (*picture.notes, f"quality {peek(data).quality:g}") if target else picture.notes
        return jobs.Done(data, height, width, len(data), psnr, notes)

    jobs.run(plan, request, "compressed", work)


def _check_output(path: Path) -> None:
    if path.suffix.lower() in files.image_suffixes():
        raise click.UsageError(f"{path}: what compress writes is no {path.suffix} image; name it .flic")
