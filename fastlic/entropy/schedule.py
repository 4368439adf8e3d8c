"""The coding schedule of the Gaussian models, written once for both directions.

``gaussian_schedule`` is a generator of passes. A pass says which symbols come next and how each is distributed; whoever
drives it answers with the symbols' values (an encoder from its latent, a decoder from its stream), and the next pass
may depend on them. Since both directions run this same code, they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastlic.entropy.model import CONTEXT_TAPS, IntegerEntropyModel

Order = Literal["wavefront", "raster"]
HYPER_STRIDE = 4  # z is at 1/4 of the latent


@dataclass(frozen=True)
class Pass:
    """Symbols that can be coded together: all channels of the positions ``where``, position by position.

    Attributes:
        section: 0 for the hyper latent z, 1 for the latent y.
        where: int64 [n], raster positions row * width + column in that section's map.
        indexes: uint8 [n, channels], table of each symbol.
        means: int64 [n, channels] in units of 2^-6, what the symbol is a difference from; None for z.
    """

    section: int
    where: Tensor
    indexes: Tensor
    means: Tensor | None


@dataclass(frozen=True)
class Latents:
    """What a schedule ends with: z symbols int64 [N, hz, wz] and the latent y int64 [M, h, w] in units of 2^-6."""

    z: Tensor
    y: Tensor


Schedule = Generator[Pass, Tensor, Latents]


def hyper_size(height: int, width: int) -> tuple[int, int]:
    """Size of z for a latent of height x width: whole 4x4 cells. Raises ValueError for what is no size."""
    _check_size(height, width)
    return -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)


def _check_size(height: int, width: int) -> None:
    if not (1 <= height < 1 << 20 and 1 <= width < 1 << 20):
        raise ValueError(f"height and width of a latent must be 1 to {(1 << 20) - 1}, got {height} x {width}")


def steps(height: int, width: int, order: Order) -> Iterator[np.ndarray]:
    """Raster positions of each step in coding order.

    Position (r, c) reads rows r-1 and r-2 up to column c+2 and row r up to c-1. Every one of these has a smaller
    t = c + 3r, so positions of equal t do not depend on each other: width + 3 (height - 1) wavefront steps.
    """
    _check_size(height, width)
    if order not in ("wavefront", "raster"):
        raise ValueError(f"order must be wavefront or raster, got {order!r}")
    if order == "raster":
        yield from np.arange(height * width)[:, None]
        return
    rows = np.arange(height)
    for t in range(width + 3 * (height - 1)):
        columns = t - 3 * rows
        inside = (columns >= 0) & (columns < width)
        if inside.any():
            yield rows[inside] * width + columns[inside]


def gaussian_schedule(
    model: IntegerEntropyModel, height: int, width: int, order: Order = "wavefront", device: str = "cpu"
) -> Schedule:
    """Passes for a latent of height x width: z first, then y in one pass or along the context's order.

    The driver answers each pass with int64 symbols shaped like ``indexes``.
    """
    n, m = model.hyper_channels, model.latent_channels
    rows, columns = hyper_size(height, width)
    everywhere = torch.arange(rows * columns, device=device)
    by_channel = torch.arange(n, dtype=torch.uint8, device=device).expand(rows * columns, n)
    answer = yield Pass(0, everywhere, by_channel, None)
    z = answer.reshape(rows, columns, n).permute(2, 0, 1)

    features = model.hyper_features(z, height, width)
    if model.context is None or model.y_input is None:
        scales, means = features.permute(1, 2, 0).reshape(-1, 2 * m).split(m, dim=1)
        indexes = model.scale_indexes(scales)
        symbols = yield Pass(1, torch.arange(height * width, device=device), indexes, means)
        y = model.reconstruct(symbols, means, indexes)
        return Latents(z, y.reshape(height, width, m).permute(2, 0, 1))

    # The first 1x1 layer is linear, so its hyperprior half is done once for all positions (exact: integer sums).
    of_hyper, of_context = model.parameters[0].split_inputs(2 * m)
    fixed = of_hyper.accumulate(features).permute(1, 2, 0).reshape(height * width, -1)
    kernels = [layer.as_matrix() for layer in (of_context, *model.parameters[1:])]
    biases = [torch.from_numpy(layer.bias.astype(np.int64)) for layer in (model.context, *model.parameters)]
    taps = model.context.as_matrix()
    # Activations of the latent so far, padded by the context's reach: two rows above, two columns on either side.
    stride = width + 4
    seen = torch.zeros((height + 2) * stride, m, dtype=torch.float64, device=device)
    reach = torch.tensor([i * stride + j for i, j in CONTEXT_TAPS], device=device)
    y = torch.empty(height * width, m, dtype=torch.int64, device=device)
    for positions in steps(height, width, order):
        where = torch.from_numpy(positions).to(device)
        centre = (where // width + 2) * stride + where % width + 2
        gathered = seen[centre[:, None] + reach].flatten(1)
        x = model.context.requantiser((gathered @ taps).long() + biases[0])
        acc = (x.double() @ kernels[0]).long() + biases[1] + fixed[where]
        for layer, kernel, bias in zip(model.parameters[:-1], kernels[1:], biases[2:], strict=True):
            acc = (layer.requantiser(acc).double() @ kernel).long() + bias
        scales, means = model.parameters[-1].requantiser(acc).split(m, dim=1)
        indexes = model.scale_indexes(scales)
        symbols = yield Pass(1, where, indexes, means)
        latent = model.reconstruct(symbols, means, indexes)
        y[where] = latent
        seen[centre] = model.y_input(latent).double()
    return Latents(z, y.reshape(height, width, m).permute(2, 0, 1))
