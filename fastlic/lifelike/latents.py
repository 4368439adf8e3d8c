"""Synthetic latents with the statistics of trained models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastlic.entropy.scales import scale_levels
from fastlic.lifelike.models import draw_spreads
from fastlic.ops.tables import nearest_scale_thresholds

SCALES = scale_levels()  # CompressAI's scale levels, which the field has kept


@dataclass(frozen=True)
class Latents:
    """Symbols round(N(0, scale)), and what an ideal coder that knows every scale would need."""

    scales: NDArray[np.float64]  # [n]
    symbols: NDArray[np.int16]  # [n]
    ideal_bits: float

    def nearest_indexes(self) -> NDArray[np.uint8]:
        return np.searchsorted(nearest_scale_thresholds(SCALES), self.scales).astype(np.uint8)

    def compressai_indexes(self) -> NDArray[np.int32]:
        """CompressAI rounds scales up."""
        return np.searchsorted(SCALES[:-1], self.scales).astype(np.int32)


def realistic_latents(count: int, seed: int = 0) -> Latents:
    """Scales of ``models.draw_spreads``: 75 % zeros, 1.09 bits a symbol."""
    rng = np.random.default_rng(seed)
    return drawn(draw_spreads(count, rng), rng)


def drawn(scales: NDArray[np.float64], rng: np.random.Generator) -> Latents:
    """Symbols of these scales."""
    symbols = np.rint(rng.normal(size=scales.size) * scales).astype(np.int16)
    return Latents(scales, symbols, gaussian_bits(symbols, np.zeros_like(scales), scales))


def gaussian_bits(symbols: NDArray[np.integer], means: NDArray[np.float64], scales: NDArray[np.float64]) -> float:
    """Information of the symbols under rounded Gaussians N(mean, scale)."""
    distance = torch.from_numpy(np.abs(symbols - means))
    sigma = torch.from_numpy(scales) * math.sqrt(2)
    # Both bounds on the same side of the mean keep their difference accurate in the tails.
    upper = torch.erfc((distance - 0.5) / sigma)
    lower = torch.erfc((distance + 0.5) / sigma)
    return float(-torch.log2((upper - lower) / 2).sum())
