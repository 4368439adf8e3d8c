"""Rounding of weights that knows what they multiply.

Rounding each weight to the nearest integer keeps the weights' errors small; what counts is the error of the layer's
outputs on real inputs. Here the weights of a row are rounded one after the other, and the error of each is taken back
by those still to come, in the proportion that the inputs' second moments say is best (optimal brain surgeon, Hassibi
and Stork 1993; one order for all rows, Frantar et al. 2023). The bias comes last and is not rounded: it takes up the
mean error. For the networks of this library that removes most of the rate that int8 weights cost (docs/engine.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the diagonal, as a share of its mean: keeps moments of few images, or of dead channels, invertible.
_DAMPING = 1e-2


def second_moments(x: Tensor, kernel: int = 1, stride: int = 1, reflect: bool = False) -> Tensor:
    """Sums of products of all pairs of a convolution's inputs, a constant 1 included.

    Args:
        x: [1, C, h, w], what a convolution of that odd ``kernel`` and ``stride`` reads.
        reflect: whether it is padded by reflection, not with zeros.

    Returns:
        float64 [K + 1, K + 1], K = C * kernel^2, inputs ordered as in a row of the weight; sums over all positions.
    """
    if kernel < 1 or kernel % 2 == 0 or kernel > 2 * max(x.shape[-2:]) + 1:
        raise ValueError(f"kernel must be odd, and reach no further than x of {list(x.shape)}, got {kernel}")
    padding = kernel // 2
    if reflect and padding:
        x, padding = torch.nn.functional.pad(x, (padding,) * 4, mode="reflect"), 0
    columns = torch.nn.functional.unfold(x, kernel, padding=padding, stride=stride)[0]
    columns = torch.cat([columns, torch.ones_like(columns[:1])])
    return (columns @ columns.T).double()


def round_rows(weight: Tensor, bias: Tensor, unit: Tensor, moments: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Weights as integers times ``unit``, and the bias that goes with them.

    Args:
        weight, bias: float64 [R, K] and [R].
        unit: float64 [R], the value of one step of each row.
        moments: float64 [K + 1, K + 1] of the inputs as ``weight`` multiplies them, the last one the constant 1.
        limit: largest magnitude of an integer.

    Returns:
        float64 [R, K] of integers, and float64 [R] in the units of ``bias``.
    """
    inputs = weight.shape[1]
    diagonal = moments.diagonal()[:inputs]
    # The inputs that matter most first, while the most weights are left to correct their error.
    order = torch.cat([diagonal.argsort(descending=True), torch.tensor([inputs])])
    damped = moments[order][:, order] + _DAMPING * diagonal.mean().clamp_min(1e-30) * torch.eye(inputs + 1)
    # Row k of this factor says how the error of input k is best spread over the inputs behind it.
    try:
        factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    except torch.linalg.LinAlgError as failure:
        raise ValueError(f"moments must be sums of products of finite inputs: {failure}") from failure
    left = torch.cat([weight, bias[:, None]], dim=1)[:, order]
    rounded = torch.empty_like(left)
    for k in range(inputs):
        steps = (left[:, k] / unit).round().clamp(-limit, limit)
        error = (left[:, k] - steps * unit) / factor[k, k]
        left[:, k + 1 :] -= error[:, None] * factor[k, k + 1 :]
        rounded[:, k] = steps
    rounded[:, inputs] = left[:, inputs]
    restored = torch.empty_like(rounded)
    restored[:, order] = rounded
    return restored[:, :inputs], restored[:, inputs]
