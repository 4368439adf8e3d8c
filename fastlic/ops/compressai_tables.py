"""CompressAI's ``update()``: its coding tables from scales and factorised densities, integer for integer.

Only for checkpoints that come without tables. Those that carry some must keep them: floating point differs between
machines, and one count more or less in a table is another code.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastlic.ops import _arguments as arguments
from fastlic.ops.compressai_rans import CompressAiTables

_PRECISION = 16
_TAIL_MASS = 1e-9
_LEVELS, _SMALLEST, _LARGEST = 64, 0.11, 256.0


def scale_table() -> NDArray[np.float32]:
    """float32 [64]: CompressAI's scale levels, 0.11 to 256."""
    return torch.exp(torch.linspace(math.log(_SMALLEST), math.log(_LARGEST), _LEVELS)).numpy()


def quantised_cdf(pmf: NDArray[np.float32]) -> NDArray[np.int32]:
    """16-bit cumulative frequencies: rounded shares, then a count taken for every empty slot from the poorest donor."""
    pmf = arguments.array("pmf", pmf, "f")
    if pmf.ndim != 1 or not 2 <= pmf.size < 1 << _PRECISION or not np.isfinite(pmf).all() or pmf.min() < 0:
        raise ValueError("pmf must be 2 to 65535 finite numbers, not negative")
    if pmf.max() > 1e6 or pmf.sum() * (1 << _PRECISION) < 1:
        raise ValueError("pmf must be probabilities, not all of them zero")
    counts = np.floor(pmf.astype(np.float32) * np.float32(1 << _PRECISION) + np.float32(0.5)).astype(np.int64)
    cdf = np.concatenate([[0], np.cumsum((counts << _PRECISION) // counts.sum())])
    cdf[-1] = 1 << _PRECISION
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


def _stack(rows: list[NDArray[np.int32]], offsets: list[int]) -> CompressAiTables:
    cdf = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for r, row in enumerate(rows):
        cdf[r, : len(row)] = row
    return CompressAiTables(cdf, np.array([len(row) for row in rows], np.int32), np.array(offsets, np.int32))


def compressai_gaussian_tables(scales: NDArray[np.float32]) -> CompressAiTables:
    """Tables of ``GaussianConditional`` for these scales."""
    multiplier = 6.109410204869  # -Phi^-1(tail mass / 2)
    given = arguments.array("scales", scales, "f").astype(np.float32)
    if given.ndim != 1 or not given.size or not (given > 0).all() or given.max() > 4096:
        raise ValueError("scales must be a 1-D array of numbers in (0, 4096]")
    sigma = torch.from_numpy(given)
    centres = torch.ceil(sigma * multiplier).int()
    samples = torch.abs(torch.arange(2 * int(centres.max()) + 1).int() - centres[:, None]).float()
    lower = _phi((-0.5 - samples) / sigma[:, None])
    pmf = _phi((0.5 - samples) / sigma[:, None]) - lower
    rows = []
    for p, tail, centre in zip(pmf, 2 * lower[:, 0], centres.tolist(), strict=True):
        rows.append(quantised_cdf(torch.cat([p[: 2 * centre + 1], tail[None]]).numpy()))
    return _stack(rows, [-int(c) for c in centres])


def _phi(t: torch.Tensor) -> torch.Tensor:
    return 0.5 * torch.erfc(-(2**-0.5) * t)


@torch.no_grad()
def bottleneck_tables(density: Any) -> CompressAiTables:
    """Tables of an ``EntropyBottleneck``: an object with ``quantiles`` and ``logits_cumulative``."""
    if not hasattr(density, "logits_cumulative") or not isinstance(getattr(density, "quantiles", None), torch.Tensor):
        raise TypeError(f"density must have quantiles and logits_cumulative, got {type(density).__name__}")
    quantiles = density.quantiles[:, 0]
    medians = quantiles[:, 1]
    minima = torch.ceil(medians - quantiles[:, 0]).int().clamp_min(0)
    maxima = torch.ceil(quantiles[:, 2] - medians).int().clamp_min(0)
    lengths = minima + maxima + 1
    samples = torch.arange(int(lengths.max()))[None] + (medians - minima)[:, None]
    lower = density.logits_cumulative(samples[:, None] - 0.5)
    upper = density.logits_cumulative(samples[:, None] + 0.5)
    pmf = (torch.sigmoid(upper) - torch.sigmoid(lower))[:, 0]
    # The upper tail is read at the last sample of the widest channel, whatever the channel: a quirk to keep.
    tail = torch.sigmoid(lower[:, 0, 0]) + torch.sigmoid(-upper[:, 0, -1])
    rows = [
        quantised_cdf(torch.cat([p[:n], t[None]]).numpy()) for p, n, t in zip(pmf, lengths.tolist(), tail, strict=True)
    ]
    return _stack(rows, [-int(m) for m in minima])
