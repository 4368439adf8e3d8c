"""``python -m fastlic.bench.compressai [MODEL ...]``: CompressAI models, plain and accelerated, as Markdown tables.

A plain model and its accelerated copies, formats "native" and "compressai" and "native" with fast and integer
transforms, take turns on one 512x768 image.
Each of their runs is split by the clock: inside g_a or g_s, inside the other networks, and the rest. So for each way

    whole         plain / accelerated, time of compress or decompress
    entropy part  the same without g_a and g_s: all that fastlic's entropy coding replaces
    coder part    the same without any network; for models whose parameters come from parallel passes
    against g     the whole, accelerated, in units of plain CompressAI's own g_a or g_s

Weights are random and rescaled (fastlic.lifelike.compressai). ``--bytes`` compares the sizes of native streams with
CompressAI's own on photographs, for fastlic's trained weights as CompressAI's mbt2018, or for the models named;
``--psnr`` those and the pictures of exact and of integer transforms.

``--factory FILE.py:FUNCTION`` measures models of your own, with the weights that the function gives them.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import math
import statistics
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.bench.report import about, markdown, parser, progress
from fastlic.bench.runner import CLOCKS, Clock, Runs
from fastlic.codec.image_files import find_images, read_image
from fastlic.integrations.compressai import Row, accelerate
from fastlic.lifelike.compressai import MODELS, lively, trained
from fastlic.lifelike.models import photo

WAYS = ("compress", "decompress")
FORMATS = ("native", "compressai")
FAST, INTEGER = "fast", "integer"  # format "native" with these transforms
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
    def run(self, call: Callable[..., Any], *arguments: Any) -> tuple[Split, Any]:
        self.spent = dict.fromkeys(self.spent, 0.0)
        self._open.clear()
        start = self._clock()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "forward hooks on .* do not run")  # where there are integers
            result = call(*arguments)
        return Split(self._clock() - start, self.spent["transforms"], self.spent["networks"]), result


class Split(NamedTuple):
    """Seconds of one run: all of it, inside g_a or g_s, inside the other networks."""

    whole: float
    transform: float
    networks: float

    @property
    def entropy(self) -> float:
        return self.whole - self.transform

    @property
    def coder(self) -> float:
        return self.entropy - self.networks


@dataclass
class Result:
    name: str
    what: dict[str, str]  # by format: what is accelerated
    times: dict[tuple[str, str], list[Split]]  # by ("plain" or format, way)
    raster: bool
    setup: dict[str, float]  # seconds of accelerate(model), "native" with each of the transforms

    def median(self, key: str, way: str, part: str = "whole") -> float:
        return statistics.median(getattr(split, part) for split in self.times[key, way])


def measure(
    name: str, image: Tensor, seconds: float, least: int, size: int | None = None, clock: Clock = "wall"
) -> Result:
    """Runs in turns until ``seconds`` are spent, but each way of each model at least ``least`` times."""
    return measured(name, lively(name, size), image, seconds, least, clock)


def measured(
    name: str,
    plain: Any,
    image: Tensor,
    seconds: float,
    least: int,
    clock: Clock = "wall",
    keys: tuple[str, ...] = (*FORMATS, FAST, INTEGER),
    first: int = 64,
) -> Result:
    """The same of a live model, ``first`` being the edge of the image that first calls get."""
    models, what, setup = {"plain": plain}, {}, {}
    for key in keys:
        models[key] = copy.deepcopy(plain)
        start = CLOCKS[clock]()
        format, transforms = ("native", key) if key in (FAST, INTEGER) else (key, "exact")
        report = accelerate(models[key], format, transforms=transforms)  # type: ignore[arg-type]
        setup[key] = CLOCKS[clock]() - start
        what[key] = _summary([row for row in report.replaced if not row.part.startswith(("transform", "model"))])
    watches = {key: Stopwatch(model, CLOCKS[clock]) for key, model in models.items()}
    times: dict[tuple[str, str], list[Split]] = {(key, way): [] for key in models for way in WAYS}
    small = image[:, :, :first, :first].contiguous()
    for watch, model in zip(watches.values(), models.values(), strict=True):  # first calls make tables
        _, coded = watch.run(model.compress, small)
        watch.run(model.decompress, coded["strings"], coded["shape"])
    spent, rounds = 0.0, 0
    while rounds < least or (spent < seconds and rounds < 25):
        for key, model in models.items():
            compressing, coded = watches[key].run(model.compress, image)
            decompressing, _ = watches[key].run(model.decompress, coded["strings"], coded["shape"])
            for way, split in zip(WAYS, (compressing, decompressing), strict=True):
                times[key, way].append(split)
                spent += split.whole
        rounds += 1
    return Result(name, what, times, "raster" in what["compressai"] or "position" in what["compressai"], setup)


def _summary(rows: list[Row]) -> str:
    """What serves the model now, each thing once: "array coder" is not repeated beside "array coder, one search"."""
    by = list(dict.fromkeys(row.by for row in rows))
    return "; ".join(item for item in by if not any(other != item and other.startswith(item) for other in by))


def support_table(results: list[Result]) -> str:
    """Model, formats, what is accelerated, and what it brings."""
    head = ["model", '`"native"`', '`"compressai"`', "decompress: plain, native, compressai", "compress"]
    rows = [
        [r.name, *(r.what[format] for format in FORMATS), *(_speeds(r, way) for way in reversed(WAYS))] for r in results
    ]
    return markdown(head, rows)


def integer_table(results: list[Result]) -> str:
    """The same of exact, fast and integer transforms, and the transforms themselves."""
    ways = "plain, exact, fast, integer"
    head = ["model", f"decompress: {ways}", "compress", f"g_s: {ways}", "g_a"]
    keys = ("native", FAST, INTEGER)
    rows = [
        [r.name, *(_speeds(r, way, keys, part) for part in ("whole", "transform") for way in reversed(WAYS))]
        for r in results
    ]
    return markdown(head, rows)


def factory_table(results: list[Result]) -> str:
    """Of models of one's own: what is accelerated, the whole, and the whole without g_a and g_s."""
    ways = "plain, compressai, native, fast, integer"
    head = ["model", "accelerated", f"decompress: {ways}", "compress"]
    head += ["decompress without g_s: plain, native", "compress without g_a"]
    keys = ("compressai", "native", FAST, INTEGER)
    rows = [
        [
            *(r.name, " / ".join(dict.fromkeys(r.what.values()))),
            *(_speeds(r, way, keys) for way in reversed(WAYS)),
            *(_speeds(r, way, ("native",), "entropy") for way in reversed(WAYS)),
        ]
        for r in results
    ]
    return markdown(head, rows)


def _speeds(result: Result, way: str, keys: tuple[str, ...] = FORMATS, part: str = "whole") -> str:
    plain, *ours = (result.median(key, way, part) for key in ("plain", *keys))
    return f"{_time(plain)}, " + ", ".join(f"{_time(own)} ({plain / own:.1f}x)" for own in ours)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s"


def figures_table(results: list[Result]) -> str:
    """The parts: decompress and compress in each cell."""
    head = ["model", "g_s, g_a", "native: entropy part", "native: whole against g_s, g_a"]
    head += ["compressai: entropy part", "compressai: coder part"]
    rows = []
    for r in results:
        cells: list[list[str]] = []
        for way in reversed(WAYS):
            transform, entropy, coder = (r.median("plain", way, part) for part in ("transform", "entropy", "coder"))
            own = r.median("native", way, "entropy")
            cells.append([
                f"{transform / r.median('native', way, 'transform'):.2f}x",
                f"{entropy / own:.0f}x ({1e3 * entropy:.0f} ms -> {1e3 * own:.0f} ms)",
                f"{r.median('native', way) / transform:.2f}",
                f"{entropy / r.median('compressai', way, 'entropy'):.1f}x",
                "" if r.raster else f"{coder / r.median('compressai', way, 'coder'):.1f}x",
            ])  # fmt: skip
        rows.append([r.name, *(", ".join(filter(None, pair)) for pair in zip(*cells, strict=True))])
    return markdown(head, rows)


def photographs(folder: Path, limit: int) -> list[Tensor]:
    """The first images of a folder, each [1, 3, 64 h, 64 w] in [0, 1], repeated at their edges."""
    images = (read_image(file).pixels.float()[None] / 255 for file in find_images(folder)[:limit])
    return [F.pad(x, (0, -x.shape[-1] % 64, 0, -x.shape[-2] % 64), mode="replicate") for x in images]


def bytes_table(models: Runs, title: str, images: list[Tensor]) -> str:
    """Growth of native streams against CompressAI's own; ``models`` by name of the row."""
    rows = []
    for name, make in models.items():
        plain = make()
        # "compressai": the same bytes as plain CompressAI's, in less time
        (theirs, _), (ours, _) = (_coded(plain, images, format=format) for format in ("compressai", "native"))
        rows.append([name, f"{theirs:,} bytes", f"{ours:,} bytes", _growth(theirs, ours)])
    return markdown([f"{title}, {len(images)} images", "CompressAI", "native", ""], rows)


def psnr_table(models: Runs, title: str, images: list[Tensor]) -> str:
    """Pictures and bytes of exact and of integer transforms, both of 8 bits."""
    rows = []
    for name, make in models.items():
        plain = make()
        (a, exact), (b, integer) = (_coded(plain, images, transforms=how) for how in ("exact", INTEGER))
        pictures = (f"{exact:.3f} dB", f"{integer:.3f} dB", f"{integer - exact:+.3f} dB")
        rows.append([name, *pictures, f"{a:,}", f"{b:,}", _growth(a, b)])
    head = [f"{title}, {len(images)} images", "PSNR exact", "integer", "", "bytes exact", "integer", ""]
    return markdown(head, rows)


@torch.no_grad()
def _coded(plain: Any, images: list[Tensor], **how: Any) -> tuple[int, float]:
    """Bytes of all images, and the mean PSNR of what comes back in 8 bits; calibrated on the demonstration photo."""
    model, size, quality = copy.deepcopy(plain), 0, 0.0
    accelerate(model, **how)
    for x in images:
        coded = model.compress(x)
        size += sum(len(item) for part in coded["strings"] for item in part)
        found = (model.decompress(coded["strings"], coded["shape"])["x_hat"] * 255).round() / 255
        quality += -10 * math.log10(float((found - x).double().square().mean())) / len(images)
    return size, quality


def _growth(before: int, now: int) -> str:
    return f"{100 * (now / before - 1):+.2f} %"


def of_factory(where: str) -> tuple[str, Any]:
    """``FILE.py:FUNCTION`` as a name and the model that the function gives, in eval mode.

    The file runs as a module, and may import what lies beside it.

    Raises:
        ValueError: there is no such file, function or model.
        ImportError: something that the file imports is missing.
    """
    path, _, name = where.rpartition(":")
    file = Path(path)
    if not file.is_file() or not name:
        raise ValueError(f"expected FILE.py:FUNCTION, got {where!r}: there is no such file")
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # pickles and copies look for classes there
    spec.loader.exec_module(module)
    make = getattr(module, name, None)
    if not callable(make):
        raise ValueError(f"{path} has no function {name}")
    model = make()
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"{where} gave {type(model).__name__}, no torch.nn.Module")
    return name, model.eval()


def parse(arguments: list[str]) -> argparse.Namespace:
    of = parser("fastlic.bench.compressai", __doc__)
    of.add_argument("models", nargs="*", metavar="MODEL", help=f"default: all of {', '.join(MODELS)}")
    of.add_argument("--factory", nargs="+", default=[], metavar="FILE.py:FUNCTION",
                    help="functions that give models of your own: only these are measured")  # fmt: skip
    of.add_argument("--seconds", type=float, default=12.0, help="time for each model (default: 12)")
    of.add_argument("--least", type=int, default=2, help="runs of even the slowest (default: 2)")
    of.add_argument("--threads", type=int, default=0, help="torch's threads (default: as many as torch chooses)")
    of.add_argument("--cpu", action="store_true", help="one thread's CPU time, for machines with other work to do")
    of.add_argument("--bytes", type=Path, metavar="FOLDER", help="compare sizes on the images of this folder")
    of.add_argument("--psnr", type=Path, metavar="FOLDER", help="compare pictures of exact and integer transforms")
    of.add_argument("--images", type=int, default=4, help="how many of the folder (default: 4)")
    of.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="of jahp (default: %(default)s)")
    return of.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if unknown := sorted(set(options.models) - set(MODELS)):
        print(f"no model named {', '.join(unknown)}; there are {', '.join(MODELS)}", file=sys.stderr)
        return 2
    clock: Clock = "thread" if options.cpu else "wall"
    if options.threads or options.cpu:
        torch.set_num_threads(1 if options.cpu else options.threads)
    results, own = [], []
    image = photo()[None].contiguous()
    names = [] if options.bytes or options.psnr or options.factory else options.models or list(MODELS)
    try:
        for number, where in enumerate(options.factory, 1):
            progress(f"{where} ({number} of {len(options.factory)}) ...")
            name, model = of_factory(where)
            # Windows of attention may not fit less than 256.
            own.append(measured(name, model, image, options.seconds, options.least, clock, first=256))
        for number, name in enumerate(names, 1):
            progress(f"{name} ({number} of {len(names)}) ...")
            results.append(measure(name, image, options.seconds, options.least, clock=clock))
    except ImportError as error:
        print(f"CompressAI cannot be imported ({error}): nothing to measure", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        progress()
    print(about())
    shown = "CPU time of one thread" if options.cpu else f"wall time of {torch.get_num_threads()} threads"
    print(f"512x768, {shown}, medians; decompress first in every cell\n")
    if own:
        print(factory_table(own))
    if results:
        print(f"{support_table(results)}\n\n{figures_table(results)}")
        print(f'\n"native", exact, fast and integer transforms\n\n{integer_table(results)}')
    if own or results:
        calls = {key: f'accelerate(model, transforms="{key}")' for key in (FAST, INTEGER)}
        for key, call in {"native": "accelerate(model)", **calls}.items():
            setup = ", ".join(f"{result.name} {result.setup[key]:.1f} s" for result in own + results)
            print(f"\n{call} itself, once for a model: {setup}")
    if options.bytes or options.psnr:
        made: Runs = {f"quality {q}": partial(trained, options.checkpoint, q) for q in (1, 3, 5, 8)}
        named: Runs = {name: partial(lively, name) for name in options.models}
        title = "rescaled random weights" if named else "mbt2018 of trained weights"
        for table, folder in ((bytes_table, options.bytes), (psnr_table, options.psnr)):
            if folder:
                print("\n" + table(named or made, title, photographs(folder, options.images)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
