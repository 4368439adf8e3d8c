"""Synthetic latents with the statistics of trained models, and CompressAI-style tables for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastlic.ops.compressai_rans import CompressAiTables
from fastlic.ops.tables import CdfTables, gaussian_pmf, gaussian_tables, nearest_scale_thresholds

# CompressAI's scale levels, which the field has kept.
SCALES = np.exp(np.linspace(math.log(0.11), math.log(256.0), 64))


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
    """60 % of scales in 0.11..0.3, 30 % in 0.3..2, 10 % in 2..20, log-uniform: 75 % zeros, 1.09 bits a symbol."""
    rng = np.random.default_rng(seed)
    kind = rng.random(count)
    low = np.where(kind < 0.6, 0.11, np.where(kind < 0.9, 0.3, 2.0))
    high = np.where(kind < 0.6, 0.3, np.where(kind < 0.9, 2.0, 20.0))
    return _draw(low * (high / low) ** rng.random(count), rng)


def uniform_latents(count: int, scale: float, seed: int = 0) -> Latents:
    """One scale for all symbols: the extremes of low and high rate."""
    return _draw(np.full(count, scale), np.random.default_rng(seed))


def _draw(scales: NDArray[np.float64], rng: np.random.Generator) -> Latents:
    symbols = np.rint(rng.normal(size=scales.size) * scales).astype(np.int16)
    return Latents(scales, symbols, gaussian_bits(symbols, np.zeros_like(scales), scales))


def gaussian_bits(symbols: NDArray[np.integer], means: NDArray[np.float64], scales: NDArray[np.float64]) -> float:
    """Information of the symbols under rounded Gaussians N(mean, scale)."""
    import torch

    distance = torch.from_numpy(np.abs(symbols - means))
    sigma = torch.from_numpy(scales) * math.sqrt(2)
    # Both bounds on the same side of the mean keep their difference accurate in the tails.
    upper = torch.erfc((distance - 0.5) / sigma)
    lower = torch.erfc((distance + 0.5) / sigma)
    return float(-torch.log2((upper - lower) / 2).sum())


def native_tables(precision: int = 12) -> CdfTables:
    return gaussian_tables(SCALES, precision)


def compressai_tables() -> CompressAiTables:
    """Tables like those that GaussianConditional.update() makes: 16 bits, tails to 1e-9, rows up to 3133 wide."""
    rows = []
    for scale in SCALES:
        half = math.ceil(scale * 6.10941)
        pmf, first = gaussian_pmf(float(scale))
        middle = -first
        window = pmf[middle - half : middle + half + 1]
        rows.append(quantised_cdf(np.append(window, 1e-9)))
    cdf = np.zeros((len(rows), max(map(len, rows))), dtype=np.int32)
    for r, row in enumerate(rows):
        cdf[r, : len(row)] = row
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    return CompressAiTables(cdf, lengths, -(lengths - 3) // 2)


def quantised_cdf(pmf: NDArray[np.float64]) -> NDArray[np.int32]:
    """16-bit cumulative frequencies in CompressAI's way: round, then steal a count for every empty slot."""
    counts = np.maximum(np.round(pmf * 65536), 0).astype(np.int64)
    cdf = np.concatenate([[0], np.cumsum(65536 * counts // counts.sum())])
    cdf[-1] = 65536
    for slot in range(len(pmf)):
        if cdf[slot] != cdf[slot + 1]:
            continue
        frequencies = np.diff(cdf)
        donors = np.flatnonzero(frequencies > 1)
        donor = int(donors[frequencies[donors].argmin()])
        if donor < slot:
            cdf[donor + 1 : slot + 1] -= 1
        else:
            cdf[slot + 1 : donor + 1] += 1
    return cdf.astype(np.int32)
