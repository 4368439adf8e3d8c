"""``fastlic export``: a training run's best checkpoint as a codec file, with a card, for shipping."""

from __future__ import annotations

from pathlib import Path

import click

import fastlic
from fastlic.cli import options
from fastlic.cli.words import say
from fastlic.files import read_json, status, write_whole


@click.command()
@click.argument("run", type=options.PATH)
@click.option("--output", "-o", type=options.PATH, required=True, help="The codec file to write, NAME.safetensors.")
@click.option("--data", type=options.PATH, required=True, help="The folder of training photographs, for calibration.")
@click.option(
    "--transforms",
    metavar="MODEL",
    help="Take over this codec's transforms of integers, where the run left its floats as they were.",
)
@click.option("--coding-only", is_flag=True, help="float16 weights, without the float entropy network.")
@click.option("--whole", type=options.PATH, help="Also write it with the float entropy network, to measure growth.")
@click.option("--checkpoint", type=options.PATH, help="Also write the float16 state dict that training can go on from.")
@click.option("--beside", type=options.PATH, help="Leave out of it what these weights, in the same folder, have alike.")
@click.option(
    "--refine",
    type=click.IntRange(min=1),
    metavar="TILES",
    help="McQuic: move every codeword to the mean of what it stands for over this many tiles first.",
)
@click.option(
    "--context-steps",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="McQuic: fit a context for the finest level's codes in so many steps, into RUN/context.safetensors, "
    "from the one that is there if there is one. Without this option that one is used as it is.",
)
@click.option("--context", type=options.PATH, help="Also write the context's float16 weights.")
@click.option("--notes", type=options.PATH, help="JSON for the card: data, licences, hardware.")
@click.option("--results", type=options.PATH, help="What `fastlic eval --json` wrote, for the card.")
def export(
    run: Path,
    output: Path,
    data: Path,
    transforms: str | None,
    coding_only: bool,
    whole: Path | None,
    checkpoint: Path | None,
    beside: Path | None,
    refine: int | None,
    context_steps: int | None,
    context: Path | None,
    notes: Path | None,
    results: Path | None,
) -> None:
    """Turn the best checkpoint in RUN into a codec file and write its card, NAME.json, beside it.

    Calibration sees training photographs only. The codec is built from weights rounded to float16, so that the
    checkpoint file and the codec file say the same.
    """
    from fastlic.train.data import load_tiles
    from fastlic.train.export import export as export_codec
    from fastlic.train.export import fit_context, read_context, refine_codebooks, write_card, write_checkpoint
    from fastlic.train.weights import load_checkpoint

    if output.suffix != ".safetensors":
        raise click.UsageError(f"a codec file is NAME.safetensors, and its card NAME.json; got {output}")
    for file in (output, output.with_suffix(".json"), whole, checkpoint, context):
        if file is not None:
            status(file)  # now rather than after minutes of work
    described = read_json(notes) if notes is not None else {}
    measured = read_json(results) if results is not None else None
    best = run / "best.pt"
    load_checkpoint(best)
    tiles, _ = load_tiles(data, cache=run / "tiles.npz")
    if refine is not None:
        try:
            refine_codebooks(best, tiles[:: max(len(tiles) // refine, 1)][:refine], run / "refined.pt")
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        best = run / "refined.pt"
    fitted = run / "context.safetensors"
    if context_steps is not None:
        try:
            fit_context(best, tiles, fitted, context_steps)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    if context is not None and not fitted.exists():
        raise click.UsageError(f"there is no {fitted}: fit one with --context-steps")
    words = read_context(fitted) if fitted.exists() else None
    other = None if transforms is None else fastlic.load(transforms)
    try:
        codec = export_codec(best, tiles, output, output.stem, coding_only=coding_only, context=words, transforms=other)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if context is not None:
        write_whole(context, fitted.read_bytes())
    if whole is not None:
        codec.save(whole)
    if checkpoint is not None:
        write_checkpoint(best, checkpoint, beside=beside)
    write_card(output.with_suffix(".json"), codec, best, described, measured)
    say(f"{output}: {codec!r}, {output.stat().st_size / 1e6:.1f} MB")
