"""``python -m fastlic.bench.launches``: what whole images ask of a device, counted where there is none.

Drivers run as they do on a GPU, on the CPU through Triton's interpreter, but no kernel computes anything: each launch
is written down and passed over, and what it would have filled is zero. Streams are of such zeros, so what they hold in
bytes means nothing. Counted is what drivers of latents, transforms and the coder do, after a first call that made
engines:

    launches      of kernels of this library
    operations    of torch's that a device runs by itself: fills, copies within it, sums; views are none, and of those
                  inside the codebook search, a few, nothing is seen
    waits         where the host waits for numbers of the device
    barriers      of grids, where all programs of a launch wait for each other
    MB            of the tensors that launches are given, each once a launch: less than a launch reads where it reads
                  weights again and again, more where it reads a part of a map
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fastlic
from fastlic.bench import report
from fastlic.bench.suites.transforms import WAYS, codec_of, pixels, quality_of
from fastlic.ops import _device_streams

_ROOT = Path(fastlic.__file__).resolve().parent
# What runs between a device's steps: kernels' launchers, engines and what they share.
_DRIVERS = (str(_ROOT.parent / "kernels"), str(_ROOT / "kernels"), str(_ROOT / "ops"))
_NO_WORK = ("empty", "lift_fresh", "detach", "fill_")  # that are no views; fill_: of what is counted only here


@dataclass
class Tally:
    """What was counted; names of kernels and operations beside it."""

    launches: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    waits: int = 0
    barriers: int = 0
    given: int = 0  # bytes

    def launch(self, kernel: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        from fastlic.kernels import masked_context

        self.launches[f"{kernel.fn.__module__.rpartition('.')[2]}.{kernel.fn.__name__}"] += 1
        tensors = [given for given in (*arguments, *named.values()) if isinstance(given, Tensor)]
        self.given += sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())
        self.barriers += masked_context.barriers(kernel, arguments, named)

    def row(self) -> tuple[str, ...]:
        counts = (self.launches.total(), self.operations.total(), self.waits, self.barriers)
        return (*map(str, counts), f"{self.given / 1e6:.0f}")


def _of_driver() -> bool:
    """Whether the nearest code of this library, above torch's, drives a device."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith((str(_ROOT), _DRIVERS[0])) and file != __file__:
            return file.startswith(_DRIVERS)
        frame = frame.f_back
    return False


class _Operations(TorchDispatchMode):
    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.name().removeprefix("aten::").partition(".")[0]
        if not (function.is_view or name in _NO_WORK) and _of_driver():
            self._tally.operations[name] += 1
            self._tally.waits += name in ("nonzero", "_local_scalar_dense")
        return out


@contextmanager
def counted() -> Iterator[Tally]:
    """Kernels that are launched meanwhile compute nothing.

    Raises:
        BackendUnavailable: kernels were imported without the interpreter.
    """
    from triton.runtime.interpreter import InterpretedFunction

    from fastlic.errors import BackendUnavailable
    from fastlic.kernels import launch, rans

    if not launch.interpreted(rans._decode):
        raise BackendUnavailable("kernels were imported without the interpreter: set TRITON_INTERPRET=1")
    tally = Tally()

    def launcher(kernel: Any, grid: Any) -> Callable[..., None]:
        return lambda *arguments, **named: tally.launch(kernel, arguments, named)

    def reads(method: Callable[..., Any]) -> Callable[..., Any]:
        def read(tensor: Tensor, *more: Any) -> Any:
            tally.waits += _of_driver()
            return method(tensor, *more)

        return read

    def empty(*size: Any, **how: Any) -> Tensor:  # which kernels would have filled
        return make(*size, **how).fill_(0)

    make = torch.empty
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(InterpretedFunction, "__getitem__", launcher))
        for method in (Tensor.cpu, Tensor.tolist):
            stack.enter_context(mock.patch.object(Tensor, method.__name__, reads(method)))
        stack.enter_context(mock.patch.object(torch, "empty", empty))
        # Nothing was decoded, so the streams did not end where they should.
        stack.enter_context(mock.patch.object(rans, "finish", lambda *_: None))
        stack.enter_context(_Operations(tally))
        yield tally


def tallies(model: str, images: Tensor) -> Iterator[tuple[str, Tally]]:
    """Of each direction, for uint8 [B, 3, H, W]."""
    codec: Any = codec_of(model)
    quality = quality_of(codec)
    few = not _device_streams.on_device(len(images))
    streams = [] if few else codec.compress(images, quality, "cpp")
    for way in WAYS:
        run = partial(codec.compress, images, quality, "triton")
        if way == "decompress":
            run = partial(codec.decompress, streams, "cpu", torch.uint8, "triton")
        with counted():
            made = run()
        streams = made if few and way == "compress" else streams
        with counted() as tally:
            run()
        yield way, tally


def main(arguments: list[str] | None = None) -> int:
    parser = report.parser("fastlic.bench.launches", __doc__)
    parser.add_argument("--models", nargs="+", default=["jahp", "mlic", "mlic+", "mlic++", "mcquic"], metavar="NAME")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], metavar="N", help="images together")
    parser.add_argument("--names", action="store_true", help="name the kernels and operations of each line")
    options = parser.parse_args(arguments)
    from triton import knobs

    knobs.runtime.interpret = True  # before kernels are imported
    rows: list[tuple[str, ...]] = [("model", "way", "images", "launches", "operations", "waits", "barriers", "MB")]
    for model in options.models:
        for count in options.batch:
            for way, tally in tallies(model, pixels().expand(count, -1, -1, -1)):
                rows.append((model, way, str(count), *tally.row()))
                if options.names:
                    print(model, way, count, dict(tally.launches), dict(tally.operations))
    print("\n".join(report.columns(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
