"""``python -m fastlic.train.frontier WIDE --data TILES --sizes SIZES ...``: the price of narrow entropy networks.

WIDE has the weights of a wider model, such as checkpoints/jahp_float16.safetensors. For each SIZES, such as
``96,96,128/128/384,320`` (h_s, context, parameter layers), narrow networks are fitted to the wide ones in closed form,
as ``fastlic train --start`` does (fastlic/train/slim.py). Printed are products for each position of the latent, and, of
held-out tiles and in float, bits and bits + lambda x squared error, both in per cent of the wide model's bits.
``--run FOLDER`` writes the last of them as ``best.pt``, which ``fastlic export FOLDER`` takes: a start without a step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from fastlic.files import written_whole
from fastlic.models import JAHP
from fastlic.train.config import RunConfig, merged, recipe
from fastlic.train.data import load_tiles
from fastlic.train.objectives import build
from fastlic.train.objectives.gaussian import GaussianObjective

_QUALITIES = (1, 2, 4, 6, 8)
_HELD_OUT, _BATCH = 48, 8  # tiles


def sizes_of(text: str) -> dict[str, Any]:
    """``a,b,c/d/e,f`` as ``JAHP`` takes it.

    Raises:
        ValueError: another form.
    """
    try:
        hyper, (context,), parameters = ([int(n) for n in part.split(",")] for part in text.split("/"))
    except ValueError:
        raise ValueError(f"sizes are h_s,h_s,h_s/context/first,second, got {text!r:.60}") from None
    return {"hyper": hyper, "context": context, "parameters": parameters}


def fitted(start: Path, sizes: dict[str, Any] | None, tiles: Tensor) -> GaussianObjective:
    """The recipe's JAHP of these sizes, begun with the weights at ``start``; tiles: uint8 [n, 3, 256, 256]."""
    over = {"steps": 1, "start": str(start), "model": {} if sizes is None else {"sizes": sizes}}
    objective = cast(GaussianObjective, build(RunConfig.from_dict(merged(recipe("jahp"), over))))
    objective.start(tiles)
    objective.model.eval()
    return objective


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m fastlic.train.frontier", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("wide", type=Path, metavar="WIDE")
    parser.add_argument("--data", type=Path, required=True, metavar="TILES", help="photographs, as of fastlic train")
    parser.add_argument("--sizes", type=sizes_of, nargs="+", required=True, metavar="SIZES")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="where the last of them goes, as best.pt")
    options = parser.parse_args(arguments)
    train, held_out = load_tiles(options.data)
    batches = [x.float() / 255 for x in held_out[:_HELD_OUT].split(_BATCH)]
    wide = fitted(options.wide, None, train).validate(batches)
    print(f"| products | h_s / context / parameters | bits, %, qualities {_QUALITIES} | with distortion, % |")
    print("|---|---|---|---|")
    for sizes in options.sizes:
        objective = fitted(options.wide, sizes, train)
        rows, model = objective.validate(batches), cast(JAHP, objective.model)
        columns = []
        for what in ("bpp", "loss"):
            changes = (100 * (rows[q - 1][what] - wide[q - 1][what]) / wide[q - 1]["bpp"] for q in _QUALITIES)
            columns.append(", ".join(f"{change:.2f}" for change in changes))
        own = model.sizes
        name = "/".join(",".join(map(str, part)) for part in (own.hyper, (own.context,), own.parameters))
        print(f"| {own.products(model.N, model.M) / 1e6:.2f} M | {name} | {' | '.join(columns)} |", flush=True)
    if options.run is not None:
        options.run.mkdir(parents=True, exist_ok=True)
        content = {"model": model.state_dict(), "config": objective.config.to_dict(), "step": 0, "validation": rows}
        with written_whole(options.run / "best.pt") as file:
            torch.save(content, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
