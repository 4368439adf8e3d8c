"""The two drivers of a coding schedule, of any latent model: latents to sections of bytes, and back.

Each exists as plain ``reference``, which runs the model's schedule pass by pass, as ``cpp``, the fused engine of
fastlic.ops.latents, which is that schedule in one call, and as ``triton``, that engine on a GPU
(fastlic.ops.device_engine, device_board and device_slices) where the model has one. All give the same bytes and the
same latents, int32; ``triton`` leaves the latents on its device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked
from fastlic.entropy.coded import code, joined
from fastlic.entropy.passes import LatentModel, Latents, Pass, drive
from fastlic.errors import CorruptStreamError
from fastlic.integers.engines import Way
from fastlic.integers.fixed import MEAN_BITS, fixed_point
from fastlic.ops import backends
from fastlic.ops.latents import Bytes, Stream, Target
from fastlic.ops.rans import RansDecoder, rans_encode
from fastlic.ops.tables import CdfTables

Result = TypeVar("Result")
Backend = Literal["auto", "reference", "cpp", "triton"]
Coded = tuple[list[bytes], Latents]
Targets = Sequence[tuple[Tensor, Tensor, np.ndarray | None]]  # fastlic.ops.latents.Target


def _tables(model: LatentModel) -> list[CdfTables]:
    """Of each section."""
    return [model.z_tables, *[model.y_tables] * (model.sections - 1)]


def _int32(latents: Latents) -> Latents:
    symbols = None if latents.symbols is None else latents.symbols.int()
    return Latents(latents.z.int(), latents.y.int(), symbols)


def _encode_reference(model: LatentModel, targets: Targets, threads: int) -> list[Coded]:
    medians = torch.from_numpy(model.z_median.astype(np.int64))[:, None, None]
    images = []
    for z, y, zones in targets:
        passes, latents = code(model.schedule(*y.shape[1:]), z.cpu() - medians, y.cpu(), zones)
        sections = []
        for number, tables in enumerate(_tables(model)):
            indexes, symbols = joined(coded for coded in passes if coded[0] == number)
            sections.append(rans_encode(symbols, indexes, tables))
        images.append((sections, _int32(latents)))
    return images


@checked
def check_sizes(model: LatentModel, sections: Sequence[Bytes], height: int, width: int) -> None:
    """No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image.

    What is allocated stays in proportion to the bytes that came.

    Raises:
        CorruptStreamError: a section is too short for a latent of height x width.
    """
    counts = model.counts(height, width)
    for number, (section, count, tables) in enumerate(zip(sections, counts, _tables(model), strict=True)):
        if count * tables.fewest_bits > 8 * len(section) + 64:
            name = "y" if number else "z"
            raise CorruptStreamError(f"section {name} has {len(section)} bytes, too few for {count} symbols")


def _decode_one(model: LatentModel, stream: Stream, groups: int | None) -> Latents:
    sections, height, width = stream
    check_sizes(model, sections, height, width)
    tables = _tables(model)
    known = model.latent_channels if groups is None else model.known_channels(groups)
    decoders: dict[int, RansDecoder] = {}  # of sections that are read
    partly: set[int] = set()

    def answer(step: Pass) -> Tensor:
        number = step.section
        if number and step.channels[0] >= known:  # a preview: what is not read is predicted
            partly.add(number)
            return torch.zeros(step.indexes.shape, dtype=torch.int64)
        if number not in decoders:
            decoders[number] = RansDecoder(sections[number], tables[number])
        return torch.from_numpy(decoders[number].decode(step.indexes.contiguous().numpy())).long()

    latents = _int32(drive(model.schedule(height, width), answer))
    for number, decoder in decoders.items():
        if number not in partly:
            decoder.finish()
    return latents


def _latents(*maps: np.ndarray | Tensor | None) -> Latents:
    """What an engine gave."""
    return Latents(*(torch.from_numpy(own) if isinstance(own, np.ndarray) else own for own in maps))  # type: ignore[arg-type]


def _coded(coded: Iterable[Sequence[Any]]) -> list[Coded]:
    return [(sections, _latents(*maps)) for sections, *maps in coded]


def _sections(encode: Callable[..., list[Coded]], *arguments: Any) -> list[list[bytes]]:
    return [sections for sections, _ in encode(*arguments)]


ENCODE: dict[str, Callable[..., list[Coded]]] = {
    "reference": _encode_reference,
    "cpp": lambda model, targets, threads: _coded(model.engine.encode_many(targets, threads)),
    "triton": lambda model, targets, threads: _coded(model.device_engine.encode_many(targets, threads)),
}
SECTIONS: dict[str, Callable[..., list[list[bytes]]]] = {
    **{name: partial(_sections, encode) for name, encode in ENCODE.items()},
    "cpp": lambda model, targets, threads: model.engine.sections_many(targets, threads),
}
DECODE: dict[str, Callable[..., list[Latents]]] = {
    "reference": lambda model, streams, threads, groups, symbols: [
        _decode_one(model, stream, groups) for stream in streams
    ],
    "cpp": lambda model, streams, threads, groups, symbols: [
        _latents(*maps) for maps in model.engine.decode_many(streams, threads, groups, symbols=symbols)
    ],
    "triton": lambda model, streams, threads, groups, symbols: [
        _latents(*maps) for maps in model.device_engine.decode_many(streams, threads, groups)
    ],
}
ANALYSE: dict[str, Callable[..., list[Any]]] = {
    "reference": lambda model, latents, threads: [model.hyper_analysis(y.long()) for y in latents],
    "cpp": lambda model, latents, threads: [torch.from_numpy(z) for z in model.engine.analyse_many(latents, threads)],
    "triton": lambda model, latents, threads: model.device_engine.analyse_many(latents),
}


def _run(table: dict[str, Callable[..., Result]], backend: Backend, model: LatentModel, x: Any, *more: Any) -> Result:
    """What the backend makes of x; ``more``: threads first."""
    chosen = backends.choose(table, backend, torch.device("cpu"))  # where targets are
    for way in get_args(Way):
        if chosen is table[way] and (own := model.on_engines(more[0], way)) is not None:
            return table["reference"](own, x, *more)
    return chosen(model, x, *more)


@checked
def encode_many(model: LatentModel, targets: Targets, backend: Backend = "auto", threads: int = 1) -> list[Coded]:
    """Code the latents of several images, each on one of ``threads`` threads; a single image may use them all.

    Args:
        targets: float latents on the CPU, or any device for ``triton``, and how y is rounded.

    Returns:
        the sections and the latents that the decoder will see, of each image. Bytes depend on neither backend nor
        threads.

    Raises:
        ValueError: values that are not finite or not of the model's shape, or an unknown backend.
        BackendUnavailable: it exists, but not here or not for this kind of model.
    """
    return _run(ENCODE, backend, model, _fixed(targets), threads)


@checked
def sections_many(
    model: LatentModel, targets: Targets, backend: Backend = "auto", threads: int = 1
) -> list[list[bytes]]:
    """What ``encode_many`` gives but for the latents, which the fused engine has no memory for then.

    Raises:
        ValueError, BackendUnavailable: as for ``encode_many``.
    """
    return _run(SECTIONS, backend, model, _fixed(targets), threads)


def _fixed(targets: Targets) -> list[Target]:
    return [Target(fixed_point(z, torch.int32), fixed_point(y, torch.int32), zones) for z, y, zones in targets]


@checked
def decode_many(
    model: LatentModel,
    streams: Sequence[Stream],
    backend: Backend = "auto",
    threads: int = 1,
    groups: int | None = None,
    *,
    symbols: bool = True,
) -> list[Latents]:
    """Latents of several images from their sections and the sizes of their y; threads as for ``encode_many``.

    Args:
        groups: read only the first groups or slices; the rest is what the model predicts for them.
        symbols: False: nobody asks for those of y, which take as much memory as y.

    Raises:
        CorruptStreamError: the sections do not hold exactly these latents.
        ValueError, BackendUnavailable: as for ``encode_many``.
    """
    for sections, _, _ in streams:
        if len(sections) != model.sections:
            raise CorruptStreamError(
                f"this model's streams have {model.sections} sections, this one has {len(sections)}"
            )
    return _run(DECODE, backend, model, streams, threads, groups, symbols)


@checked
def analyse_many(
    model: LatentModel, latents: Sequence[Tensor], backend: Backend = "auto", threads: int = 1
) -> list[Target]:
    """What ``encode_many`` takes, of float y [M, h, w]: z float32 by the model's own integers.

    Raises:
        ValueError: the model has none for it.
    """
    if not model.analyses:
        raise ValueError("this model has no integers for hyper analysis")
    fixed = [fixed_point(y, torch.int32) for y in latents]
    z = _run(ANALYSE, backend, model, fixed, threads)
    return [Target(own.float() * 2.0**-MEAN_BITS, y) for own, y in zip(z, latents, strict=True)]
