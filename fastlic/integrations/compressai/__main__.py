"""CompressAI's own tools on accelerated models.

    python -m fastlic.integrations.compressai eval_model checkpoint IMAGES -a mbt2018 -p mbt2018.pth.tar

is ``python -m compressai.utils.eval_model`` with the same arguments, and these before the tool's own:

    --format {native,compressai}       as fastlic.accelerate takes it (default: native)
    --calibration FILE                 a conversion that report.save wrote
    --transforms {exact,fast,integer}  as fastlic.accelerate takes it (default: exact)
    --threads N                        CompressAI's tool runs on one (default: 1)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch

from fastlic.errors import FastlicError
from fastlic.integrations.compressai.api import accelerate
from fastlic.integrations.compressai.register import NAME, register_entropy_coder
from fastlic.integrations.compressai.settings import FORMATS, TRANSFORMS


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastlic.integrations.compressai",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--format", choices=FORMATS, default="native")
    parser.add_argument("--calibration", metavar="FILE")
    parser.add_argument("--transforms", choices=TRANSFORMS, default="exact")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("tool", choices=["eval_model"])
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="the tool's own arguments")
    options = parser.parse_args(arguments)
    try:
        eval_model(options)
    except FastlicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def eval_model(options: argparse.Namespace) -> None:
    """CompressAI's tool, whose models are accelerated as soon as they are loaded."""
    register_entropy_coder()  # it may be named with -c; and without CompressAI this says how to install it
    import compressai
    import compressai.utils.eval_model.__main__ as tool

    torch.set_num_threads(options.threads)
    # The tool names files and results after the coder. It is this one unless another is asked for.
    if not any(argument.startswith(("-c", "--entropy-coder")) for argument in options.rest):
        options.rest[1:1] = ["-c", NAME] if options.rest[:1] in (["pretrained"], ["checkpoint"]) else []
    if "--entropy-estimation" not in options.rest:
        for name in ("load_pretrained", "load_checkpoint"):
            setattr(tool, name, _accelerated(getattr(tool, name), options))
    before = compressai.get_entropy_coder()
    try:
        tool.main(options.rest)
    finally:
        compressai.set_entropy_coder(before)


def _accelerated(load: Callable[..., Any], options: argparse.Namespace) -> Callable[..., Any]:
    def loaded(*arguments: Any) -> Any:
        model = load(*arguments)
        report = accelerate(model, options.format, options.calibration, transforms=options.transforms)
        print(report, file=sys.stderr)
        return model

    return loaded


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
