"""Convolutions by least squares: the best linear estimate of a target from 3x3 neighbours, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def solve(
    convs: Sequence[nn.Conv2d], inputs: Sequence[Tensor], target: Tensor, visibility: Tensor | None = None
) -> None:
    """Change the 3x3 convolutions so that the sum of what they make of ``inputs`` comes nearest to ``target``.

    How much the change is held back (ridge) is what serves every fifth image best, given the other four.

    Args:
        inputs: one [n, C, h, w] per convolution.
        target: [n, K, h, w].
        visibility: what a squared error weighs, [n, 1, H, W] of any size that h and w divide; default: 1.
    """
    size = sum(9 * x.shape[1] for x in inputs) + 1
    zero = torch.zeros(size, size + target.shape[1], dtype=torch.float64)  # gram matrix and moments, side by side
    sums = {False: zero, True: zero.clone()}  # of the images that choose the ridge: True
    for index, parts in enumerate(zip(*(x.split(1) for x in (*inputs, target)), strict=True)):
        xs, missing = parts[:-1], parts[-1] - sum(conv(x) for conv, x in zip(convs, parts[:-1], strict=True))
        columns = [F.unfold(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3)[0] for x in xs]
        a = torch.cat([*columns, torch.ones(1, columns[0].shape[1])])
        weighed = a
        if visibility is not None:
            h, w = target.shape[2:]
            weighed = a * F.adaptive_avg_pool2d(visibility[index : index + 1], (h, w)).flatten()
        sums[index % 5 == 4] += (weighed @ torch.cat([a, missing[0].flatten(1)]).T).double()

    def change(seen: Tensor, ridge: float) -> Tensor:
        gram, moments = seen[:, :size].clone(), seen[:, size:]
        gram.diagonal()[:-1] += ridge * gram.diagonal()[:-1].max()
        return torch.linalg.solve(gram, moments)

    def error(w: Tensor) -> float:
        gram, moments = sums[True][:, :size], sums[True][:, size:]
        return float((w * (gram @ w - 2 * moments)).sum())  # up to a constant, which is that of no change

    ridges = [10.0**power for power in range(-7, 1)]
    errors = [error(change(sums[False], ridge)) for ridge in ridges] if len(target) >= 5 else [0.0]
    if min(errors) >= 0:
        return
    solution = change(sums[False] + sums[True], ridges[errors.index(min(errors))]).T.float()
    begin = 0
    for conv, x in zip(convs, inputs, strict=True):
        end = begin + 9 * x.shape[1]
        conv.weight += solution[:, begin:end].reshape(conv.weight.shape)
        begin = end
    assert convs[0].bias is not None
    convs[0].bias += solution[:, -1]
