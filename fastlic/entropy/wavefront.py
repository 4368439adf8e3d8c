"""The wavefront: the coding schedule of Gaussian models with one masked context, or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from fastlic.entropy.passes import Latents, Pass, Schedule, hyper_pass, hyper_size

if TYPE_CHECKING:
    from fastlic.entropy.model import IntegerEntropyModel

# Live taps of the causal 5x5 context as (row, column) offsets, in the order in which they are gathered.
CONTEXT_TAPS = [(i - 2, j - 2) for i in range(5) for j in range(5) if (i, j) < (2, 2)]


def steps(height: int, width: int) -> Iterator[np.ndarray]:
    """Raster positions of each step in coding order. Raises ValueError for what is no size.

    Position (r, c) reads rows r-1 and r-2 up to column c+2 and row r up to c-1. Every one of these has a smaller
    t = c + 3r, so positions of equal t do not depend on each other: width + 3 (height - 1) steps.
    """
    hyper_size(height, width)
    rows = np.arange(height)
    for t in range(width + 3 * (height - 1)):
        columns = t - 3 * rows
        inside = (columns >= 0) & (columns < width)
        if inside.any():
            yield rows[inside] * width + columns[inside]


def wavefront_schedule(model: IntegerEntropyModel, height: int, width: int) -> Schedule:
    """Passes for a latent of height x width: z first, then y in one pass or step by step."""
    m = model.latent_channels
    z = yield from hyper_pass(model.hyper_channels, height, width)
    features = model.hyper_features(z, height, width)
    if model.context is None or model.y_input is None:
        scales, means = features.permute(1, 2, 0).reshape(-1, 2 * m).split(m, dim=1)
        indexes = model.scale_indexes(scales)
        symbols = yield Pass(1, torch.arange(height * width), (0, m), indexes, means)
        y = model.reconstruct(symbols, means, indexes)
        return Latents(z, y.reshape(height, width, m).permute(2, 0, 1))

    # The first 1x1 layer is linear, so its hyperprior half is done once for all positions (exact: integer sums).
    of_hyper, of_context = model.parameters[0].split_inputs(len(features))
    fixed = of_hyper.accumulate(features).permute(1, 2, 0).reshape(height * width, -1)
    kernels = [layer.as_matrix() for layer in (of_context, *model.parameters[1:])]
    biases = [torch.from_numpy(layer.bias.astype(np.int64)) for layer in (model.context, *model.parameters)]
    taps = model.context.as_matrix()
    # Activations of the latent so far, padded by the context's reach: two rows above, two columns on either side.
    stride = width + 4
    seen = torch.zeros((height + 2) * stride, m, dtype=torch.float64)
    reach = torch.tensor([i * stride + j for i, j in CONTEXT_TAPS])
    y = torch.empty(height * width, m, dtype=torch.int64)
    for positions in steps(height, width):
        where = torch.from_numpy(positions)
        centre = (where // width + 2) * stride + where % width + 2
        gathered = seen[centre[:, None] + reach].flatten(1)
        x = model.context.requantiser((gathered @ taps).long() + biases[0])
        acc = (x.double() @ kernels[0]).long() + biases[1] + fixed[where]
        for layer, kernel, bias in zip(model.parameters[:-1], kernels[1:], biases[2:], strict=True):
            acc = (layer.requantiser(acc).double() @ kernel).long() + bias
        scales, means = model.parameters[-1].requantiser(acc).split(m, dim=1)
        indexes = model.scale_indexes(scales)
        symbols = yield Pass(1, where, (0, m), indexes, means)
        latent = model.reconstruct(symbols, means, indexes)
        y[where] = latent
        seen[centre] = model.y_input(latent).double()
    return Latents(z, y.reshape(height, width, m).permute(2, 0, 1))
