"""Dead zones: an encoder's rounding that weighs bits against squared error. Decoders need not know of them.

A symbol of 1 where the scale is small costs many bits and mends little. ``fastlic.models.density.dead_zone`` says for a
scale by how much |y - mean| must pass 1/2 before such a symbol pays; here that is a number for each row of the scale
table, in units of 2^-6 like the latents themselves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.scales import scale_levels
from fastlic.integers.fixed import MEAN_BITS
from fastlic.models.density import dead_zone
from fastlic.models.gain import Gain


def worth_at(gain: Gain | None, quality: float | None, factor: float = 1.0) -> float | None:
    """Bits that a unit of squared error is worth at a quality, times a factor; None: rounding is to the nearest."""
    worth = 0.0 if gain is None or quality is None else gain.worth_of(quality)
    return worth * factor if worth else None


def zones_for(worth: float | None) -> np.ndarray | None:
    """int32 [64], by scale index: the dead zone where a unit of squared error is worth so many bits; None without."""
    if worth is None:
        return None
    zones = dead_zone(torch.from_numpy(scale_levels()), worth)
    return np.rint(zones.numpy() * 2**MEAN_BITS).astype(np.int32)


def looked_up(zones: np.ndarray | None, indexes: Tensor) -> Tensor | None:
    """The zone of every symbol, int64 in the shape of ``indexes``; None without zones."""
    return None if zones is None else torch.from_numpy(zones.astype(np.int64))[indexes.long()]
