"""Twin of fastlic.kernels.checkerboard: masks and matrix products on integers held in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastlic.kernels.reference.integer import quantise, reconstruct, requantise, scale_index, values_of

if TYPE_CHECKING:
    from fastlic.kernels.packing import BoardNetwork, Map

# Parity (row + column) % 2 of the positions that are coded first.
ANCHOR = {"compressai": 0, "mlic": 1}


def count_of(height: int, width: int, parity: int, rows: int | None = None) -> int:
    """How many positions have this parity, in even rows (0) or odd ones (1) alone or in all of them."""
    if rows is not None:
        return (height + 1 - rows) // 2 * ((width + 1 - (parity + rows) % 2) // 2)
    return height // 2 * width + height % 2 * ((width + 1 - parity) // 2)


def positions(
    height: int, width: int, parity: int, device: torch.device | str = "cpu", rows: int | None = None
) -> Tensor:
    """int64 [n]: raster positions of one parity, in raster order; rows as above."""
    row = torch.arange(height, device=device)[:, None]
    found = (row + torch.arange(width, device=device)) % 2 == parity
    if rows is not None:
        found &= row % 2 == rows
    return torch.nonzero(found.flatten())[:, 0]


def _head(network: BoardNetwork, maps: Sequence[Map], parity: int, rows: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """(positions, scales, means int64 [images, n, M])."""
    images, height, width = len(maps[0].planes), maps[0].height, maps[0].width
    at = positions(height, width, parity, network.thresholds.device, rows)
    columns = []
    for channels, given in zip(network.channels, maps, strict=True):
        b = given.border
        inner = values_of(given.planes)[:, b : b + height, b : b + width]
        columns.append(inner.reshape(images, -1, channels)[:, at])
    x = torch.cat(columns, 2)
    for layer, exponents in zip(network.layers, network.exponents, strict=True):
        acc = (x.double().to(layer.weights.device) @ layer.weights.double().T).round().long()
        x = requantise(acc + layer.requantiser.numbers[0].long(), layer.requantiser)
        if exponents is not None:
            assert network.gelu is not None
            x = network.gelu.long()[exponents.long() * 4096 + x + 2048]
    scales, means = x.chunk(2, 2)
    return at, scales[..., : network.M], means[..., : network.M]


def parameters(
    network: BoardNetwork, maps: Sequence[Map], parity: int, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """Scale indexes uint8 and means int32 (units of 2^-6) [images, n, M] at the n positions of one parity."""
    _, scales, means = _head(network, maps, parity, rows)
    return scale_index(scales, network.thresholds), means.int()


def encode(
    network: BoardNetwork,
    maps: Sequence[Map],
    parity: int,
    target: Tensor,
    y: Tensor,
    rows: int | None = None,
    zones: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Quantise the latents of one parity: (indexes uint8, symbols int32) [images, n, M]; y is filled there."""
    at, scales, means = _head(network, maps, parity, rows)
    indexes = scale_index(scales, network.thresholds)
    own = None if zones is None else torch.stack([z[i.long()] for z, i in zip(zones.long(), indexes, strict=True)])
    symbols = quantise(target.flatten(1, 2)[:, at].long(), means, own)
    row, column = at // y.shape[2], at % y.shape[2]
    y[:, row, column] = reconstruct(symbols, means).int()
    return indexes, symbols.int()


def place(symbols: Tensor, means: Tensor, y: Tensor, parity: int, rows: int | None = None) -> None:
    """Write latents = symbols + means at the positions of one parity."""
    at = positions(y.shape[1], y.shape[2], parity, y.device, rows)
    y[:, at // y.shape[2], at % y.shape[2]] = reconstruct(symbols.long(), means.long()).int()
