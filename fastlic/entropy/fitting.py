"""Tables of y fitted to what a trained model really codes.

A network trained with additive noise predicts scales for noisy latents and noisy contexts; what is coded later is
rounded, better predicted, and heavier-tailed than a Gaussian. So each scale level's distribution is fitted, once and
after training, to the symbols that fall on it in the calibration images: a mixture of zero-mean Gaussians with the
scales of the whole table, by expectation maximisation. A level without data keeps its own Gaussian.

High rates have far more symbols that are not zero than low ones, and pooled as they come they would decide alone. An
image's symbols weigh by the inverse root of its bits instead: a compromise between equal bytes and equal percentages.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.fixed import quantise
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.rate import coded_bits
from fastlic.entropy.schedule import gaussian_schedule
from fastlic.ops.rans import CdfTables, pmf_tables
from fastlic.ops.tables import gaussian_pmf, gaussian_tables

# Components narrower than the smallest level: its symbols may be rarer still than its Gaussian says.
_NARROWER = (0.06, 0.08, 0.095)
# Weight of a level's own Gaussian, in symbols; a level with far more data than this follows the data.
_PRIOR = 100.0
_ROUNDS = 100


def coded_symbols(model: IntegerEntropyModel, z: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(scale indexes, symbols) of one image's y, both [n], as an encoder would code it.

    Args:
        z, y: int64 latents [N, h/4, w/4] and [M, h, w] in units of 2^-6, z with the medians already taken off.
    """
    targets = [t.permute(1, 2, 0).reshape(-1, len(t)) for t in (z, y)]
    schedule = gaussian_schedule(model, *y.shape[1:])
    indexes, symbols = [], []
    step = next(schedule)
    while True:
        means = step.means if step.means is not None else torch.zeros((), dtype=torch.int64)
        values = quantise(targets[step.section][step.where], means)
        if step.section == 1:
            indexes.append(step.indexes.numpy().ravel())
            symbols.append(values.numpy().ravel())
        try:
            step = schedule.send(values)
        except StopIteration:
            return np.concatenate(indexes), np.concatenate(symbols)


def fit_tables(levels: np.ndarray, coded: Iterable[tuple[np.ndarray, np.ndarray]]) -> CdfTables:
    """One row per level, fitted to pairs of (scale indexes, symbols).

    Args:
        levels: float64 [rows], the scale of each level; rows without data stay Gaussians of these scales.
        coded: what ``coded_symbols`` returned, image by image.
    """
    reach = -gaussian_pmf(float(levels[-1]))[1]
    plain = gaussian_tables(levels)
    counts = np.zeros((len(levels), reach + 1))  # of |symbol|: the fitted rows are symmetric
    total = weighted = 0.0
    for indexes, symbols in coded:
        weight = max(coded_bits(plain, indexes, symbols), 1.0) ** -0.5
        np.add.at(counts, (indexes, np.minimum(np.abs(symbols), reach)), weight)
        total, weighted = total + len(symbols), weighted + weight * len(symbols)
    counts *= total / max(weighted, 1e-30)  # as many as there were, for the prior's sake
    scales = np.concatenate([_NARROWER, levels])
    # [components, reach + 1]: probability of |symbol| = 0, 1, ..., both signs together
    components = np.zeros((len(scales), reach + 1))
    for component, scale in zip(components, scales, strict=True):
        pmf, first = gaussian_pmf(float(scale))
        component[: 1 - first] = pmf[-first:] * np.where(np.arange(1 - first) == 0, 1, 2)
    rows = []
    for level in range(len(levels)):
        mixture = _mixture(counts[level], components, own=len(_NARROWER) + level)
        half = mixture[: max(int(np.flatnonzero(mixture > 1e-12)[-1]), 1) + 1]
        rows.append(np.concatenate([half[:0:-1] / 2, half[:1], half[1:] / 2]))
    return pmf_tables(rows, [-(len(row) // 2) for row in rows])


def _mixture(counts: np.ndarray, components: np.ndarray, own: int) -> np.ndarray:
    """The mixture of ``components`` likeliest for ``counts`` [reach + 1], with a prior on component ``own``."""
    seen = np.flatnonzero(counts)
    observed, shapes = counts[seen], components[:, seen]
    prior = np.zeros(len(components))
    prior[own] = _PRIOR
    # Every component starts with a share, however small: one of zero could never grow.
    weights = np.full(len(components), 1e-3 / len(components))
    weights[own] += 1 - weights.sum()
    for _ in range(_ROUNDS if len(seen) else 0):
        shares = weights[:, None] * shapes
        total = shares.sum(0)
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
        weights = shares @ observed + prior
        weights /= weights.sum()
    if not len(seen):
        weights = prior / prior.sum()
    result: np.ndarray = weights @ components
    return result
