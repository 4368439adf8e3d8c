"""The two drivers of the schedule of channel groups: latents to sections of bytes, and back.

As in fastlic.codec.drivers there is a plain ``reference``, which runs the schedule pass by pass, and ``cpp``, the fused
engine. Both give the same bytes and the same latents, int32. Section 0 is z, and each pass over y has one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked
from fastlic.codec.drivers import fewest_bits
from fastlic.entropy.checkerboard.passes import Pass
from fastlic.entropy.coded import answer_to
from fastlic.entropy.groups.model import IntegerGroups
from fastlic.entropy.groups.schedule import groups_schedule
from fastlic.entropy.schedule import Latents, hyper_size
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import MEAN_BITS, fixed_point
from fastlic.ops.rans import CdfTables, RansDecoder, rans_encode

Sections = Sequence[bytes]
Coded = tuple[list[bytes], Latents]


def _tables(model: IntegerGroups, section: int) -> CdfTables:
    return model.y_tables if section else model.z_tables


def _drive(model: IntegerGroups, height: int, width: int, answer: Callable[[Pass], Tensor]) -> Latents:
    """Run the schedule to its end, each pass answered by ``answer(pass)``."""
    schedule = groups_schedule(model, height, width)
    step = next(schedule)
    while True:
        try:
            step = schedule.send(answer(step))
        except StopIteration as end:
            latents = cast(Latents, end.value)
            return Latents(latents.z.int(), latents.y.int())


def _encode_reference(model: IntegerGroups, z: Tensor, y: Tensor) -> Coded:
    """z, y: int32 in units of 2^-6."""
    z, y = z.long(), y.long()
    medians = torch.from_numpy(model.z_median.astype(np.int64))[:, None, None]
    targets = [t.permute(1, 2, 0).reshape(-1, len(t)) for t in (z - medians, y)]
    sections: list[bytes] = []

    def answer(step: Pass) -> Tensor:
        values = answer_to(step, targets[min(step.section, 1)][step.where, slice(*step.channels)])
        symbols, indexes = values.int().numpy().ravel(), step.indexes.numpy().ravel()
        sections.append(rans_encode(symbols, indexes, _tables(model, step.section)))
        return values

    _, height, width = y.shape
    latents = _drive(model, height, width, answer)
    return sections, latents


@checked
def check_sizes(model: IntegerGroups, sections: Sections, height: int, width: int) -> None:
    """No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image.

    Raises:
        CorruptStreamError: a section is too short for a latent of height x width.
    """
    rows, columns = hyper_size(height, width)
    counts = [rows * columns * model.hyper_channels]
    for group in model.groups:
        counts += [height * width // group.passes * group.channels] * group.passes
    for i, (section, count) in enumerate(zip(sections, counts, strict=True)):
        if count * fewest_bits(_tables(model, i)) > 8 * len(section) + 64:
            raise CorruptStreamError(
                f"section {'y' if i else 'z'} has {len(section)} bytes, too few for {count} symbols"
            )


def _decode_reference(model: IntegerGroups, sections: Sections, height: int, width: int) -> Latents:
    check_sizes(model, sections, height, width)

    def answer(step: Pass) -> Tensor:
        decoder = RansDecoder(sections[step.section], _tables(model, step.section))
        symbols = decoder.decode(step.indexes.contiguous().numpy())
        decoder.finish()
        return torch.from_numpy(symbols).long()

    return _drive(model, height, width, answer)


def _encode_many_reference(model: IntegerGroups, latents: Sequence[tuple[Tensor, Tensor]], threads: int) -> list[Coded]:
    return [_encode_reference(model, z, y) for z, y in latents]


def _decode_many_reference(
    model: IntegerGroups, streams: Sequence[tuple[Sections, int, int]], threads: int
) -> list[Latents]:
    return [_decode_reference(model, *stream) for stream in streams]


def _encode_many_engine(model: IntegerGroups, latents: Sequence[tuple[Tensor, Tensor]], threads: int) -> list[Coded]:
    coded = model.engine.encode_many([z.numpy() for z, _ in latents], [y.numpy() for _, y in latents], threads)
    return [(sections, _as_latents(z, y)) for sections, z, y in coded]


def _decode_many_engine(
    model: IntegerGroups, streams: Sequence[tuple[Sections, int, int]], threads: int
) -> list[Latents]:
    sizes = [(height, width) for _, height, width in streams]
    decoded = model.engine.decode_many([sections for sections, _, _ in streams], sizes, threads)
    return [_as_latents(z, y) for z, y in decoded]


def _as_latents(z: np.ndarray, y: np.ndarray) -> Latents:
    return Latents(torch.from_numpy(z), torch.from_numpy(y))


ENCODE: dict[str, Callable[..., list[Coded]]] = {"reference": _encode_many_reference, "cpp": _encode_many_engine}
DECODE: dict[str, Callable[..., list[Latents]]] = {"reference": _decode_many_reference, "cpp": _decode_many_engine}


def _choose(backend: str) -> str:
    if backend == "auto":
        return "cpp"
    if backend not in ENCODE:
        raise ValueError(f"backend must be auto, {' or '.join(ENCODE)}, got {backend!r}")
    return backend


@checked
def encode_many(
    model: IntegerGroups, latents: Sequence[tuple[Tensor, Tensor]], backend: str = "auto", threads: int = 1
) -> list[Coded]:
    """Sections, and the latents that the decoder will see, of several images.

    Args:
        latents: float z [N, ceil(h/4), ceil(w/4)] and y [M, h, w] of each, w at least 2.
    """
    pairs = [(fixed_point(z, torch.int32), fixed_point(y, torch.int32)) for z, y in latents]
    return ENCODE[_choose(backend)](model, pairs, threads)


@checked
def analyse_many(
    model: IntegerGroups, latents: Sequence[Tensor], backend: str = "auto", threads: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """What ``encode_many`` takes, of float y [M, h, w]: (z, y) float32, z by the model's own integers.

    Raises:
        ValueError: the model has none for it (``IntegerGroups.analyses``).
    """
    if not model.analyses:
        raise ValueError("this model has no integers for hyper analysis")
    fixed = [fixed_point(y, torch.int32) for y in latents]
    if _choose(backend) == "cpp":
        z = [torch.from_numpy(own) for own in model.engine.analyse_many([y.numpy() for y in fixed], threads)]
    else:
        z = [model.hyper_analysis(y.long()) for y in fixed]
    return [(own.float() * 2.0**-MEAN_BITS, y) for own, y in zip(z, latents, strict=True)]


@checked
def decode_many(
    model: IntegerGroups, streams: Sequence[tuple[Sections, int, int]], backend: str = "auto", threads: int = 1
) -> list[Latents]:
    """Latents of several images from (sections, height, width) of the latent.

    Raises:
        CorruptStreamError: the sections do not hold exactly these latents.
    """
    for sections, _, _ in streams:
        if len(sections) != 1 + model.passes:
            raise CorruptStreamError(f"this model has {1 + model.passes} sections, this stream {len(sections)}")
    return DECODE[_choose(backend)](model, streams, threads)
