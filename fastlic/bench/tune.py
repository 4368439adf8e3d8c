"""``python -m fastlic.bench.tune``: other tiles for the kernels whose time depends on them most, within a time limit.

Prints what each choice takes beside the shipped one; nothing is changed. Tiles are chosen in the kernels' ``_tiles``
rather than by Triton's autotuner, which would try them again in every process and cannot run without a GPU.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from fastlic.bench import report
from fastlic.bench.gpu_timing import repeated
from fastlic.bench.runner import Case, Run, measure


@dataclass(frozen=True)
class Question:
    """A kernel at one shape, and the tiles to try; the first entry of ``tiles`` is None, the shipped choice."""

    name: str
    module: str
    make: Callable[[], Run]
    tiles: tuple[Any, ...]


def _codebook(m: int, d: int, n: int = 8160, k: int = 8192) -> Run:
    from fastlic.kernels import codebook

    x, words = torch.randn(n, m, d, device="cuda"), torch.randn(m, k, d, device="cuda")
    return lambda: codebook.nearest(x, words)


def _convolution() -> Run:
    from fastlic.bench.suites.kernels import device_model
    from fastlic.kernels.convolution import convolve
    from fastlic.kernels.packing import as_map

    layer = device_model()[1]._hyper[1]
    x = torch.randint(-2047, 2048, (1, 34, 60, layer.inputs), device="cuda")
    source = as_map(x, layer.reach)
    return lambda: convolve(source, layer, "accumulators")


def _checkerboard() -> Run:
    from fastlic.bench import board
    from fastlic.ops import checkerboard_parameters

    network, maps, _, _ = board.problem(68, 120, torch.device("cuda"))
    return lambda: checkerboard_parameters(network, maps, 1, backend="triton")


# (positions, columns, warps, stages), (rows, codes, warps, stages) and (positions, columns, depth, warps, stages).
SEARCH = (None, (64, 64, 4, 3), (64, 32, 4, 3), (128, 64, 8, 3), (64, 128, 8, 2), (128, 128, 8, 2), (128, 32, 4, 3))
PRODUCT = (None, (64, 64, 64, 8, 3), (128, 64, 64, 8, 3), (64, 128, 64, 8, 3), (128, 64, 64, 4, 3), (64, 32, 64, 4, 4))
BOARD = (None, (16, 64, 8, 3), (16, 128, 8, 3), (32, 64, 8, 3), (64, 32, 8, 3), (64, 64, 8, 3), (32, 32, 4, 4))
QUESTIONS = (
    Question("checkerboard MLIC++ 1080p", "checkerboard", _checkerboard, BOARD),
    Question("codebook m=12 d=16 1080p", "codebook", lambda: _codebook(12, 16), SEARCH),
    Question("codebook m=2 d=64 1080p", "codebook", lambda: _codebook(2, 64), SEARCH),
    Question("integer convolution 1080p", "convolution", _convolution, PRODUCT),
)


def microseconds(run: Run) -> float:
    again, times, _ = repeated(run, 10)
    return 1e6 * measure(Case("", again, 1, "", clock="wall", repeats=times), budget=0).seconds["best"]


def answers(limit: float) -> Iterator[tuple[str, Any, float | None, str]]:
    """(kernel, tiles, microseconds or None, what went wrong) until ``limit`` seconds are over."""
    end = time.perf_counter() + limit
    for question in QUESTIONS:
        module = importlib.import_module(f"fastlic.kernels.{question.module}")
        run: Run | None = None
        for tiles in question.tiles:
            if time.perf_counter() > end:
                return
            other = patch.object(module, "_tiles", lambda *_, tiles=tiles: tiles) if tiles else nullcontext()
            try:
                with other:
                    run = run or question.make()
                    took = microseconds(run)
                yield question.name, tiles or "shipped", took, ""
            except Exception as error:  # a tile that does not fit is an answer too
                yield question.name, tiles or "shipped", None, f"{type(error).__name__}: {str(error).splitlines()[0]}"


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.tune", __doc__)
    parser.add_argument("--seconds", type=float, default=60, help="stop after so long (default: 60)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU was found: nothing to tune")
        return 0
    for name, tiles, found, error in answers(options.seconds):
        print(f"{name:30} {tiles!s:24} {error if found is None else f'{found:9.1f} us'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
