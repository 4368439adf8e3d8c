"""The two drivers of a coding schedule: latents to sections of bytes, and back.

Each exists as plain ``reference``, which runs the schedule of fastlic.entropy pass by pass, as ``cpp``, the fused
engine of fastlic.ops.engine, which is that schedule in one call, and as ``triton``, that engine on a GPU
(fastlic.ops.device_engine). All give the same bytes and the same latents; ``triton`` leaves the latents on its device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked
from fastlic.entropy.coded import answer_to
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.schedule import Latents, Order, Pass, Schedule, gaussian_schedule, hyper_size
from fastlic.errors import CorruptStreamError
from fastlic.integers.fixed import fixed_point
from fastlic.ops.engine import Zones
from fastlic.ops.rans import CdfTables, RansDecoder, rans_encode

SECTIONS = 2  # z, then y

Backend = Literal["auto", "reference", "cpp", "triton"]


@checked
def fewest_bits(tables: CdfTables) -> float:
    """Bits of the cheapest symbol of any row."""
    likeliest = np.diff(tables.cdf).max()  # differences across rows are negative
    return float(tables.precision - np.log2(likeliest))


class Target(NamedTuple):
    """What is to be coded of one image: float z [N, hz, wz] and y [M, h, w] on the CPU, and y's zones.

    zones: int32 [64] (fastlic.entropy.zones), or None to round to the nearest.
    """

    z: Tensor
    y: Tensor
    zones: np.ndarray | None = None


@checked
def zones_of(targets: Sequence[Target]) -> Zones:
    """The zones of all targets, as ``encode_many`` takes them."""
    zones = [target.zones for target in targets if target.zones is not None]
    return zones or None


def _drive(schedule: Schedule, answer: Callable[[Pass], Tensor]) -> Latents:
    """Run a schedule to its end, each pass answered by ``answer(pass)``."""
    step = next(schedule)
    while True:
        try:
            step = schedule.send(answer(step))
        except StopIteration as end:
            return cast(Latents, end.value)


Coded = tuple[list[bytes], Latents]
Sections = Sequence[bytes]


def _encode_reference(
    model: IntegerEntropyModel, z: Tensor, y: Tensor, order: Order, zones: np.ndarray | None
) -> Coded:
    """z, y: int64 in units of 2^-6."""
    height, width = y.shape[1:]
    medians = torch.from_numpy(model.z_median.astype(np.int64))[:, None, None]
    targets = [t.permute(1, 2, 0).reshape(-1, len(t)) for t in (z - medians, y)]
    symbols: list[list[np.ndarray]] = [[], []]
    indexes: list[list[np.ndarray]] = [[], []]

    def answer(step: Pass) -> Tensor:
        values = answer_to(step, targets[step.section][step.where], zones)
        symbols[step.section].append(values.int().numpy().ravel())
        indexes[step.section].append(step.indexes.numpy().ravel())
        return values

    latents = _drive(gaussian_schedule(model, height, width, order), answer)
    tables = (model.z_tables, model.y_tables)
    sections = [
        rans_encode(np.concatenate(s), np.concatenate(i), t) for s, i, t in zip(symbols, indexes, tables, strict=True)
    ]
    return sections, latents


def _encode_many_reference(
    model: IntegerEntropyModel, latents: Sequence[tuple[Tensor, Tensor]], order: Order, threads: int, zones: Zones
) -> list[Coded]:
    each = zones if zones is not None else [None] * len(latents)
    return [_encode_reference(model, z, y, order, own) for (z, y), own in zip(latents, each, strict=True)]


def _encode_many_engine(
    model: IntegerEntropyModel, latents: Sequence[tuple[Tensor, Tensor]], order: Order, threads: int, zones: Zones
) -> list[Coded]:
    coded = model.engine.encode_many([z.numpy() for z, _ in latents], [y.numpy() for _, y in latents], threads, zones)
    return [([z_bytes, y_bytes], _as_latents(z, y)) for z_bytes, y_bytes, z, y in coded]


def _decode_reference(model: IntegerEntropyModel, sections: Sections, height: int, width: int, order: Order) -> Latents:
    rows, columns = hyper_size(height, width)
    counts = (rows * columns * model.hyper_channels, height * width * model.latent_channels)
    tables = (model.z_tables, model.y_tables)
    for name, section, count, table in zip("zy", sections, counts, tables, strict=True):
        # No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image: what
        # is allocated stays in proportion to the bytes that came.
        if count * fewest_bits(table) > 8 * len(section) + 64:
            raise CorruptStreamError(f"section {name} has {len(section)} bytes, too few for {count} symbols")
    decoders = [RansDecoder(section, table) for section, table in zip(sections, tables, strict=True)]

    def answer(step: Pass) -> Tensor:
        return torch.from_numpy(decoders[step.section].decode(step.indexes.contiguous().numpy())).long()

    latents = _drive(gaussian_schedule(model, height, width, order), answer)
    for decoder in decoders:
        decoder.finish()
    return latents


def _decode_many_reference(
    model: IntegerEntropyModel, streams: Sequence[tuple[Sections, int, int]], order: Order, threads: int
) -> list[Latents]:
    return [_decode_reference(model, sections, height, width, order) for sections, height, width in streams]


def _decode_many_engine(
    model: IntegerEntropyModel, streams: Sequence[tuple[Sections, int, int]], order: Order, threads: int
) -> list[Latents]:
    z, y = ([sections[i] for sections, _, _ in streams] for i in range(SECTIONS))
    decoded = model.engine.decode_many(z, y, [(height, width) for _, height, width in streams], threads)
    return [_as_latents(z, y) for z, y in decoded]


def _encode_many_device(
    model: IntegerEntropyModel, latents: Sequence[tuple[Tensor, Tensor]], order: Order, threads: int, zones: Zones
) -> list[Coded]:
    coded = model.device_engine.encode_many([z for z, _ in latents], [y for _, y in latents], zones=zones)
    return [([z_bytes, y_bytes], Latents(z.long(), y.long())) for z_bytes, y_bytes, z, y in coded]


def _decode_many_device(
    model: IntegerEntropyModel, streams: Sequence[tuple[Sections, int, int]], order: Order, threads: int
) -> list[Latents]:
    z, y = ([sections[i] for sections, _, _ in streams] for i in range(SECTIONS))
    decoded = model.device_engine.decode_many(z, y, [(height, width) for _, height, width in streams])
    return [Latents(z.long(), y.long()) for z, y in decoded]


def _as_latents(z: np.ndarray, y: np.ndarray) -> Latents:
    return Latents(torch.from_numpy(z).long(), torch.from_numpy(y).long())


ENCODE: dict[str, Callable[..., list[Coded]]] = {
    "reference": _encode_many_reference,
    "cpp": _encode_many_engine,
    "triton": _encode_many_device,
}
DECODE: dict[str, Callable[..., list[Latents]]] = {
    "reference": _decode_many_reference,
    "cpp": _decode_many_engine,
    "triton": _decode_many_device,
}


@checked
def choose_backend(backend: Backend, order: Order = "wavefront") -> str:
    """What ``auto`` stands for: the engine, except for raster order, which only the plain schedule has.

    Raises:
        ValueError: an unknown backend, or one that cannot do this order.
    """
    if backend == "auto":
        return "cpp" if order == "wavefront" else "reference"
    if backend not in ENCODE:
        raise ValueError(f"backend must be auto, {' or '.join(ENCODE)}, got {backend!r}")
    if backend != "reference" and order != "wavefront":
        raise ValueError(f"backend {backend!r} codes in wavefront order only, got {order!r}")
    return backend


@checked
def encode_many(
    model: IntegerEntropyModel,
    latents: Sequence[tuple[Tensor, Tensor]],
    order: Order = "wavefront",
    backend: Backend = "auto",
    threads: int = 1,
    zones: Zones = None,
) -> list[Coded]:
    """Code the latents (z, y) of several images, as ``encode`` does, one image per thread; zones are one per image."""
    implementation = ENCODE[choose_backend(backend, order)]
    return implementation(model, [(fixed_point(z), fixed_point(y)) for z, y in latents], order, threads, zones)


@checked
def encode(
    model: IntegerEntropyModel,
    z: Tensor,
    y: Tensor,
    order: Order = "wavefront",
    backend: Backend = "auto",
    threads: int = 1,
    zones: np.ndarray | None = None,
) -> Coded:
    """Code one image's latents.

    Args:
        z: float hyper latent [N, ceil(h/4), ceil(w/4)].
        y: float latent [M, h, w].
        threads: how many the engine may use; bytes never depend on it.
        zones: dead zones of y by scale index (fastlic.entropy.zones); None rounds to the nearest.

    Returns:
        the sections (z, y) and the latents that the decoder will see.
    """
    return encode_many(model, [(z, y)], order, backend, threads, None if zones is None else [zones])[0]


@checked
def decode_many(
    model: IntegerEntropyModel,
    streams: Sequence[tuple[Sections, int, int]],
    order: Order = "wavefront",
    backend: Backend = "auto",
    threads: int = 1,
) -> list[Latents]:
    """Latents of several images from (sections, height, width), as ``decode`` does, one image per thread."""
    for sections, _, _ in streams:
        if len(sections) != SECTIONS:
            raise CorruptStreamError(f"this model's streams have {SECTIONS} sections, this one has {len(sections)}")
    return DECODE[choose_backend(backend, order)](model, streams, order, threads)


@checked
def decode(
    model: IntegerEntropyModel,
    sections: Sections,
    height: int,
    width: int,
    order: Order = "wavefront",
    backend: Backend = "auto",
    threads: int = 1,
) -> Latents:
    """Latents of one image from its sections; height and width are the latent's.

    Raises:
        CorruptStreamError: the sections do not hold exactly these latents.
    """
    return decode_many(model, [(sections, height, width)], order, backend, threads)[0]
