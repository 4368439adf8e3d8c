"""``fastlic eval``: rate-distortion of a codec on a folder of images, beside other codecs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastlic
from fastlic.cli import options
from fastlic.cli.words import say, shown
from fastlic.files import status, write_whole

if TYPE_CHECKING:
    from fastlic.codec import Codec
    from fastlic.evaluate import Record


_PEERS = ("jpeg", "webp", "avif")


def _peers(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if unknown := [name for name in names if name not in _PEERS]:
        raise click.BadParameter(f"{', '.join(unknown)}: peers are {', '.join(_PEERS)}")
    return list(dict.fromkeys(names))


@click.command("eval")
@click.argument("folder", type=options.PATH)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    default=(fastlic.DEFAULT_MODEL,),
    show_default=True,
    help="Shipped weights or a codec file; several are compared with each other too.",
)
@click.option(
    "--qualities", metavar="1,2,..", callback=options.numbers, help="Qualities to run.  [default: all whole ones]"
)
@click.option(
    "--peers",
    metavar="LIST",
    default="jpeg,webp",
    show_default=True,
    callback=_peers,
    help="Codecs to compare with: some of jpeg, webp and avif, or '' for none.",
)
@click.option("--check", is_flag=True, help="Compare the latents of both sides bit for bit, on 1 and 2 threads.")
@click.option("--estimate", is_flag=True, help="Compare real bytes with the model's own estimate.")
@click.option("--ms-ssim/--no-ms-ssim", default=None, help="[default: if pytorch-msssim is installed]")
@click.option("--plot", type=options.PATH, help="Draw the rate-distortion curves (.png, .svg, .pdf).")
@click.option("--json", "json_file", type=options.PATH, help="Write every record and average.")
@click.option(
    "--published", is_flag=True, help="Compare with curves published for Kodak: mbt2018, MLIC+, MLIC++, VTM, BPG."
)
@click.option(
    "--records", type=options.PATH, multiple=True, help="What --json wrote earlier, in place of measuring again."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
def evaluate(
    folder: Path,
    models: tuple[str, ...],
    qualities: list[float] | None,
    peers: list[str],
    check: bool,
    estimate: bool,
    ms_ssim: bool | None,
    plot: Path | None,
    json_file: Path | None,
    published: bool,
    records: tuple[Path, ...],
    limit: int | None,
) -> None:
    """Measure bpp of real files, PSNR, MS-SSIM and times on the images in FOLDER.

    BD-rates compare PSNR, and MS-SSIM where it was measured, with each peer:
    negative means that fastlic needs fewer bits. For Kodak's 24 images, Debian's
    source package basis-universal carries them in test_files/.
    """
    from tqdm import tqdm

    from fastlic.codec.image_files import find_images, read_image
    from fastlic.evaluate import evaluate_peer, report, run
    from fastlic.evaluate import plot as curves
    from fastlic.evaluate.metrics import ms_ssim_available
    from fastlic.evaluate.peers import find_peer
    from fastlic.evaluate.published import compare, kodak

    others = [find_peer(name) for name in peers]
    images = find_images(folder)[:limit]
    codecs = [fastlic.load(model) for model in models]
    called = [*(codec.name for codec in codecs), *(peer.name for peer in others)]
    if len(set(called)) < len(called):
        raise click.UsageError("two of the codecs have the same name: their records could not be told apart")
    levels = {codec.name: _levels(codec, qualities, alone=len(codecs) == 1) for codec in codecs}
    with_ms_ssim = ms_ssim_available() if ms_ssim is None else ms_ssim
    if plot is not None:
        curves.check(plot.suffix)  # now rather than after minutes of work
    for output in (plot, json_file):
        if output is not None:
            status(output)

    measured: list[Record] = []
    if records:
        measured = [record for path in records for record in report.read_records(path)]
    else:
        steps = len(images) * (sum(map(len, levels.values())) + len(others))
        with tqdm(total=steps, unit="run", disable=None, leave=False) as bar:
            for path in images:
                name = path.relative_to(folder).as_posix()
                try:
                    x = read_image(path).pixels
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from error
                for codec in codecs:
                    for level in levels[codec.name]:
                        bar.set_postfix_str(shown(f"{name} {codec.name} quality {level or 'fixed'}"))
                        measured.append(
                            run.evaluate(
                                codec,
                                x,
                                name,
                                level,
                                with_ms_ssim=with_ms_ssim,
                                with_estimate=estimate,
                                with_check=check,
                            )
                        )
                        bar.update()
                for peer in others:
                    bar.set_postfix_str(shown(f"{name} {peer.name}"))
                    measured += evaluate_peer(peer, x, name, with_ms_ssim=with_ms_ssim)
                    bar.update()

    rows = report.averages(measured)
    names = [codec.name for codec in codecs]
    results = [
        result
        for metric in report.METRICS
        for index, name in enumerate(names)
        for result in report.bd_rates(measured, name, [*(peer.name for peer in others), *names[:index]], metric)
    ]
    say(f"{len(images)} images of {folder}, {', '.join(map(repr, codecs))}")
    for line in report.table(rows).splitlines():
        say(line)
    described = {peer.name: str(peer) for peer in others}
    for result in results:
        of = f" of {result.codec}" if len(codecs) > 1 else ""
        by = "" if result.metric == "PSNR" else f" at equal {result.metric}"
        say(f"BD-rate{by}{of} against {described.get(result.anchor, result.anchor)}: {result.text()}")
    published_curves = kodak() if published else []
    for name in names:
        ours = [(row.bpp, row.psnr) for row in rows if row.codec == name]
        of = f" of {name}" if len(codecs) > 1 else ""
        for curve in published_curves:
            say(f"BD-rate{of} against {curve.name} as published ({curve.source}): {compare(curve, ours)}")
    if json_file is not None:
        about: dict[str, Any] = {
            "fastlic": fastlic.__version__,
            "codecs": {codec.name: codec.fingerprint.hex() for codec in codecs},
            "images": [path.name for path in images],
            "peers": [str(peer) for peer in others],
        }
        content = json.dumps(report.to_json(measured, results, about), indent=1, allow_nan=False)
        write_whole(json_file, f"{content}\n".encode())
    if plot is not None:
        title = shown(f"{folder.resolve().name}, {len(images)} images")
        write_whole(plot, curves.draw(rows, names, title, plot.suffix, published_curves))
    if any(row.same_latents is False for row in rows):
        raise ValueError("latents of encoder and decoder differ: see the table; please report this as a bug")


def _levels(codec: Codec, qualities: list[float] | None, alone: bool) -> Sequence[float | None]:
    """Qualities at which ``codec`` is measured; beside others, one of a single rate ignores what was asked for them."""
    if qualities is None or (not codec.qualities and not alone):
        return [float(q) for q in range(1, codec.qualities + 1)] or [None]
    return [options.checked_quality(codec, q) for q in qualities]
