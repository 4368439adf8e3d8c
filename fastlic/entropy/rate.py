"""Estimated bits of coded latents, without a coder: what the real bytes are compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.passes import LatentModel, Latents, Pass, drive
from fastlic.integers.fixed import MEAN_BITS
from fastlic.models import JAHP, Hyperprior, ScaleHyperprior
from fastlic.ops.tables import CdfTables

_FLOOR = 2.0**-40  # symbols this unlikely are escapes; without a floor one of them would make the estimate infinite


def bits_of(probabilities: Tensor) -> float:
    """Information of events of these probabilities."""
    return float(-probabilities.double().clamp_min(_FLOOR).log2().sum())


@torch.no_grad()
def float_bits(model: Hyperprior, latents: Latents) -> tuple[float, float]:
    """(bits of y, bits of z) under the float entropy network of ``model``, fed with the latents as coded."""
    y = (latents.y.double() / 2**MEAN_BITS).float()[None]
    medians = (model.entropy_bottleneck.medians * 2**MEAN_BITS).round() / 2**MEAN_BITS
    z = latents.z.float()[None] + medians[:, None, None]
    features = model.h_s(z)[:, :, : y.shape[2], : y.shape[3]]
    if isinstance(model, JAHP):
        features = model.entropy_parameters(torch.cat([features, model.context_prediction(y)], dim=1))
    scales, means = features, torch.zeros_like(y)
    if not isinstance(model, ScaleHyperprior):
        scales, means = features.chunk(2, dim=1)
    y_bits = bits_of(model.gaussian_conditional.likelihood(y, scales, means))
    return y_bits, bits_of(model.entropy_bottleneck.likelihood(z))


def replay(model: LatentModel, latents: Latents, see: Callable[[Pass, Tensor], None]) -> None:
    """Run the schedule of coded latents once more: ``see(pass, symbols int64 [n, channels])`` of each."""
    coded = latents.y if latents.symbols is None else latents.symbols
    z, y = (t.long().flatten(1).T for t in (latents.z, coded))

    def answer(step: Pass) -> Tensor:
        symbols = (y if step.section else z)[step.where, slice(*step.channels)]
        if step.means is not None and latents.symbols is None:
            symbols = (symbols - step.means) >> MEAN_BITS
        see(step, symbols)
        return symbols

    drive(model.schedule(*latents.y.shape[1:]), answer)


@torch.no_grad()
def table_bits(model: LatentModel, latents: Latents, tables: CdfTables | None = None) -> tuple[float, float]:
    """(bits of y, bits of z) under the integer path's tables, or under other ``tables`` of y.

    What an ideal coder would need.
    """
    totals = [0.0, 0.0]

    def see(step: Pass, symbols: Tensor) -> None:
        rows = (tables or model.y_tables) if step.section else model.z_tables
        totals[min(step.section, 1)] += coded_bits(rows, step.indexes.numpy().ravel(), symbols.numpy().ravel())

    replay(model, latents, see)
    return totals[1], totals[0]


def coded_bits(tables: CdfTables, indexes: np.ndarray, symbols: np.ndarray) -> float:
    """Bits of symbols under their rows: slots by frequency, low bits raw, escapes in Elias' gamma code."""
    shifts, offsets = tables.shifts[indexes].astype(np.int64), tables.offsets[indexes].astype(np.int64)
    sizes = tables.lengths[indexes].astype(np.int64) - 2
    slots = (symbols >> shifts) - offsets
    inside = (slots >= 0) & (slots < sizes)
    begins = tables.begins[indexes] + np.where(inside, slots, sizes)
    frequencies = tables.cdf[begins + 1] - tables.cdf[begins]
    bits = tables.precision - np.log2(frequencies) + np.where(inside, shifts, 0)
    # An escape's distance beyond the row, both ends interleaved, plus one (docs/stream.md section 2).
    distance = np.where(slots < 0, -2 * slots, 2 * (slots - sizes) + 1)[~inside]
    gamma = 2 * np.floor(np.log2(distance)) + 1 + shifts[~inside]
    return float(bits.sum() + gamma.sum())
