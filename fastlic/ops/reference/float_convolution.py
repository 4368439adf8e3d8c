"""Convolutions of float maps, in plain float64."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, transposed: bool) -> Tensor:
    """As ``fastlic.ops.convolution``: float64 [N, C', H', W']."""
    wide, own = x.double(), weight.double()
    shift = None if bias is None else bias.double()
    padding = weight.shape[-1] // 2
    if transposed:
        return F.conv_transpose2d(wide, own, shift, stride, padding, output_padding=stride - 1)
    return F.conv2d(wide, own, shift, stride, padding)
