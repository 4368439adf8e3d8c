"""``fastlic train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastlic.cli import options
from fastlic.cli.words import say
from fastlic.files import read_json


@click.command()
@click.option("--data", type=options.PATH, required=True, help="Folder of photographs of at least 256x256 pixels.")
@click.option("--out", type=options.PATH, required=True, help="Folder of the run: checkpoints, logs, the codec file.")
@click.option("--family", help="jahp, mean-scale, scale, mcquic, mlic, mlic+ or mlic++.  [default: jahp]")
@click.option(
    "--config", "file", type=options.PATH, help="Settings in a .toml or .json file, over the family's recipe."
)
@click.option("--metric", type=click.Choice(["mse", "ms-ssim"]), help="What distortion means.  [default: mse]")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Length of the run: so many minutes, or --steps."
)
@click.option("--steps", type=click.IntRange(min=1), help="Length of the run: so many steps, or --minutes.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its settings are kept where none is given.")
@click.option("--start", help="Weights to start from: best.pt of a run, or a .safetensors state dict.")
@click.option("--batch", type=click.IntRange(min=1), help="Images per step.")
@click.option("--crop", type=click.IntRange(64, 256), help="Side of training crops, a multiple of 64.")
@click.option("--N", "N", type=click.IntRange(min=1), help="Channels of the hyperprior.")
@click.option("--M", "M", type=click.IntRange(min=1), help="Channels of the latent.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of weights, crops and noise.")
@options.train_device
def train(data: Path, out: Path, file: Path | None, resume: bool, device: str | None, **settings: Any) -> None:
    """Train a codec on the photographs in a folder.

    The family's recipe (fastlic/train/recipes) is the default for everything; docs/training.md explains its settings.
    Writes OUT/codec.safetensors, which --model of the other commands takes. An interrupted run (Ctrl-C, SIGTERM) saves
    its state first and goes on with --resume.
    """
    # Training alone needs these; the other commands start faster without.
    from fastlic.train import config as configs
    from fastlic.train.export import export
    from fastlic.train.trainer import Trainer

    given = {key: value for key, value in settings.items() if value is not None}
    if "minutes" in given and "steps" in given:
        raise click.UsageError("give the length of the run: either --minutes or --steps")
    if model := {key: given.pop(key) for key in ("N", "M") if key in given}:
        given["model"] = model
    if file is not None:
        given = configs.merged(configs.read(file), given)
    if (out / "last.pt").exists() and not resume:
        raise click.UsageError(f"{out} holds a run: go on with --resume, or choose another folder")
    if resume:
        if not (out / "last.pt").exists():
            raise click.UsageError(f"{out} holds no run to resume")
        base = read_json(out / "config.json")
    else:
        base = configs.recipe(given.get("family", "jahp"))
    run = configs.merged(base, given)
    if not run.get("minutes") and not run.get("steps"):
        raise click.UsageError("give the length of the run: either --minutes or --steps")

    trainer = Trainer(configs.RunConfig.from_dict(run), data, out, device)
    if resume:
        trainer.resume()
    trainer.run()
    codec = export(out / "best.pt", trainer.tiles, out / "codec.safetensors", out.resolve().name)
    say(f"{out / 'codec.safetensors'}: {codec!r}")
    if trainer.progress < 1:
        say(f"stopped at {100 * trainer.progress:.0f} %; go on with --resume")
