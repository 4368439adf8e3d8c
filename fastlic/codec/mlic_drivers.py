"""The two drivers of the MLIC family's schedule: latents to sections of bytes, and back.

As in fastlic.codec.drivers there is a plain ``reference``, which runs the schedule pass by pass, and ``cpp``, the fused
engine. Both give the same bytes and the same latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked
from fastlic.codec.drivers import fewest_bits
from fastlic.entropy.checkerboard.passes import Pass, Schedule
from fastlic.entropy.coded import answer_to
from fastlic.entropy.mlic.model import IntegerMLIC
from fastlic.entropy.mlic.schedule import mlic_schedule
from fastlic.entropy.schedule import Latents, hyper_size
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import fixed_point
from fastlic.ops.engine import Zones
from fastlic.ops.rans import RansDecoder, rans_encode

SECTIONS = 2  # z, then y

Sections = Sequence[bytes]


@dataclass(frozen=True)
class MlicLatents(Latents):
    """Latents, and the symbols int64 [M, h, w] that led to y: residual prediction stands between them."""

    symbols: Tensor


def _drive(schedule: Schedule, answer: Callable[[Pass], Tensor], shape: Sequence[int]) -> MlicLatents:
    """Run a schedule to its end, each pass answered by ``answer(pass)``; shape [M, h, w] of y."""
    symbols = torch.zeros(tuple(shape), dtype=torch.int64)
    step = next(schedule)
    while True:
        values = answer(step)
        if step.section == 1:
            symbols.flatten(1)[slice(*step.channels), step.where] = values.T
        try:
            step = schedule.send(values)
        except StopIteration as end:
            latents = cast(Latents, end.value)
            return MlicLatents(latents.z, latents.y, symbols)


Coded = tuple[list[bytes], MlicLatents]


def _encode_reference(model: IntegerMLIC, z: Tensor, y: Tensor, zones: np.ndarray | None) -> Coded:
    """z, y: int64 in units of 2^-6."""
    medians = torch.from_numpy(model.numbers["z.median"].astype(np.int64))[:, None, None]
    targets = [t.permute(1, 2, 0).reshape(-1, len(t)) for t in (z - medians, y)]
    symbols: list[list[np.ndarray]] = [[], []]
    indexes: list[list[np.ndarray]] = [[], []]

    def answer(step: Pass) -> Tensor:
        values = answer_to(step, targets[step.section][step.where, slice(*step.channels)], zones)
        symbols[step.section].append(values.int().numpy().ravel())
        indexes[step.section].append(step.indexes.numpy().ravel())
        return values

    latents = _drive(mlic_schedule(model, *y.shape[1:]), answer, y.shape)
    tables = (model.z_tables, model.y_tables)
    sections = [
        rans_encode(np.concatenate(s), np.concatenate(i), t) for s, i, t in zip(symbols, indexes, tables, strict=True)
    ]
    return sections, latents


@checked
def check_sizes(model: IntegerMLIC, sections: Sections, height: int, width: int) -> None:
    """No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image.

    Raises:
        CorruptStreamError: a section is too short for a latent of height x width.
    """
    rows, columns = hyper_size(height, width)
    counts = (rows * columns * model.hyper_channels, height * width * model.latent_channels)
    for name, section, count, table in zip("zy", sections, counts, (model.z_tables, model.y_tables), strict=True):
        if count * fewest_bits(table) > 8 * len(section) + 64:
            raise CorruptStreamError(f"section {name} has {len(section)} bytes, too few for {count} symbols")


def _decode_reference(
    model: IntegerMLIC, sections: Sections, height: int, width: int, slices: int | None
) -> MlicLatents:
    check_sizes(model, sections, height, width)
    tables = (model.z_tables, model.y_tables)
    decoders = [RansDecoder(section, table) for section, table in zip(sections, tables, strict=True)]
    known = model.latent_channels if slices is None else slices * model.slice_channels

    def answer(step: Pass) -> Tensor:
        if step.section == 1 and step.channels[0] >= known:  # a preview: what is not read is predicted
            return torch.zeros(step.indexes.shape, dtype=torch.int64)
        return torch.from_numpy(decoders[step.section].decode(step.indexes.contiguous().numpy())).long()

    latents = _drive(mlic_schedule(model, height, width), answer, (model.latent_channels, height, width))
    for decoder in decoders if slices is None else decoders[:1]:
        decoder.finish()
    return latents


def _encode_many_reference(
    model: IntegerMLIC, latents: Sequence[tuple[Tensor, Tensor]], threads: int, zones: Zones
) -> list[Coded]:
    each = zones if zones is not None else [None] * len(latents)
    return [_encode_reference(model, z, y, own) for (z, y), own in zip(latents, each, strict=True)]


def _decode_many_reference(
    model: IntegerMLIC, streams: Sequence[tuple[Sections, int, int]], slices: int | None, threads: int
) -> list[MlicLatents]:
    return [_decode_reference(model, sections, height, width, slices) for sections, height, width in streams]


def _encode_many_engine(
    model: IntegerMLIC, latents: Sequence[tuple[Tensor, Tensor]], threads: int, zones: Zones
) -> list[Coded]:
    coded = model.engine.encode_many([z.numpy() for z, _ in latents], [y.numpy() for _, y in latents], threads, zones)
    return [([z_bytes, y_bytes], _as_latents(*rest)) for z_bytes, y_bytes, *rest in coded]


def _decode_many_engine(
    model: IntegerMLIC, streams: Sequence[tuple[Sections, int, int]], slices: int | None, threads: int
) -> list[MlicLatents]:
    z, y = ([sections[i] for sections, _, _ in streams] for i in range(SECTIONS))
    sizes = [(height, width) for _, height, width in streams]
    return [_as_latents(*maps) for maps in model.engine.decode_many(z, y, sizes, threads, slices)]


def _as_latents(z: np.ndarray, y: np.ndarray, symbols: np.ndarray) -> MlicLatents:
    return MlicLatents(*(torch.from_numpy(x).long() for x in (z, y, symbols)))


ENCODE: dict[str, Callable[..., list[Coded]]] = {"reference": _encode_many_reference, "cpp": _encode_many_engine}
DECODE: dict[str, Callable[..., list[MlicLatents]]] = {
    "reference": _decode_many_reference,
    "cpp": _decode_many_engine,
}


@checked
def choose_backend(backend: str) -> str:
    """What ``auto`` stands for: the last entry of the table.

    Raises:
        ValueError: an unknown backend.
    """
    if backend == "auto":
        return list(ENCODE)[-1]
    if backend not in ENCODE:
        raise ValueError(f"backend must be auto, {' or '.join(ENCODE)}, got {backend!r}")
    return backend


@checked
def encode_many(
    model: IntegerMLIC,
    latents: Sequence[tuple[Tensor, Tensor]],
    backend: str = "auto",
    threads: int = 1,
    zones: Zones = None,
) -> list[Coded]:
    """Sections, and what the decoder will see, of several images.

    Args:
        latents: float z [N, ceil(h/4), ceil(w/4)] and y [M, h, w] of each.
        zones: dead zones of y of each, by scale index (fastlic.entropy.zones); None rounds to the nearest.
    """
    implementation = ENCODE[choose_backend(backend)]
    return implementation(model, [(fixed_point(z), fixed_point(y)) for z, y in latents], threads, zones)


@checked
def decode_many(
    model: IntegerMLIC,
    streams: Sequence[tuple[Sections, int, int]],
    backend: str = "auto",
    threads: int = 1,
    slices: int | None = None,
) -> list[MlicLatents]:
    """Latents of several images from (sections, height, width) of the latent.

    Args:
        slices: read only the first slices; the rest is what the model predicts for them.

    Raises:
        CorruptStreamError: the sections do not hold exactly these latents.
    """
    return DECODE[choose_backend(backend)](model, streams, slices, threads)
