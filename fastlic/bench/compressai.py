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
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlic.bench.photos import images
from fastlic.bench.report import about, markdown, parser, progress
from fastlic.bench.runner import CLOCKS, Clock, Figures, Runs, medians
from fastlic.evaluate import psnr
from fastlic.integrations.compressai import Row, accelerate
from fastlic.lifelike.compressai import MODELS, lively, trained
from fastlic.lifelike.models import photo

WAYS = ("decompress", "compress")  # in the order of tables
# Key of a copy: format and transforms of ``accelerate``.
COPIES = {
    "native": ("native", "exact"),
    "compressai": ("compressai", "exact"),
    "fast": ("native", "fast"),
    "integer": ("native", "integer"),
}
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
    def run(self, label: str, call: Callable[..., Any], *arguments: Any) -> tuple[Figures, Any]:
        """Seconds of a call by "LABEL PART", and its result."""
        self.spent = dict.fromkeys(self.spent, 0.0)
        self._open.clear()
        start = self._clock()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "forward hooks on .* do not run")  # where there are integers
            result = call(*arguments)
        whole, transform = self._clock() - start, self.spent["transforms"]
        entropy = whole - transform
        parts = {"whole": whole, "transform": transform, "entropy": entropy, "coder": entropy - self.spent["networks"]}
        return {f"{label} {part}": seconds for part, seconds in parts.items()}, result


@dataclass
class Result:
    name: str
    what: dict[str, str]  # by copy: what is accelerated
    seconds: Figures  # medians, by "plain" or copy, way and part
    setup: Figures  # seconds of accelerate(model), by copy

    @property
    def raster(self) -> bool:
        return "raster" in self.what["compressai"] or "position" in self.what["compressai"]

    def median(self, key: str, way: str, part: str = "whole") -> float:
        return self.seconds[f"{key} {way} {part}"]


def measure(
    name: str, plain: Any, image: Tensor, seconds: float, least: int, clock: Clock = "wall", first: int = 64
) -> Result:
    """Runs a live model and its copies in turns until ``seconds`` are spent, but each at least ``least`` times.

    Args:
        first: edge of the image that first calls get.
    """
    models, what = {"plain": plain}, {}
    setup: Figures = {}
    for key, (format, transforms) in COPIES.items():
        models[key] = copy.deepcopy(plain)
        start = CLOCKS[clock]()
        report = accelerate(models[key], format, transforms=transforms)  # type: ignore[arg-type]
        setup[key] = CLOCKS[clock]() - start
        what[key] = _summary([row for row in report.replaced if not row.part.startswith(("transform", "model"))])
    watches = {key: Stopwatch(model, CLOCKS[clock]) for key, model in models.items()}

    def both_ways(key: str, x: Tensor) -> Figures:
        watch, model = watches[key], models[key]
        compressing, coded = watch.run(f"{key} compress", model.compress, x)
        return compressing | watch.run(f"{key} decompress", model.decompress, coded["strings"], coded["shape"])[0]

    for key in models:  # first calls make tables
        both_ways(key, image[:, :, :first, :first].contiguous())
    found = medians([partial(both_ways, key, image) for key in models], least, seconds=seconds)
    return Result(name, what, found, setup)


def _summary(rows: list[Row]) -> str:
    """What serves the model now, each thing once: "array coder" is not repeated beside "array coder, one search"."""
    by = list(dict.fromkeys(row.by for row in rows))
    return "; ".join(item for item in by if not any(other != item and other.startswith(item) for other in by))


# ---- tables


Cell = Callable[[Result], str]
Columns = dict[str, Cell]  # by head


def table(results: list[Result], columns: Columns) -> str:
    return markdown(["model", *columns], [[r.name, *(cell(r) for cell in columns.values())] for r in results])


def _speeds(way: str, keys: tuple[str, ...], part: str = "whole") -> Cell:
    """The plain model's time, and that of copies, with how many times as fast they are."""

    def cell(result: Result) -> str:
        plain, *ours = (result.median(key, way, part) for key in ("plain", *keys))
        return f"{_time(plain)}, " + ", ".join(f"{_time(own)} ({plain / own:.1f}x)" for own in ours)

    return cell


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s"


def _both(text: Callable[[Result, str], str]) -> Cell:
    """Decompress and compress in one cell."""
    return lambda result: ", ".join(filter(None, (text(result, way) for way in WAYS)))


def _ratio(result: Result, way: str, key: str, part: str, digits: int) -> str:
    return f"{result.median('plain', way, part) / result.median(key, way, part):.{digits}f}x"


def _entropy(result: Result, way: str) -> str:
    before, now = (1e3 * result.median(key, way, "entropy") for key in ("plain", "native"))
    return f"{before / now:.0f}x ({before:.0f} ms -> {now:.0f} ms)"


def _against(result: Result, way: str) -> str:
    return f"{result.median('native', way) / result.median('plain', way, 'transform'):.2f}"


_FORMATS, _TRANSFORMED = ("native", "compressai"), ("native", "fast", "integer")
SUPPORT: Columns = {
    '`"native"`': lambda r: r.what["native"],
    '`"compressai"`': lambda r: r.what["compressai"],
    "decompress: plain, native, compressai": _speeds("decompress", _FORMATS),
    "compress": _speeds("compress", _FORMATS),
}
PARTS: Columns = {
    "g_s, g_a": _both(lambda r, way: _ratio(r, way, "native", "transform", 2)),
    "native: entropy part": _both(_entropy),
    "native: whole against g_s, g_a": _both(_against),
    "compressai: entropy part": _both(lambda r, way: _ratio(r, way, "compressai", "entropy", 1)),
    "compressai: coder part": _both(lambda r, way: "" if r.raster else _ratio(r, way, "compressai", "coder", 1)),
}
INTEGER: Columns = {
    "decompress: plain, exact, fast, integer": _speeds("decompress", _TRANSFORMED),
    "compress": _speeds("compress", _TRANSFORMED),
    "g_s: plain, exact, fast, integer": _speeds("decompress", _TRANSFORMED, "transform"),
    "g_a": _speeds("compress", _TRANSFORMED, "transform"),
}
OWN: Columns = {  # of models of one's own
    "accelerated": lambda r: " / ".join(dict.fromkeys(r.what.values())),
    "decompress: plain, compressai, native, fast, integer": _speeds("decompress", ("compressai", *_TRANSFORMED)),
    "compress": _speeds("compress", ("compressai", *_TRANSFORMED)),
    "decompress without g_s: plain, native": _speeds("decompress", ("native",), "entropy"),
    "compress without g_a": _speeds("compress", ("native",), "entropy"),
}


# ---- bytes and pictures


def photographs(folder: Path, limit: int) -> list[Tensor]:
    """The first images of a folder, each [1, 3, 64 h, 64 w] in [0, 1], repeated at their edges."""
    found = (x.float()[None] / 255 for _, x in images(folder, limit))
    return [F.pad(x, (0, -x.shape[-1] % 64, 0, -x.shape[-2] % 64), mode="replicate") for x in found]


def bytes_table(models: Runs, title: str, images: list[Tensor]) -> str:
    """Growth of native streams against CompressAI's own; ``models`` by name of the row."""
    rows = []
    for name, make in models.items():
        # "compressai": the same bytes as plain CompressAI's, in less time
        (theirs, _), (ours, _) = _coded(make(), images, "compressai", "native")
        rows.append([name, f"{theirs:,} bytes", f"{ours:,} bytes", _growth(theirs, ours)])
    return markdown([title, "CompressAI", "native", ""], rows)


def psnr_table(models: Runs, title: str, images: list[Tensor]) -> str:
    """Pictures and bytes of exact and of integer transforms, both of 8 bits."""
    rows = []
    for name, make in models.items():
        (a, exact), (b, integer) = _coded(make(), images, "native", "integer")
        pictures = (f"{exact:.3f} dB", f"{integer:.3f} dB", f"{integer - exact:+.3f} dB")
        rows.append([name, *pictures, f"{a:,}", f"{b:,}", _growth(a, b)])
    return markdown([title, "PSNR exact", "integer", "", "bytes exact", "integer", ""], rows)


@torch.no_grad()
def _coded(plain: Any, images: list[Tensor], *copies: str) -> list[tuple[int, float]]:
    """Bytes of all images, and the mean PSNR of what comes back in 8 bits; calibrated on the demonstration photo."""
    found = []
    for format, transforms in (COPIES[key] for key in copies):
        model, size, quality = copy.deepcopy(plain), 0, 0.0
        accelerate(model, format, transforms=transforms)  # type: ignore[arg-type]
        for x in images:
            coded = model.compress(x)
            size += sum(len(item) for part in coded["strings"] for item in part)
            back = model.decompress(coded["strings"], coded["shape"])["x_hat"]
            quality += psnr(*((255 * y).round().clamp(0, 255).to(torch.uint8) for y in (x, back))) / len(images)
        found.append((size, quality))
    return found


def _growth(before: int, now: int) -> str:
    return f"{100 * (now / before - 1):+.2f} %"


# ---- the command


def of_factory(where: str) -> tuple[str, Any]:
    """``FILE.py:FUNCTION`` as a name and the model that the function gives, in eval mode.

    The file runs as a module, and may import what lies beside it.

    Raises:
        ValueError: there is no such file, function or model.
        ImportError: something that the file imports is missing.
    """
    path, _, name = where.rpartition(":")
    file = Path(path)
    spec = importlib.util.spec_from_file_location(file.stem, file) if file.is_file() and name else None
    if spec is None or spec.loader is None:
        raise ValueError(f"expected FILE.py:FUNCTION, got {where!r}: there is no such file of Python")
    sys.path.insert(0, str(file.resolve().parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # pickles and copies look for classes there
    spec.loader.exec_module(module)
    if not callable(make := getattr(module, name, None)):
        raise ValueError(f"{path} has no function {name}")
    if not isinstance(model := make(), torch.nn.Module):
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
    return of.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if unknown := sorted(set(options.models) - set(MODELS)):
        print(f"no model named {', '.join(unknown)}; there are {', '.join(MODELS)}", file=sys.stderr)
        return 2
    clock: Clock = "thread" if options.cpu else "wall"
    if options.threads or options.cpu:
        torch.set_num_threads(1 if options.cpu else options.threads)
    names = [] if options.bytes or options.psnr or options.factory else options.models or list(MODELS)
    # Windows of attention may not fit less than 256.
    made = [(where, partial(of_factory, where), 256) for where in options.factory]
    made += [(name, partial(_live, name), 64) for name in names]
    results, image = [], photo()[None].contiguous()
    try:
        for number, (shown, make, first) in enumerate(made, 1):
            progress(f"{shown} ({number} of {len(made)}) ...")
            results.append(measure(*make(), image, options.seconds, options.least, clock, first))
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
    if options.factory:
        print(table(results, OWN))
    elif results:
        print(f"{table(results, SUPPORT)}\n\n{table(results, PARTS)}")
        print(f'\n"native", exact, fast and integer transforms\n\n{table(results, INTEGER)}')
    if results:
        for key, given in (("native", ""), ("fast", ', transforms="fast"'), ("integer", ', transforms="integer"')):
            setup = ", ".join(f"{result.name} {result.setup[key]:.1f} s" for result in results)
            print(f"\naccelerate(model{given}) itself, once for a model: {setup}")
    coded: Runs = {name: partial(lively, name) for name in options.models}
    title = "rescaled random weights" if coded else "mbt2018 of trained weights"
    coded = coded or {f"quality {q}": partial(trained, CHECKPOINT, q) for q in (1, 3, 5, 8)}
    for compare, folder in ((bytes_table, options.bytes), (psnr_table, options.psnr)):
        if folder:
            photographed = photographs(folder, options.images)
            print("\n" + compare(coded, f"{title}, {len(photographed)} images", photographed))
    return 0


def _live(name: str) -> tuple[str, Any]:
    return name, lively(name)


if __name__ == "__main__":
    sys.exit(main())
