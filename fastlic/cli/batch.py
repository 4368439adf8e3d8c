"""``fastlic batch``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import fastlic
from fastlic.cli import options
from fastlic.cli.words import say

if TYPE_CHECKING:
    from fastlic.batch import Compressor, Decompressor, Outcome

_DONE = ("written", "complete")


def _part(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    form = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
    count = int(form[2]) if form else 0
    if form is None or not int(form[1]) < count:
        count = count or 8
        raise click.BadParameter(
            f"{value!r} is no task: the first of {count} is 0/{count}, the last one {count - 1}/{count}"
        )
    return int(form[1]), int(form[2])


@click.command()
@click.argument("source")
@click.argument("target")
@click.option(
    "--shard", default="0/1", metavar="I/N", callback=_part, help="Do task I of N, from 0 on.  [default: all]"
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(0, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Images at a time, 0 for one per core; each on one thread, unless fastlic --threads says more.",
)
@click.option("-d", "--decompress", is_flag=True, help="Make images of .flic streams.")
@click.option(
    "--format", "suffix", metavar="SUFFIX", help="Format of the images that --decompress makes.  [default: png]"
)
@options.quality
@click.option(
    "-m", "--model", help="Shipped weights or a codec file.  [default: jahp; what the stream names if --decompress]"
)
@click.option("--to", type=click.Choice(["tar", "parquet"]), help="Pack the files of a folder into shards.")
@click.option("--shard-size", type=click.IntRange(min=1), default=1000, show_default=True, help="Files in a shard.")
@click.option(
    "--column",
    help="Column of parquet files that is read.  [default: bytes, image, jpg, jpeg, png or webp; flic if --decompress]",
)
@options.background
@options.max_pixels
@click.option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Leave out a shard of which more than this share of images failed.",
)
@click.option("-f", "--force", is_flag=True, help="Do complete shards again, replace what is in the way.")
@click.option("--check", is_flag=True, help="Tell which shards are complete, and do nothing.")
def batch(
    source: str,
    target: str,
    shard: tuple[int, int],
    jobs: int,
    decompress: bool,
    suffix: str | None,
    quality: float | None,
    model: str | None,
    to: str | None,
    shard_size: int,
    column: str | None,
    background: str | None,
    max_pixels: int | None,
    max_failed: float,
    force: bool,
    check: bool,
) -> None:
    """Compress a data set shard by shard: a folder of images, or of .tar or .parquet files, a pattern, an fsspec URL.

    Each tar or parquet file becomes one with .flic streams in place of the images; images of a folder become files of
    their own, or shards (--to). With --decompress images take the place of streams. A shard is complete or not there,
    and complete ones are skipped: run the command again, or on many machines with --shard. TARGET/NAME_stats.json says
    what became of a shard, TARGET/NAME.parquet of each image; images that failed are told there and left out. Exit code
    1: a shard is not complete.
    """
    from tqdm import tqdm

    from fastlic.batch import Settings, run

    common = {"max_pixels": max_pixels, "threads": options.threads() or 1}
    make: Callable[..., Compressor | Decompressor] = _decompressor if decompress else _compressor
    coder = make(model, suffix, quality, background, common)
    settings = Settings(coder, to, column, jobs or options.cores(), max_failed, force)
    outcomes: list[Outcome] = []
    try:
        with tqdm(unit="shard", disable=None, leave=False) as bar:
            for outcome in run(source, target, settings, part=shard, size=shard_size, check=check):
                outcomes.append(outcome)
                bar.update()
                with bar.external_write_mode():
                    if outcome.error is None:
                        say(_line(outcome))
                    else:
                        say(f"Error: {outcome.shard}: {outcome.error}", err=True)
    except BaseException as stop:
        if not isinstance(stop, Exception):  # Ctrl-C, SIGTERM
            say(f"{len(_complete(outcomes))} shards are complete; the same command goes on with the others", err=True)
        raise
    done = _complete(outcomes)
    images, failed = sum(outcome.images for outcome in done), sum(outcome.failed for outcome in done)
    say(f"{len(done)} of {len(outcomes)} shards complete: {images:,} images, {failed:,} of them failed")
    if len(done) < len(outcomes):
        raise SystemExit(1)


def _complete(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.state in _DONE]


def _compressor(
    model: str | None, suffix: str | None, quality: float | None, background: str | None, common: dict[str, Any]
) -> Compressor:
    from fastlic import light
    from fastlic.batch import Compressor

    if suffix is not None:
        raise click.UsageError("--format is of images that --decompress makes")
    model = model or fastlic.DEFAULT_MODEL
    level = options.checked_quality(light.load(model), quality)
    return Compressor(model, level or fastlic.DEFAULT_QUALITY, background=background, **common)


def _decompressor(
    model: str | None, suffix: str | None, quality: float | None, background: str | None, common: dict[str, Any]
) -> Decompressor:
    from fastlic.batch import Decompressor

    for name, value in (("--quality", quality), ("--background", background)):
        if value is not None:
            raise click.UsageError(f"{name} is of images that are compressed, and --decompress takes streams")
    return Decompressor(model, suffix=f".{(suffix or 'png').lstrip('.')}", **common)


def _line(outcome: Outcome) -> str:
    line = f"{outcome.shard}: {outcome.state}"
    if outcome.state in _DONE:
        line += f", {outcome.images} images, {outcome.failed} failed, {outcome.bytes_out:,} bytes"
    if outcome.state == "written":
        line += f", {outcome.seconds:.1f} s"
    return line
