"""What a schedule codes of given latents: the encoder's symbols without a stream, as calibration and estimates need."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.passes import Latents, Pass, Schedule, drive
from fastlic.entropy.zones import looked_up
from fastlic.integers.fixed import quantise

# (section, scale indexes uint8 [n], symbols int64 [n]) of a pass.
CodedPass = tuple[int, np.ndarray, np.ndarray]


def code(schedule: Schedule, z: Tensor, y: Tensor, zones: np.ndarray | None = None) -> tuple[list[CodedPass], Latents]:
    """Every pass of one image as an encoder codes it, and the latents that a decoder will see.

    Args:
        schedule: of a model, for latents of y's size.
        z, y: latents [N, h/4, w/4] and [M, h, w] in units of 2^-6, z with the medians already taken off.
        zones: of y by scale index (fastlic.entropy.zones); None rounds to the nearest.
    """
    targets = [t.long().permute(1, 2, 0).reshape(-1, len(t)) for t in (z, y)]
    passes: list[CodedPass] = []

    def answer(step: Pass) -> Tensor:
        target = targets[min(step.section, 1)][step.where, slice(*step.channels)]
        if step.means is None:
            symbols = quantise(target, torch.zeros((), dtype=torch.int64))
        else:
            symbols = quantise(target, step.means, looked_up(zones, step.indexes))
        passes.append((step.section, step.indexes.numpy().ravel(), symbols.numpy().ravel()))
        return symbols

    return passes, drive(schedule, answer)


def joined(passes: Iterable[CodedPass]) -> tuple[np.ndarray, np.ndarray]:
    """(scale indexes, symbols) of passes one after the other; at least one."""
    _, indexes, symbols = zip(*passes, strict=True)
    return np.concatenate(indexes), np.concatenate(symbols)


def coded_by_channel(z: Tensor, medians: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(channels uint8, symbols int64) of one image's z, both [n], position by position.

    Args:
        z: int64 [N, hz, wz] in units of 2^-6.
        medians: int32 [N] in the same units.
    """
    values = quantise(z.flatten(1).T, torch.from_numpy(medians.astype(np.int64))).numpy()
    return np.tile(np.arange(len(medians), dtype=np.uint8), len(values)), values.ravel()
