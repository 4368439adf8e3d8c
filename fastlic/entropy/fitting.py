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
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.coded import code, coded_by_channel, joined
from fastlic.entropy.passes import LatentModel
from fastlic.entropy.rate import coded_bits
from fastlic.integers.fixed import fixed_point
from fastlic.ops.latents import Target
from fastlic.ops.tables import CdfTables, gaussian_pmf, gaussian_tables, pmf_tables

# Components narrower than the smallest level: its symbols may be rarer still than its Gaussian says.
_NARROWER = (0.06, 0.08, 0.095)
# Weight of a level's own Gaussian, in symbols; a level with far more data than this follows the data.
_PRIOR = 100.0
_ROUNDS = 100
_FOLDS = 4  # parts of the images, each of which checks what was fitted to the others
_FLOOR = 2.0**-40


def coded_symbols(
    model: LatentModel, z: Tensor, y: Tensor, zones: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(scale indexes, symbols) of one image's y, both [n], as an encoder would code it.

    Args:
        z, y: int64 latents [N, h/4, w/4] and [M, h, w] in units of 2^-6.
        zones: of y by scale index (fastlic.entropy.zones).
    """
    if (own := model.on_engines(torch.get_num_threads())) is not None:
        medians = torch.from_numpy(model.z_median.astype(np.int64))[:, None, None]
        passes, _ = code(own.schedule(*y.shape[1:]), z - medians, y, zones)
        return joined(part for part in passes if part[0])
    return model.engine.symbols(Target(z, y, zones), torch.get_num_threads())


def symbols_of(model: LatentModel, target: Target) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(rows of the coder's table uint8, symbols int64) of z and y, both [n], of float latents as encoders code them."""
    z, y = fixed_point(target.z), fixed_point(target.y)
    indexes, symbols = coded_symbols(model, z, y, target.zones)
    return {"z": coded_by_channel(z, model.z_median), "y": (indexes, symbols.astype(np.int64))}


Coded = Iterable[tuple[np.ndarray, np.ndarray]]


def fit_tables(levels: np.ndarray, coded: Coded) -> CdfTables:
    """One row per level, fitted to pairs of (scale indexes, symbols).

    Args:
        levels: float64 [rows], the scale of each level; rows without data stay Gaussians of these scales.
        coded: what ``coded_symbols`` returned, image by image.
    """
    fit = _Fit(levels)
    (fold,) = fit.histograms(coded, folds=1)
    return _tables(fit.mixtures(fold))


def choose_tables(levels: np.ndarray, coded: Coded, each: int = 1) -> CdfTables:
    """``fit_tables`` if rows fitted to some of the images serve most others better than Gaussians do, else Gaussians.

    One image that a network was not made for can bend all rows to itself. Random weights have such images.

    Args:
        coded: as for ``fit_tables``; ``each`` pairs one after another belong to one image.
    """
    fit = _Fit(levels)
    folds = fit.histograms(coded, folds=_FOLDS, each=each)
    plain = fit.components[len(_NARROWER) :]
    changes = []
    for i, held_out in enumerate(folds):
        rest = [fold for j, fold in enumerate(folds) if j != i]
        if held_out.total and sum(fold.total for fold in rest):
            changes.append(held_out.bits(fit.mixtures(*rest)) / max(held_out.bits(plain), 1e-30) - 1)
    # A single image says nothing about others; the fit is what there is.
    return gaussian_tables(levels) if changes and np.median(changes) > 0 else _tables(fit.mixtures(*folds))


@dataclass
class _Histogram:
    """counts: [rows, reach + 1] of |symbol|, images weighted; total: how many symbols; weighted: the sum of counts."""

    counts: np.ndarray
    total: float = 0.0
    weighted: float = 0.0

    def bits(self, probabilities: np.ndarray) -> float:
        """Cost under probabilities [rows, reach + 1] of |symbol|."""
        seen = self.counts > 0
        return float(-(self.counts[seen] * np.log2(np.maximum(probabilities[seen], _FLOOR))).sum())


class _Fit:
    """What fits of one scale table share: plain Gaussian rows, and the mixture's components as of |symbol|."""

    def __init__(self, levels: np.ndarray) -> None:
        self.rows = len(levels)
        self.reach = -gaussian_pmf(float(levels[-1]))[1]
        self.plain = gaussian_tables(levels)
        scales = np.concatenate([_NARROWER, levels])
        # [components, reach + 1]: probability of |symbol| = 0, 1, ..., both signs together
        self.components = np.zeros((len(scales), self.reach + 1))
        for component, scale in zip(self.components, scales, strict=True):
            pmf, first = gaussian_pmf(float(scale))
            component[: 1 - first] = pmf[-first:] * np.where(np.arange(1 - first) == 0, 1, 2)

    def histograms(self, coded: Coded, folds: int, each: int = 1) -> list[_Histogram]:
        """Images dealt out to histograms in turn."""
        result = [_Histogram(np.zeros((self.rows, self.reach + 1))) for _ in range(folds)]
        for i, (indexes, symbols) in enumerate(coded):
            fold = result[i // each % folds]
            weight = max(coded_bits(self.plain, indexes, symbols), 1.0) ** -0.5
            bins = indexes.astype(np.int64) * (self.reach + 1) + np.minimum(np.abs(symbols), self.reach)
            fold.counts += weight * np.bincount(bins, minlength=fold.counts.size).reshape(fold.counts.shape)
            fold.total += len(symbols)
            fold.weighted += weight * len(symbols)
        return result

    def mixtures(self, *folds: _Histogram) -> np.ndarray:
        """float64 [rows, reach + 1]: the fitted probabilities of |symbol|."""
        counts = np.sum([fold.counts for fold in folds], axis=0)
        # As many as there were, for the prior's sake.
        counts *= sum(fold.total for fold in folds) / max(sum(fold.weighted for fold in folds), 1e-30)
        own = range(len(_NARROWER), len(_NARROWER) + self.rows)
        return np.stack([_mixture(row, self.components, number) for row, number in zip(counts, own, strict=True)])


def _tables(mixtures: np.ndarray) -> CdfTables:
    rows = []
    for mixture in mixtures:
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
