"""Estimated bits of coded latents, without a coder: what the real bytes are compared with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.fixed import MEAN_BITS
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.scales import scale_levels
from fastlic.entropy.schedule import Latents, gaussian_schedule
from fastlic.models import JAHP, Hyperprior, ScaleHyperprior

_FLOOR = 2.0**-40  # symbols this unlikely are escapes; without a floor one of them would make the estimate infinite


def _bits(probabilities: Tensor) -> float:
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
    y_bits = _bits(model.gaussian_conditional.likelihood(y, scales, means))
    return y_bits, _bits(model.entropy_bottleneck.likelihood(z))


def table_bits(model: IntegerEntropyModel, latents: Latents) -> tuple[float, float]:
    """(bits of y, bits of z) under the integer path: exact Gaussians of the chosen scale levels, z's table rows."""
    height, width = latents.y.shape[1:]
    levels = torch.from_numpy(scale_levels())
    y = latents.y.permute(1, 2, 0).reshape(height * width, -1)
    z = latents.z.permute(1, 2, 0).reshape(-1, len(latents.z))
    total = 0.0
    schedule = gaussian_schedule(model, height, width)
    step = next(schedule)
    while True:
        if step.means is None:
            symbols = z
        else:
            symbols = (y[step.where] - step.means) >> MEAN_BITS
            total += _bits(_gaussian_mass(symbols.abs().double(), levels[step.indexes.long()]))
        try:
            step = schedule.send(symbols)
        except StopIteration:
            return total, _row_bits(model, z.numpy())


def _gaussian_mass(distance: Tensor, scale: Tensor) -> Tensor:
    root = math.sqrt(0.5) / scale
    return 0.5 * (torch.erfc((distance - 0.5) * root) - torch.erfc((distance + 0.5) * root))


def _row_bits(model: IntegerEntropyModel, z: np.ndarray) -> float:
    tables, total = model.z_tables, 0.0
    for channel in range(z.shape[1]):
        cdf = tables.row(channel)
        slots = (z[:, channel] >> int(tables.shifts[channel])) - int(tables.offsets[channel])
        inside = (slots >= 0) & (slots < len(cdf) - 2)
        slot = np.where(inside, slots, len(cdf) - 2)
        total += float((tables.precision - np.log2(np.diff(cdf)[slot]) + int(tables.shifts[channel])).sum())
    return total
