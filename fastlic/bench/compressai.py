"""``python -m fastlic.bench.compressai [MODEL ...]``: CompressAI models, plain and accelerated, as Markdown tables.

A plain model and its two accelerated copies, format "native" and format "compressai", take turns on one 512x768 image.
Each of their runs is split by the clock: inside g_a or g_s, inside the other networks, and the rest. So for each way

    whole         plain / accelerated, time of compress or decompress
    entropy part  the same without g_a and g_s: all that fastlic's entropy coding replaces
    coder part    the same without any network; for models whose parameters come from parallel passes
    against g     the whole, accelerated, in units of plain CompressAI's own g_a or g_s

Weights are random and rescaled (fastlic.bench.compressai_models). ``--bytes`` compares the sizes of native streams with
CompressAI's own on photographs, for fastlic's trained weights as CompressAI's mbt2018, or for the models named.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastlic.bench.compressai_models import MODELS, lively, trained
from fastlic.bench.lifelike import photo
from fastlic.bench.report import machine
from fastlic.bench.runner import CLOCKS, Clock
from fastlic.codec.image_files import read_image
from fastlic.integrations.compressai import Row, accelerate

WAYS = ("compress", "decompress")
FORMATS = ("native", "compressai")
_TRANSFORMS = ("g_a", "g_s")
_NETWORKS = ("h_a", "h_s", "entropy_parameters", "context_prediction", "channel_context")
CHECKPOINT = Path("checkpoints/jahp_float16.safetensors")


class Stopwatch:
    """Time spent inside some modules of a model, nested ones counted once."""

    def __init__(self, model: Any, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.spent = {"transforms": 0.0, "networks": 0.0}
        self._open: list[float] = []
        for name, module in model.named_modules():
            own = name.rsplit(".", 1)[-1]
            inside = [part for part in name.split(".")[:-1] if part in _TRANSFORMS + _NETWORKS]
            kind = "transforms" if own in _TRANSFORMS else "networks" if own in _NETWORKS else ""
            if kind and not inside:
                # A dictionary of networks is never called itself; its members are.
                for part in module.values() if isinstance(module, torch.nn.ModuleDict) else [module]:
                    part.register_forward_pre_hook(lambda *_: self._open.append(self._clock()))
                    part.register_forward_hook(lambda *_, kind=kind: self._close(kind))

    def _close(self, kind: str) -> None:
        self.spent[kind] += self._clock() - self._open.pop()

    @torch.no_grad()
    def run(self, call: Callable[..., Any], *arguments: Any) -> tuple[float, float, float, Any]:
        """(seconds, of them in transforms, of them in other networks, result)."""
        self.spent = dict.fromkeys(self.spent, 0.0)
        self._open.clear()
        start = self._clock()
        result = call(*arguments)
        return self._clock() - start, self.spent["transforms"], self.spent["networks"], result


@dataclass
class Times:
    """Of one way of one model: parallel lists."""

    whole: list[float] = field(default_factory=list)
    transforms: list[float] = field(default_factory=list)
    networks: list[float] = field(default_factory=list)

    def add(self, whole: float, transforms: float, networks: float) -> None:
        self.whole.append(whole)
        self.transforms.append(transforms)
        self.networks.append(networks)

    @property
    def median(self) -> float:
        return statistics.median(self.whole)

    @property
    def transform(self) -> float:
        return statistics.median(self.transforms)

    @property
    def entropy(self) -> float:
        return statistics.median(a - b for a, b in zip(self.whole, self.transforms, strict=True))

    @property
    def coder(self) -> float:
        return statistics.median(a - b - c for a, b, c in zip(self.whole, self.transforms, self.networks, strict=True))


@dataclass
class Result:
    name: str
    what: dict[str, str]  # by format: what is accelerated
    times: dict[tuple[str, str], Times]  # by ("plain" or format, way)
    raster: bool
    setup: float  # seconds of accelerate(model)


def measure(
    name: str, image: Tensor, seconds: float, least: int, size: int | None = None, clock: Clock = "wall"
) -> Result:
    """Runs in turns until ``seconds`` are spent, but each way of each model at least ``least`` times."""
    plain = lively(name, size)
    models, what, setup = {"plain": plain}, {}, 0.0
    for format in FORMATS:
        models[format] = copy.deepcopy(plain)
        start = CLOCKS[clock]()
        report = accelerate(models[format], format)  # type: ignore[arg-type]
        if format == "native":
            setup = CLOCKS[clock]() - start
        what[format] = _summary([row for row in report.replaced if not row.part.startswith(("transform", "model"))])
    watches = {key: Stopwatch(model, CLOCKS[clock]) for key, model in models.items()}
    times = {(key, way): Times() for key in models for way in WAYS}
    small = image[:, :, :64, :64].contiguous()
    for model in models.values():  # first calls make tables
        with torch.no_grad():
            coded = model.compress(small)
            model.decompress(coded["strings"], coded["shape"])
    spent, rounds = 0.0, 0
    while rounds < least or (spent < seconds and rounds < 25):
        for key, model in models.items():
            *split, coded = watches[key].run(model.compress, image)
            times[key, "compress"].add(*split)
            spent += split[0]
            *split, _ = watches[key].run(model.decompress, coded["strings"], coded["shape"])
            times[key, "decompress"].add(*split)
            spent += split[0]
        rounds += 1
    return Result(name, what, times, "raster" in what["compressai"] or "position" in what["compressai"], setup)


def _summary(rows: list[Row]) -> str:
    """What serves the model now, each thing once: "array coder" is not repeated beside "array coder, one search"."""
    by = list(dict.fromkeys(row.by for row in rows))
    return "; ".join(item for item in by if not any(other != item and other.startswith(item) for other in by))


def support_table(results: list[Result]) -> str:
    """Model, formats, what is accelerated, and what it brings."""
    lines = [
        '| model | `"native"` | `"compressai"` | decompress: plain, native, compressai | compress |',
        "|---|---|---|---|---|",
    ]
    for result in results:
        cells = [_speeds(result, way) for way in reversed(WAYS)]
        lines.append(f"| {result.name} | {result.what['native']} | {result.what['compressai']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _speeds(result: Result, way: str) -> str:
    plain = result.times["plain", way].median
    ours = [result.times[format, way].median for format in FORMATS]
    return f"{_time(plain)}, " + ", ".join(f"{_time(own)} ({plain / own:.1f}x)" for own in ours)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s"


def figures_table(results: list[Result]) -> str:
    """The parts: decompress and compress in each cell."""
    head = ["model", "g_s, g_a", "native: entropy part", "native: whole against g_s, g_a"]
    head += ["compressai: entropy part", "compressai: coder part"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for result in results:
        cells: list[list[str]] = [[] for _ in head[1:]]
        for way in reversed(WAYS):
            plain = result.times["plain", way]
            native, same = (result.times[format, way] for format in FORMATS)
            cells[0].append(f"{plain.transform / native.transform:.2f}x")
            cells[1].append(f"{plain.entropy / native.entropy:.0f}x ({_ms(plain.entropy)} -> {_ms(native.entropy)})")
            cells[2].append(f"{native.median / plain.transform:.2f}")
            cells[3].append(f"{plain.entropy / same.entropy:.1f}x")
            cells[4].append("" if result.raster else f"{plain.coder / same.coder:.1f}x")
        lines.append(f"| {result.name} | {' | '.join(', '.join(filter(None, cell)) for cell in cells)} |")
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def bytes_table(checkpoint: Path, folder: Path, limit: int, qualities: list[int]) -> str:
    """Growth of native streams against CompressAI's own, trained weights, photographs of ``folder``."""
    files = _images(folder, limit)
    lines = [f"| mbt2018 of trained weights, {len(files)} images | CompressAI | native | |", "|---|---|---|---|"]
    for quality in qualities:
        same = trained(checkpoint, quality)
        lines.append(f"| quality {quality} | {_growth(same, files)} |")
    return "\n".join(lines)


def lively_bytes_table(names: list[str], folder: Path, limit: int) -> str:
    """The same of models that have no trained weights here: rescaled random ones."""
    files = _images(folder, limit)
    lines = [f"| rescaled random weights, {len(files)} images | CompressAI | native | |", "|---|---|---|---|"]
    lines += [f"| {name} | {_growth(lively(name), files)} |" for name in names]
    return "\n".join(lines)


def _images(folder: Path, limit: int) -> list[Path]:
    suffixes = (".png", ".jpg", ".jpeg", ".webp")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)[:limit]


@torch.no_grad()
def _growth(same: Any, files: list[Path]) -> str:
    """Cells of a table: bytes of CompressAI and of native streams, calibrated on the demonstration photo."""
    native = copy.deepcopy(same)
    accelerate(same, "compressai")  # the same bytes as plain CompressAI's, in less time
    accelerate(native)
    sizes = [0, 0]
    for file in files:
        x = read_image(file).pixels.float()[None] / 255
        x = torch.nn.functional.pad(x, (0, -x.shape[-1] % 64, 0, -x.shape[-2] % 64), mode="replicate")
        for i, model in enumerate((same, native)):
            sizes[i] += sum(len(item) for part in model.compress(x)["strings"] for item in part)
    return f"{sizes[0]:,} bytes | {sizes[1]:,} bytes | {100 * (sizes[1] / sizes[0] - 1):+.2f} %"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fastlic.bench.compressai",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: all of {', '.join(MODELS)}")
    parser.add_argument("--seconds", type=float, default=12.0, help="time for each model (default: 12)")
    parser.add_argument("--least", type=int, default=2, help="runs of even the slowest (default: 2)")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads (default: as many as torch chooses)")
    parser.add_argument("--cpu", action="store_true", help="one thread's CPU time, for machines with other work to do")
    parser.add_argument("--bytes", type=Path, metavar="FOLDER", help="compare sizes on the images of this folder")
    parser.add_argument("--images", type=int, default=4, help="how many of that folder (default: 4)")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="of jahp (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if unknown := sorted(set(options.models) - set(MODELS)):
        print(f"no model named {', '.join(unknown)}; there are {', '.join(MODELS)}", file=sys.stderr)
        return 2
    clock: Clock = "thread" if options.cpu else "wall"
    if options.threads or options.cpu:
        torch.set_num_threads(1 if options.cpu else options.threads)
    results = []
    with ExitStack() as stack:
        stack.callback(lambda: print("\r\033[K", end="", file=sys.stderr))
        image = photo()[None].contiguous()
        names = [] if options.bytes else options.models or list(MODELS)
        for number, name in enumerate(names, 1):
            print(f"\r\033[K{name} ({number} of {len(names)}) ...", end="", file=sys.stderr, flush=True)
            try:
                results.append(measure(name, image, options.seconds, options.least, clock=clock))
            except ImportError as error:
                print(f"CompressAI cannot be imported ({error}): nothing to measure", file=sys.stderr)
                return 2
    print(", ".join(f"{key} {value}" for key, value in machine().items() if value))
    shown = "CPU time of one thread" if options.cpu else f"wall time of {torch.get_num_threads()} threads"
    print(f"512x768, {shown}, medians; decompress first in every cell\n")
    if results:
        print(f"{support_table(results)}\n\n{figures_table(results)}")
        setup = ", ".join(f"{result.name} {result.setup:.1f} s" for result in results)
        print(f'\naccelerate(model, "native") itself, once for a model: {setup}')
    if options.bytes and options.models:
        print("\n" + lively_bytes_table(options.models, options.bytes, options.images))
    elif options.bytes:
        print("\n" + bytes_table(options.checkpoint, options.bytes, options.images, [1, 3, 5, 8]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
