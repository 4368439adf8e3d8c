"""What a schedule codes of given latents: the encoder's symbols without a stream, as calibration and estimates need."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy import schedule
from fastlic.entropy.checkerboard import passes
from fastlic.entropy.zones import looked_up
from fastlic.integers.fixed import quantise


def answer_to(step: schedule.Pass | passes.Pass, target: Tensor, zones: np.ndarray | None = None) -> Tensor:
    """An encoder's symbols for one pass of a schedule, int64.

    Args:
        target: the pass's latents in units of 2^-6, z's with the medians already taken off.
        zones: by scale index (fastlic.entropy.zones), for passes of y; None rounds to the nearest.
    """
    if step.means is None:
        return quantise(target, torch.zeros((), dtype=torch.int64))
    return quantise(target, step.means, looked_up(zones, step.indexes))


def coded_by(
    schedule: Generator[Any, Tensor, Any], z: Tensor, y: Tensor, zones: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(scale indexes uint8, symbols int64) of one image's y, both [n], as an encoder would code it.

    Args:
        schedule: of fastlic.entropy.mlic or .groups, for latents of y's size; its section 0 is z.
        z, y: int64 latents [N, h/4, w/4] and [M, h, w] in units of 2^-6, z with the medians already taken off.
    """
    targets = [t.permute(1, 2, 0).reshape(-1, len(t)) for t in (z, y)]
    indexes, symbols = [], []
    step = next(schedule)
    while True:
        values = answer_to(step, targets[min(step.section, 1)][step.where, slice(*step.channels)], zones)
        if step.section:
            indexes.append(step.indexes.numpy().ravel())
            symbols.append(values.numpy().ravel())
        try:
            step = schedule.send(values)
        except StopIteration:
            return np.concatenate(indexes), np.concatenate(symbols)
