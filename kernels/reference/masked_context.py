"""Twin of fastlic.kernels.masked_context: the network at any positions, integers held in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastlic.kernels.packing import TAPS
from fastlic.kernels.reference.integer import requantise, scale_index, values_of

if TYPE_CHECKING:
    from fastlic.kernels.masked_context import ContextNetwork
    from fastlic.kernels.packing import Map


def parameters(network: ContextNetwork, seen: Map, share: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scale indexes uint8 and means int32 (units of 2^-6) [images, n, M] at raster positions ``where``, or at all.

    Args:
        seen: the latent's activations, border 2.
        share: int32 [images, h, w, columns], the hyperprior's part of the first parameter layer, bias included.
    """
    height, width, b = seen.height, seen.width, seen.border
    whole = values_of(seen.planes).double()
    taps = [whole[:, b + i : b + i + height, b + j : b + j + width] for i, j in TAPS]
    x, sums = torch.cat(taps, 3).flatten(1, 2), share.flatten(1, 2).long()
    if where is not None:
        x, sums = x[:, where.long()], sums[:, where.long()]
    for i, layer in enumerate((network.context, *network.hidden, network.head)):
        acc = (x @ layer.weights.double().T).round().long()
        x = requantise(acc + (sums if i == 1 else layer.requantiser.numbers[0].long()), layer.requantiser).double()
    scales, means = x.long().chunk(2, 2)
    return scale_index(scales[..., : network.M], network.thresholds), means[..., : network.M].int()
